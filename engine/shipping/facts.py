"""What a model file says of itself: architecture, classes and how pictures are prepared; the same whatever the file's format."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.dataset_facts import DATASETS, resize_for
from engine.errors import UserError
from engine.preprocessing import Preprocessing, checked, preprocessing_from
from engine.text import one_line
from engine.untrusted import as_number

MOST_CLASSES = 100_000
EXTRA = "mmkd.json"  # the file within a .pt2 archive that holds the facts
_SEED = re.compile(r"[0-9]{1,18}")
_FEATURES = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Names are as a file gives them: to be made plain before they are shown."""

    arch: str  # "" where that is not known
    dataset: str  # "" as well
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    features: str | None = None  # the module that gives the feature map, which is part of building some networks
    said: Mapping[str, str] = field(default_factory=dict)  # whatever else, as the run it is of
    split_seed: int | None = None  # by which its images were split; None where that is not known

    def to_metadata(self) -> dict[str, str]:
        """As texts, which every format can hold. `mean` and `std` within `preprocessing` are of pixels in 0..1."""
        return {
            **self.said,
            "arch": self.arch,
            "dataset": self.dataset,
            "classes": json.dumps(self.classes),
            "preprocessing": self.preprocessing.to_json(),
            **({"features": self.features} if self.features else {}),
            **({} if self.split_seed is None else {"split_seed": str(self.split_seed)}),
        }


def facts_from(metadata: Mapping[str, Any], whose: str) -> ModelFacts | None:
    """From a file's metadata, whoever wrote it; None where it says nothing of classes and pictures.

    UserError, which names `whose` it is, where what it says cannot be.
    """
    texts = {name: value for name, value in metadata.items() if isinstance(value, str)}
    if "classes" not in texts or not ("preprocessing" in texts or "mean" in texts):
        return None
    if "preprocessing" in texts:
        preprocessing = preprocessing_from(texts["preprocessing"], whose)
    else:  # a run's own student.safetensors, whose statistics are of pixels in 0..255
        values = {name: _read(texts.get(name, "")) for name in ("channels", "size", "mean", "std")}
        for name in ("mean", "std"):
            values[name] = [(as_number(one) or 0.0) / 255 for one in values[name]] if isinstance(values[name], list) else None
        known = DATASETS.get(texts.get("dataset", ""))
        if "resize" in texts:
            values["resize"] = _read(texts["resize"])
        elif known is not None and known.from_files and isinstance(values["size"], int):  # older releases had no other
            values["resize"] = resize_for(values["size"])
        preprocessing = checked(values, whose)
    classes = _read(texts["classes"])
    if not isinstance(classes, list) or not 2 <= len(classes) <= MOST_CLASSES or not all(isinstance(c, str) for c in classes):
        raise UserError(f"{whose} names no classes that could be such (a JSON list of texts); export the model again")
    features, seed = texts.get("features"), texts.get("split_seed", "")
    return ModelFacts(
        arch=one_line(texts.get("arch", ""), 200),
        dataset=one_line(texts.get("dataset", ""), 100),
        classes=tuple(name[:1000] for name in classes),
        preprocessing=preprocessing,
        features=features if features and _FEATURES.fullmatch(features) else None,
        split_seed=int(seed) if _SEED.fullmatch(seed) else None,
    )


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
