"""Checkpoints as the field's repositories write them, and what stands beside the weights in them."""

from __future__ import annotations

import argparse
import collections
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import Tensor, nn

from engine.errors import UserError
from engine.models import Classifier, build_model
from engine.teachers.foreign import fit, fit_to, load_fitting, remedy, sketch
from engine.teachers.weights_file import read_tensors

ARCHS = ("resnet8x4", "vgg8", "wrn_16_2", "mobilenetv2", "shufflenetv1", "shufflenetv2_0_5")


def make(arch: str = "resnet8x4", seed: int = 0, size: int = 32) -> Classifier:
    return build_model(arch, 3, 100, seed, size=size)


def optimizer_state(state: dict[str, Tensor]) -> dict[str, Any]:
    return {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "params": list(range(len(state)))}]}


def zeros(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.zeros_like(value) for name, value in state.items()}


FORMATS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "RepDistiller, best": lambda s: {"epoch": 240, "model": s, "best_acc": np.float64(72.5), "optimizer": optimizer_state(s)},
    "RepDistiller, last": lambda s: {"opt": argparse.Namespace(lr=0.05, gpu="0"), "model": s},
    "CA-MKD": lambda s: {"epoch": 239, "model": s, "best_acc": torch.tensor(74.2), "optimizer": optimizer_state(s)},
    "mdistiller": lambda s: {"model": {f"module.{k}": v for k, v in s.items()}, "epoch": 240, "best_acc": np.float32(75.0)},
    "MTKD-RL": lambda s: {"net": s, "acc": np.float64(70.0), "epoch": np.int64(3)},
    "PyTorch's ImageNet example": lambda s: {"arch": "x", "state_dict": {f"module.{k}": v for k, v in s.items()}, "best_acc1": 7},
    "torch.compile": lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
    "torch.compile in DataParallel": lambda s: {"state_dict": {f"module._orig_mod.{k}": v for k, v in s.items()}},
    "Lightning": lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}, "epoch": 1, "hyper_parameters": {"lr": 0.1}},
    "Lightning, a path among its settings": lambda s: {
        "state_dict": {f"model.{k}": v for k, v in s.items()},
        "hyper_parameters": {"root": Path("/data")},
    },
    "Lightning, its loss's buffers beside": lambda s: {
        "state_dict": {"criterion.weight": torch.ones(100), "scale": torch.ones(())} | {f"model.{k}": v for k, v in s.items()}
    },
    "Lightning, compiled, a metric beside": lambda s: {
        "state_dict": {f"net._orig_mod.{k}": v for k, v in s.items()} | {"val_acc.total": torch.tensor(3)}
    },
    "AveragedModel": lambda s: {"n_averaged": torch.tensor(3)} | {f"module.{k}": v for k, v in s.items()},
    "timm, the averages alone": lambda s: {"epoch": 3, "state_dict_ema": s},
    "timm, both": lambda s: {"state_dict": zeros(s), "state_dict_ema": s},
    "torchvision, both": lambda s: {
        "model": zeros(s),
        "model_ema": {"n_averaged": torch.tensor(3)} | {f"module.{k}": v for k, v in s.items()},
    },
    "timm, no averages yet": lambda s: {"state_dict": s, "state_dict_ema": None},
    "averages without entries": lambda s: {"model": s, "model_ema": {}},
    "ordered": lambda s: collections.OrderedDict(s),
}


@pytest.mark.parametrize("form", FORMATS)
def test_formats(form: str, tmp_path: Path) -> None:
    path, state = tmp_path / "t.pth", make(seed=3).state_dict()
    torch.save(FORMATS[form](state), path)
    loaded = load_fitting(path, "resnet8x4", make).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_averages_are_told_where_there_is_a_choice(tmp_path: Path) -> None:
    path, state = tmp_path / "t.pth", make(seed=3).state_dict()
    said: list[str] = []
    for form in [name for name in FORMATS if "Lightning" not in name]:
        torch.save(FORMATS[form](state), path)
        load_fitting(path, "resnet8x4", make, said.append)
    assert said == [
        f"{path}: its averaged weights (state_dict_ema) are taken, not those of the last step (state_dict)",
        f"{path}: its averaged weights (model_ema) are taken, not those of the last step (model)",
    ]


