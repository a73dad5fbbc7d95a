"""`mmkd data`: where data sets lie, found without torch, and what fetching says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import fashion_files

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
    with fashion_files.published(tmp_path / "site", monkeypatch):
        assert run_command(["data", "fetch", "fashion-mnist", "--data-root", str(tmp_path / "root")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'root' / 'FashionMNIST' / 'raw'}\n"
    assert listed(capsys, "--data-root", str(tmp_path / "root"))["fashion-mnist"]["present"] is True


def test_fetch_without_a_network(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.FashionMNIST.mirrors", ["http://127.0.0.1:9/"])  # nobody listens there
    assert run_command(["data", "fetch", "fashion-mnist", "--data-root", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    message = err.splitlines()[-1]
    assert message.startswith("mmkd: fashion-mnist could not be downloaded: ")
    assert str(tmp_path / "fashion-mnist") in message
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["fetch", "digits"]], ids=" ".join)
def test_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom mmkd_tui.cli.main import run_command\n"
        f"assert run_command({['data', *arguments]!r}) == 0\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert not {"torch", "torchvision", "numpy", "sklearn", "textual"} & set(done.stderr.split())
