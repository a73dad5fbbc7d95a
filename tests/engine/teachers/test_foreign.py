"""Weights from files: what fits is taken, all else is refused in one sentence, and nothing in a file is ever run."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor

from engine.errors import UserError
from engine.models import Classifier, build_model
from engine.teachers.foreign import load_weights


def model(seed: int = 0) -> Classifier:
    return build_model("resnet8", 1, 10, seed)


def state(seed: int = 1) -> dict[str, Tensor]:
    return model(seed).state_dict()


def loaded(path: Path) -> dict[str, Tensor]:
    network = model()
    load_weights(network, path, "resnet8")
    return network.state_dict()


def assert_refused(path: Path, message: str) -> str:
    network = model()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(UserError, match=message) as caught:
        load_weights(network, path, "resnet8")
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < len(str(path)) + 600
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    return str(caught.value)


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_safetensors(tmp_path: Path) -> None:
    safetensors.torch.save_file(state(), tmp_path / "t.safetensors")
    assert_same(loaded(tmp_path / "t.safetensors"), state())


FORMS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "state_dict": lambda s: s,
    "as the field's code saves": lambda s: {"epoch": 240, "model": s, "best_acc": torch.tensor(0.7)},
    "under state_dict": lambda s: {"state_dict": s, "optimizer": {"lr": 0.1}},
    "DataParallel": lambda s: {f"module.{name}": value for name, value in s.items()},
    "double": lambda s: {name: value.double() if value.is_floating_point() else value for name, value in s.items()},
    "without counters": lambda s: {name: value for name, value in s.items() if not name.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ending", ["pth", "pt", "bin"])
def test_pytorch(form: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{ending}"
    torch.save(FORMS[form](state()), path)
    assert_same(loaded(path), state())


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "t.pth")
    (tmp_path / "link.pth").symlink_to("t.pth")
    assert_same(loaded(tmp_path / "link.pth"), state())


def test_the_weights_are_the_models_own(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    safetensors.torch.save_file(state(), path)
    network = model()
    load_weights(network, path, "resnet8")
    path.write_bytes(bytes(path.stat().st_size))
    assert_same(network.state_dict(), state())


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_no_file(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{ending}"
    assert assert_refused(path, "does not exist").endswith("; check the path")
    path.mkdir()
    assert_refused(path, "is no file")
    path.rmdir()
    os.mkfifo(path)
    assert_refused(path, "is no file")
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    assert_refused(path, "does not exist")
    path.unlink()
    path.symlink_to(path)
    assert_refused(path, "does not exist|cannot be read")


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"\x00", b"garbage\x1b[31m" * 50, b"PK\x03\x04garbage", b"\xff" * 64], ids=repr)
def test_garbage(content: bytes, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{ending}"
    path.write_bytes(content)
    assert_refused(path, "cannot be read|neither")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95, 0.999])
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_truncated(ending: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"t.{ending}"
    torch.save(state(), path) if ending == "pth" else safetensors.torch.save_file(state(), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert_refused(path, "(cannot be read|neither).*: its end is missing; copy it again, and compare the sizes$")


def test_what_is_longer_than_it_says_is_not_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    path.write_bytes(safetensors.torch.save(state()) + b"more")
    assert "its end is missing" not in assert_refused(path, "cannot be read")


class Bomb:
    """Pickles to a call that leaves a file behind."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("form", ["torch", "legacy", "bare pickle", "in the state_dict"])
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_code_is_never_run(form: str, ending: str, tmp_path: Path) -> None:
    path, canary = tmp_path / f"t.{ending}", tmp_path / "canary"
    bomb = Bomb(canary)
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(bomb))
    else:
        torch.save(
            state() | {"x": bomb} if form == "in the state_dict" else bomb, path, _use_new_zipfile_serialization=form != "legacy"
        )
    assert_refused(path, "cannot be read as weights: .*never code|neither")
    assert not canary.exists()
    if form in ("bare pickle", "torch") and ending == "pth":  # the canary works
        content = path.read_bytes() if form == "bare pickle" else zipfile.ZipFile(path).read("t/data.pkl")
        pickle.loads(content)  # noqa: S301
        assert canary.exists()


