"""Small data sets in their publishers' formats, archives included: noise for pixels, all else as in the real ones."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import io
import pickle
import struct
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from engine import catalog
from support.fashion_files import QuietHandler


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def jpeg(seed: int, width: int = 40, height: int = 30, mode: str = "RGB") -> bytes:
    pixels = noise(seed, height, width, 3) if mode == "RGB" else noise(seed, height, width)
    out = io.BytesIO()
    Image.fromarray(pixels, mode).save(out, "JPEG", quality=90)
    return out.getvalue()


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def bomb(width: int = 20_000, height: int = 20_000) -> bytes:
    """The header of a PNG that claims so many pixels, and no more than a few bytes behind it."""
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def put(folder: Path, content: Mapping[str, bytes]) -> None:
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def tar(content: Mapping[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def zipped(content: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return out.getvalue()


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


# -- each set's files by their path below the folder where the archives are unpacked


def cifar100() -> dict[str, bytes]:
    def part(seed: int, count: int) -> bytes:
        return pickle.dumps(
            {
                "data": noise(seed, count, 3072),
                "fine_labels": [k % 100 for k in range(count)],
                "coarse_labels": [0] * count,
                "filenames": ["x.png"] * count,
            },
            protocol=2,
        )

    meta = pickle.dumps({"fine_label_names": list(catalog.DATASETS["cifar-100"].classes), "coarse_label_names": []}, protocol=2)
    return {"cifar-100-python/train": part(1, 30), "cifar-100-python/test": part(2, 10), "cifar-100-python/meta": meta}


def cifar10() -> dict[str, bytes]:
    def part(seed: int, count: int) -> bytes:
        return pickle.dumps({"data": noise(seed, count, 3072), "labels": [k % 10 for k in range(count)]}, protocol=2)

    found = {f"cifar-10-batches-py/data_batch_{k}": part(k, 6) for k in range(1, 6)}
    found["cifar-10-batches-py/test_batch"] = part(9, 10)
    names = pickle.dumps({"label_names": list(catalog.DATASETS["cifar-10"].classes)}, protocol=2)
    return found | {"cifar-10-batches-py/batches.meta": names}


def stl10() -> dict[str, bytes]:
    found = {}
    for part, count in (("train", 20), ("test", 8)):
        # Column by column: the publisher's order.
        found[f"stl10_binary/{part}_X.bin"] = noise(count, count, 3, 96, 96).tobytes()
        found[f"stl10_binary/{part}_y.bin"] = np.array([1 + k % 10 for k in range(count)], np.uint8).tobytes()
    return found


def tiny_imagenet(each: int = 4) -> dict[str, bytes]:
    wnids = ("n02124075", "n01443537", "n04067472")
    words = {"n01443537": "goldfish, Carassius auratus", "n02124075": "Egyptian cat", "n04067472": "reel", "n00000001": "other"}
    root = "tiny-imagenet-200"
    found = {
        f"{root}/wnids.txt": "".join(f"{wnid}\n" for wnid in wnids).encode(),
        f"{root}/words.txt": "".join(f"{wnid}\t{name}\n" for wnid, name in words.items()).encode(),
    }
    lines = []
    for label, wnid in enumerate(wnids):
        for k in range(each):
            mode = "L" if k == 1 else "RGB"  # some of the real ones are grey
            found[f"{root}/train/{wnid}/images/{wnid}_{k}.JPEG"] = jpeg(10 * label + k, 64, 64, mode)
        found[f"{root}/train/{wnid}/{wnid}_boxes.txt"] = b""
    for k in range(6):
        found[f"{root}/val/images/val_{k}.JPEG"] = jpeg(100 + k, 64, 64)
        lines.append(f"val_{k}.JPEG\t{wnids[k % 3]}\t0\t0\t62\t62\n")
    found[f"{root}/val/val_annotations.txt"] = "".join(lines).encode()
    return found


def _mat(content: dict[str, object]) -> bytes:
    out = io.BytesIO()
    scipy.io.savemat(out, content)
    return out.getvalue()


def _cells(texts: list[str]) -> np.ndarray:
    cells = np.empty((len(texts), 1), object)
    cells[:, 0] = [np.array([text]) for text in texts]
    return cells


def stanford_dogs() -> tuple[dict[str, bytes], dict[str, bytes]]:
    """What is in images.tar, and what is in lists.tar."""
    breeds = ("n02085620-Chihuahua", "n02085782-Japanese_spaniel")
    files = [[f"{breed}/{breed.partition('-')[0]}_{k}.jpg" for k in range(6)] for breed in breeds]
    images = {f"Images/{file}": jpeg(k) for k, file in enumerate(file for breed in files for file in breed)}
    lists = {}
    for name, chosen in (("train_list", slice(0, 4)), ("test_list", slice(4, 6)), ("file_list", slice(0, 6))):
        own = [file for breed in files for file in breed[chosen]]
        labels = np.array([[label + 1] for label, breed in enumerate(files) for _ in breed[chosen]], np.uint8)
        lists[f"{name}.mat"] = _mat({"file_list": _cells(own), "annotation_list": _cells(own), "labels": labels})
    return images, lists


def cub200() -> dict[str, bytes]:
    species = ("001.Black_footed_Albatross", "002.Laysan_Albatross")
    files = [f"{name}/{name[4:]}_{k:04}.jpg" for name in species for k in range(5)]
    root = "CUB_200_2011"

    def lines(values: list[object]) -> bytes:
        return "".join(f"{k} {value}\n" for k, value in enumerate(values, start=1)).encode()

    return {f"{root}/images/{file}": jpeg(k) for k, file in enumerate(files)} | {
        f"{root}/images.txt": lines(list(files)),
        f"{root}/image_class_labels.txt": lines([1] * 5 + [2] * 5),
        f"{root}/train_test_split.txt": lines([1, 1, 1, 0, 0] * 2),
        f"{root}/classes.txt": lines(list(species)),
    }


def mit67() -> dict[str, bytes]:
    files = [f"{name}/{name}_{k}.jpg" for name in ("airport_inside", "bakery") for k in range(4)]
    return {f"Images/{file}": jpeg(k) for k, file in enumerate(files)} | {
        "TrainImages.txt": "\n".join(files[:3] + files[4:7]).encode(),
        "TestImages.txt": "\n".join([files[3], files[7]]).encode(),
    }


def imagenet() -> dict[str, bytes]:
    """The three archives."""
    wnids = ("n01440764", "n01443537")
    synset = [("ILSVRC2012_ID", "i4"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "i4"), ("children", "O"),
              ("wordnet_height", "i4"), ("num_train_images", "i4")]  # fmt: skip
    none = np.empty(0)
    rows = np.array(
        [
            (1, wnids[1], "goldfish, Carassius auratus", "", 0, none, 0, 3),
            (2, wnids[0], "tench, Tinca tinca", "", 0, none, 0, 3),
            (3, "n00000001", "fish", "", 2, np.array([1, 2]), 1, 0),
        ],
        dtype=synset,
    ).reshape(-1, 1)
    devkit = "ILSVRC2012_devkit_t12/data"
    truth = (1, 2, 2, 1)
    classes = {f"{wnid}.tar": tar({f"{wnid}_{k}.JPEG": jpeg(k + 7 * n) for k in range(3)}) for n, wnid in enumerate(wnids)}
    return {
        "ILSVRC2012_devkit_t12.tar.gz": tar(
            {
                f"{devkit}/meta.mat": _mat({"synsets": rows}),
                f"{devkit}/ILSVRC2012_validation_ground_truth.txt": "".join(f"{k}\n" for k in truth).encode(),
            },
            "w:gz",
        ),
        "ILSVRC2012_img_val.tar": tar({f"ILSVRC2012_val_{k:08}.JPEG": jpeg(50 + k) for k in (1, 2, 3, 4)}),
        "ILSVRC2012_img_train.tar": tar(classes),
    }


def pictures(root: Path, parts: Mapping[str, int], classes: int = 2, width: int = 40, height: int = 30) -> None:
    """A folder of a user's own: so many pictures of each class in each part ("" for none)."""
    for place, count in parts.items():
        for label in range(classes):
            content = {f"{k:03}.jpg": jpeg(1000 * label + 100 * len(place) + k, width, height) for k in range(count)}
            put(root / place / f"class-{label}", content)


