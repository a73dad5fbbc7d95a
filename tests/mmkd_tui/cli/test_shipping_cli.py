"""`mmkd export`, `evaluate` and `predict` as a user types them, after one small run in an empty folder."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import safetensors
import safetensors.torch
import torch
from PIL import Image
from support.picture_sets import bomb, jpeg, pictures, put
from support.presets import TINY
from support.refusal import refused

from engine import parse_preset
from engine.data import Split, load_images
from engine.errors import UserError
from engine.image_folders import read_folder, read_own
from engine.models import build_model
from engine.preset_yaml import load_preset
from engine.run import Run
from engine.shipping.opening import open_file
from engine.shipping.scores import scored
from engine.teachers.store import TeacherStore, content_key
from engine.teachers.weights import pack
from mmkd_tui.cli.main import run_command

Capture = pytest.CaptureFixture[str]
EVIL = "[/red]x\x1b[2J"
WEIGHTS = "export/student.safetensors"


def mmkd(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


@dataclass
class Shop:
    """An empty folder in which a run was made and exported in every form, each by one command."""

    folder: Path
    run: Path
    told: dict[str, dict[str, Any]]  # what each export said by --json
    said: dict[str, str]  # and what on stderr
    test: Split  # the run's test images, normalised by its own statistics

    def file(self, name: str) -> Path:
        return self.run / "export" / name


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MMKD_TEACHERS", str(folder / "teachers"))
        Path("tiny.yaml").write_text(TINY)
        assert mmkd("run", "tiny.yaml", "--quiet", "--set", "evaluate.student_alone=false")[0] == 0
        told, said = {}, {}
        for name, options in (
            ("onnx", ()),
            ("int8", ("--quantize", "int8")),
            ("safetensors", ("--format", "safetensors")),
            ("torch-export", ("--format", "torch-export")),
        ):
            code, out, err = mmkd("export", "tiny", *options, "--json")
            assert code == 0, err
            told[name], said[name] = json.loads(out), err
    (run,) = (folder / "runs").iterdir()
    images = load_images(parse_preset(TINY, "tiny.yaml").dataset, folder, torch.device("cpu"))
    assert isinstance(images.test, Split)
    return Shop(folder, run, told, said, images.test)


@pytest.fixture
def shop(made: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.chdir(made.folder)
    monkeypatch.setenv("MMKD_TEACHERS", str(made.folder / "teachers"))
    return made


def student(shop: Shop) -> torch.nn.Module:
    """As the architecture and the run's weights have it, with none of what exports."""
    model = build_model("resnet8", 1, 10)
    model.load_state_dict(safetensors.torch.load_file(shop.run / "student.safetensors"))
    return model.eval()


def digit(shop: Shop, number: int, path: Path) -> Path:
    Image.fromarray(shop.test.pixels[number, 0].numpy()).save(path)
    return path


@torch.no_grad()
def expected(shop: Shop, count: int) -> tuple[np.ndarray, torch.Tensor]:
    """Test images as the run normalised them, and the student's logits."""
    (batch,) = shop.test.in_order(len(shop.test))
    return batch.images[:count].numpy(), student(shop)(batch.images[:count]).logits


def test_the_onnx_model_says_what_the_student_says(shop: Shop) -> None:
    images, logits = expected(shop, 256)
    session = onnxruntime.InferenceSession(shop.file("student.onnx"), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 1, 8, 8]
    assert session.get_outputs()[0].shape == ["batch", 10]
    for count in (1, 7, 256):
        (found,) = session.run(["logits"], {"images": images[:count]})
        assert np.abs(found - logits[:count].numpy()).max() <= 1e-4
    assert shop.told["onnx"]["verified"]["images"] == len(shop.test)
    assert shop.told["onnx"]["verified"]["difference"] <= 1e-4
    assert min(shop.told["onnx"]["verified"]["latency"].values()) > 0


def test_the_exported_program_says_what_the_student_says(shop: Shop) -> None:
    images, logits = expected(shop, 256)
    extra = {"mmkd.json": ""}
    program = torch.export.load(shop.file("student.pt2"), extra_files=extra)
    for count in (1, 256):
        found = program.module()(torch.from_numpy(images[:count]))
        assert (found - logits[:count]).abs().max() <= 1e-4
    assert json.loads(json.loads(extra["mmkd.json"])["classes"]) == list("0123456789")


