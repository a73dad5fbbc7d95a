"""The folders of the teacher cache: one for each (teacher, images, augmentation); their locks, how they are listed and removed.

<root>/<key>/  facts.json                  what it is of
               view-0000-features.rows     a row for each training image (cache_part.py), and its manifest beside it
               use.lock                    flock, shared by those who read and build; who removes the folder needs it alone
               build.lock                  flock, held by the one who computes

No torch here: what lists and removes needs none.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import locks
from engine.errors import UserError
from engine.paths import HOUR, REMOVED, delete, delete_leftovers, private_folder, put_aside, write_whole
from engine.text import one_line
from engine.untrusted import is_file_of, read_object

KEY = re.compile(r"[0-9a-f]{16}")
_WHOLE = re.compile(r"view-(\d{4})-(logits|features)\.json")
_MOST_TRIES = 100


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """What is kept of one teacher's outputs. `facts` is what a file says."""

    key: str
    path: Path
    facts: dict[str, Any]
    views: dict[str, int]  # whole ones, of "logits" and "features"
    size: int  # of all its files, in bytes; what is half built or set aside included
    in_use: bool


class CacheFolder:
    """One folder in use. It is not removed while this is open."""

    def __init__(self, path: Path, use: int) -> None:
        self.path = path
        self._use: int | None = use
        self._build: int | None = None

    def try_to_build(self) -> bool:
        """Whether this process may compute now; another one may be at it. OSError where there are no locks."""
        if self._build is None:
            self._build = locks.taken(self.path / "build.lock", looks=1)
        return self._build is not None

    def stop_building(self) -> None:
        """Lets another process compute."""
        if self._build is not None:
            os.close(self._build)
            self._build = None

    def close(self) -> None:
        """Lets the folder be removed. A second time does nothing."""
        self.stop_building()
        if self._use is not None:
            os.close(self._use)
            self._use = None


class CacheStore:
    """All folders under one root."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def use(self, key: str, facts: dict[str, Any]) -> CacheFolder:
        """The folder of a key, made where it is not there. UserError where that cannot be done."""
        path = self.root / key
        try:
            private_folder(self.root)
            for _ in range(_MOST_TRIES):
                path.mkdir(exist_ok=True, mode=0o700)
                handle = locks.taken(path / "use.lock", shared=True)
                if handle is None:
                    continue  # it is being removed
                if is_file_of(handle, path / "use.lock"):
                    if not (path / "facts.json").exists():
                        write_whole(path / "facts.json", json.dumps(facts | {"key": key}, indent=2) + "\n")
                    return CacheFolder(path, handle)
                os.close(handle)  # it was removed in between
        except OSError as error:
            raise UserError(
                f"the teacher cache cannot be kept in {path}: {error.strerror or error}; "
                "name another folder with MMKD_TEACHER_CACHE, or set teacher_cache.storage to memory"
            ) from error
        raise UserError(f"{path} is being removed again and again by another process; wait for it")

    def entries(self) -> list[CacheEntry]:
        """All folders, the newest last. What is none, or has no readable facts, is passed over."""
        try:
            found = [self._entry(path) for path in self.root.iterdir()]
        except OSError:
            return []
        return sorted((entry for entry in found if entry), key=lambda entry: (str(entry.facts.get("created", "")), entry.key))

    def named(self, prefix: str) -> CacheEntry:
        """The one entry whose key begins with `prefix`. UserError where none or several do."""
        matches = [entry for entry in self.entries() if entry.key.startswith(prefix)] if prefix else []
        if len(matches) == 1:
            return matches[0]
        what = "nothing in the teacher cache has a key" if not matches else f"{len(matches)} folders of the cache have keys"
        raise UserError(f"{what} that begins with '{one_line(prefix, 64)}'; mmkd cache list shows them")

    def remove(self, entry: CacheEntry) -> None:
        """Deletes a folder. UserError where a run uses it; OSError where that is not allowed."""
        delete_leftovers(self.root, REMOVED, HOUR)
        if entry.path.is_symlink():
            entry.path.unlink(missing_ok=True)
            return
        handle = locks.taken(entry.path / "use.lock")
        if handle is None:
            raise UserError(f"{entry.key} is in use by a run; wait until it ends, or stop it")
        try:
            gone = put_aside(entry.path)
        finally:
            os.close(handle)  # before its file goes: NFS would keep that under another name, and the folder with it
        delete(gone)

    def _entry(self, path: Path) -> CacheEntry | None:
        if not KEY.fullmatch(path.name) or (facts := read_object(path / "facts.json")) is None:
            return None
        views = {"logits": 0, "features": 0}
        size = 0
        try:
            for file in os.scandir(path):
                size += file.stat(follow_symlinks=False).st_size
                if (found := _WHOLE.fullmatch(file.name)) is not None:
                    views[found[2]] += 1
        except OSError:
            return None
        in_use = locks.held(path / "use.lock", shared=True) is True
        return CacheEntry(path.name, path, facts, views, size, in_use)
