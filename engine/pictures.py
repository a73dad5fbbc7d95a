"""Decodes pictures from files, crops and scales them: what the decoding processes do. Without torch they start quickly."""

from __future__ import annotations

import errno
import io
import math
import os
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import IO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from engine.dataset_facts import resize_for
from engine.errors import AwayError
from engine.text import one_line
from engine.untrusted import is_to_blame, open_picture

T = TypeVar("T")
MOST_PIXELS = 50_000_000
MOST_BYTES = 256 << 20  # of a file that is read as a whole; within an archive a picture must be none larger
PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds before each further try at a picture that cannot be read now
# Of a file that damage makes longer than it is, or whose name nothing can have; beside those of any file.
_OWN = (errno.EINVAL, errno.EISDIR, errno.ENAMETOOLONG, errno.EOVERFLOW)
ARCHIVE = ".tar"
MOST_UNEQUAL = 100  # times that a side may be as long as the other
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
TRIES = 10  # at a random crop that fits
DRAWS = 2 * TRIES + 3  # random numbers that a training picture takes: areas and shapes of the crops tried, its place, the flip

# Refused by MOST_PIXELS, with the file's name; Pillow only warns, without it.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

Pixels = NDArray[np.uint8]


class BrokenPictureError(Exception):
    """A picture that cannot be used, and why; the path is known to whoever asked for it."""


@dataclass(frozen=True, slots=True)
class Job:
    """Pictures to decode, and how. `draws` has DRAWS numbers in [0, 1) for each; None: resize and centre crop."""

    root: str
    paths: tuple[str, ...]
    size: int
    draws: tuple[tuple[float, ...], ...] | None = None
    flip: bool = True
    spans: tuple[tuple[int, int] | None, ...] = ()  # of pictures within archives: first byte and bytes; see Listing
    resize: int | None = None  # of a centre crop, the shorter side before it; None: as the field tests


@dataclass(frozen=True, slots=True)
class Decoded:
    """A job's pictures; where one is broken, zeros, and the reason under its number."""

    pixels: Pixels  # [n, size, size, 3]
    broken: dict[int, str]


def decode_all(job: Job) -> Decoded:
    """Does a job; never raises for what is in a file. AwayError where one cannot be read now, nor some seconds later."""
    pixels = np.zeros((len(job.paths), job.size, job.size, 3), np.uint8)
    broken = {}
    for number, path in enumerate(job.paths):
        try:
            picture = decode_patiently(os.path.join(job.root, path), job.spans[number] if job.spans else None)  # noqa: PTH118
            if job.draws is None:
                cut = middle(picture, job.resize, job.size) if job.resize else centre(picture, job.size)
                pixels[number] = np.asarray(cut)
            else:
                pixels[number] = np.asarray(random_crop(picture, job.size, job.draws[number], job.flip))
        except BrokenPictureError as error:
            broken[number] = str(error)
    return Decoded(pixels, broken)


def archive_of(path: str) -> tuple[str, str]:
    """`train-0001.tar/a/b.jpg` -> the archive's path, and the member's in it."""
    archive, ending, member = path.partition(f"{ARCHIVE}/")
    return archive + ending[:-1], member


def _opened(path: str, span: tuple[int, int] | None) -> IO[bytes]:
    if span is None:
        file = os.fdopen(open_picture(path), "rb")
        if (size := os.fstat(file.fileno()).st_size) > MOST_BYTES:
            return file
        with file:  # as a whole: what reads through Pillow's decoders may call a read that failed damage
            return io.BytesIO(file.read(max(size, 1)))
    if span[1] > MOST_BYTES:
        raise BrokenPictureError(f"its {span[1]:,} bytes are more than the {MOST_BYTES:,} that are allowed")
    handle = open_picture(archive_of(path)[0])
    try:
        content = os.pread(handle, span[1], span[0])
    finally:
        os.close(handle)
    if len(content) < span[1]:
        raise BrokenPictureError("its archive ends before it does")
    return io.BytesIO(content)


def patiently(work: Callable[[], T]) -> T:
    """What `work` returns; done again, after longer and longer pauses, while it ends by AwayError."""
    for pause in PAUSES:
        try:
            return work()
        except AwayError:
            time.sleep(pause)
    return work()


def away(path: str, error: OSError | MemoryError) -> AwayError | None:
    """What is said of a picture that cannot be read now; None where that is its file's own fault."""
    if isinstance(error, MemoryError):
        return AwayError(path, "there is not enough memory")
    if is_to_blame(error) or error.errno in _OWN:
        return None
    return AwayError(path, error.strerror or str(error))