def test_every_file_says_what_it_is_and_nothing_of_the_machine(shop: Shop) -> None:
    session = onnxruntime.InferenceSession(shop.file("student.onnx"), providers=["CPUExecutionProvider"])
    with safetensors.safe_open(shop.file("student.safetensors"), "pt") as file:
        header = file.metadata()
    for said in (session.get_modelmeta().custom_metadata_map, header):
        assert json.loads(said["classes"]) == list("0123456789")
        how = json.loads(said["preprocessing"])
        assert (how["channels"], how["size"], how["resize"], how["interpolation"]) == (1, 8, 8, "bilinear")
        assert how["mean"][0] * 255 == pytest.approx(shop.test.mean.item())
        assert how["std"][0] * 255 == pytest.approx(shop.test.std.item())
        assert (said["arch"], said["dataset"], said["method"]) == ("resnet8", "digits", "mmkd")
        assert json.loads(said["teachers"]) == ["resnet8-s0", "resnet14-s1"]
    root = os.fsencode(Path(__file__).parents[3])
    for path in (shop.run / "export").iterdir():
        content = path.read_bytes()
        assert root not in content
        assert os.fsencode(shop.folder) not in content
        assert path.stat().st_mode & 0o777 == 0o600
    assert (shop.run / "export").stat().st_mode & 0o777 == 0o700


def test_what_int8_costs_is_told(shop: Shop) -> None:
    told = shop.told["int8"]
    assert set(told["int8"]["validation_accuracy"]) == {"static", "static-7bit", "dynamic"}
    assert told["bytes"] < 0.6 * shop.told["onnx"]["bytes"]
    lost = told["verified"]["student_accuracy"] - told["verified"]["accuracy"]
    assert told["int8"]["accuracy_lost"] == pytest.approx(lost)
    images, _ = expected(shop, len(shop.test))
    session = onnxruntime.InferenceSession(shop.file("student-int8.onnx"), providers=["CPUExecutionProvider"])
    # In passes of as many as it was measured in: of the dynamic form, ranges are those of a batch.
    found = np.concatenate([session.run(None, {"images": images[k : k + 64]})[0] for k in range(0, len(images), 64)])
    accuracy = (found.argmax(1) == shop.test.labels.numpy()).mean()
    assert accuracy == pytest.approx(told["verified"]["accuracy"], abs=2 / len(shop.test))  # other threads may break a tie
    said = shop.said["int8"]
    assert re.search(r"int8 \([a-z0-9-]+\) (loses|gains) .*accuracy; on the validation images that decided: static \d", said)
    if lost:
        assert f" {abs(lost) * 100:.2f} points of accuracy" in said


def test_predict_names_a_digit(shop: Shop) -> None:
    _, logits = expected(shop, 3)
    digit(shop, 2, Path("digit.png"))
    wanted = logits[2].softmax(0)
    for model in ("tiny", shop.file("student.onnx"), shop.file("student.safetensors")):
        code, out, err = mmkd("predict", model, "digit.png", "--json", "--top", 10)
        assert code == 0, err
        found = json.loads(out)
        assert found["image"] == "digit.png"
        assert [one["number"] for one in found["top"]] == wanted.argsort(descending=True).tolist()
        for one in found["top"]:
            assert one["probability"] == pytest.approx(wanted[one["number"]].item(), abs=1e-5)
    code, out, _ = mmkd("predict", "tiny", "digit.png")
    assert code == 0
    assert [float(line.split()[0]) for line in out.splitlines()] == pytest.approx(
        (wanted.sort(descending=True).values[:5] * 100).tolist(), abs=0.01
    )


