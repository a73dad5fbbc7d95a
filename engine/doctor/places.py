"""Data sets, stores and disks: what is there, and whether it can be written."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from engine import locks, paths
from engine.catalog import DATASETS
from engine.data_files import find_files
from engine.doctor.finding import Finding
from engine.file_systems import NETWORK, file_system
from engine.run_list import size_of
from engine.teachers.cache_files import CacheStore
from engine.teachers.store import TeacherStore

LOW, SCARCE = 10 << 30, 1 << 30  # bytes free: a warning, a problem
LEAST_SHARED = 256 << 20  # bytes of /dev/shm, by which NCCL connects the processes of one machine


def data_findings(data_root: Path) -> Iterator[Finding]:
    """Of each data set."""
    for facts in DATASETS.values():
        if facts.own:
            continue
        if facts.embedded:
            yield Finding("data", facts.name, facts.origin)
        elif (found := find_files(facts, data_root)) is not None:
            yield Finding("data", facts.name, str(found.folder))
        else:
            yield Finding("data", facts.name, "not here", "note", f"mmkd data show {facts.name} says how to get it")


def folder_findings(runs: Path, data_root: Path) -> Iterator[Finding]:
    """Of each folder that runs write to, and its disk."""
    teachers, outputs = TeacherStore(paths.teacher_store()), CacheStore(paths.teacher_cache())
    kept, cached = teachers.entries(), outputs.entries()
    folders = (
        ("runs", runs.absolute(), ""),
        ("teachers", teachers.root, f"{len(kept)} kept, {_size(sum(entry.size for entry in kept))}"),
        ("teacher cache", outputs.root, f"{len(cached)} kept, {_size(sum(entry.size for entry in cached))}"),
        ("cache", paths.cache_dir(), f"compiled steps {_size(size_of(paths.cache_dir() / 'compiled'))}"),
        ("data root", data_root, ""),
    )
    for name, path, words in folders:
        yield _folder(name, path, words)
    shared = Path("/dev/shm")
    several = torch.cuda.device_count() > 1  # one process needs none: decoded pictures come through pipes
    if several and shared.is_dir() and (total := shutil.disk_usage(shared).total) < LEAST_SHARED:
        remedy = "mmkd run --gpus N may need more of it: docker run --shm-size=2g"
        yield Finding("places", "/dev/shm", _size(total), "warning", remedy)


def _folder(name: str, path: Path, words: str) -> Finding:
    try:
        with_room = next(place for place in (path, *path.parents) if place.exists())
        if not with_room.is_dir():
            return Finding("places", name, f"{path}: {with_room} is not a folder", "problem", _other_place(name))
        free, kind = shutil.disk_usage(with_room).free, file_system(with_room)
        trouble = _cannot_write(with_room)
    except (OSError, StopIteration) as error:
        return Finding("places", name, f"{path}: {error}", "problem", "name a folder that can be reached")
    value = ", ".join(part for part in (str(path), words, f"{_size(free)} free", kind if kind in NETWORK else "") if part)
    if trouble:
        return Finding("places", name, f"{value}: {trouble}", "problem", _other_place(name))
    if free < SCARCE:
        return Finding("places", name, value, "problem", f"make room there, or use another disk: {_other_place(name)}")
    if free < LOW:
        return Finding("places", name, value, "warning", "make room before long: mmkd runs rm --older-than 30d --keep-best")
    if kind in ("tmpfs", "ramfs") and name in ("runs", "teachers"):
        return Finding("places", name, f"{value}, in memory", "warning", f"lost at a reboot: {_other_place(name)}")
    return Finding("places", name, value)


def _cannot_write(folder: Path) -> str:
    """What stands in the way of writing and locking a file, if anything does."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".mmkd-doctor-") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
            locks.take(file.fileno())
    except OSError as error:
        return f"a file cannot be written and locked there ({error.strerror or error})"
    return ""


def _other_place(name: str) -> str:
    variable = {
        "teachers": "MMKD_TEACHERS",
        "teacher cache": "MMKD_TEACHER_CACHE",
        "cache": "MMKD_CACHE",
        "data root": "MMKD_DATA",
    }
    return f"set {variable[name]} to another folder" if name in variable else "name another folder with --runs-dir"


def _size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