def published_as(name: str, monkeypatch: pytest.MonkeyPatch, archives: Mapping[str, bytes], base: str = "") -> None:
    """Makes these archives, below the address `base`, what the catalogue knows of a data set."""
    facts = catalog.DATASETS[name]
    known = tuple(
        replace(
            one,
            url=f"{base}/{one.name}" if base else one.url,
            md5=md5(archives[one.name]) if one.md5 is not None else None,
        )
        for one in facts.archives
    )
    monkeypatch.setitem(catalog.DATASETS, name, replace(facts, archives=known, unpacked_bytes=0))


class RangeHandler(QuietHandler):
    """Serves parts of files; the first `cut` answers stop after so many bytes."""

    cut: list[int] = []  # noqa: RUF012
    asked: list[str | None] = []  # noqa: RUF012
    tag = '"one"'

    def do_GET(self) -> None:  # noqa: N802
        path = Path(self.translate_path(self.path))
        data = path.read_bytes()
        wanted, cls = self.headers.get("Range"), type(self)
        cls.asked.append(wanted)
        start = 0
        if wanted is not None and self.headers.get("If-Range") in (None, cls.tag):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("ETag", cls.tag)
        self.end_headers()
        most = cls.cut.pop(0) if cls.cut else len(data)
        self.wfile.write(data[start : start + most])
        self.close_connection = True


@contextlib.contextmanager
def served(folder: Path, monkeypatch: pytest.MonkeyPatch, cut: tuple[int, ...] = ()) -> Iterator[tuple[str, type[RangeHandler]]]:
    """The address of a server of `folder`, and its handler."""
    from engine import fetching

    monkeypatch.setattr(fetching, "SCHEMES", ("https", "http"))
    monkeypatch.setattr(fetching, "WAIT", 0.0)

    class Own(RangeHandler):
        pass

    Own.cut, Own.asked = list(cut), []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Own, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", Own
        server.shutdown()
