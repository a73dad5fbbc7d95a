"""`mmkd data`: where data sets lie, found without torch, and what fetching says."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import fashion_files
from support import picture_sets as sets
from support.refusal import refused
from support.shards import shard, shards

from mmkd_tui.cli.main import run_command

ROOT = Path(__file__).resolve().parents[3]

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _no_system_package(monkeypatch: pytest.MonkeyPatch) -> None:
    fashion_files.forget_system_package(monkeypatch)


def listed(capsys: Capture, *arguments: str) -> dict[str, dict[str, object]]:
    assert run_command(["data", "list", "--json", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return {one["name"]: one for one in json.loads(out)}


def test_list(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMKD_DATA", str(tmp_path))
    assert run_command(["data", "list"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    head, digits, fashion, *_ = out.splitlines()
    assert " ".join(head.split()) == "name training images test images classes pixels where"
    assert " ".join(digits.split()) == "digits 1,200 597 10 8x8x1 embedded in scikit-learn"
    assert " ".join(fashion.split()) == "fashion-mnist 60,000 10,000 10 28x28x1 missing: mmkd data fetch fashion-mnist"
    fashion_files.write(tmp_path / "fashion-mnist", packed=True)
    assert run_command(["data", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[2].split()[-1] == str(tmp_path / "fashion-mnist")


def test_list_as_json(capsys: Capture, tmp_path: Path) -> None:
    before = listed(capsys)
    assert before["digits"]["embedded"] is before["digits"]["present"] is True
    assert before["fashion-mnist"]["present"] is False
    assert before["fashion-mnist"]["folder"] is None
    fashion_files.write(tmp_path / "FashionMNIST" / "raw", packed=False)
    after = listed(capsys, "--data-root", str(tmp_path))["fashion-mnist"]
    assert after["present"] is True
    assert after["folder"] == str(tmp_path / "FashionMNIST" / "raw")
    assert len(after["classes"]) == 10  # type: ignore[arg-type]


def test_data_root_goes_before_the_environment(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        fashion_files.write(tmp_path / name, packed=True)
    monkeypatch.setenv("MMKD_DATA", str(tmp_path / "a"))
    assert listed(capsys)["fashion-mnist"]["folder"] == str(tmp_path / "a")
    assert listed(capsys, "--data-root", str(tmp_path / "b"))["fashion-mnist"]["folder"] == str(tmp_path / "b")


def test_a_data_root_that_cannot_be(capsys: Capture, tmp_path: Path) -> None:
    assert listed(capsys, "--data-root", str(tmp_path / ("x" * 300)))["fashion-mnist"]["present"] is False


def test_fetch_what_is_embedded(capsys: Capture) -> None:
    assert run_command(["data", "fetch", "digits"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "embedded in scikit-learn" in err


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("fashon-mnist", "did you mean 'fashion-mnist'?"),
        ("FashionMNIST", "'fashion-mnist'"),
        ("zzz", "one of digits, fashion-mnist, mnist, cifar-10"),
    ],
)
def test_fetch_what_there_is_not(name: str, hint: str, capsys: Capture) -> None:
    assert run_command(["data", "fetch", name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"mmkd: there is no data set '{name}'; ")
    assert hint in err


def test_fetch_what_is_there(capsys: Capture, tmp_path: Path) -> None:
    fashion_files.write(tmp_path, packed=True)
    assert run_command(["data", "fetch", "fashion-mnist", "--data-root", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path}\n"
    assert "there already" in err


def test_fetch(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = fashion_files.archives()
    sets.put(tmp_path / "site", content)
    with sets.served(tmp_path / "site", monkeypatch) as (url, _):
        sets.published_as("fashion-mnist", monkeypatch, content, url)
        assert run_command(["data", "fetch", "fashion-mnist", "--data-root", str(tmp_path / "root")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'root' / 'fashion-mnist'}\n"
    assert listed(capsys, "--data-root", str(tmp_path / "root"))["fashion-mnist"]["present"] is True


def test_fetch_without_a_network(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = fashion_files.archives()
    sets.put(tmp_path / "site", content)
    with sets.served(tmp_path / "site", monkeypatch) as (url, _):
        sets.published_as("fashion-mnist", monkeypatch, content, url)  # and nobody listens there any more
    assert run_command(["data", "fetch", "fashion-mnist", "--data-root", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    message = err.splitlines()[-1]
    assert message.startswith("mmkd: train-images-idx3-ubyte.gz could not be downloaded from http://127.0.0.1:")
    assert str(tmp_path / "fashion-mnist") in message
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["list", "--json"], ["fetch", "digits"], ["show", "cifar-100"], ["show", "imagenet", "--json"]],
    ids=" ".join,
)
def test_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom mmkd_tui.cli.main import run_command\n"
        f"assert run_command({['data', *arguments]!r}) == 0\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert not {"torch", "torchvision", "numpy", "sklearn", "textual"} & set(done.stderr.split())


def test_fetch_with_archives_and_show_what_was_fetched(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"CUB_200_2011.tgz": sets.tar(sets.cub200(), "w:gz")}
    sets.put(tmp_path / "site", content)
    root = ["--data-root", str(tmp_path / "root")]
    assert run_command(["data", "show", "cub-200", "--json", *root]) == 0
    before = json.loads(capsys.readouterr().out)
    assert before["present"] is False
    assert len(before["missing"]) == 5
    assert "mmkd data fetch cub-200" in before["remedy"]
    with sets.served(tmp_path / "site", monkeypatch) as (url, _):
        sets.published_as("cub-200", monkeypatch, content, url)
        assert run_command(["data", "fetch", "cub-200", *root]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'root' / 'cub-200'}\n"
    assert run_command(["data", "show", "cub-200", "--json", *root]) == 0
    after = json.loads(capsys.readouterr().out)
    assert after["classes"] == ["Black footed Albatross", "Laysan Albatross"]
    assert (after["present"], after["missing"], after["remedy"]) == (True, [], "")
    assert run_command(["data", "show", "cub-200", *root]) == 0
    assert "2: Black footed Albatross, Laysan Albatross" in capsys.readouterr().out


def test_what_needs_a_licence_is_not_fetched(capsys: Capture, tmp_path: Path) -> None:
    assert run_command(["data", "fetch", "imagenet", "--data-root", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    message = err.splitlines()[-1]
    for part in ("terms of access", "ILSVRC2012_img_train.tar", str(tmp_path / "imagenet"), "mmkd data fetch imagenet"):
        assert part in message


def test_check_of_ones_own_pictures(capsys: Capture, tmp_path: Path) -> None:
    sets.pictures(tmp_path, {"train": 5, "test": 2})
    assert run_command(["data", "check", "imagefolder", "--path", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "class train images test images",
        "class-0 5 2",
        "class-1 5 2",
    ]
    assert "14 images read, 0 broken" in err
    (tmp_path / "train" / "class-1" / "000.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more than a beginning")
    assert run_command(["data", "check", "imagefolder", "--path", str(tmp_path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["splits"] == {"train": {"class-0": 5, "class-1": 4}, "test": {"class-0": 2, "class-1": 2}}
    assert found["images"] == {"train": 9, "test": 4}
    assert [one["file"] for one in found["broken"]] == [str(tmp_path / "train" / "class-1" / "000.jpg")]
    assert run_command(["data", "check", "imagefolder", "--path", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].split() == ["class-1", "4", "2"]
    assert "13 images read, 1 broken" in err


def test_check_takes_no_picture_for_broken_that_cannot_be_read_now(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets.pictures(tmp_path, {"train": 5, "test": 2})
    place = tmp_path / "train" / "class-1" / "000.jpg"
    monkeypatch.setattr("engine.data.check.chosen_workers", lambda asked: 0)
    monkeypatch.setattr("engine.pictures.PAUSES", ())
    refused(monkeypatch, "open", place, errno.ESTALE)
    assert run_command(["data", "check", "imagefolder", "--path", str(tmp_path), "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith(f"mmkd: {place} cannot be read now: Stale file handle; nothing was changed")


def test_shards_are_shown_and_checked(capsys: Capture, tmp_path: Path) -> None:
    shards(tmp_path, train=2, each=4, tests=2)
    (tmp_path / "classes.txt").write_text("daisy\nrose\n")
    assert run_command(["data", "show", "webdataset", "--path", str(tmp_path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["present"], shown["train_images"], shown["classes"]) == (True, 8, ["daisy", "rose"])
    bad = {"bad.jpg": b"\xff\xd8\xff\xe0 no more than a beginning", "bad.cls": b"1"}
    shard(tmp_path / "train-000001.tar", bad)
    assert run_command(["data", "check", "webdataset", "--path", str(tmp_path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["splits"] == {"train": {"daisy": 2, "rose": 2}, "test": {"daisy": 1, "rose": 1}}
    assert [one["file"] for one in found["broken"]] == [str(tmp_path / "train-000001.tar" / "bad.jpg")]


def test_a_folder_may_stand_in_place_of_a_name(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sets.pictures(Path("shapes"), {"train": 5, "test": 2})
    assert run_command(["data", "check", "shapes/"]) == 0
    assert "imagefolder: 14 images read, 0 broken" in capsys.readouterr().err
    shards(Path("packed"), train=2, each=4, tests=2)
    assert run_command(["data", "show", "packed", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["name"], shown["folder"]) == ("webdataset", str(tmp_path / "packed"))


def test_show_says_to_which_size_pictures_are_brought(capsys: Capture, tmp_path: Path) -> None:
    sets.pictures(tmp_path, {"train": 2, "test": 1})
    for size, first, sides in (([], 256, "224x224"), (["--size", "64"], 73, "64x64")):
        assert run_command(["data", "show", str(tmp_path), *size]) == 0
        out = capsys.readouterr().out
        assert f"pixels:          {sides}, 3 channels" in out
        assert f"scaled to {sides}, horizontal flip; tests: shorter side to {first}, middle {sides}\n" in out


def test_check_of_an_archive_with_a_wrong_checksum(capsys: Capture, tmp_path: Path) -> None:
    sets.put(tmp_path / "cub-200", sets.cub200() | {"CUB_200_2011.tgz": b"changed on the way"})
    assert run_command(["data", "check", "cub-200", "--json", "--data-root", str(tmp_path)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["archives"] == {"CUB_200_2011.tgz": "checksum wrong"}
    assert "MD5" in found["broken"][0]["why"]


def test_a_folder_that_is_slow_to_count_is_shown(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    sets.pictures(tmp_path, {"train": 3, "test": 1})
    monkeypatch.setattr("engine.image_folders.PATIENCE", -1.0)
    assert run_command(["data", "show", "imagefolder", "--path", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == ["class-0", "class-1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "cifar-100"], "mmkd data fetch cifar-100"),
        (["check", "imagefolder"], "needs --path"),
        (["show", "digits", "--path", "x"], "takes no --path"),
        (["show", "imagefolder", "--path", "none"], "there is no folder"),
        (["fetch", "imagefolder"], "a folder of your own"),
        (["show", "webdataset", "--path", "none"], "there is no folder"),
        (["check", "webdataset", "--path", "."], "has no training shards; lay it out as"),
        (["fetch", "webdataset"], "a folder of your own"),
        (["check", "cifar100"], "did you mean 'cifar-100'?"),
        (["check", "no/such"], "there is no data set 'no/such', and no such folder of pictures; one of digits"),
        (["show", "x" * 5000], "there is no data set"),
        (["check", "/", "--path", "."], "leave --path out"),
        (["show", "digits", "--size", "32"], "the images of digits have 8x8 pixels; leave --size out"),
    ],
)
def test_mistakes(arguments: list[str], said: str, capsys: Capture) -> None:
    assert run_command(["data", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err.splitlines()[-1]