def test_a_folder_stands_for_the_pictures_directly_in_it(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    for number, name in enumerate(("b.png", "a.PNG", "more/c.png", ".hidden.png")):
        digit(shop, number, tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    code, out, _ = mmkd("predict", "tiny", tmp_path, tmp_path / "more", "--json")
    assert code == 0
    names = ("a.PNG", "b.png", "more/c.png")
    assert [json.loads(line)["image"] for line in out.splitlines()] == [str(tmp_path / name) for name in names]
    assert mmkd("predict", "tiny", tmp_path / "more")[1].splitlines()[0] == str(tmp_path / "more/c.png")  # which one that was
    (tmp_path / "more" / "c.png").unlink()
    code, out, err = mmkd("predict", "tiny", tmp_path / "more")
    assert (code, out) == (2, "")
    assert f"{tmp_path / 'more'} is a folder with no picture directly in it" in err


def test_broken_pictures_are_named_and_the_others_predicted(shop: Shop) -> None:
    digit(shop, 0, Path("good.png"))
    put(Path(), {"text.png": b"no picture", f"{EVIL.replace('/', '|')}.png": bomb(), "photo.jpg": jpeg(1, 40, 30)})
    names = ["good.png", "text.png", f"{EVIL.replace('/', '|')}.png", "nowhere.png", "photo.jpg"]
    code, out, err = mmkd("predict", "tiny", *names)
    assert code == 1
    assert "\x1b" not in out + err
    assert [line for line in out.splitlines() if not line.startswith(" ")] == ["good.png", "photo.jpg"]
    assert len([line for line in out.splitlines() if "%" in line]) == 10
    told = [line for line in err.splitlines() if "cannot be read" in line]
    assert [line.split(" cannot")[0] for line in told] == ["text.png", "[|red]x\\x1b[2J.png", "nowhere.png"]
    assert "its pixels are more than the 50,000,000 that are allowed" in told[1]
    assert "1 of 5 pictures are not of 8x8 pixels (the first: photo.jpg, 40x30)" in err
    code, out, _ = mmkd("predict", "tiny", *names, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert ["error" in line for line in lines] == [False, True, True, True, False]


def test_evaluate_measures_the_student_and_its_teachers(shop: Shop) -> None:
    _, logits = expected(shop, len(shop.test))
    labels, named = shop.test.labels, logits.argmax(1)
    code, out, err = mmkd("evaluate", "tiny", "--json")
    assert code == 0, err
    found = json.loads(out)
    wanted = scored(logits, labels)
    assert found["images"] == len(labels)
    assert found["top1"] == pytest.approx((named == labels).double().mean().item())
    assert found["top1"] == pytest.approx(json.loads((shop.run / "result.json").read_text())["student_accuracy"])
    assert found["loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert found["top5"] == pytest.approx(wanted.top5)
    assert found["calibration_error"] == pytest.approx(wanted.calibration_error, abs=1e-6)
    for number, one in enumerate(found["per_class"]):
        mine = labels == number
        assert (one["class"], one["images"]) == (str(number), int(mine.sum()))
        assert one["accuracy"] == pytest.approx((named[mine] == number).double().mean().item())
    results = {t["name"]: t for t in json.loads((shop.run / "result.json").read_text())["teachers"]}
    (batch,) = shop.test.in_order(len(shop.test))
    for teacher, arch in zip(found["teachers"], ("resnet8", "resnet14"), strict=True):
        known = results[teacher["name"]]
        assert teacher["accuracy"] == pytest.approx(known["accuracy"])
        model = build_model(arch, 1, 10)
        model.load_state_dict(safetensors.torch.load_file(shop.folder / "teachers" / known["key"] / "weights.safetensors"))
        with torch.no_grad():
            theirs = model.eval()(batch.images).logits.argmax(1)
        assert teacher["agreement"] == pytest.approx((theirs == named).double().mean().item())
    code, out, _ = mmkd("evaluate", shop.file("student.onnx"), "--json")
    assert code == 0
    assert json.loads(out)["top1"] == pytest.approx(found["top1"])
    assert json.loads(out)["loss"] == pytest.approx(found["loss"], rel=1e-4)


def test_teachers_of_a_run_on_several_processes_are_found_by_what_they_were_trained_with(shop: Shop, tmp_path: Path) -> None:
    preset = load_preset(shop.run / "preset.yaml")
    shutil.copytree(shop.run, tmp_path / "two")
    store = TeacherStore(shop.folder / "teachers")
    weights = {}
    for part in preset.teachers:
        known = store.find(content_key(preset, part.arch, part.seed, part.recipe, ranks=1))
        assert known is not None
        weights[part.arch] = known[1]
    (tmp_path / "two" / "result.json").unlink()  # which would tell it: the run is at work
    (tmp_path / "two" / "meta.json").write_text(json.dumps({"ranks": 2}))
    assert mmkd("evaluate", tmp_path / "two")[2].count("is not at hand: it is not in") == 2  # those of one process are others
    for part in preset.teachers:
        store.add(content_key(preset, part.arch, part.seed, part.recipe, ranks=2), weights[part.arch], {})
    code, out, err = mmkd("evaluate", tmp_path / "two", "--json")
    assert code == 0, err
    assert [teacher["missing"] for teacher in json.loads(out)["teachers"]] == [None, None]


def test_teachers_are_those_of_the_run_whatever_became_of_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path / "own", {"train": 6, "test": 3})
    teacher = "{arch: resnet8, train: {epochs: 1, batch_size: 4}}"
    asked = [f"dataset={{name: imagefolder, path: {tmp_path / 'own'}, size: 16}}", f"teachers=[{teacher}]", "method={name: kd}"]
    asked += ["train={epochs: 1, batch_size: 4}", "evaluate.student_alone=false", "hardware.workers=0"]
    monkeypatch.setenv("MMKD_TEACHERS", str(tmp_path / "teachers"))
    assert Run(parse_preset(TINY, "tiny.yaml", asked), tmp_path / "one").execute().state == "done"
    (known,) = json.loads((tmp_path / "one" / "result.json").read_text())["teachers"]
    put(tmp_path / "own", {"train/class-0/another.jpg": jpeg(9)})
    (found,) = json.loads(mmkd("evaluate", tmp_path / "one", "--json")[1])["teachers"]
    assert found["accuracy"] == pytest.approx(known["accuracy"])


def test_teachers_are_those_that_the_result_names(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the store has others that were asked for in the same words."""
    run, store = tmp_path / "other", TeacherStore(tmp_path / "teachers")
    shutil.copytree(shop.run, run)
    shutil.copytree(shop.folder / "teachers", store.root)
    monkeypatch.setenv("MMKD_TEACHERS", str(store.root))
    result = json.loads((run / "result.json").read_text())
    for number, arch in enumerate(("resnet8", "resnet14")):
        result["teachers"][number]["key"] = f"{number:016x}"
        store.add(f"{number:016x}", pack(build_model(arch, 1, 10, seed=99).state_dict()), {})
    (run / "result.json").write_text(json.dumps(result))
    found = json.loads(mmkd("evaluate", run, "--json")[1])["teachers"]
    (batch,) = shop.test.in_order(len(shop.test))
    for teacher, arch in zip(found, ("resnet8", "resnet14"), strict=True):
        with torch.no_grad():
            theirs = build_model(arch, 1, 10, seed=99).eval()(batch.images).logits.argmax(1)
        assert teacher["accuracy"] == pytest.approx((theirs == shop.test.labels).double().mean().item())


def own_run(folder: Path, *asked: str) -> Path:
    """A run on `own`, a folder of two classes without a test split."""
    pictures(folder / "own", {"": 10})
    dataset = f"dataset={{name: imagefolder, path: {folder / 'own'}, size: 16, split_seed: 5}}"
    small = ["teachers=[]", "method={name: ce}", "train={epochs: 1, batch_size: 4}", "hardware.workers=0"]
    assert Run(parse_preset(TINY, "tiny.yaml", [dataset, *small, *asked]), folder / "one").execute().state == "done"
    return folder / "one"


def test_no_picture_is_tested_on_that_was_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a folder without a test split only the run's test pictures are asked, whatever names it, wherever it lies by then."""
    run = own_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    held = read_own(load_preset(run / "preset.yaml").dataset).test.paths
    assert held != read_folder(tmp_path / "own", 0).test.paths
    for path in {f"own/class-{k}/{n:03}.jpg" for k in range(2) for n in range(10)} - {f"own/{path}" for path in held}:
        Path(path).write_bytes(b"a picture that must not be read")
    assert mmkd("export", run, "-o", "s.safetensors", "--format", "safetensors")[0] == 0
    Path("own").rename("moved")
    Path("own").symlink_to("moved")
    for model, data in ((run, "own"), (run, "moved"), ("s.safetensors", "own"), (run / "student.safetensors", "moved")):
        code, out, err = mmkd("evaluate", model, "--data", data, "--json")
        assert code == 0, err
        assert (json.loads(out)["images"], "cannot be read" in err, "too high" in err) == (len(held), False, False)


def test_a_run_whose_pictures_lie_elsewhere_by_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = own_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    known = json.loads((run / "result.json").read_text())["student_accuracy"]
    Path("own").rename("moved")
    for command in ("export", "evaluate"):
        code, out, err = mmkd(command, run)
        assert (code, out) == (2, "")
        assert f"its pictures were in {tmp_path / 'own'}, and are there no more; say by --data which folder has them" in err
    code, out, err = mmkd("export", run, "--data", "moved", "--quantize", "int8", "--json")
    assert code == 0, err
    assert json.loads(out)["verified"]["student_accuracy"] == pytest.approx(known)
    code, out, err = mmkd("evaluate", run, "--data", "moved", "--json")
    assert code == 0, err
    assert json.loads(out)["top1"] == pytest.approx(known)
    pictures(tmp_path / "other", {"": 10}, classes=3)
    code, out, err = mmkd("export", run, "--data", "other", "--force")
    assert (code, out) == (2, "")
    assert "--data other has other classes than one was trained on" in err


def test_what_was_trained_on_is_not_known_of_a_file_that_does_not_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "own", {"": 10})
    pictures(tmp_path / "split", {"train": 2, "test": 2})
    torch.save(build_model("resnet8", 3, 2).state_dict(), "theirs.pth")
    for data, told in (("own", True), ("split", False)):
        code, _, err = mmkd("evaluate", "theirs.pth", "--arch", "resnet8", "--size", "16", "--data", data)
        assert code == 0, err
        assert ("has no test split, and the model does not say which fifth was kept" in err) is told


def test_a_key_that_leads_out_of_the_store_is_not_followed(shop: Shop, tmp_path: Path) -> None:
    shutil.copytree(shop.run, tmp_path / "evil")
    outside = tmp_path / "0123456789abcdef"
    outside.mkdir()
    result = json.loads((shop.run / "result.json").read_text())
    result["teachers"][0]["key"] = str(outside)
    (tmp_path / "evil" / "result.json").write_text(json.dumps(result))
    found = json.loads(mmkd("evaluate", tmp_path / "evil", "--json")[1])["teachers"]
    assert found[0]["accuracy"] == pytest.approx(result["teachers"][0]["accuracy"])  # by what its preset says
    assert outside.is_dir()


def test_teachers_that_are_gone_are_told(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMKD_TEACHERS", str(shop.folder / "nowhere"))
    code, out, err = mmkd("evaluate", "tiny")
    assert code == 0
    assert "top-1 accuracy" in out
    assert err.count("is not at hand: it is not in") == 2


def test_a_checkpoint_of_another_program_is_taken_with_its_architecture_and_data(shop: Shop) -> None:
    torch.save({"state_dict": {f"module.{n}": v for n, v in student(shop).state_dict().items()}}, "foreign.pth")
    digit(shop, 0, Path("good.png"))
    assert "--arch" in mmkd("evaluate", "foreign.pth", "--data", "digits")[2]
    assert "--data" in mmkd("evaluate", "foreign.pth", "--arch", "resnet8")[2]
    code, out, err = mmkd("evaluate", "foreign.pth", "--arch", "resnet8", "--data", "digits", "--json")
    assert code == 0, err
    assert json.loads(out)["kind"] == "checkpoint"
    assert json.loads(out)["top1"] > 0.2
    assert "assumed, since foreign.pth does not say it: 8x8 pixels, grey" in err
    assert mmkd("predict", "foreign.pth", "good.png", "--arch", "resnet8", "--data", "digits")[0] == 0


class Theirs(torch.nn.Module):
    """A network of another program, whose output is a tensor, a tuple or a dict."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.head = form, torch.nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> Any:
        logits = self.head(images.flatten(1))
        return {"tensor": logits, "tuple": (logits, images), "dict": {"logits": logits}}[self.form]


def test_programs_of_others_are_measured_or_one_clear_line(shop: Shop, tmp_path: Path) -> None:
    """As torch.export makes them by default: for one size of batch, whatever it is that they give."""
    torch.manual_seed(0)
    theirs = Theirs("tensor").eval()
    example = torch.zeros(7, 1, 8, 8)
    torch.export.save(torch.export.export(theirs, (example,)), tmp_path / "t.pt2")
    code, out, err = mmkd("evaluate", tmp_path / "t.pt2", "--trust", "--data", "digits", "--json")
    assert code == 0, err
    assert len(shop.test) % 7
    found = json.loads(out)
    # Its statistics are assumed: those of digits, of whose training images the run took a part.
    whole = load_images(parse_preset(TINY, "t", ["dataset.train_images=null"]).dataset, tmp_path, torch.device("cpu"))
    (batch,) = whole.test.in_order(len(whole.test))
    assert found["top1"] == pytest.approx((theirs(batch.images).argmax(1) == batch.labels).double().mean().item())
    for form in ("tuple", "dict"):
        torch.export.save(torch.export.export(Theirs(form).eval(), (example,)), tmp_path / f"{form}.pt2")
        code, out, err = mmkd("evaluate", tmp_path / f"{form}.pt2", "--trust", "--data", "digits")
        assert (code, out) == (2, "")
        assert f"{form}.pt2 gives a {form}, not one tensor of logits" in err
    torch.export.save(torch.export.export(theirs, (torch.zeros(7, 4, 4, 4),)), tmp_path / "other.pt2")
    code, out, err = mmkd("evaluate", tmp_path / "other.pt2", "--trust", "--data", "digits")
    assert (code, out) == (2, "")
    assert "takes images of 4x4x4 (channels, height, width), not 1x8x8" in err


def test_pictures_that_cannot_be_read_now_are_measured_by_no_less_and_predicted_but_one(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(Path("away"), {f"{part}/{k}/{k}.jpg": jpeg(k) for k in range(10) for part in ("train", "test")})
    monkeypatch.setattr("engine.data.load.chosen_workers", lambda asked: 0)
    monkeypatch.setattr("engine.pictures.PAUSES", ())
    gone = Path.cwd() / "away/test/3/3.jpg"
    refused(monkeypatch, "open", gone, errno.EACCES)
    code, out, err = mmkd("evaluate", "tiny", "--data", "away", "--json")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith(f"mmkd: {gone} cannot be read now: Permission denied; nothing was changed")
    code, out, err = mmkd("predict", "tiny", gone, "away/test/4/4.jpg", "--json")
    assert code == 1
    assert ["error" in json.loads(line) for line in out.splitlines()] == [True, False]


def test_other_images_are_converted_and_said(shop: Shop) -> None:
    put(Path("pictures"), {f"{part}/{k}/{k}.jpg": jpeg(k) for k in range(10) for part in ("train", "test")})
    put(Path("pictures"), {"test/3/broken.jpg": b"no picture"})
    code, out, err = mmkd("evaluate", "tiny", "--data", "pictures", "--json")
    assert code == 0, err
    assert json.loads(out)["images"] == 10
    assert "broken.jpg cannot be read" in err
    assert "images in colour are converted to grey, as the model takes them" in err
    shutil.rmtree("pictures/train/9")
    shutil.rmtree("pictures/test/9")
    code, _, err = mmkd("evaluate", "tiny", "--data", "pictures")
    assert code == 2
    assert "the model knows 10 classes and imagefolder has 9" in err


def test_the_same_classes_in_another_order_are_told_by_their_names(shop: Shop, tmp_path: Path) -> None:
    """As WebDataset's classes.txt may have them, and folders may not."""
    shutil.copytree(shop.run, tmp_path / "other", ignore=shutil.ignore_patterns("export"))
    path = tmp_path / "other" / "student.safetensors"
    with safetensors.safe_open(path, "pt") as file:
        said = file.metadata()
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]  # the same network, with its head's rows moved
    weights = safetensors.torch.load_file(path)
    head = {name: value[order].contiguous() for name, value in weights.items() if len(value.shape) and len(value) == 10}
    assert len(head) == 2
    safetensors.torch.save_file(weights | head, path, said | {"classes": json.dumps([str(number) for number in order])})
    code, out, err = mmkd("evaluate", path, "--json")
    assert code == 0, err
    found, known = json.loads(out), json.loads(mmkd("evaluate", "tiny", "--json")[1])
    assert found["top1"] == pytest.approx(known["top1"])
    assert {row["class"]: row["accuracy"] for row in found["per_class"]} == pytest.approx(
        {row["class"]: row["accuracy"] for row in known["per_class"]}
    )
    assert found["notes"] == ["the classes come in another order than the model's; they are told by their names"]


def test_a_file_that_does_not_say_the_size_of_its_pictures(shop: Shop) -> None:
    put(Path("own"), {f"{part}/{k}/{k}.jpg": jpeg(k) for k in range(3) for part in ("train", "test")})
    torch.save(build_model("resnet8", 3, 3).state_dict(), "own.pth")
    for command in (("evaluate", "own.pth"), ("predict", "own.pth", "own/test/1/1.jpg")):
        code, _, err = mmkd(*command, "--arch", "resnet8", "--data", "own", "--size", "32")
        assert code == 0, err
        assert "middle 32x32 pixels" in err
    assert "--size 16: the images of digits have 8x8 pixels" in mmkd("evaluate", "tiny", "--size", "16")[2]


@pytest.mark.parametrize("name", ["student.onnx", "student.safetensors", "student.pt2"])
def test_the_code_on_the_card_runs_and_says_what_predict_says(shop: Shop, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(Path(), {"photo.jpg": jpeg(3, 50, 41)})
    Image.open("photo.jpg").save(shop.file("picture.png"))
    text = shop.file(f"{name}.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(shop.run / "export")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})  # noqa: S102
    shop.file("picture.png").rename("../picture.png")
    told = json.loads(mmkd("predict", shop.run, "../picture.png", "--json")[1])["top"]
    if name == "student.safetensors":
        assert f"({told[0]['number']}, '{told[0]['class']}'" in out.getvalue()
        return
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert [line[1] for line in lines] == [one["class"] for one in told]
    assert [float(line[0].rstrip("%")) for line in lines] == pytest.approx([100 * one["probability"] for one in told], abs=0.02)


def test_the_card_is_as_hubs_read_it_and_makes_the_run_again(shop: Shop) -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard.load(shop.file("student.onnx.md"))
    assert card.data.pipeline_tag == "image-classification"
    assert card.data.datasets == ["digits"]
    (measured,) = card.data.eval_results
    assert measured.metric_value == pytest.approx(shop.told["onnx"]["verified"]["accuracy"], abs=1e-4)
    (preset,) = re.findall(r"```yaml\n(.*?)```", card.text, re.DOTALL)
    assert parse_preset(preset, "card") == parse_preset(TINY, "tiny.yaml", ["evaluate.student_alone=false"])
    for name in ("resnet8-s0", "resnet14-s1", "plain average", "student.onnx"):
        assert f"{name}" in card.text


def test_a_folder_with_no_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is a folder with no model\.safetensors in it; name a run or a model file"):
        open_file(tmp_path)


@pytest.mark.parametrize("student_arch", ["timm:test_resnet", "timm:test_vit", "resnet8"])
def test_a_hub_folder(student_arch: str, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    monkeypatch.chdir(tmp_path)
    asked = ["teachers=[]", "method={name: ce}", "train={epochs: 1, batch_size: 32}", f"student={{arch: '{student_arch}'}}"]
    result = Run(parse_preset(TINY, "tiny.yaml", [*asked, "dataset.train_images=64"]), Path("runs/one")).execute()
    assert result.state == "done", result.message
    code, out, err = mmkd("export", "one", "--hub-layout", "hub", "--images", 64, "--json")
    assert code == 0, err
    assert {path.name for path in Path("hub").iterdir()} == {"config.json", "model.safetensors", "README.md"}
    config = json.loads(Path("hub/config.json").read_text())
    assert config["label_names"] == list("0123456789")
    assert json.loads(out)["timm"] == student_arch.startswith("timm")
    code, _, err = mmkd("export", "one", "--hub-layout", "hub")
    assert code == 2
    assert "is there already" in err
    digit(shop, 0, Path("picture.png"))
    told = json.loads(mmkd("predict", "one", "picture.png", "--json")[1])["top"]
    code, out, err = mmkd("predict", "hub", "picture.png", "--json")
    assert code == 0, err
    assert [one["class"] for one in json.loads(out)["top"]] == [one["class"] for one in told]
    scores = [json.loads(mmkd("evaluate", name, "--json")[1]) for name in ("one", "hub")]
    assert scores[0]["top1"] == scores[1]["top1"]
    assert scores[1]["model"] == "hub"
    assert open_file(Path("hub")).facts.arch == student_arch
    if not student_arch.startswith("timm"):
        assert "timm has no such network" in mmkd("export", "one", "--hub-layout", "hub", "--force", "--images", 8)[2]
        return
    network = timm.create_model("local-dir:hub", pretrained=True).eval()
    given = build_model(student_arch, 1, 10, size=8)
    given.load_state_dict(safetensors.torch.load_file("runs/one/student.safetensors"))
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    side = network.pretrained_cfg["input_size"][-1]
    enlarged = torch.nn.functional.interpolate(images, (side, side), mode="bilinear") if side != 8 else images
    with torch.no_grad():
        torch.testing.assert_close(network(enlarged), given.eval()(images).logits)
    assert network.pretrained_cfg["mean"][0] == pytest.approx(config["pretrained_cfg"]["mean"][0])
    assert (side != 8) == (student_arch == "timm:test_vit")
    Path("picture.png").rename("hub/picture.png")
    (code,) = re.findall(r"```python\n(.*?)```", Path("hub/README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path / "hub")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})  # noqa: S102
    assert [float(line.split("%")[0]) for line in printed.getvalue().splitlines()] == pytest.approx(
        [100 * one["probability"] for one in told], abs=0.02
    )


def test_nothing_is_written_over(shop: Shop) -> None:
    before = shop.file("student.onnx").read_bytes()
    for arguments in ((), ("--format", "safetensors"), ("-o", "tiny.onnx")):
        Path("tiny.onnx").write_text("mine")
        code, out, err = mmkd("export", "tiny", *arguments)
        assert (code, out) == (2, "")
        assert "is there already; name another place by -o, or give --force" in err
    assert shop.file("student.onnx").read_bytes() == before
    assert Path("tiny.onnx").read_text() == "mine"
    code, out, _ = mmkd("export", "tiny", "--format", "safetensors", "-o", "new/mine.safetensors")
    assert code == 0
    assert out.splitlines()[0] == "new/mine.safetensors"
    assert sorted(path.name for path in Path("new").iterdir()) == ["mine.safetensors", "mine.safetensors.md"]
    assert not list(shop.folder.rglob("*.partial"))


def test_a_file_that_says_something_else_is_not_kept(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.shipping import export

    def broken(model: Any, facts: Any) -> bytes:
        state = {name: value * 1.5 for name, value in model.state_dict().items()}
        return safetensors.torch.save(state, metadata=facts.to_metadata())

    monkeypatch.setitem(export._WRITERS, "safetensors", broken)
    code, out, err = mmkd("export", "tiny", "--format", "safetensors", "-o", "broken/b.safetensors")
    assert (code, out) == (2, "")
    assert "does not say what the student says" in err
    assert list(Path("broken").iterdir()) == []


def test_class_names_of_strangers_are_shown_plain(shop: Shop) -> None:
    shutil.copytree(shop.run, "runs/evil", ignore=shutil.ignore_patterns("export"))
    Path("runs/evil/result.json").write_text(json.dumps({"state": "stopped", "message": EVIL, "teachers": [{"name": EVIL}]}))
    path = Path("runs/evil/student.safetensors")
    with safetensors.safe_open(path, "pt") as file:
        said = file.metadata()
    names = [EVIL, "\u202eabc", "<script>", *"3456789"]
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, said | {"classes": json.dumps(names)})
    digit(shop, 0, Path("good.png"))
    for arguments in (
        ("predict", "evil", "good.png", "--top", 10),
        ("predict", "evil", "good.png", "--json", "--top", 10),
        ("evaluate", "evil"),
        ("evaluate", "evil", "--json"),
        ("export", "evil", "--format", "safetensors"),
    ):
        code, out, err = mmkd(*arguments)
        assert code == 0, err
        assert not {"\x1b", "\u202e"} & set(out + err)
    assert "[/red]x\\x1b[2J" in mmkd("predict", "evil", "good.png", "--top", 10)[1]
    card = Path("runs/evil/export/student.safetensors.md").read_text()
    assert not {"\x1b", "\u202e"} & set(card)
    assert "\\[/red\\]x" in card
    assert re.search(r"\| student, as trained \| \d", card)  # measured now: a run that was stopped has not measured it
    assert "<script>" not in card
    shutil.rmtree("runs/evil")


def lying(change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    weights = build_model("resnet8", 1, 10).state_dict()
    facts = {
        "arch": "resnet8",
        "dataset": "digits",
        "classes": json.dumps([str(k) for k in range(10)]),
        "preprocessing": json.dumps({"channels": 1, "size": 8, "resize": 8, "mean": [0.3], "std": [0.3]}),
    }
    safetensors.torch.save_file(weights, "lie.safetensors", change(facts))


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("export", "nowhere"), "there is no run 'nowhere'"),
        (("export", "tiny", "--format", "safetensors", "--quantize", "int8"), "--quantize int8 is for ONNX"),
        (("export", "tiny", "--hub-layout", "h", "--format", "onnx"), "leave --format and -o out"),
        (("export", "tiny", "-o", "model.bin"), "ends with .onnx"),
        (("export", "tiny", "-o", "x.onnx", "--data", "own"), "where digits lies is said by --data-root"),
        (("export", "tiny", "-o", "/proc/nowhere/model.onnx"), "name another place"),
        (("evaluate", "nowhere.onnx"), "nowhere.onnx does not exist"),
        (("evaluate", "tiny", "--data", "digit"), "did you mean 'digits'?"),
        (("evaluate", "tiny", "--arch", "resnet8"), "--arch is for files"),
        (("evaluate", "tiny", "--device", "tpu"), "give auto, cpu, cuda or cuda:N"),
        (("evaluate", "text.onnx"), "text.onnx cannot be read as ONNX"),
        (("evaluate", "text.safetensors"), "text.safetensors cannot be read as safetensors"),
        (("evaluate", "cut.safetensors"), "cut.safetensors cannot be read as safetensors: its end is missing; copy it again"),
        (("evaluate", "text.pt2"), "to read it is to run what is in it; give --trust"),
        (("evaluate", "text.pt2", "--trust"), "text.pt2 cannot be read as torch.export's"),
        (("evaluate", "renamed.pth"), "to read it is to run what is in it; give --trust"),
        (("predict", "text.pth", "a.png", "--arch", "resnet8", "--data", "digits"), "text.pth is neither"),
        (("predict", "lie.safetensors", "a.png", "--arch", "resnet9"), "there is no architecture resnet9; did you mean"),
        (("predict", "lie.safetensors", "a.png", "--arch", "resnet14"), "does not fit resnet14"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)
def test_mistakes_are_one_clear_line(shop: Shop, arguments: tuple[str, ...], fragment: str) -> None:
    for ending in ("onnx", "safetensors", "pt2", "pth"):
        Path(f"text.{ending}").write_text("no model")
    shutil.copy(shop.file("student.pt2"), "renamed.pth")
    lying(lambda facts: facts)
    Path("cut.safetensors").write_bytes(Path("lie.safetensors").read_bytes()[:-100])
    code, out, err = mmkd(*arguments)
    lines = [line for line in err.splitlines() if line.startswith("mmkd: ")]
    assert (code, out) == (2, "")
    assert len(lines) == 1
    assert fragment in lines[0]
    assert "Traceback" not in err


def test_metadata_that_lies_is_found_out(shop: Shop) -> None:
    lying(lambda facts: facts | {"arch": "\x1b[31mevil"})
    assert "there is no architecture \\x1b[31mevil" in mmkd("evaluate", "lie.safetensors")[2]
    lying(lambda facts: facts | {"classes": '["a", "b"]'})
    assert "does not fit resnet8" in mmkd("evaluate", "lie.safetensors")[2]
    lying(lambda facts: {**facts, "preprocessing": "{}"})
    assert "that cannot be so" in mmkd("evaluate", "lie.safetensors")[2]


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_extra_is_one_line(shop: Shop, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    code, out, err = mmkd("export", "tiny", "-o", "x.onnx")
    assert (code, out) == (2, "")
    assert f"need {missing}, which is not installed; pip install 'mmkd-tui[onnx]' brings it" in err
    assert not Path("x.onnx").exists()
    assert mmkd("evaluate", shop.file("student.safetensors"))[0] == 0


def test_weights_in_other_files_are_never_looked_for(shop: Shop) -> None:
    import onnx

    model = onnx.load(shop.file("student.onnx"))
    onnx.save_model(model, "outside.onnx", save_as_external_data=True, location="secret", size_threshold=0)
    code, _, err = mmkd("evaluate", "outside.onnx")
    assert code == 2
    assert "outside.onnx keeps its weights in other files" in err


@pytest.mark.parametrize("command", ["export", "evaluate", "predict"])
def test_help_fits_and_has_an_example(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = mmkd(command, "--help")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert f"Example: mmkd {command} " in out
