"""The store of trained networks: each under a key made of all that decides its weights, with its facts beside it.

<root>/<key>/weights.safetensors and facts.json. A folder is renamed into place when it is whole. Weights are only bytes here:
what lists and removes networks needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.architectures import identity
from engine.dataset_facts import DATASETS
from engine.errors import UnreadableError, UserError
from engine.image_folders import folder_digest, sized
from engine.paths import HOUR, REMOVED, delete, delete_leftovers, inside, private_folder, put_aside, sync_folder, write_private
from engine.preset import DatasetPart, Preset, TrainPart
from engine.untrusted import object_in, read_regular, read_whole, readable

FORMAT = 1  # raised when the same key would no longer give the same weights
KEY = re.compile(r"[0-9a-f]{16}")
LEFT_OVER = 86_400.0  # seconds after which nobody can still be writing an entry
_MOST_FACTS = 1 << 20  # bytes
_ANEW = "a run that asks for it trains it anew"
_REMEDY = "try again, ask whose it is to let you read it, or name another folder with MMKD_TEACHERS"


@dataclass(frozen=True, slots=True)
class Stored:
    """One trained network in the store. `facts` has what `mmkd teachers show` prints; its values are what a file says."""

    key: str
    path: Path
    facts: dict[str, Any]
    unread: str = ""  # why its facts could not be read; then there are none

    @property
    def size(self) -> int:
        """Of its weights on the disk, in bytes; 0 where they are gone."""
        try:
            return (self.path / "weights.safetensors").stat().st_size
        except OSError:
            return 0

    @property
    def trouble(self) -> str:
        """Why no run can use it, as far as a look at its files tells; "" where nothing is wrong."""
        if self.unread or self.size == self.facts.get("bytes"):
            return self.unread
        return f"its weights.safetensors is damaged: {self.size:,} bytes are not what facts.json says; {_ANEW}"


def content_key(preset: Preset, arch: str, seed: int, recipe: TrainPart, *, ranks: int, pretrained: bool = False) -> str:
    """16 hexadecimal digits that stand for all that decides the weights of a network which a run of `preset` trains on the labels
    alone, beside the machine's rounding.

    `ranks`: how many processes train together, of a run those that it began with (run_dir.begun_with). The precision is what the
    preset asks for: what `auto` means is the machine's, and a viewer need not know.
    """
    # Recipes that say the same in other words have one key.
    cuts = [epoch for epoch in recipe.decay_epochs if epoch < recipe.epochs]
    same = {"milestones": cuts, "lr_decay": recipe.lr_decay if cuts else None}
    said = recipe.model_dump(mode="json", exclude=None if recipe.label_noise else {"label_noise"})
    asked = {
        "format": FORMAT,
        "dataset": _asked(preset.dataset),
        "arch": identity(arch),
        "seed": seed,
        "recipe": said | same,
        "chosen": [preset.evaluate.select_on, preset.evaluate.every],
        "precision": preset.hardware.precision,
        **({"pretrained": True} if pretrained else {}),
        **({"ranks": ranks} if ranks > 1 else {}),  # that many batches make a step
        **({"renormalised": True} if pretrained else {}),  # images to what the library's weights are of: they had not been
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def _asked(dataset: DatasetPart) -> dict[str, Any]:
    """A data set, without the settings that it does not use; a user's own folder with what is in it."""
    asked = dataset.model_dump(mode="json", exclude={"path", "size", "resize", "shuffle"})
    if dataset.size is not None and dataset.size != DATASETS[dataset.name].size:
        asked["size"] = dataset.size
    if (resize := sized(dataset).resize) is not None:
        asked["resize"] = resize
    if dataset.shuffle != "images":
        asked["shuffle"] = dataset.shuffle
    return asked if dataset.path is None else asked | {"pictures": folder_digest(dataset)}


