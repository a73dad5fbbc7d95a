"""Names and facts of data sets, architectures and methods; what they are made of is imported by those who train."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from engine.dataset_facts import DATASETS as DATASETS
from engine.dataset_facts import FOLDER as FOLDER
from engine.dataset_facts import DatasetFacts as DatasetFacts


@dataclass(frozen=True, slots=True)
class ArchitectureFacts:
    """An architecture of the catalogue. `parameters` is counted for 3 input channels and 100 classes."""

    name: str
    family: str
    parameters: int
    stem: int  # channels after the first convolution, which is 3x3
    features: int  # channels of the last feature map, which one linear layer maps to the classes

    def parameters_for(self, channels: int, classes: int) -> int:
        """As many as it has for other data: only the first convolution and the last layer change."""
        return self.parameters + 9 * self.stem * (channels - 3) + (self.features + 1) * (classes - 100)


@dataclass(frozen=True, slots=True)
class MethodFacts:
    """A way of training the student."""

    name: str
    title: str
    summary: str
    least_teachers: int
    most_teachers: int | None  # None: any number
    features: bool = True  # whether it looks at the teachers' feature maps, beside their logits


ARCHITECTURES = {
    fact.name: fact
    for fact in (
        ArchitectureFacts("vgg8", "vgg", 3_965_028, 64, 512),
        ArchitectureFacts("vgg11", "vgg", 9_277_284, 64, 512),
        ArchitectureFacts("vgg13", "vgg", 9_462_180, 64, 512),
        ArchitectureFacts("resnet8", "resnet", 83_892, 16, 64),
        ArchitectureFacts("resnet14", "resnet", 181_108, 16, 64),
        ArchitectureFacts("resnet20", "resnet", 278_324, 16, 64),
        ArchitectureFacts("resnet32", "resnet", 472_756, 16, 64),
        ArchitectureFacts("resnet56", "resnet", 861_620, 16, 64),
        ArchitectureFacts("resnet8x4", "resnet", 1_233_540, 32, 256),
        ArchitectureFacts("resnet20x4", "resnet", 4_333_700, 32, 256),
        ArchitectureFacts("resnet32x4", "resnet", 7_433_860, 32, 256),
        ArchitectureFacts("wrn_16_1", "wrn", 180_916, 16, 64),
        ArchitectureFacts("wrn_16_2", "wrn", 703_284, 16, 128),
        ArchitectureFacts("wrn_40_1", "wrn", 569_780, 16, 64),
        ArchitectureFacts("wrn_40_2", "wrn", 2_255_156, 16, 128),
    )
}

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


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, if any is like it at all."""
    folded = {k.lower().replace("-", "").replace("_", ""): k for k in known}
    found = difflib.get_close_matches(name.lower().replace("-", "").replace("_", ""), folded, n=1, cutoff=0.5)
    return folded[found[0]] if found else None
