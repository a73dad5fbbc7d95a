"""Every architecture of the catalogue: its size as published, its shapes, its names, and its reproducible initial weights."""

from __future__ import annotations

import pytest
import torch
import torchvision

from engine.catalog import ARCHITECTURES
from engine.models import Classifier, build_model
from engine.models.build import count_parameters

SMALL = (
    "vgg8",
    "resnet8",
    "resnet8x4",
    "wrn_16_1",
    "mobilenetv2",
    "shufflenetv1",
    "shufflenetv2_0_5",
    "resnet18_cifar",
)  # one or two of each family, for what is slow

# Millions of parameters on CIFAR-10, as the tables of the papers round them.
RESNET_PAPER = {
    "resnet20": 0.27,
    "resnet32": 0.46,
    "resnet44": 0.66,
    "resnet56": 0.85,
    "resnet110": 1.73,
}  # He et al., 2016, table 6
WRN_PAPER = {
    "wrn_16_1": 0.2,
    "wrn_16_2": 0.7,
    "wrn_40_1": 0.6,
    "wrn_40_2": 2.2,
}  # Zagoruyko & Komodakis, 2017 (attention), table 1


def sketch(name: str, classes: int) -> Classifier:
    """For colour images; names and shapes without numbers."""
    with torch.device("meta"):
        return build_model(name, 3, classes)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_catalogues_parameter_counts(name: str) -> None:
    assert count_parameters(sketch(name, 100)) == ARCHITECTURES[name].parameters


@pytest.mark.parametrize("name", RESNET_PAPER)
def test_resnets_are_as_large_as_the_papers(name: str) -> None:
    """The paper's shortcuts have no parameters (its option A); ours, as in the field's code, are convolutions, left out here."""
    model = sketch(name, 10)
    shortcuts = sum(parameter.numel() for key, parameter in model.named_parameters() if "downsample" in key)
    assert shortcuts == 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert round((count_parameters(model) - shortcuts) / 1e6, 2) == RESNET_PAPER[name]


@pytest.mark.parametrize("name", WRN_PAPER)
def test_wide_resnets_are_as_large_as_the_papers(name: str) -> None:
    assert count_parameters(sketch(name, 10)) / 1e6 == pytest.approx(WRN_PAPER[name], abs=0.06)


@pytest.mark.parametrize("name", ["vgg8", "vgg11", "vgg13", "vgg16", "vgg19"])
def test_vggs_are_as_large_as_their_layers(name: str) -> None:
    """The rows B and A of Simonyan & Zisserman's table 1 (vgg13, vgg11), D and E (vgg16, vgg19); vgg8 has one a block."""
    widths = {
        "vgg8": [64, 128, 256, 512, 512],
        "vgg11": [64, 128, 256, 256, 512, 512, 512, 512],
        "vgg13": [64, 64, 128, 128, 256, 256, 512, 512, 512, 512],
        "vgg16": [64, 64, 128, 128, *[256] * 3, *[512] * 6],
        "vgg19": [64, 64, 128, 128, *[256] * 4, *[512] * 8],
    }[name]
    convolutions = sum(9 * before * width + width for before, width in zip([3, *widths], widths, strict=False))
    assert count_parameters(sketch(name, 100)) == convolutions + 2 * sum(widths) + 512 * 100 + 100


def published(name: str) -> int:
    """torchvision's documented number of parameters."""
    return int(torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"])


STEM = {"shufflenet": (24 * 27, 24 * 3), "resnet": (64 * 147, 64 * 27)}  # weights of ImageNet's stem and of the small images' one


@pytest.mark.parametrize(
    ("name", "theirs", "width"),
    [
        ("resnet18_cifar", "resnet18", 512),
        ("resnet34_cifar", "resnet34", 512),
        ("resnet50_cifar", "resnet50", 2048),
        ("shufflenetv2", "shufflenet_v2_x1_0", 1024),
        ("shufflenetv2_0_5", "shufflenet_v2_x0_5", 1024),
    ],
)
def test_small_image_forms_differ_from_imagenets_in_stem_and_head_alone(name: str, theirs: str, width: int) -> None:
    large, small = STEM[name.partition("v2")[0].rstrip("0123456789_cifar")]
    assert count_parameters(sketch(name, 100)) == published(theirs) - large + small - (width + 1) * 900


def test_mobilenet_is_as_large_as_its_table() -> None:
    """Sandler et al., 2018, table 2 at half width, each width rounded down; a BatchNorm after each convolution."""
    total, before = 3 * 16 * 9 + 2 * 16, 16
    for t, c, n in ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)):
        for _ in range(n):
            inner, width = before * t, c // 2
            total += before * inner + 9 * inner + inner * width + 2 * (inner + inner + width)
            before = width
    total += before * 1280 + 2 * 1280 + 1280 * 100 + 100
    assert count_parameters(sketch("mobilenetv2", 100)) == total
    assert round(total / 1e6, 2) == 0.81  # as tables of distillation on CIFAR-100 give it


def test_shufflenet_is_as_large_as_its_table() -> None:
    """Zhang et al., 2018, table 1, g = 3: bottlenecks of a quarter of what they give, stage 2's first 1x1 not grouped."""
    total, before = 24 * 3 + 2 * 24, 24
    for width, count in ((240, 4), (480, 8), (960, 4)):
        for place in range(count):
            made = width - before if place == 0 else width
            inner, groups = made // 4, 1 if before == 24 else 3
            total += before * inner // groups + 9 * inner + inner * made // 3 + 2 * (inner + inner + made)
            before = width
    total += 960 * 100 + 100
    assert count_parameters(sketch("shufflenetv1", 100)) == total
    assert round(total / 1e6, 2) == 0.95


