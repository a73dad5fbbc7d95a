"""Unpacks archives of unknown origin: nothing lands outside the folder, nothing grows beyond a bound."""

from __future__ import annotations

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from engine.errors import UserError
from engine.text import one_line

BLOCK = 1 << 20
MOST_MEMBERS = 5_000_000
MOST_NOTES = 1 << 20  # bytes that a tar archive says of one member beside its header: long names, times

Told = Callable[[int, int], None]  # bytes of the archive that are read, and all of them


class BoundedMember(tarfile.TarInfo):
    """What is said of a member is read into memory, however long it is; a compressed archive says gigabytes in few bytes."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        """The place that tarfile's source names for subclasses. Newer patch releases read headers past the public `frombuf`."""
        if self.type in _NOTES and self.size > MOST_NOTES:
            raise tarfile.ReadError(f"it says {self.size:,} bytes of one member")
        if self.size < 0:
            raise tarfile.ReadError("a member's length is below 0")
        if self.type == tarfile.GNUTYPE_SPARSE:
            self._sparse()
        found: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return found

    def _sparse(self, *_: object) -> None:
        raise tarfile.ReadError("it has files with holes, whose maps have no bound")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _sparse


_NOTES = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


def is_archive(path: Path) -> bool:
    """Whether it is to be unpacked, by its name."""
    return path.name.endswith((".tar", ".tgz", ".tar.gz", ".zip"))


def unpack(path: Path, folder: Path, most: int, told: Told) -> None:
    """Unpacks `path` into `folder`, at most `most` bytes.

    UserError where the archive is damaged or larger, or where a member would land outside the folder, or is a link or a device.
    """
    try:
        if path.name.endswith(".zip"):
            _unpack_zip(path, folder, most, told)
        else:
            _unpack_tar(path, folder, most, told)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError, ValueError) as error:
        raise UserError(f"{path} is damaged: {one_line(str(error), 200)}; remove it and fetch it again") from error


def _unpack_tar(path: Path, folder: Path, most: int, told: Told) -> None:
    total, left = path.stat().st_size, most
    with path.open("rb") as file, tarfile.open(fileobj=file, tarinfo=BoundedMember) as archive:
        for number, member in enumerate(archive):
            _check_name(path, member.name)
            if not (member.isfile() or member.isdir()):
                raise UserError(f"{path}: its member {one_line(member.name, 200)} is a link or a device; it is not unpacked")
            left -= member.size
            _check_room(path, left, number, most)
            archive.extract(member, folder, filter="data")
            if number % 64 == 0:
                archive.members = []  # type: ignore[attr-defined]  # it would keep all of them
                told(min(file.tell(), total), total)
        # Python takes an archive that was cut between two members for a whole one: it lacks the zeros at the end.
        assert archive.fileobj is not None
        archive.fileobj.seek(archive.offset)
        if len(archive.fileobj.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it ends too early")
    told(total, total)


def _unpack_zip(path: Path, folder: Path, most: int, told: Told) -> None:
    total, left, read = path.stat().st_size, most, 0
    with zipfile.ZipFile(path) as archive:
        for number, member in enumerate(archive.infolist()):
            _check_name(path, member.filename)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UserError(f"{path}: its member {one_line(member.filename, 200)} is a link or a device; it is not unpacked")
            target = folder / member.filename
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("xb") as file:
                while block := source.read(BLOCK):
                    left -= len(block)  # counted as it comes: what the header says is not to be believed
                    _check_room(path, left, number, most)
                    file.write(block)
            read += member.compress_size
            if number % 64 == 0:
                told(min(read, total), total)
    told(total, total)


def _check_name(path: Path, name: str) -> None:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
        raise UserError(f"{path}: its member {one_line(name, 200)} would land outside the data set's folder; it is not unpacked")


def _check_room(path: Path, left: int, number: int, most: int) -> None:
    if left < 0 or number > MOST_MEMBERS:
        raise UserError(f"{path} unpacks to more than {most / 1e9:,.1f} GB; it is not the publisher's file")
