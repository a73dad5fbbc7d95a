"""Decoding, cropping and scaling: held against torchvision's transforms; what cannot be used is refused with the reason."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torchvision.transforms.functional as F
from PIL import Image
from support import picture_sets as sets
from support.refusal import refused
from torchvision.transforms import InterpolationMode

from engine import pictures
from engine.errors import AwayError
from engine.pictures import DRAWS, BrokenPictureError, Job, centre, crop_box, decode, decode_all, random_crop


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(sets.noise(seed, height, width, 3))


def draws(seed: int) -> list[float]:
    return np.random.default_rng(seed).random(DRAWS).tolist()


@pytest.mark.parametrize("size", [64, 224])
@pytest.mark.parametrize(("width", "height"), [(300, 200), (199, 301), (256, 256), (50, 41)])
def test_centre_is_torchvisions_resize_and_centre_crop(width: int, height: int, size: int) -> None:
    own = picture(width, height)
    scaled = F.resize(own, round(size * 256 / 224), InterpolationMode.BILINEAR)
    assert np.array_equal(np.asarray(centre(own, size)), np.asarray(F.center_crop(scaled, [size, size])))


@pytest.mark.parametrize("seed", range(8))
def test_random_crop_is_torchvisions_resized_crop(seed: int) -> None:
    own, numbers = picture(120, 90, seed), draws(seed)
    left, top, width, height = crop_box(120, 90, numbers)
    expected = F.resized_crop(own, top, left, height, width, [64, 64], InterpolationMode.BILINEAR)
    expected = F.hflip(expected) if numbers[-1] < 0.5 else expected
    assert np.array_equal(np.asarray(random_crop(own, 64, numbers, True)), np.asarray(expected))


def test_crops_have_areas_and_shapes_within_their_limits_and_lie_anywhere() -> None:
    boxes = [crop_box(400, 300, draws(seed)) for seed in range(2000)]
    for left, top, width, height in boxes:
        assert 0 <= left <= 400 - width
        assert 0 <= top <= 300 - height
    areas = [w * h / 120_000 for _, _, w, h in boxes]
    shapes = [math.log(w / h) for _, _, w, h in boxes]
    assert 0.075 < min(areas) < 0.1
    assert 0.95 < max(areas) <= 1
    assert max(map(abs, shapes)) < math.log(4 / 3) + 0.02
    assert abs(float(np.mean(shapes))) < 0.06  # large upright crops do not fit
    assert min(left for left, *_ in boxes) == min(top for _, top, *_ in boxes) == 0
    assert any(left + width == 400 for left, _, width, _ in boxes)


@pytest.mark.parametrize(("width", "height"), [(1000, 20), (20, 1000), (1, 1), (1, 3)])
def test_what_no_crop_fits_is_cropped_in_the_middle(width: int, height: int) -> None:
    left, top, w, h = crop_box(width, height, [1 - 1e-9] * DRAWS)
    assert 0 <= left <= width - w
    assert 0 <= top <= height - h
    assert min(w, h) >= 1
    assert abs(width - w - 2 * left) <= 1
    assert abs(height - h - 2 * top) <= 1


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    picture(20, 10).convert(mode).save(path)
    assert (decode(str(path)).mode, decode(str(path)).size) == ("RGB", (20, 10))


@pytest.mark.parametrize("ending", ["png", "tiff", "pgm"])
def test_sixteen_bits_keep_their_contrast(ending: str, tmp_path: Path) -> None:
    """Pillow's own conversion makes all of it white."""
    deep = np.linspace(0, 65535, 40 * 30).astype(np.uint16).reshape(30, 40)
    Image.fromarray(deep).save(tmp_path / f"a.{ending}")
    assert np.array_equal(np.asarray(decode(str(tmp_path / f"a.{ending}"))), np.repeat((deep >> 8)[..., None], 3, 2))


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_thirty_two_bits_are_refused(kind: type, tmp_path: Path) -> None:
    Image.fromarray(np.ones((30, 40), kind)).save(tmp_path / "a.tiff")
    with pytest.raises(BrokenPictureError, match="32 bits, of which nothing says what is white; save it with 8 or 16"):
        decode(str(tmp_path / "a.tiff"))