def test_the_legacy_format(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "t.pth", _use_new_zipfile_serialization=False)
    assert_refused(tmp_path / "t.pth", "neither .safetensors nor PyTorch's zip format but an older one")


def test_a_refusal_says_what_the_file_is(tmp_path: Path) -> None:
    path = tmp_path / "t.pth"
    safetensors.torch.save_file(state(), path)
    assert_refused(path, "safetensors by what is in it; end its name in .safetensors")
    path.write_bytes(b"")
    assert_refused(path, "it is empty")
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")
    assert_refused(path, "git lfs pull")
    torch.save(state(), path)
    path.write_bytes(path.read_bytes()[:5000])
    assert_refused(path, "its end is missing; copy it again")
    torch.save({"params": state(), "step": 3}, path)
    assert_refused(path, "holds no plain state_dict .* but params, step; save")


def test_a_whole_model_is_named(tmp_path: Path) -> None:
    """PyTorch's own words tell its reader how to run the file."""
    torch.save(torchvision.models.resnet18(num_classes=2), tmp_path / "t.pth")
    message = assert_refused(tmp_path / "t.pth", "Python objects .torchvision.models.resnet.ResNet.")
    assert "two options" not in message


def test_a_compressed_zip(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "stored.pth")
    with (
        zipfile.ZipFile(tmp_path / "stored.pth") as source,
        zipfile.ZipFile(tmp_path / "t.pth", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for record in source.infolist():
            target.writestr(record.filename, source.read(record))
    assert_refused(tmp_path / "t.pth", "not as PyTorch writes them")


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(3),
        [state()],
        {},
        {"weights": {"a": torch.zeros(1)}},
        {"a": "text"},
        {1: torch.zeros(1)},
        None,
        {"model": {"model": 3}},
        {"a": torch.zeros(2, 2).to_sparse()},
        {"a": torch.zeros(2, dtype=torch.complex64)},
    ],
    ids=["tensor", "list", "empty", "nested", "text", "number for a name", "none", "nested twice", "sparse", "complex"],
)
@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
def test_no_state_dict(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "t.pth")
    assert_refused(tmp_path / "t.pth", "holds no plain state_dict|does not fit|holds no weights")


CHANGES: dict[str, tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], str]] = {
    "wrong shape": (
        lambda s: s | {"fc.weight": torch.zeros(100, 64)},
        r"1 shapes that differ \(fc.weight is \(100, 64\), not \(10, 64\)\)",
    ),
    "missing": (lambda s: {name: value for name, value in s.items() if name != "fc.bias"}, r"1 tensors missing \(fc.bias\)"),
    "too many": (lambda s: s | {"fc2.weight": torch.zeros(1)}, r"1 tensors too many \(fc2.weight\)"),
    "another architecture": (lambda s: build_model("vgg8", 1, 10).state_dict(), "tensors missing .*, .*tensors too many"),
    "NaN": (lambda s: s | {"fc.bias": s["fc.bias"].index_fill(0, torch.tensor([3]), float("nan"))}, "not finite"),
    "infinity": (lambda s: s | {"bn1.running_var": s["bn1.running_var"] * float("inf")}, "not finite"),
    "too large for float32": (lambda s: s | {"fc.bias": s["fc.bias"].double() + 1e300}, "not finite"),
    "a terminal's commands in a name": (lambda s: s | {"\x1b[31m[bold]": torch.zeros(1)}, r"\\x1b\[31m\[bold\]"),
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_what_does_not_fit(what: str, ending: str, tmp_path: Path) -> None:
    change, message = CHANGES[what]
    path = tmp_path / f"t.{ending}"
    content = change(state())
    torch.save(content, path) if ending == "pth" else safetensors.torch.save_file(content, path)
    assert_refused(path, message if not re.search("missing .*, .*too", message) else "tensors missing .*tensors too many")
