"""Files made to harm: none is taken for weights, and nothing in one is ever run: by the check, or as a preset's teacher."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from engine.errors import UserError
from engine.models import build_model
from engine.teachers.foreign import load_fitting
from engine.teachers.weights_file import MOST_PICKLE, outline_of, read_tensors
from mmkd_tui.cli.main import run_command


def weights() -> dict[str, Tensor]:
    return build_model("resnet8", 1, 10, 0).state_dict()


def saved(content: object) -> bytes:
    out = io.BytesIO()
    torch.save(content, out)
    return out.getvalue()


def records() -> dict[str, bytes]:
    """Those of a whole file, by their names."""
    with zipfile.ZipFile(io.BytesIO(saved(weights()))) as archive:
        return {one.filename: archive.read(one) for one in archive.infolist()}


def zipped(content: dict[str, bytes], how: int = zipfile.ZIP_STORED, attributes: int = 0) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as archive:
        for name, data in content.items():
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = attributes, how
            archive.writestr(info, data)
    return out.getvalue()


def with_pickle(code: bytes) -> bytes:
    """A whole file, but for its pickle."""
    return zipped({name: code if name.endswith("/data.pkl") else data for name, data in records().items()})


def text(value: str) -> bytes:
    """BINUNICODE."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def line(value: str) -> bytes:
    """The argument of opcodes of protocol 0, quoted."""
    return repr(value).encode() + b"\n"


# Pickles by hand. Each, run by Python's own pickle, makes the folder `canary`; some only where PyTorch's way is as careless.
PICKLES: dict[str, Callable[[str], bytes]] = {
    "reduce": lambda c: b"\x80\x02cos\nmkdir\n" + text(c) + b"\x85R.",
    "reduce, protocol 0": lambda c: b"cos\nmkdir\n(V" + c.encode() + b"\ntR.",
    "stack global": lambda c: b"\x80\x04" + text("os") + text("mkdir") + b"\x93" + text(c) + b"\x85R.",
    "inst": lambda c: b"(V" + c.encode() + b"\nios\nmkdir\n.",
    "obj": lambda c: b"(cos\nmkdir\n" + text(c) + b"o.",
    "newobj": lambda c: b"\x80\x02csubprocess\nPopen\n" + text("mkdir") + text(c) + b"\x86\x85\x81.",
    "newobj with names": lambda c: b"\x80\x04" + text("subprocess") + text("Popen") + b"\x93)}" + text("args")
    + text(f"mkdir {c}") + b"s" + text("shell") + b"\x88s\x92.",
    "eval": lambda c: b"\x80\x02c__builtin__\neval\n" + text(f"__import__('os').mkdir({c!r})") + b"\x85R.",
    "exec within a state_dict": lambda c: b"\x80\x02}" + text("fc.bias") + b"cbuiltins\nexec\n"
    + text(f"import os; os.mkdir({c!r})") + b"\x85Rs.",
    "getattr by name": lambda c: b"\x80\x02cbuiltins\ngetattr\n" + b"cos\npath\n" + text("os") + b"\x86R0cos\nmkdir\n" + text(c)
    + b"\x85R.",
    "by the memo": lambda c: b"\x80\x02cos\nmkdir\nq\x010" + text(c) + b"\x85q\x020h\x01h\x02R.",
    "after a pop": lambda c: b"\x80\x02}cos\nmkdir\n" + text(c) + b"\x85R0.",
    "a second pickle's": lambda c: b"\x80\x02ctorch\nload\n" + text(c) + b"\x85R0cos\nmkdir\n" + text(c) + b"\x85R.",
    "build of a class": lambda c: b"\x80\x02cbuiltins\nobject\n)\x81}" + text("x") + b"cos\nmkdir\n" + text(c) + b"\x85Rsb.",
    "build calls __setstate__": lambda c: b"\x80\x02ctypes\nSimpleNamespace\n)R}" + text("__setstate__")
    + b"cos\nmkdir\nsb" + text(c) + b"b.",
    "behind a module's dots": lambda c: b"\x80\x04" + text("os") + text("path.os.mkdir") + b"\x93" + text(c) + b"\x85R.",
    "torch's own doors": lambda c: b"\x80\x02ctorch._utils\n_import_dotted_name\n" + text("os.mkdir") + b"\x85R" + text(c)
    + b"\x85R.",
    "apply of NumPy": lambda c: b"\x80\x02cnumpy.testing._private.utils\nrunstring\n" + text(f"import os; os.mkdir({c!r})")
    + b"}\x86R0cos\nmkdir\n" + text(c) + b"\x85R.",
}  # fmt: skip


