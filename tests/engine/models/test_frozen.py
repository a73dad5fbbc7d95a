"""A teacher with its BatchNorm folded away says what it said before."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models import SwinTransformer, VisionTransformer

from engine.models import Classifier, build_model
from engine.models.frozen import folded
from engine.models.panel import TeacherPanel
from engine.models.tapped import tapped


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


TRANSFORMERS = {
    "torchvision's ViT": lambda: VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=5),  # nn.MultiheadAttention
    "Swin": lambda: SwinTransformer([2, 2], 16, [2, 2], [2, 2], [4, 4], num_classes=5),
    "timm's ViT": lambda: timm.models.VisionTransformer(32, 8, num_classes=5, embed_dim=32, depth=2, num_heads=2),
    "DeiT with a distilled head": lambda: timm.models.deit.VisionTransformerDistilled(
        32, 8, num_classes=5, embed_dim=32, depth=2, num_heads=2
    ),
    "ConvNeXt": lambda: timm.models.ConvNeXt(num_classes=5, depths=(1, 1, 1, 1), dims=(8, 16, 32, 64)),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_linear_layers_in_bfloat16_but_for_the_head(name: str) -> None:
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = tapped(TRANSFORMERS[name]().eval(), images)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):  # some begin at zero
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    told: list[str] = []
    panel = TeacherPanel([model], bf16=True, tell=lambda level, message: told.append(message))
    panel(images)
    with _Products() as products:
        (coarse,) = panel(images)
    with torch.no_grad():
        exact = model(images)
    assert not told
    for ours, theirs in zip(coarse, exact, strict=True):
        assert ours.dtype == torch.float32
        assert 0 < (ours - theirs).norm() < 0.03 * theirs.norm()
    linears = [module for module in panel.quick(images)[0].modules() if isinstance(module, nn.Linear)]
    heads = [linear for linear in linears if linear.out_features == 5]
    assert heads
    assert len(linears) > len(heads)
    assert all((linear.weight.dtype == torch.float32) == (linear in heads) for linear in linears)
    # Swin adds a bias in float32 to what it multiplies the values by, in each of four blocks.
    assert products.wide == len(heads) + 4 * (name == "Swin")


class _Products(TorchDispatchMode):
    """Counts matrix products in float32."""

    wide = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func) in ("aten.mm.default", "aten.addmm.default", "aten.bmm.default", "aten.baddbmm.default"):
            self.wide += args[-1].dtype == torch.float32
        return func(*args, **(kwargs or {}))


def test_a_panel_in_bfloat16_is_close_and_gives_float32() -> None:
    models = [lived(build_model(arch, 3, 5, seed)) for seed, arch in enumerate(("resnet20", "vgg8"))]
    images = torch.randn(8, 3, 16, 16)
    for coarse, exact in zip(TeacherPanel(models, bf16=True)(images), TeacherPanel(models)(images), strict=True):
        for ours, theirs in zip(coarse, exact, strict=True):
            assert ours.dtype == torch.float32
            assert 0 < (ours - theirs).norm() < 0.03 * theirs.norm()
