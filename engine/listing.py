"""Pictures that were found somewhere: where each lies, and the class that it is of."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Listing:
    """Some pictures: paths below a root, and the number of each one's class."""

    paths: tuple[str, ...]
    labels: tuple[int, ...]
    # Of pictures within archives (whose paths go on from the archive's to the member's): each one's first byte and its bytes,
    # one after the other.
    spans: array[int] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def span(self, number: int) -> tuple[int, int] | None:
        """Where a picture lies in its archive; None: it is a file."""
        return None if self.spans is None else (self.spans[2 * number], self.spans[2 * number + 1])

    def chosen(self, numbers: Sequence[int]) -> Listing:
        """Those of these numbers, in their order."""
        spans = None if self.spans is None else array("q", (self.spans[2 * k + end] for k in numbers for end in (0, 1)))
        return Listing(tuple(self.paths[k] for k in numbers), tuple(self.labels[k] for k in numbers), spans)


@dataclass(frozen=True, slots=True)
class PictureFolder:
    """What was found in a folder."""

    root: Path
    classes: tuple[str, ...]
    train: Listing
    test: Listing
    validation: Listing | None  # None: it is drawn from `train`
    said: str  # what was found, in one line
