"""Networks of timm and torchvision as teachers of a small student, and as students, in whole runs on images of 28 pixels."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from support.fashion_files import arrays, forget_system_package, write

from engine import Run, parse_preset
from engine.events import Event, Log
from engine.result import Result

PRESET = """
name: foreign
dataset: {{name: fashion-mnist, validation_fraction: 0.2}}
teachers:
  - {{arch: "timm:vit_tiny_patch16_224", checkpoint: {folder}/vit.safetensors}}
  - {{arch: "torchvision:squeezenet1_1", checkpoint: {folder}/squeezenet.pth}}
student: {{arch: "{student}"}}
method: {{name: mmkd, meta: {{buffer_size: 8, every: 2}}}}
train: {{epochs: 1, batch_size: 8, lr: 0.01}}
evaluate: {{student_alone: false, accept_weak_teachers: {accept}}}
hardware: {{device: cpu}}
"""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    forget_system_package(monkeypatch)
    write(tmp_path / "data" / "FashionMNIST" / "raw", packed=False, content=arrays(40, 20))
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=10, in_chans=1, img_size=32)
    safetensors.torch.save_file(vit.state_dict(), tmp_path / "vit.safetensors")
    squeezenet = torchvision.models.squeezenet1_1(num_classes=10)
    squeezenet.features[0] = torch.nn.Conv2d(1, 64, 3, 2)
    torch.save(squeezenet.state_dict(), tmp_path / "squeezenet.pth")
    return tmp_path / "data"


def run(tmp_path: Path, data: Path, student: str, accept: str = "true") -> tuple[Result, list[Event]]:
    preset = parse_preset(PRESET.format(folder=tmp_path, student=student, accept=accept), "test")
    events: list[Event] = []
    made = Run(preset, tmp_path / f"run-{student.replace(':', '-')}-{accept}", data_root=data, store=tmp_path / "store")
    made.subscribe(events.append)
    return made.execute(), events


@pytest.mark.parametrize("student", ["resnet8", "timm:vit_tiny_patch16_224"])
def test_a_vit_and_a_torchvision_network_teach(student: str, data: Path, tmp_path: Path) -> None:
    result, events = run(tmp_path, data, student)
    assert result.state == "done", result.message
    assert [teacher.source for teacher in result.teachers] == ["checkpoint", "checkpoint"]
    assert sum(teacher.logit_weight for teacher in result.teachers) == pytest.approx(1, abs=1e-4)
    assert not [event for event in events if isinstance(event, Log) and event.level == "error"]


def test_weak_teachers_are_refused_by_name(data: Path, tmp_path: Path) -> None:
    result, _ = run(tmp_path, data, "resnet8", "false")
    assert result.mistake
    assert result.message.startswith(f"teacher vit ({tmp_path}/vit.safetensors) is no better than guessing on fashion-mnist")


def test_weights_that_timm_has_not_are_told_before_there_is_a_folder(data: Path, tmp_path: Path) -> None:
    result, _ = run(tmp_path, data, "timm:resnet18.a1_in1")
    assert result.mistake
    assert result.message.startswith("timm:resnet18.a1_in1: timm has no weights of that tag; did you mean timm:resnet18.a1_in1k")
    assert not Path(result.run_dir).exists()


def test_pretrained_weights_are_the_librarys_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From torchvision's own cache, where a file lies that it would have downloaded; trained further under a recipe."""
    from engine.models import build_model

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = torchvision.models.SqueezeNet1_1_Weights.DEFAULT
    theirs = torchvision.models.squeezenet1_1()
    place = tmp_path / "hub" / "checkpoints" / Path(weights.url).name
    place.parent.mkdir(parents=True)
    torch.save(theirs.state_dict(), place)
    found = build_model("torchvision:squeezenet1_1", 3, 1000, pretrained=True).state_dict()
    assert all(torch.equal(found[name], value) for name, value in theirs.state_dict().items())
    fitted = build_model("torchvision:squeezenet1_1", 1, 10, pretrained=True).state_dict()
    assert torch.equal(fitted["features.3.squeeze.weight"], theirs.state_dict()["features.3.squeeze.weight"])
    summed = theirs.state_dict()["features.0.weight"].sum(1, keepdim=True)
    assert torch.allclose(fitted["features.0.weight"], summed, atol=1e-6)  # a grey image gives what its three copies gave
