"""Downloads a data set's archives, goes on where an earlier try broke off, checks and unpacks them, and only then shows them."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from engine import locks
from engine.data_files import find_archives, find_files, missing_files, remedy
from engine.dataset_facts import Archive, DatasetFacts
from engine.errors import UserError
from engine.paths import sync_folder
from engine.text import one_line
from engine.unpacking import is_archive, unpack
from engine.untrusted import is_file_of

SCHEMES = ("https",)
TRIES = 4  # in a row that bring nothing new
WAIT = 1.0  # seconds between two
BLOCK = 1 << 20
TIMEOUT = 60.0  # seconds without a byte


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one file is."""

    what: str  # "downloading", "verifying" or "unpacking"
    name: str
    done: int  # bytes; of what is unpacked, the archive's
    total: int | None


Tell = Callable[[Progress], None]
Unpack = Callable[[Sequence[Path], Path], None]  # the archives, and the folder that is to hold what is in them


def fetch(facts: DatasetFacts, data_root: Path, tell: Tell, unpacking: Unpack | None = None) -> Path:
    """Downloads what is missing, checks it, unpacks it; the folder where the data set lies then.

    UserError where something is in the way: no network, a checksum, the disk, a licence. What was downloaded so far is kept
    as NAME.part and gone on with by the next try. `unpacking` is what to do instead of plain unpacking.
    """
    folder = find_archives(facts, data_root) or data_root / facts.folders[0]
    files = [folder / archive.name for archive in facts.archives]
    absent = [(archive, path) for archive, path in zip(facts.archives, files, strict=True) if not path.is_file()]
    if any(not archive.url for archive, _ in absent):
        raise UserError(f"{facts.name} is not in {data_root}. {remedy(facts, data_root)}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder, facts.name):
            for left in folder.glob(".unpacking-*"):  # of a try that was killed
                shutil.rmtree(left, ignore_errors=True)
            _check_room(facts, folder)
            for archive, path in absent:
                path.parent.mkdir(parents=True, exist_ok=True)
                download(archive, path, tell)
            for archive, path in zip(facts.archives, files, strict=True):
                if archive not in [new for new, _ in absent]:
                    verify(archive, path, tell)
            _publish(facts, folder, [path for path in files if is_archive(path)], tell, unpacking)
            for _, path in absent:
                if is_archive(path):
                    path.unlink()
    except OSError as error:
        why = one_line(f"{error.strerror or error}", 300)
        raise UserError(
            f"{facts.name} could not be fetched to {folder}: {why}; make room there, or give another --data-root"
        ) from error
    if find_files(facts, data_root) is None:
        _, missing = missing_files(facts, data_root)
        raise UserError(
            f"{facts.name} was unpacked to {folder}, but {', '.join(missing)} are not in it; {facts.origin} has changed"
        )
    return folder


def download(archive: Archive, target: Path, tell: Tell) -> None:
    """Brings a file, from where an earlier try left off; in its place only when it is whole and its checksum is right."""
    part = target.with_name(f"{target.name}.part")
    with part.open("ab") as file:
        if not locks.take(file.fileno()):
            raise _busy(target.name)
        failures, before = 0, file.tell()
        while True:
            try:
                _transfer(archive, file, part, tell)
                break
            except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
                final = isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500
                failures = 0 if file.tell() > before else failures + 1
                before = file.tell()
                if failures >= TRIES or final:
                    raise UserError(_could_not(archive, target, error, before)) from error
                time.sleep(WAIT)
        file.flush()
        os.fsync(file.fileno())
        try:
            verify(archive, part, tell)
        except UserError:
            file.truncate(0)  # under the lock: nobody goes on with it
            part.unlink()
            _tag(part).unlink(missing_ok=True)
            raise
        part.replace(target)
    _tag(part).unlink(missing_ok=True)
    sync_folder(target.parent)


def verify(archive: Archive, path: Path, tell: Tell) -> None:
    """UserError where the checksum is not the published one. Without one there is nothing to compare with."""
    if archive.md5 is None:
        return
    found, done, total = hashlib.md5(usedforsecurity=False), 0, path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            found.update(block)
            done += len(block)
            tell(Progress("verifying", archive.name, done, total))
    if found.hexdigest() != archive.md5:
        raise UserError(
            f"{path} is not what its publisher gives: its MD5 is {found.hexdigest()}, not {archive.md5}; "
            "remove it and fetch it again"
        )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows none that leads away from the schemes that are allowed."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        _check_scheme(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_scheme(url: str) -> None:
    if urllib.parse.urlsplit(url).scheme not in SCHEMES:
        raise UserError(f"{one_line(url, 200)} is not fetched: downloads are over {' or '.join(SCHEMES)} alone")


def _transfer(archive: Archive, file: IO[bytes], part: Path, tell: Tell) -> None:
    """One connection. Leaves what it brought in `file`; http.client.IncompleteRead where that is not all."""
    _check_scheme(archive.url)
    done = file.seek(0, os.SEEK_END)
    request = urllib.request.Request(archive.url, headers={"User-Agent": "mmkd"})
    if done:
        request.add_header("Range", f"bytes={done}-")
        with suppress(OSError):
            # Another file under the same address than the one that was begun comes from its beginning.
            request.add_header("If-Range", _tag(part).read_text().strip())
    opener = urllib.request.build_opener(_Redirects)
    try:
        answer = opener.open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and error.headers.get("Content-Range", "").rpartition("/")[2] == str(done):
            return  # it was all there
        if error.code == 416:
            file.truncate(0)
            raise ConnectionError("what was there is longer than the file") from error
        raise
    with answer:
        if answer.status != 206:
            file.truncate(0)
            done = 0
            tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
            if tag and not tag.startswith("W/"):
                _tag(part).write_text(tag)
            else:
                _tag(part).unlink(missing_ok=True)
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
            raise ConnectionError("the server sent another part than was asked for")
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length is not None and length.isdigit() else None
        tell(Progress("downloading", archive.name, done, total))
        while block := answer.read(BLOCK):
            file.write(block)
            done += len(block)
            tell(Progress("downloading", archive.name, done, total))
        file.flush()
        if total is not None and done < total:
            raise http.client.IncompleteRead(b"", total - done)


def _tag(part: Path) -> Path:
    """Beside a part: which version of the file it is a part of."""
    return part.with_name(f"{part.name}-of")


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """UserError where another process fetches to the folder; what a killed one left does not count."""
    path = folder / ".fetching"
    while True:
        if (handle := locks.taken(path)) is None:
            raise _busy(name)
        try:
            if not is_file_of(handle, path):
                continue  # who had it has just removed it
            try:
                yield
            finally:
                with suppress(OSError):
                    path.unlink()
            return
        finally:
            os.close(handle)


def _busy(name: str) -> UserError:
    return UserError(f"{name} is being fetched by another process; wait for it, or end it")


def _could_not(archive: Archive, target: Path, error: Exception, done: int) -> str:
    why = one_line(str(getattr(error, "reason", None) or error) or type(error).__name__, 200)
    kept = f" {done:,} bytes are kept: the same command goes on from there." if done else ""
    return f"{archive.name} could not be downloaded from {archive.url}: {why}.{kept} Else put that file into {target.parent}"


def _check_room(facts: DatasetFacts, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if facts.unpacked_bytes > free:
        raise UserError(
            f"{facts.name} needs roughly {facts.unpacked_bytes / 1e9:,.1f} GB in {folder}, and {free / 1e9:,.1f} GB are free; "
            "make room there, or give another --data-root"
        )


def _publish(facts: DatasetFacts, folder: Path, archives: Sequence[Path], tell: Tell, unpacking: Unpack | None) -> None:
    """Unpacks aside, and renames into place what came of it."""
    if not archives:
        return
    aside = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder))
    try:
        if unpacking is not None:
            unpacking(archives, aside)
        else:
            most = max(4 * facts.unpacked_bytes, 1 << 30)
            for path in archives:
                unpack(path, aside, most, lambda done, total, name=path.name: tell(Progress("unpacking", name, done, total)))  # type: ignore[misc]
        made = sorted(aside.iterdir())
        for path in made:
            if (folder / path.name).exists():
                raise UserError(f"{folder / path.name} is in the way of what was unpacked; move it elsewhere and try again")
        for path in made:
            path.rename(folder / path.name)
        sync_folder(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
