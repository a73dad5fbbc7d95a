"""A teacher with its BatchNorm folded away says what it said before."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models import Classifier, build_model
from engine.models.frozen import folded
from engine.models.panel import TeacherPanel


def lived(model: nn.Module) -> nn.Module:
    """With BatchNorm layers that are not as they were made."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -1, 1),
                (module.running_var, 0.5, 2),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -1, 1),
            ):
                tensor.uniform_(low, high, generator=generator)
    return model.eval()


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize(("arch", "left"), [("resnet20", 0), ("vgg13", 0), ("resnet8x4", 0), ("wrn_16_2", 6)])
def test_it_says_the_same(arch: str, left: int) -> None:
    """A wide ResNet normalises before it convolves: what follows an addition cannot be folded."""
    model = lived(build_model(arch, 3, 5).double())
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    quick = folded(model, images)
    for ours, theirs in zip(quick(images), model(images), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12)
    assert norms(quick) == left
    assert norms(model) > left


class Shared(Classifier):
    """A convolution whose output is read twice, and one that is used twice: neither may be folded."""

    feature_channels = 4

    def __init__(self) -> None:
        super().__init__()
        self.read_twice, self.used_twice = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(4) for _ in range(3))

    def features(self, images: Tensor) -> Tensor:
        x = self.read_twice(images)
        x = F.relu(self.bn1(x) + x)
        return self.bn3(self.used_twice(self.bn2(self.used_twice(x))))

    def head(self, pooled: Tensor) -> Tensor:
        return pooled


def test_what_is_read_or_used_twice_is_left_alone() -> None:
    model = lived(Shared().double())
    images = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    quick = folded(model, images)
    assert torch.equal(quick(images).logits, model(images).logits)
    assert norms(quick) == 3


def test_a_panel_in_bfloat16_is_close_and_gives_float32() -> None:
    models = [lived(build_model(arch, 3, 5, seed)) for seed, arch in enumerate(("resnet20", "vgg8"))]
    images = torch.randn(8, 3, 16, 16)
    for coarse, exact in zip(TeacherPanel(models, bf16=True)(images), TeacherPanel(models)(images), strict=True):
        for ours, theirs in zip(coarse, exact, strict=True):
            assert ours.dtype == torch.float32
            assert 0 < (ours - theirs).norm() < 0.03 * theirs.norm()