def decode_patiently(path: str, span: tuple[int, int] | None = None) -> Image.Image:
    """As `decode`; a picture that cannot be read now is tried again for some seconds."""
    return patiently(lambda: decode(path, span))


def decode(path: str, span: tuple[int, int] | None = None) -> Image.Image:
    """The picture in RGB, as it is stored: EXIF's orientation is not looked at. BrokenPictureError where it cannot be had, and
    AwayError where only the system does not give it now.

    `span`: `path` leads into an archive, where the picture lies from this byte on, and has so many.
    """
    try:
        with _opened(path, span) as file, Image.open(file, formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MOST_PIXELS:
                raise BrokenPictureError(f"{width}x{height} pixels are more than the {MOST_PIXELS:,} that are allowed")
            if max(width, height) > MOST_UNEQUAL * min(width, height):
                raise BrokenPictureError(f"{width}x{height} pixels: one side is more than {MOST_UNEQUAL} times the other")
            return _eight_bits(picture).convert("RGB")
    except BrokenPictureError:
        raise
    except Image.DecompressionBombError as error:
        raise BrokenPictureError(f"its pixels are more than the {MOST_PIXELS:,} that are allowed") from error
    except Exception as error:  # Pillow raises whatever a damaged file makes its decoders stumble over
        if isinstance(error, OSError | MemoryError) and (gone := away(path, error)) is not None:
            raise gone from error
        why = getattr(error, "strerror", None) or str(error).replace(path, "it") or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            why = f"it is no picture in one of the formats {', '.join(FORMATS)}"
        raise BrokenPictureError(one_line(why, 200)) from error


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Pictures of 16 bits a pixel by their upper eight: Pillow's conversion makes all above 255 white, nearly everything."""
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM")):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise BrokenPictureError("its pixels have 32 bits, of which nothing says what is white; save it with 8 or 16 bits")
    return picture


def centre(picture: Image.Image, size: int) -> Image.Image:
    """As a picture in a file is measured: `size` x `size` pixels."""
    return middle(picture, resize_for(size), size)


def middle(picture: Image.Image, resize: int, size: int) -> Image.Image:
    """The middle `size` x `size` pixels after the shorter side is scaled to `resize`, bilinearly."""
    width, height = picture.size
    long = int(resize * max(width, height) / min(width, height))
    scaled = (resize, long) if width <= height else (long, resize)
    picture = picture.resize(scaled, Image.Resampling.BILINEAR)
    left, top = round((scaled[0] - size) / 2), round((scaled[1] - size) / 2)
    return picture.crop((left, top, left + size, top + size))


def random_crop(picture: Image.Image, size: int, draws: Sequence[float], flip: bool) -> Image.Image:
    """A random part of the picture scaled to `size` x `size`, mirrored half of the time."""
    left, top, width, height = crop_box(*picture.size, draws)
    picture = picture.crop((left, top, left + width, top + height)).resize((size, size), Image.Resampling.BILINEAR)
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip and draws[-1] < 0.5 else picture


def crop_box(width: int, height: int, draws: Sequence[float]) -> tuple[int, int, int, int]:
    """Left, top, width and height of a crop of 8 to 100 % of the area with sides 3:4 to 4:3 (Szegedy et al., arXiv 1409.4842).

    The first of ten that fits; else the largest in the middle whose sides are within those limits.
    """
    low, high = math.log(3 / 4), math.log(4 / 3)
    for number in range(TRIES):
        area = width * height * (0.08 + 0.92 * draws[2 * number])
        shape = math.exp(low + (high - low) * draws[2 * number + 1])
        w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < w <= width and 0 < h <= height:
            return int(draws[-3] * (width - w + 1)), int(draws[-2] * (height - h + 1)), w, h
    w, h = min(width, max(round(height * 4 / 3), 1)), min(height, max(round(width / (3 / 4)), 1))
    return (width - w) // 2, (height - h) // 2, w, h


def serve(handle: int) -> None:
    """A decoding process: does the jobs that come through a pipe, until whoever holds its other end is gone."""
    pipe = Connection(handle)
    with suppress(EOFError, OSError):
        while True:
            answer: Decoded | Exception
            job = pipe.recv()
            try:
                answer = decode_all(job)
            except Exception as error:
                answer = error
            pipe.send(answer)
