"""ImageNet (ILSVRC 2012) as torchvision lays it out: train and val with a folder a class, and meta.bin with the names."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import scipy.io
import torch
from torchvision.datasets.imagenet import load_meta_file

from engine.catalog import DATASETS
from engine.data.lists import lines_of
from engine.data_files import files_of
from engine.errors import UserError
from engine.fetching import Progress, Tell
from engine.fetching import fetch as fetch_archives
from engine.image_folders import Outside, class_folders, pictures_below
from engine.listing import Listing, PictureFolder
from engine.text import one_line
from engine.unpacking import unpack

NAME = "imagenet"
META = "meta.bin"
_DEVKIT = "ILSVRC2012_devkit_t12"
_MOST = 400 << 30  # bytes


def read(data_root: Path) -> PictureFolder:
    """1,281,167 pictures to train on; the 50,000 validation pictures are the test split. UserError where they are missing."""
    folder = files_of(DATASETS[NAME], data_root).folder
    wnids = class_folders(folder / "train", folder)
    tests = class_folders(folder / "val", folder)
    if not wnids or wnids != tests:
        raise UserError(
            f"{folder}: train has {len(wnids):,} class folders and val {len(tests):,}, not the same ones; each class's pictures "
            "belong in train/<wnid> and val/<wnid>, as torchvision.datasets.ImageNet lays them out"
        )
    outside = Outside()
    train, test = (_listing(folder, part, wnids, outside) for part in ("train", "val"))
    links = outside.paths
    said = f"{len(links)} links that lead out of {folder} are passed over, the first is {links[0]}" if links else ""
    return PictureFolder(folder, _names(folder, wnids), train, test, None, said)


def fetch(data_root: Path, tell: Tell) -> Path:
    """Unpacks the three archives, which a person has to bring; the folder. UserError where one is missing or broken."""

    def unpacking(archives: Sequence[Path], aside: Path) -> None:
        for path in archives:
            with tempfile.TemporaryDirectory(prefix=".part-", dir=aside) as own:
                unpack(path, Path(own), _MOST, lambda done, total, name=path.name: tell(Progress("unpacking", name, done, total)))  # type: ignore[misc]
                _sort_in(path, Path(own), aside)

    return fetch_archives(DATASETS[NAME], data_root, tell, unpacking)


def _sort_in(archive: Path, unpacked: Path, aside: Path) -> None:
    """From what an archive holds to torchvision's layout. The devkit comes first: it says which class a picture of val is of."""
    if "devkit" in archive.name:
        torch.save(_meta(unpacked / _DEVKIT / "data"), aside / META)
    elif "val" in archive.name:
        wnids = torch.load(aside / META, weights_only=True)[1]
        files = sorted(path for path in unpacked.iterdir() if path.is_file())
        if len(files) != len(wnids):
            raise UserError(f"{archive} holds {len(files):,} pictures, but the devkit knows {len(wnids):,}; fetch both again")
        for wnid, file in zip(wnids, files, strict=True):
            (aside / "val" / wnid).mkdir(parents=True, exist_ok=True)
            file.rename(aside / "val" / wnid / file.name)
    else:
        for inner in sorted(unpacked.glob("*.tar")):
            target = aside / "train" / inner.stem
            target.mkdir(parents=True)
            unpack(inner, target, _MOST, lambda done, total: None)
            inner.unlink()


def _meta(devkit: Path) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """The names of each WordNet number's class, and the number of each validation picture, in the order of their file names."""
    try:
        synsets: Any = scipy.io.loadmat(devkit / "meta.mat", squeeze_me=True)["synsets"]
        leaves = [row for row in synsets.ravel().tolist() if int(row[4]) == 0]  # the others have classes below them
        names = {str(row[1]): tuple(str(row[2]).split(", ")) for row in leaves}
        by_number = {int(row[0]): str(row[1]) for row in leaves}
        truth = lines_of(devkit / "ILSVRC2012_validation_ground_truth.txt")
        return names, [by_number[int(line)] for line in truth]
    except UserError:
        raise
    except Exception as error:  # scipy raises whatever a damaged file makes it stumble over
        why = one_line(f"{type(error).__name__}: {error}", 200)
        raise UserError(f"{devkit.parent.name}: its lists of classes cannot be read: {why}; fetch it again") from error


def _listing(folder: Path, part: str, wnids: Sequence[str], outside: Outside) -> Listing:
    paths: list[str] = []
    labels: list[int] = []
    for label, wnid in enumerate(wnids):
        own = pictures_below(folder / part / wnid, folder, outside)
        paths += own
        labels += [label] * len(own)
    if not paths:
        raise UserError(f"{folder / part} holds no picture; unpack it anew")
    return Listing(tuple(paths), tuple(labels))


def _names(folder: Path, wnids: Sequence[str]) -> tuple[str, ...]:
    """The first of each class's names, with its number where two classes share that; the number where no name is known."""
    names: dict[str, tuple[str, ...]] = {}
    if (folder / META).is_file():
        try:
            names = dict(load_meta_file(str(folder))[0])
        except Exception as error:  # torch.load raises whatever a damaged file makes it stumble over
            raise UserError(f"{folder / META} cannot be read: {one_line(str(error), 200)}; remove it, or make it anew") from error
    first = [str(names[wnid][0]) if names.get(wnid) else wnid for wnid in wnids]
    return tuple(name if first.count(name) == 1 else f"{name} ({wnid})" for name, wnid in zip(first, wnids, strict=True))