def stride_0() -> dict[str, Tensor]:
    state = weights()
    return state | {"fc.weight": torch.zeros(1).expand_as(state["fc.weight"])}


def many_entries() -> bytes:
    header = json.dumps({f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(100_000)}).encode()
    return struct.pack("<Q", len(header)) + header


def torchscript() -> bytes:
    """By its record of constants, which makes PyTorch take a file for a program."""
    return zipped(records() | {"archive/constants.pkl": b"\x80\x02}."})


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):  # as torch saved before 2017
            info = tarfile.TarInfo(name)
            info.size = 10
            archive.addfile(info, io.BytesIO(b"\x80\x02}q\x00." + b"\x00" * 4))
    return out.getvalue()


def renamed(name: str) -> bytes:
    return zipped(records() | {name: b"x"})


def huge_storage() -> bytes:
    """A tensor of 2**40 numbers that is said to lie in a record of a few."""
    number = b"\x8a\x06" + (2**40).to_bytes(6, "little")
    code = (
        b"\x80\x02}" + text("fc.bias") + b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\nFloatStorage\n"
        + text("0") + text("cpu") + number + b"tQK\x00" + number + b"\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs."
    )  # fmt: skip
    return with_pickle(code)


def filled_memory() -> bytes:
    """Fourteen bytes that PyTorch would make 64 GB of."""
    return with_pickle(
        b"\x80\x02}" + text("x") + b"cbuiltins\nbytearray\n\x8a\x05" + (64 << 30).to_bytes(5, "little") + b"\x85Rs."
    )


def methods_replaced() -> bytes:
    """An ordered state_dict whose `items` is a number."""
    return with_pickle(b"\x80\x02ccollections\nOrderedDict\n)R}(" + text("items") + b"K\x05" + text("get") + b"K\x06ub.")


def nested() -> bytes:
    return with_pickle(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")


FILES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "nested zip": ("pth", lambda: zipped({"x/data.pkl": saved(weights()), "x/version": b"3\n"})),
    "zip in zip": ("pth", lambda: zipped({"x.pth": saved(weights())})),
    "huge storage": ("pth", huge_storage),
    "memory filled by a number": ("pth", filled_memory),
    "nested lists": ("pth", nested),
    "a pickle too long": ("pth", lambda: with_pickle(b"\x80\x02" + b"N0" * MOST_PICKLE + b"}.")),
    "methods replaced": ("pth", methods_replaced),
    "deflated": ("pth", lambda: zipped(records(), zipfile.ZIP_DEFLATED)),
    "bzip2": ("pth", lambda: zipped(records(), zipfile.ZIP_BZIP2)),
    "stride 0": ("pth", lambda: saved(stride_0())),
    "legacy": ("pth", lambda: pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)),
    "TorchScript": ("pt", torchscript),
    "tar": ("pt", tarred),
    "two dots": ("pth", lambda: renamed("archive/../../evil")),
    "absolute": ("pth", lambda: renamed("/tmp/evil")),
    "backslashes": ("pth", lambda: renamed("archive\\..\\evil")),
    "symbolic links": ("pth", lambda: zipped(records(), attributes=0o120777 << 16)),
    "100,000 entries": ("safetensors", many_entries),
    "2**60 bytes of header": ("safetensors", lambda: struct.pack("<Q", 2**60) + b"{}"),
    "a header of brackets": ("safetensors", lambda: struct.pack("<Q", 200_000) + b"[" * 200_000),
    "a pickle for safetensors": ("safetensors", lambda: pickle.dumps(0)),
    "not a number": ("safetensors", lambda: safetensors.torch.save(weights() | {"fc.bias": torch.full((10,), torch.nan)})),
    "infinite": ("pth", lambda: saved(weights() | {"fc.bias": torch.full((10,), torch.inf)})),
}


