"""Names and facts of data sets, architectures and methods; what they are made of is imported by those who train."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from engine.architectures import ARCHITECTURES

__all__ = ["ARCHITECTURES", "DATASETS", "METHODS", "DatasetFacts", "MethodFacts", "nearest"]


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """A data set as its publisher gives it."""

    name: str
    title: str
    classes: tuple[str, ...]
    channels: int
    size: int  # height = width, pixels
    train_images: int  # before the validation split is taken out
    test_images: int
    augmentation: str  # in words, for displays
    origin: str
    files: tuple[str, ...] = ()  # as published, less the ending .gz; none: the data set is embedded
    folders: tuple[str, ...] = ()  # where they are looked for: in the data root, or (absolute) where a system's package puts them


@dataclass(frozen=True, slots=True)
class MethodFacts:
    """A way of training the student."""

    name: str
    title: str
    summary: str
    least_teachers: int
    most_teachers: int | None  # None: any number
    features: bool = True  # whether it looks at the teachers' feature maps, beside their logits


DATASETS = {
    fact.name: fact
    for fact in (
        DatasetFacts(
            name="digits",
            title="Handwritten digits (UCI, by scikit-learn)",
            classes=tuple("0123456789"),
            channels=1,
            size=8,
            train_images=1200,
            test_images=597,
            augmentation="shift by up to 1 pixel",
            origin="embedded in scikit-learn",
        ),
        DatasetFacts(
            name="fashion-mnist",
            title="Fashion-MNIST (Zalando)",
            classes=(
                "T-shirt/top",
                "Trouser",
                "Pullover",
                "Dress",
                "Coat",
                "Sandal",
                "Shirt",
                "Sneaker",
                "Bag",
                "Ankle boot",
            ),
            channels=1,
            size=28,
            train_images=60_000,
            test_images=10_000,
            augmentation="shift by up to 2 pixels, horizontal flip",
            origin="github.com/zalandoresearch/fashion-mnist",
            files=("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
            folders=("FashionMNIST/raw", "fashion-mnist", ".", "/usr/share/datasets/fashion-mnist"),
        ),
    )
}

METHODS = {
    fact.name: fact
    for fact in (
        MethodFacts("mmkd", "MMKD", "a meta-weight network learns each teacher's weight for each sample", 2, None),
        MethodFacts("aver", "Average", "every teacher's logits count the same", 2, None, features=False),
        MethodFacts("kd", "KD", "one teacher's softened logits", 1, 1, features=False),
        MethodFacts("ce", "No teacher", "cross entropy on the labels alone", 0, None, features=False),
    )
}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, if any is like it at all."""
    folded = {k.lower().replace("-", "").replace("_", ""): k for k in known}
    found = difflib.get_close_matches(name.lower().replace("-", "").replace("_", ""), folded, n=1, cutoff=0.5)
    return folded[found[0]] if found else None