def lightning(state: dict[str, Tensor], prefix: str = "model.") -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in state.items()}


def test_what_lies_beside_the_network_is_left_out_and_told() -> None:
    own = make().state_dict()
    found = fit(own, lightning(own) | {"criterion.weight": torch.ones(100), "criterion\x1b.bias": torch.ones(100)})
    assert found.whole
    assert found.beside == ("criterion.weight", "criterion\x1b.bias")
    assert found.left_out() == "2 tensors beside the network are left out (criterion.weight, criterion\\x1b.bias)"
    found = fit(own, lightning(own) | {f"loss.{number}": torch.ones(1) for number in range(5)})
    assert found.left_out() == "5 tensors beside the network are left out (loss.0, loss.1, loss.2, ...)"
    assert fit(own, lightning(own)).left_out() == ""


REFUSED: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "one is missing": lambda s: lightning({k: v for k, v in s.items() if k != "fc.bias"}),
    "one lies beside": lambda s: lightning({k: v for k, v in s.items() if k != "fc.bias"}) | {"fc.bias": s["fc.bias"]},
    "one too many in the network": lambda s: lightning(s | {"fc2.bias": s["fc.bias"]}),
    "another shape": lambda s: lightning(s | {"fc.bias": torch.zeros(10)}),
    "two networks": lambda s: lightning(s) | lightning(s, "teacher."),
    "under a name that wraps nothing": lambda s: lightning(s, "teacher."),
    "nothing wraps it": lambda s: s,
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_lies_beside_a_network_hides_nothing(what: str) -> None:
    own = make().state_dict()
    assert not fit(own, REFUSED[what](own) | {"criterion.weight": torch.ones(100)}).whole


def test_averages_that_do_not_fit_are_named(tmp_path: Path) -> None:
    state = make().state_dict()
    averaged = {name: value for name, value in state.items() if not name.endswith("running_mean")}
    torch.save({"state_dict": state, "state_dict_ema": averaged}, tmp_path / "t.pth")
    with pytest.raises(UserError, match=r"t\.pth \(state_dict_ema\) does not fit resnet8x4 .* tensors missing"):
        load_fitting(tmp_path / "t.pth", "resnet8x4", make)


@pytest.mark.parametrize("arch", ARCHS)
def test_every_family_of_the_field(arch: str, tmp_path: Path) -> None:
    path, state = tmp_path / "t.pth", make(arch, 3).state_dict()
    torch.save(FORMATS["RepDistiller, best"](state), path)
    loaded = load_fitting(path, arch, lambda: make(arch)).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_other_names_for_the_head_and_the_shortcuts(tmp_path: Path) -> None:
    state = make(seed=3).state_dict()
    renamed = {k.replace("fc.", "linear.").replace("downsample", "shortcut"): v for k, v in state.items()}
    assert renamed.keys() != state.keys()
    torch.save({"net": renamed}, tmp_path / "t.pth")
    loaded = load_fitting(tmp_path / "t.pth", "resnet8x4", make).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_one_name_is_never_taken_for_two() -> None:
    own = {"classifier.weight": torch.zeros(2, 3)}
    found = fit(own, {"fc.weight": torch.ones(2, 3), "linear.weight": torch.ones(2, 3)})
    assert found.unknown == ("linear.weight",)


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
@pytest.mark.parametrize(
    ("arch", "theirs"),
    [
        ("timm:vit_tiny_patch16_224", lambda: timm.create_model("vit_tiny_patch16_224", num_classes=100, img_size=32)),
        ("torchvision:squeezenet1_1", lambda: torchvision.models.squeezenet1_1(num_classes=100)),
    ],
    ids=["timm", "torchvision"],
)
def test_the_libraries_own_files(arch: str, theirs: Callable[[], nn.Module], ending: str, tmp_path: Path) -> None:
    network = theirs().eval()
    path = tmp_path / f"t.{ending}"
    state = network.state_dict()
    safetensors.torch.save_file(state, path) if ending == "safetensors" else torch.save(state, path)
    model = load_fitting(path, arch, lambda: make(arch)).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(model(images).logits, network(images), atol=1e-6)