def assert_refused(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a given teacher, and by the command: one line, no traceback, nothing on stdout."""
    with pytest.raises(UserError) as caught:
        load_fitting(path, "resnet8", lambda: build_model("resnet8", 1, 10, 0))
    assert str(caught.value).isprintable()
    capsys.readouterr()
    code = run_command(["teachers", "check", str(path), "--arch", "resnet8", "--data", "digits"])
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    if "does not fit" in err:  # it was read, and the table says what is missing
        assert code == 1
    else:
        assert code == 2
        assert err.splitlines()[-1].startswith(f"mmkd: {path}")


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file_of_weights(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ending, make = FILES[name]
    path = tmp_path / f"t.{ending}"
    path.write_bytes(make())
    assert_refused(path, capsys)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", PICKLES)
def test_no_pickle_is_run(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    canary, path = tmp_path / "canary", tmp_path / "t.pth"
    code = PICKLES[name](str(canary))
    for content in (
        with_pickle(code),
        code,
        pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + b"\x80\x02}." + code,
    ):
        path.write_bytes(content)
        assert_refused(path, capsys)
        assert not canary.exists()


ALIVE = ("reduce", "reduce, protocol 0", "stack global", "inst", "obj", "eval", "by the memo", "after a pop", "build of a class")


@pytest.mark.parametrize("name", ALIVE)
def test_the_canary_works(name: str, tmp_path: Path) -> None:
    with contextlib.suppress(AttributeError):  # of what follows
        pickle.loads(PICKLES[name](str(tmp_path / "canary")))  # noqa: S301
    assert (tmp_path / "canary").is_dir()


def test_a_large_file_takes_no_memory_before_its_shapes_are_compared(tmp_path: Path) -> None:
    """Hundreds of gigabytes that are not there: a hole in a file."""
    count = 1 << 37
    header = json.dumps({"fc.bias": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}}).encode()
    path = tmp_path / "t.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        try:
            file.truncate(8 + len(header) + 4 * count)
        except OSError:
            pytest.skip("this file system has no such large files")
    with pytest.raises(UserError, match=r"does not fit|cannot be read"):
        load_fitting(path, "resnet8", lambda: build_model("resnet8", 1, 10, 0))


def test_outlines_are_of_the_same_names_and_shapes(tmp_path: Path) -> None:
    state = weights()
    for path, content in (
        (tmp_path / "t.pth", saved({"model": state})),
        (tmp_path / "t.safetensors", safetensors.torch.save(state)),
    ):
        path.write_bytes(content)
        outline, whole = outline_of(path).tensors, read_tensors(path).tensors
        assert {name: (value.shape, value.dtype) for name, value in outline.items()} == {
            name: (value.shape, value.dtype) for name, value in state.items()
        }
        assert all(value.device.type == "meta" for value in outline.values())
        assert all(torch.equal(whole[name], value) for name, value in state.items())


def test_a_preset_with_such_a_teacher_is_refused_and_nothing_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "t.pth").write_bytes(with_pickle(PICKLES["reduce"](str(canary))))
    (tmp_path / "p.yaml").write_text(
        "name: x\ndataset: {name: digits, train_images: 96}\nteachers: [{arch: resnet8, checkpoint: t.pth}]\n"
        "student: {arch: resnet8}\nmethod: {name: kd}\ntrain: {epochs: 1, batch_size: 32}\n"
    )
    assert run_command(["run", str(tmp_path / "p.yaml"), "--runs-dir", str(tmp_path / "runs"), "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert "only tensors are loaded, never code" in err
    assert "Traceback" not in out + err
    assert not canary.exists()
