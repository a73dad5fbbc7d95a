"""`mmkd teachers check`: what fits and how good it is; a table of what does not fit; exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support.classroom import few_digits
from support.picture_sets import pictures
from support.shards import sample, shard, shards

from engine.measure import logits_of, measured
from engine.models import build_model
from mmkd_tui.cli.main import run_command

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few steps on some digits are enough to be better than guessing."""
    images = few_digits()
    model = build_model("resnet8", 1, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(12):
        for batch in images.train.shuffled(32, 0, epoch, None, 0):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(batch.images).logits, batch.labels).backward()
            optimizer.step()
    path = tmp_path_factory.mktemp("good") / "good.pth"
    torch.save({"model": model.eval().state_dict(), "epoch": 12}, path)
    return path


def check(path: Path, *more: str, arch: str = "resnet8", data: str = "digits") -> int:
    return run_command(["teachers", "check", str(path), "--arch", arch, "--data", data, *more])


def test_a_good_one(good: Path, capsys: Capture) -> None:
    assert check(good) == 0
    out, err = capsys.readouterr()
    assert float(out.split(" %")[0]) > 30
    assert "always naming one class: 11.06 %" in out
    assert "10 classes in the order of digits (0, 1, 2, 3, 4, 5, 6, 7, 8, 9); 8x8 pixels, grey, of 0 to 1; less 0." in err


def test_json(good: Path, capsys: Capture) -> None:
    assert check(good, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    model = build_model("resnet8", 1, 10)
    model.load_state_dict(torch.load(good, weights_only=True)["model"])
    from engine.data import load_images
    from engine.preset import DatasetPart

    test = load_images(DatasetPart(name="digits"), good.parent, torch.device("cpu")).test
    assert found["usable"]
    assert found["fits"]
    assert found["assumed"]["classes"] == 10
    assert found["test_images"] == len(test)
    # Pixels are normalised by the statistics of all training images, here and in the command.
    assert found["accuracy"] == pytest.approx(measured(logits_of(model, test, 512), test.labels).accuracy)


def test_averaged_weights_are_measured_and_told(good: Path, tmp_path: Path, capsys: Capture) -> None:
    averaged = torch.load(good, weights_only=True)["model"]
    plain = {name: torch.zeros_like(value) for name, value in averaged.items()}
    torch.save({"state_dict": plain, "state_dict_ema": averaged}, tmp_path / "t.pth")
    assert check(tmp_path / "t.pth") == 0
    assert "averaged weights (state_dict_ema) are taken, not those of the last step (state_dict)" in capsys.readouterr().err
    for path, averages in ((tmp_path / "t.pth", "state_dict_ema"), (good, None)):
        assert check(path, "--json") == 0
        assert json.loads(capsys.readouterr().out)["averages_taken"] == averages


def test_what_a_trainer_saves_beside_the_network_is_told(good: Path, tmp_path: Path, capsys: Capture) -> None:
    state = torch.load(good, weights_only=True)["model"]
    inner = {f"model.{name}": value for name, value in state.items()}
    torch.save({"state_dict": inner | {"criterion.weight": torch.ones(10)}}, tmp_path / "t.pth")
    assert check(tmp_path / "t.pth") == 0
    assert "1 tensor beside the network is left out (criterion.weight)" in capsys.readouterr().err
    assert check(tmp_path / "t.pth", "--json") == 0
    assert json.loads(capsys.readouterr().out)["left_out"] == ["criterion.weight"]


def test_another_normalisation_of_its_librarys_weights_is_told(tmp_path: Path, capsys: Capture) -> None:
    arch = "timm:vit_tiny_patch16_224"
    torch.save(build_model(arch, 1, 10, size=8).state_dict(), tmp_path / "t.pth")
    check(tmp_path / "t.pth", arch=arch)
    assert f"publishes for {arch} are of pixels in 0 to 1, less 0.5, 0.5, 0.5, divided by 0.5" in capsys.readouterr().err


def test_a_folder_of_pictures(tmp_path: Path, capsys: Capture) -> None:
    """Broken pictures are named and count nowhere: not among the images, and not as a class of their own."""
    folder = tmp_path / "Meine Bilder"
    pictures(folder, {"train": 4, "test": 6}, classes=3)
    broken = sorted(folder.glob("test/*/*"))[:6]
    for path in broken:
        path.write_bytes(b"broken")
    torch.save(build_model("resnet8", 3, 3).state_dict(), tmp_path / "t.pth")
    assert check(tmp_path / "t.pth", "--size", "32", "--json", data=str(folder)) == 1
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["test_images"] == 12
    assert found["chance"] == 0.5
    assert found["assumed"]["size"] == 32
    assert found["assumed"]["names"] == sorted(path.name for path in (folder / "test").iterdir())
    assert found["assumed"]["mean"] == [0.485, 0.456, 0.406]  # of pixels in 0..1, as everyone writes them
    assert found["assumed"]["resize"] == 37  # before the middle is taken: the teacher may have learned from whole pictures
    assert all(f"{path} cannot be read" in err for path in broken)
    assert check(tmp_path / "t.pth", "--size", "32", data=str(folder)) == 1
    assert "; shorter side to 37, middle 32x32 pixels, RGB, of 0 to 1; less 0.4850, 0.4560" in capsys.readouterr().err
    check(tmp_path / "t.pth", "--size", "32", "--resize", "32", "--json", data=str(folder))
    assert json.loads(capsys.readouterr().out)["assumed"]["resize"] == 32
    assert check(tmp_path / "t.pth", "--size", "32", "--resize", "30", data=str(folder)) == 2
    assert "--resize 30 is smaller than the 32 pixels of --size" in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["in a row", "in folders", "a packed copy beside pictures"])