def test_exif_does_not_turn_a_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by a quarter
    picture(40, 20).save(tmp_path / "x.jpg", exif=exif)
    assert decode(str(tmp_path / "x.jpg")).size == (40, 20)


WRONG: dict[str, tuple[bytes, str]] = {
    "bomb": (sets.bomb(), "pixels are more than the 50,000,000"),
    "small bomb": (sets.bomb(8000, 7000), "8000x7000 pixels are more than the 50,000,000"),
    "truncated": (sets.jpeg(1, 200, 200)[:2000], "truncated"),
    "empty": (b"", "no picture"),
    "text": (b"<html>not found</html>", "no picture"),
    "thin": (sets.png(sets.noise(0, 2, 1000, 3)), "one side is more than 100 times"),
    "code": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "no picture"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_used_is_refused(what: str, tmp_path: Path) -> None:
    data, said = WRONG[what]
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(BrokenPictureError, match=said) as caught:
        decode(str(tmp_path / "x.png"))
    assert str(caught.value).isprintable()


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.jpg")
    with pytest.raises(BrokenPictureError, match="not a regular file"):
        decode(str(tmp_path / "x.jpg"))


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.EMFILE, errno.ETIMEDOUT])
def test_what_the_system_does_not_give_now_is_not_broken(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets.put(tmp_path, {"a.jpg": sets.jpeg(1), "b.jpg": sets.jpeg(2)})
    monkeypatch.setattr(pictures, "PAUSES", (0.0, 0.0))
    refused(monkeypatch, "open", tmp_path / "b.jpg", number)
    with pytest.raises(AwayError) as caught:
        decode_all(Job(str(tmp_path), ("a.jpg", "b.jpg"), 32))
    for fragment in (str(tmp_path / "b.jpg"), "cannot be read now", os.strerror(number), "remove that picture"):
        assert fragment in str(caught.value)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG])
def test_what_the_file_is_to_blame_for_is_broken(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(monkeypatch, "open", tmp_path / "a.jpg", number)
    assert decode_all(Job(str(tmp_path), ("a.jpg",), 32)).broken == {0: os.strerror(number)}


def test_a_read_that_fails_in_the_middle_of_a_picture_is_not_its_damage(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("/proc/self/mem")  # opened as any file; its first byte is an input/output error
    with pytest.raises(AwayError, match="Input/output error"):
        decode(str(tmp_path / "a.jpg"))


def failing(times: int, error: Exception) -> Callable[[str], int]:
    """Opens pictures but for the first `times`."""
    real, tries = pictures.open_picture, 0

    def opened(path: str) -> int:
        nonlocal tries
        tries += 1
        if tries <= times:
            raise error
        return real(path)

    return opened


@pytest.mark.parametrize("error", [OSError(errno.ESTALE, "Stale file handle"), MemoryError()])
def test_it_is_tried_again(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets.put(tmp_path, {"a.jpg": sets.jpeg(1)})
    job = Job(str(tmp_path), ("a.jpg",), 32)
    expected = decode_all(job).pixels
    paused: list[float] = []
    monkeypatch.setattr("time.sleep", paused.append)
    monkeypatch.setattr(pictures, "open_picture", failing(len(pictures.PAUSES), error))
    found = decode_all(job)
    assert found.broken == {}
    assert np.array_equal(found.pixels, expected)
    assert paused == sorted(pictures.PAUSES)
    assert 3 < sum(paused) < 15
    monkeypatch.setattr(pictures, "open_picture", failing(len(pictures.PAUSES) + 1, error))
    with pytest.raises(AwayError):
        decode_all(job)


def test_a_job_survives_what_is_broken_in_it(tmp_path: Path) -> None:
    sets.put(tmp_path, {"a.jpg": sets.jpeg(1), "b.jpg": b"", "c.jpg": sets.jpeg(2)})
    found = decode_all(Job(str(tmp_path), ("a.jpg", "b.jpg", "c.jpg", "d.jpg"), 32))
    assert set(found.broken) == {1, 3}
    assert found.pixels.shape == (4, 32, 32, 3)
    assert [bool(pixels.any()) for pixels in found.pixels] == [True, False, True, False]
    assert found.broken[3] == "No such file or directory"