class TeacherStore:
    """Trained networks, found again by every run that asks for the same."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.damaged: dict[str, str] = {}  # of each key whose entry was set aside: what was wrong with it, and where it is now

    def entries(self) -> list[Stored]:
        """All that is stored, the newest last. What is no entry, or has no readable facts, is passed over."""
        try:
            return [entry for entry in self.listed() if not entry.unread]
        except UserError:
            return []

    def listed(self) -> list[Stored]:
        """As `entries`, with those whose facts cannot be read. UserError where the store is no folder that may be read."""
        try:
            folders = [path for path in inside(self.root, "MMKD_TEACHERS") if KEY.fullmatch(path.name) and path.is_dir()]
        except OSError as error:  # its names may be read, and no more
            raise UserError(f"{self.root} cannot be read: {error.strerror or error}; {_REMEDY}") from error
        found = [_listed(path) for path in folders]
        return sorted(found, key=lambda entry: (str(entry.facts.get("created", "")), entry.key))

    def find(self, key: str) -> tuple[Stored, bytes] | None:
        """The entry of a key and its weights, if it is there and whole; a damaged one is set aside under another name.

        UnreadableError where it cannot be read now (it may be another user's): then it stays where it is.
        """
        return self._find(key)

    def _find(self, key: str) -> tuple[Stored, bytes] | None:
        path = self.root / key
        if not KEY.fullmatch(key) or not _lies(path):
            return None
        found = _look(path)
        if not isinstance(found, str):
            return found
        aside = self._rename(path, "damaged")
        if aside is None:
            return None
        if not _is_damaged(aside):  # another process has put it there since the look
            with suppress(OSError):  # a third one has put one there by now
                aside.rename(path)
            return self._find(key)
        self._note(key, f"its {found} is damaged", aside)
        return None

    def set_aside(self, key: str, why: str) -> None:
        """Makes room for a key whose entry cannot be used, and keeps that under another name."""
        if (aside := self._rename(self.root / key, "damaged")) is not None:
            self._note(key, why, aside)

    def _note(self, key: str, why: str, aside: Path) -> None:
        self.damaged[key] = f"{why}; it is kept as {aside}"

    def named(self, prefix: str) -> Stored:
        """The one entry whose key begins with `prefix`. UserError where none or several do."""
        matches = [entry for entry in self.listed() if entry.key.startswith(prefix)] if prefix else []
        if len(matches) == 1:
            return matches[0]
        what = "no teacher has a key" if not matches else f"{len(matches)} teachers have keys"
        raise UserError(f"{what} that begins with '{prefix[:64]}'; mmkd teachers list shows them")

    def add(self, key: str, weights: bytes, facts: dict[str, Any]) -> Stored:
        """Keeps a network; what is in the store then: where another process was first, its entry stays. OSError where the store
        cannot be written.
        """
        facts = facts | {"key": key, "sha256": digest(weights), "bytes": len(weights)}
        self._make_root()
        self._clear_leftovers()
        aside = Path(tempfile.mkdtemp(prefix=f".{key}.", suffix=".partial", dir=self.root))
        try:
            for name, content in (("weights.safetensors", weights), ("facts.json", json.dumps(facts, indent=2).encode())):
                write_private(aside / name, content)
            sync_folder(aside)
            first = self._put(aside, key)
            sync_folder(self.root)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return first or Stored(key, self.root / key, facts)

    def remove(self, entry: Stored) -> None:
        """Deletes an entry; what is no folder of its own (a link) is only unlinked. OSError where that is not allowed."""
        self._clear_leftovers()
        if entry.path.is_symlink():
            entry.path.unlink(missing_ok=True)
        elif entry.path.exists():
            delete(put_aside(entry.path))

    def _clear_leftovers(self) -> None:
        """Deletes what processes that were killed were still writing; one that lives writes for seconds."""
        delete_leftovers(self.root, ".partial", LEFT_OVER)
        delete_leftovers(self.root, REMOVED, HOUR)

    def _make_root(self) -> None:
        private_folder(self.root)

    def _put(self, aside: Path, key: str) -> Stored | None:
        """Renames a new entry into place, unless a whole one of another process is there by then: that one."""
        try:
            aside.rename(self.root / key)
        except OSError:
            try:
                found = self._find(key)
            except UnreadableError as error:  # who asks to keep a network has it at hand, and goes on
                raise OSError(str(error)) from error
            if found is not None:
                return found[0]
            aside.rename(self.root / key)  # what was there is set aside now
        return None

    def _rename(self, folder: Path, why: str) -> Path | None:
        """Renames in one step, so that nobody finds half an entry. None where there is nothing, or it is not allowed."""
        for number in range(100):
            target = self.root / f".{folder.name}.{os.getpid()}-{number}.{why}"
            if os.path.lexists(target):
                continue
            try:
                folder.rename(target)
            except OSError:
                return None
            return target
        return None


def _lies(path: Path) -> bool:
    """Whether anything has this name, be it a link to nowhere. UnreadableError where that cannot be told now."""
    try:
        with readable(path, _REMEDY):
            path.lstat()
    except OSError:
        return False
    return True


def _look(path: Path) -> tuple[Stored, bytes] | str:
    """A whole entry and its weights; else which file of it is damaged. UnreadableError where it cannot be read now."""
    entry = _entry(path)
    if entry is None:
        return "facts.json"
    data = _weights(entry)
    return "weights.safetensors" if data is None else (entry, data)


def _is_damaged(path: Path) -> bool:
    """As far as that can be told now."""
    try:
        return isinstance(_look(path), str)
    except UnreadableError:
        return False


def _entry(path: Path) -> Stored | None:
    """UnreadableError where it cannot be read now."""
    try:
        with readable(path / "facts.json", _REMEDY):
            content = read_regular(path / "facts.json", _MOST_FACTS)
    except OSError:
        return None
    facts = object_in(content)
    return None if facts is None else Stored(path.name, path, facts)


def _listed(path: Path) -> Stored:
    """An entry, whatever is to be said of it."""
    try:
        return _entry(path) or Stored(path.name, path, {}, f"its facts.json is damaged; {_ANEW}")
    except UnreadableError as error:
        return Stored(path.name, path, {}, str(error))


def _weights(entry: Stored) -> bytes | None:
    """Those that its facts tell of; None where they are others. UnreadableError where they cannot be read now."""
    path = entry.path / "weights.safetensors"
    try:
        with readable(path, _REMEDY):
            data = read_whole(path, entry.facts.get("bytes"))
    except OSError:
        return None
    return data if digest(data) == entry.facts.get("sha256") else None


def digest(data: bytes) -> str:
    """SHA-256 of a network's weights, as its facts have it."""
    return hashlib.sha256(data).hexdigest()