def test_a_folder_of_shards(layout: str, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "data"
    if layout.startswith("a packed copy"):
        pictures(folder, {"train": 4, "test": 4})
        shard(folder / "train.tar", sample(0, 0))
    else:
        shards(folder, classes=2)
    if layout == "in folders":
        for path in list(folder.glob("*.tar")):
            part = folder / path.name.partition("-")[0]
            part.mkdir(exist_ok=True)
            path.rename(part / path.name)
    torch.save(build_model("resnet8", 3, 2).state_dict(), tmp_path / "t.pth")
    assert check(tmp_path / "t.pth", "--size", "32", "--json", data=str(folder)) == 1
    assert json.loads(capsys.readouterr().out)["test_images"] == 8


def test_a_file_of_other_classes_is_told_so(tmp_path: Path, capsys: Capture) -> None:
    torch.save(build_model("resnet8", 1, 1000).state_dict(), tmp_path / "t.pth")
    assert check(tmp_path / "t.pth") == 1
    said = "it knows 1,000 classes, and the data set has 10: give one that was trained on these"
    assert capsys.readouterr().err.endswith(f"t.pth does not fit resnet8 on digits; {said}\n")
    assert check(tmp_path / "t.pth", "--json") == 1
    assert json.loads(capsys.readouterr().out)["remedy"] == said


def test_a_size_that_the_images_do_not_have(good: Path, capsys: Capture) -> None:
    assert check(good, "--size", "32") == 2
    assert "--size 32: the images of digits have 8x8 pixels" in capsys.readouterr().err


def test_one_that_guesses(tmp_path: Path, capsys: Capture) -> None:
    torch.save(build_model("resnet8", 1, 10).state_dict(), tmp_path / "t.pth")
    assert check(tmp_path / "t.pth") == 1
    out, err = capsys.readouterr()
    assert float(out.split(" %")[0]) < 20
    assert "no better than guessing" in err


def test_one_that_does_not_fit(tmp_path: Path, capsys: Capture) -> None:
    state = build_model("resnet8", 1, 10).state_dict()
    state["fc.weight"] = torch.zeros(100, 64)
    state["\x1b[31mextra"] = state.pop("bn1.weight")
    torch.save(state, tmp_path / "t.pth")
    assert check(tmp_path / "t.pth") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "\x1b" not in err
    rows = [line.split() for line in err.splitlines()]
    assert ["missing", "bn1.weight"] in rows
    assert ["too", "many", "\\x1b[31mextra"] in rows
    assert ["shape", "fc.weight", "100x64", "10x64"] in rows
    assert check(tmp_path / "t.pth", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["usable"], found["fits"], found["accuracy"]) == (False, False, None)
    assert found["missing"] == ["bn1.weight"]
    assert found["shapes"] == [{"name": "fc.weight", "file": [100, 64], "architecture": [10, 64]}]


@pytest.mark.parametrize(
    ("arch", "data", "message"),
    [
        ("resnet9", "digits", "--arch resnet9: there is none of that name; did you mean 'resnet"),
        (
            "resnet8",
            "digit",
            "--data digit: there is no data set of that name, and no such folder of pictures; did you mean 'digits'?",
        ),
        ("resnet10t", "digits", "did you mean 'timm:resnet10t'?"),
        ("resnet18", "digits", "did you mean 'torchvision:resnet18' or 'timm:resnet18'?"),
        ("densnet121", "digits", "did you mean 'torchvision:densenet121'?"),
        ("torchvision:resnet19", "digits", "did you mean 'torchvision:resnet1"),
        ("timm:no_such_network_at_all", "digits", "timm has no network of that name"),
    ],
)
def test_what_is_not_there(arch: str, data: str, message: str, good: Path, capsys: Capture) -> None:
    assert check(good, arch=arch, data=data) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert "Traceback" not in err


def test_no_file(tmp_path: Path, capsys: Capture) -> None:
    assert check(tmp_path / "nowhere.pth") == 2
    assert "nowhere.pth does not exist" in capsys.readouterr().err
