"""From a picture to what a network takes: as it was measured in its run, written down so that anybody can repeat it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.dataset_facts import DatasetFacts
from engine.errors import UserError
from engine.pictures import middle
from engine.untrusted import as_number

MODES = {1: "L", 3: "RGB"}  # Pillow's, by the number of channels
MOST_SIZE = 1024  # pixels along a side


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """`mean` and `std`: of each channel, of pixels in 0..1. The shorter side is scaled to `resize` pixels, bilinearly, and the
    middle `size` x `size` pixels are taken.
    """

    channels: int
    size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"

    @classmethod
    def of(cls, facts: DatasetFacts, mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocessing:
        """As images of a data set are shown to a network. `mean`, `std`: on the scale of 0 to 255."""
        return cls(facts.channels, facts.size, facts.scaled_to, tuple(m / 255 for m in mean), tuple(s / 255 for s in std))

    def pixels(self, picture: Image.Image) -> NDArray[np.uint8]:
        """[channels, size, size]; a picture of another size is scaled and cut, one of other colours is converted."""
        picture = picture if picture.mode == MODES[self.channels] else picture.convert(MODES[self.channels])
        if picture.size != (self.size, self.size) or self.resize != self.size:
            picture = middle(picture, self.resize, self.size)
        found = np.asarray(picture, dtype=np.uint8)
        return found[None] if found.ndim == 2 else found.transpose(2, 0, 1)

    def normalised(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """[..., channels, H, W] uint8 -> the same in float32, less `mean` and divided by `std`."""
        mean, std = ((np.array(v, np.float64)[:, None, None] * 255).astype(np.float32) for v in (self.mean, self.std))
        found: NDArray[np.float32] = (pixels.astype(np.float32) - mean) / std
        return found

    def to_json(self) -> str:
        """For a file's metadata."""
        return json.dumps(asdict(self))

    def words(self) -> str:
        """For people, on one line."""
        colours = "grey" if self.channels == 1 else "RGB"
        scaled = f"shorter side to {self.resize}, middle " if self.resize != self.size else ""
        mean, std = (", ".join(f"{v:.4f}" for v in values) for values in (self.mean, self.std))
        return f"{scaled}{self.size}x{self.size} pixels, {colours}, of 0 to 1; less {mean}, divided by {std}"


def preprocessing_from(text: str, whose: str) -> Preprocessing:
    """From what `to_json` gave, or what anybody wrote there. UserError, which names `whose` it is, where it is none."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    return checked(values if isinstance(values, dict) else {}, whose)


def checked(values: Mapping[str, Any], whose: str) -> Preprocessing:
    """UserError where a value cannot be."""
    channels, size = _whole(values.get("channels"), 1, 3), _whole(values.get("size"), 1, MOST_SIZE)
    resize = _whole(values.get("resize", size), 1, 2 * MOST_SIZE)
    mean, std = _numbers(values.get("mean")), _numbers(values.get("std"))
    sound = channels in MODES and size and resize and size <= resize
    if not sound or len(mean) != channels or len(std) != channels or not all(value > 0 for value in std):
        raise UserError(
            f"{whose} says in its metadata how pictures are prepared, but that cannot be so (channels 1 or 3, size, mean, std); "
            "export the model again"
        )
    if values.get("interpolation", "bilinear") != "bilinear":
        raise UserError(f"{whose} wants pictures scaled in another way than bilinearly; mmkd does not do that")
    return Preprocessing(channels, size, resize, mean, std)


def _whole(value: object, least: int, most: int) -> int:
    """0 where it is none such."""
    return value if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most else 0


def _numbers(value: object) -> tuple[float, ...]:
    if not isinstance(value, (list, tuple)) or len(value) > 3:
        return ()
    found = [as_number(one) for one in value]
    return tuple(one for one in found if one is not None and math.isfinite(one))
