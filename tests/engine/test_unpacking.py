"""Archives of unknown origin: nothing outside the folder, no links, no bombs."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from support import picture_sets as sets

from engine.errors import UserError
from engine.unpacking import unpack

OUTSIDE = ["../outside.txt", "/tmp/mmkd-outside.txt", "a/../../outside.txt", "..\\outside.txt"]


def quiet(done: int, total: int) -> None:
    pass


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz", ".zip"])
def test_unpack(ending: str, tmp_path: Path) -> None:
    content = {"a/b.txt": b"one", "c.txt": b"two" * 1000}
    data = sets.zipped(content) if ending == ".zip" else sets.tar(content, "w" if ending == ".tar" else "w:gz")
    path = tmp_path / f"x{ending}"
    path.write_bytes(data)
    told: list[tuple[int, int]] = []
    unpack(path, tmp_path / "out", 1 << 20, lambda done, total: told.append((done, total)))
    assert {str(p.relative_to(tmp_path / "out")): p.read_bytes() for p in (tmp_path / "out").rglob("*.txt")} == content
    assert told[-1] == (len(data), len(data))


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("ending", [".tar", ".zip"])
def test_nothing_lands_outside(name: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{ending}"
    path.write_bytes(sets.zipped({name: b"!"}) if ending == ".zip" else sets.tar({name: b"!"}))
    with pytest.raises(UserError, match="would land outside") as caught:
        unpack(path, tmp_path / "in" / "out", 1 << 20, quiet)
    assert str(path) in str(caught.value)
    assert not list(tmp_path.rglob("*outside*"))
    assert not Path("/tmp/mmkd-outside.txt").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_no_links_and_devices_from_a_tar(kind: bytes, tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    (tmp_path / "x.tar").write_bytes(out.getvalue())
    with pytest.raises(UserError, match="a link or a device"):
        unpack(tmp_path / "x.tar", tmp_path / "out", 1 << 20, quiet)


def test_no_links_from_a_zip(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        member = zipfile.ZipInfo("link")
        member.external_attr = 0o120777 << 16
        archive.writestr(member, "/etc/passwd")
    (tmp_path / "x.zip").write_bytes(out.getvalue())
    with pytest.raises(UserError, match="a link or a device"):
        unpack(tmp_path / "x.zip", tmp_path / "out", 1 << 20, quiet)


@pytest.mark.parametrize("ending", [".tar.gz", ".zip"])
def test_no_bomb(ending: str, tmp_path: Path) -> None:
    content = {"zeros": bytes(3 << 20)}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", content["zeros"])
    (tmp_path / f"x{ending}").write_bytes(out.getvalue() if ending == ".zip" else sets.tar(content, "w:gz"))
    with pytest.raises(UserError, match="unpacks to more than"):
        unpack(tmp_path / f"x{ending}", tmp_path / "out", 1 << 20, quiet)
    assert sum(path.stat().st_size for path in tmp_path.rglob("zeros")) <= 1 << 20


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".zip"])
@pytest.mark.parametrize("how", ["cut", "text", "empty"])
def test_a_damaged_archive_is_named(ending: str, how: str, tmp_path: Path) -> None:
    content = {f"{k}.jpg": sets.jpeg(k) for k in range(5)}
    whole = sets.zipped(content) if ending == ".zip" else sets.tar(content, "w" if ending == ".tar" else "w:gz")
    path = tmp_path / f"x{ending}"
    path.write_bytes({"cut": whole[: len(whole) // 2], "text": b"<html>not found</html>", "empty": b""}[how])
    with pytest.raises(UserError, match="is damaged") as caught:
        unpack(path, tmp_path / "out", 1 << 20, quiet)
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_no_bomb_in_what_is_said_of_a_member(kind: bytes, tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        member = tarfile.TarInfo("x")
        member.type, member.size = kind, 5 << 20
        archive.addfile(member, io.BytesIO(bytes(5 << 20)))
    (tmp_path / "x.tar.gz").write_bytes(out.getvalue())
    with pytest.raises(UserError, match=r"is damaged: .*it says 5,242,880 bytes of one member"):
        unpack(tmp_path / "x.tar.gz", tmp_path / "out", 1 << 30, quiet)


def header(kind: bytes, size: int, name: str = "x", also: int | None = None) -> bytes:
    """As tarfile would not write it."""
    member = tarfile.TarInfo(name)
    member.type = kind
    found = bytearray(member.tobuf(tarfile.GNU_FORMAT)[:512])
    found[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    if also is not None:
        found[also] = 1
    found[148:156] = b" " * 8
    found[148:156] = b"%06o\0 " % sum(found)
    return bytes(found)


def noted(**notes: str) -> bytes:
    """Pax headers of the member that follows."""
    lines = b""
    for key, value in notes.items():
        rest = f" {key.replace('_', '.')}={value}\n"
        length = len(rest) + 2
        lines += f"{length}{rest}".encode()
    return header(tarfile.XHDTYPE, len(lines)) + lines + bytes(-len(lines) % 512)


EXTENSION = (b"00000000001\0" * 42).ljust(504, b"\0") + b"\1" + bytes(7)


@pytest.mark.parametrize(
    "content",
    [
        header(tarfile.GNUTYPE_SPARSE, 0, also=482) + EXTENSION * 2000,
        noted(GNU_sparse_major="1", GNU_sparse_minor="0") + header(b"0", 4 << 20) + b"99999999\n" + b"1\n" * 500_000,
        noted(GNU_sparse_map="0,1,5,1", GNU_sparse_size="9") + header(b"0", 0),
        header(b"0", -5),
        header(tarfile.XHDTYPE, -5),
    ],
    ids=["old sparse", "sparse 1.0", "sparse 0.1", "negative", "negative notes"],
)
def test_a_map_without_bound_or_a_length_below_zero_is_damage(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(content))
    with pytest.raises(UserError, match=r"x.tar.gz is damaged: .*(holes|below 0)"):
        unpack(tmp_path / "x.tar.gz", tmp_path / "out", 1 << 20, quiet)


def test_many_members(tmp_path: Path) -> None:
    content = {f"{number}.txt": b"x" for number in range(300)}
    (tmp_path / "x.tar").write_bytes(sets.tar(content))
    unpack(tmp_path / "x.tar", tmp_path / "out", 1 << 20, quiet)
    assert {path.name for path in (tmp_path / "out").iterdir()} == content.keys()