@pytest.mark.parametrize(("name", "millions"), [("resnet18x2", 45.6), ("resnet34x2", 86.0)])
def test_twice_as_wide_resnets_are_as_large_as_the_papers(name: str, millions: float) -> None:
    """Zagoruyko & Komodakis, 2016, table 8 (ImageNet); theirs has a wider stem, too, of less than 0.1 million."""
    assert count_parameters(sketch(name, 1000)) / 1e6 == pytest.approx(millions, abs=0.1)


def test_four_times_as_wide_is_sixteen_times_as_large() -> None:
    """All convolutions but those that read the stem have four times the inputs and four times the outputs."""
    narrow, wide = (dict(m.named_parameters()) for m in (tv("resnet34"), sketch("resnet34x4", 1000)))
    for name, parameter in wide.items():
        name = name.removeprefix("network.")
        ratio = parameter.numel() / narrow[name].numel() if name in narrow else None
        if ratio is not None and parameter.dim() == 4 and name not in ("conv1.weight", "layer1.0.conv1.weight"):
            assert ratio == 16


def tv(name: str) -> torch.nn.Module:
    with torch.device("meta"):
        return torchvision.models.get_model(name, weights=None)


@pytest.mark.parametrize("size", [8, 28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", SMALL)
def test_shapes(name: str, channels: int, size: int) -> None:
    model = build_model(name, channels, 7).eval()
    with torch.no_grad():
        logits, features = model(torch.zeros(2, channels, size, size))
    step = ARCHITECTURES[name].step * (2 if name.startswith("vgg") and size >= 64 else 1)
    assert logits.shape == (2, 7)
    side = size // step if name.startswith("vgg") else -(-size // step)
    assert features.shape == (2, model.feature_channels, max(side, 1), max(side, 1))


@pytest.mark.parametrize("name", [name for name, facts in ARCHITECTURES.items() if facts.family != "resnet-wide"])
def test_the_head_reads_the_pooled_map_that_is_handed_out(name: str) -> None:
    model = build_model(name, 1, 7).eval()
    with torch.no_grad():
        logits, features = model(torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
        assert torch.equal(model.head(features.mean((2, 3))), logits)
    assert features.min() >= 0  # after the activation
    assert features.shape[:2] == (2, model.feature_channels)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", SMALL)
def test_initial_weights_are_of_seed_and_name(name: str) -> None:
    torch.manual_seed(1)
    first = build_model(name, 1, 10, 5).state_dict()
    torch.manual_seed(2)
    again = build_model(name, 1, 10, 5).state_dict()
    other = build_model(name, 1, 10, 6).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    weights = [key for key, value in first.items() if value.dim() > 1]
    assert not any(torch.equal(first[key], other[key]) for key in weights)


def test_names_give_different_weights() -> None:
    """Two depths of one family share shapes; they must not share draws."""
    shallow, deep = (build_model(name, 1, 10, 0).state_dict() for name in ("resnet8", "resnet14"))
    assert not torch.equal(shallow["conv1.weight"], deep["conv1.weight"])


@pytest.mark.parametrize("name", SMALL)
def test_the_global_generator_is_left_alone(name: str) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    build_model(name, 1, 10, 5)
    assert torch.equal(torch.get_rng_state(), before)


def test_unknown_name() -> None:
    with pytest.raises(KeyError):
        build_model("resnet9", 3, 10)


# As in the published checkpoints of the field's benchmark code.
FIELD_NAMES = {
    "vgg8": {
        "block0.0.weight": (64, 3, 3, 3),
        "block0.0.bias": (64,),
        "block0.1.running_var": (64,),
        "classifier.weight": (100, 512),
    },
    "vgg13": {
        "block0.3.weight": (64, 64, 3, 3),
        "block0.4.bias": (64,),
        "block4.4.running_mean": (512,),
        "classifier.bias": (100,),
    },
    "resnet32x4": {
        "conv1.weight": (32, 3, 3, 3),
        "layer1.0.downsample.0.weight": (64, 32, 1, 1),
        "layer3.0.downsample.1.running_mean": (256,),
        "layer3.4.bn2.weight": (256,),
        "fc.weight": (100, 256),
    },
    "resnet56": {"bn1.weight": (16,), "layer2.0.downsample.0.weight": (32, 16, 1, 1), "layer3.8.conv2.weight": (64, 64, 3, 3)},
    "wrn_40_2": {
        "conv1.weight": (16, 3, 3, 3),
        "block1.layer.0.convShortcut.weight": (32, 16, 1, 1),
        "block3.layer.5.bn2.running_var": (128,),
        "bn1.weight": (128,),
        "fc.bias": (100,),
    },
}


@pytest.mark.parametrize("name", FIELD_NAMES)
def test_tensors_are_named_as_in_the_field(name: str) -> None:
    state = sketch(name, 100).state_dict()
    assert {key: tuple(state[key].shape) for key in FIELD_NAMES[name]} == FIELD_NAMES[name]


def test_identity_shortcuts_have_no_tensors() -> None:
    assert "layer1.0.downsample.0.weight" not in sketch("resnet20", 100).state_dict()
    assert "block1.layer.0.convShortcut.weight" not in sketch("wrn_40_1", 100).state_dict()


@pytest.mark.parametrize(("channels", "classes"), [(1, 10), (3, 10), (3, 100), (4, 1000), (1, 2)])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_catalogue_knows_the_count_for_other_data(name: str, channels: int, classes: int) -> None:
    with torch.device("meta"):
        model = build_model(name, channels, classes)
    assert ARCHITECTURES[name].parameters_for(channels, classes) == count_parameters(model)
    assert ARCHITECTURES[name].features == model.feature_channels
