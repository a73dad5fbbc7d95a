"""Names and facts of data sets, architectures and methods; what they are made of is imported by those who train."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from engine.architecture_facts import ARCHITECTURES as ARCHITECTURES
from engine.dataset_facts import DATASETS as DATASETS
from engine.dataset_facts import FOLDER as FOLDER
from engine.dataset_facts import SHARDS as SHARDS
from engine.dataset_facts import DatasetFacts as DatasetFacts


@dataclass(frozen=True, slots=True)
class MethodFacts:
    """A way of training the student."""

    name: str
    title: str
    summary: str
    least_teachers: int
    most_teachers: int | None  # None: any number
    features: bool = True  # whether it looks at the teachers' feature maps, beside their logits


METHODS = {
    fact.name: fact
    for fact in (
        MethodFacts("mmkd", "MMKD", "a meta-weight network learns each teacher's weight for each sample", 2, None),
        MethodFacts("aver", "Average", "every teacher's logits count the same", 2, None, features=False),
        MethodFacts("ebkd", "EBKD", "the surer a teacher is of a sample, the more it counts", 2, None, features=False),
        MethodFacts("camkd", "CA-MKD", "the nearer a teacher is to a sample's label, the more it counts", 2, None),
        MethodFacts("aekd", "AEKD", "weights under which the teachers' gradients agree best", 2, None),
        MethodFacts("fitnet", "FitNet", "every teacher's logits and feature maps count the same", 1, None),
        MethodFacts("kd", "KD", "one teacher's softened logits", 1, 1, features=False),
        MethodFacts("ce", "No teacher", "cross entropy on the labels alone", 0, None, features=False),
    )
}


def nearest(name: str, known: Iterable[str], least: float = 0.5) -> str | None:
    """The known name most like `name`, if any is like it at all. `least`: how like it must be, from 0 to 1."""
    folded = {k.lower().replace("-", "").replace("_", ""): k for k in known}
    found = difflib.get_close_matches(name.lower().replace("-", "").replace("_", ""), folded, n=1, cutoff=least)
    return folded[found[0]] if found else None
