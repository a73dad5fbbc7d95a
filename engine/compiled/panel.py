"""Teachers that are asked eagerly at first, and by one compiled pass through all of them once that is there and agrees.

The pass takes a slice of the batch: on a CPU each thread computes one by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from engine.compiled.changeover import Changeover, Compile, Part, Result, Source, Tell
from engine.compiled.flat import Function
from engine.compiled.pure import PurePanel
from engine.compiled.slices import Slices, slices_of
from engine.models import Output, paired
from engine.models.panel import HasImages, TeacherPanel

PART = "teachers"
# The norm of an output's difference over that of the eager output, in float32 and with bfloat16, whose roundings a compiled
# pass does elsewhere.
TOLERANCE = (1e-3, 0.05)
WORTH = 120.0  # seconds that a training must have before it: a pass without a derivative is compiled sooner than a step


class CompiledPanel:
    """Answers as `panel` does. `source` makes what compiles the pass, from a first slice of images and the threads for each."""

    def __init__(self, panel: TeacherPanel, source: Callable[[Tensor, int], Source], tell: Tell, mode: Compile = "auto") -> None:
        self.panel, self._make_source = panel, source
        self._slices = Slices()
        part = Part("teachers", TOLERANCE[panel.bf16])
        self.changeover = Changeover({PART: part}, "the teachers", WORTH, tell, mode)
        self._tensors: list[list[Tensor]] = []

    @property
    def channels(self) -> list[int]:
        """Of each teacher's feature map."""
        return self.panel.channels

    @property
    def compiled(self) -> bool:
        """Whether the compiled pass has taken over."""
        return PART in self.changeover.compiled

    @torch.no_grad()
    def of(self, batch: HasImages) -> list[Output]:
        """What each teacher says of a batch's images, in float32."""
        images = batch.images
        compiled = self.changeover.compiled.get(PART)
        if compiled is not None:
            return paired(self._ask(compiled, images))
        expected = self.panel(images)
        candidate = self.changeover.candidate(PART, lambda: self._source(images))
        if candidate is not None:
            self._tensors = PurePanel(self.panel, images).tensors()
            try:
                found = self._ask(candidate, images)
            except Exception as error:
                self.changeover.give_up(PART, error)
            else:
                self.changeover.agree(PART, candidate, _compared(paired(found), expected))
        return expected

    def _source(self, images: Tensor) -> Source:
        count = slices_of(images)
        return self._make_source(images[: len(images) // count], torch.get_num_threads() if count == 1 else 1)

    def _ask(self, function: Function, images: Tensor) -> list[Tensor]:
        return self._slices(lambda part: function(self._tensors, part), images, slices_of(images))

    def consider(self, seconds_left: float) -> None:
        """How long the training has still to go, at the pace that it has now."""
        self.changeover.consider(seconds_left)

    def close(self) -> None:
        """Ends the compiling, if it goes on, and the threads."""
        self.changeover.close()
        self._slices.close()


def _compared(found: Sequence[Output], expected: Sequence[Output]) -> list[Result]:
    """Each teacher's logits and feature maps apart: beside a feature map, all logits are small."""
    return [
        Result(words, [ours], [theirs])
        for one, other in zip(found, expected, strict=True)
        for words, ours, theirs in zip(("logits", "feature maps"), one, other, strict=True)
    ]