@pytest.mark.parametrize(
    ("arch", "classes", "size", "theirs", "helps"),
    [
        ("torchvision:squeezenet1_1", 3, 32, lambda: torchvision.models.squeezenet1_1(), "{classes}"),
        ("timm:vit_tiny_patch16_224", 1000, 96, lambda: timm.create_model("vit_tiny_patch16_224"), "{size}"),
        ("timm:vit_tiny_patch16_224", 3, 96, lambda: timm.create_model("vit_tiny_patch16_224"), "{size}; {classes}"),
        ("timm:vit_tiny_patch16_224", 3, 96, lambda: timm.create_model("vit_small_patch16_224"), "{arch}"),
        ("torchvision:resnet18", 3, 32, lambda: torchvision.models.resnet34(num_classes=3), "{arch}"),
    ],
)
def test_what_helps_is_told(arch: str, classes: int, size: int, theirs: Callable[[], nn.Module], helps: str) -> None:
    with torch.device("meta"):
        state = theirs().state_dict()
    model = sketch(lambda: build_model(arch, 3, classes, size=size))
    assert remedy(fit(model.state_dict(), state), model) == helps.format(
        classes="it knows 1,000 classes, and the data set has 3: give one that was trained on these",
        size="it is of images of 224 pixels along a side, and here they have 96: ask for its size (dataset.size, --size), which "
        "pictures in files can have",
        arch="give the architecture that it is of",
    )


@pytest.mark.parametrize("arch", ["resnet8", "vgg8", "timm:vit_tiny_patch16_224", "torchvision:resnet18"])
@pytest.mark.parametrize(("theirs", "here"), [(3, 1), (1, 3)])
def test_images_of_other_channels_are_told(theirs: int, here: int, arch: str) -> None:
    state = sketch(lambda: build_model(arch, theirs, 10, size=32)).state_dict()
    model = sketch(lambda: build_model(arch, here, 10, size=32))
    many = {1: "1 channel", 3: "3 channels"}[theirs]
    helps = f"it was trained on images of {many}, and these have {here}: give one that was trained on such"
    assert remedy(fit_to(model, state), model) == helps


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_a_file_without_weights_is_told(ending: str, tmp_path: Path) -> None:
    for content in ({}, {"state_dict": {}, "epoch": 3}) if ending == "pth" else ({},):
        path = tmp_path / f"t.{ending}"
        torch.save(content, path) if ending == "pth" else safetensors.torch.save_file(content, path)
        with pytest.raises(UserError, match="holds no weights: its state_dict is empty"):
            load_fitting(path, "resnet8x4", make)


class Call:
    """Pickles to a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def test_what_is_allowed_beside_the_weights_opens_no_door(tmp_path: Path) -> None:
    """The names of numpy and argparse that are let through are made into nothing; a call beside them is still refused."""
    canary, path = tmp_path / "canary", tmp_path / "t.pth"
    for evil in (Call(os.mkdir, str(canary)), Call(eval, f"__import__('os').mkdir({str(canary)!r})")):
        torch.save({"model": make().state_dict(), "best_acc": np.float64(1.0), "opt": argparse.Namespace(x=evil)}, path)
        with pytest.raises(UserError, match="only tensors are loaded, never code"):
            read_tensors(path)
        assert not canary.exists()
    # numpy's own way of making a number from bytes, with an object's address for the bytes.
    scalar = type(np.float64(1)).__reduce__(np.float64(1))[0]
    torch.save({"model": make().state_dict(), "best_acc": Call(scalar, np.dtype("O"), b"\x01" * 8)}, path)
    assert read_tensors(path).tensors.keys() == make().state_dict().keys()


def test_shapes_are_compared_before_anything_is_made(tmp_path: Path) -> None:
    torch.save(make("resnet8x4").state_dict(), tmp_path / "t.pth")
    made: list[torch.device] = []

    def watched() -> Classifier:
        model = make("resnet32x4")
        made.append(next(model.parameters()).device)
        return model

    with pytest.raises(UserError, match=r"does not fit resnet32x4 .* tensors missing"):
        load_fitting(tmp_path / "t.pth", "resnet32x4", watched)
    assert made == [torch.device("meta")]


def test_what_cannot_be_sketched_is_made() -> None:
    """RegNets compute their widths with tensors."""
    model = sketch(lambda: build_model("torchvision:regnet_x_400mf", 3, 10))
    assert next(model.parameters()).device.type == "cpu"
