"""Teachers that are asked eagerly at first, and by one quicker pass through all of them once that is there and agrees.

On a CPU it is compiled and takes a slice of the batch: each thread computes one by itself. On a GPU it is recorded, each teacher
on a stream of its own: what one of them asks for leaves much of a GPU idle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from engine.compiled.changeover import Changeover, Compile, Part, Result, Source, Stages, Tell
from engine.compiled.flat import Function
from engine.compiled.pure import PurePanel
from engine.compiled.recorded import WORTH_RECORDING, Recorder, SideBySide, records, spared
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
        parts = {PART: Part("teachers", TOLERANCE[panel.bf16])}
        if records(panel.device):
            self.changeover = Changeover(parts, "the teachers", 0.0, tell, mode, "recorded", WORTH_RECORDING)
            self.stages = Stages((self.changeover, self._record))
        else:
            self.changeover = Changeover(parts, "the teachers", WORTH, tell, mode)
            self.stages = Stages((self.changeover, self._compile))
        self._tensors: list[list[Tensor]] = []

    @property
    def channels(self) -> list[int]:
        """Of each teacher's feature map."""
        return self.panel.channels

    @property
    def quick(self) -> bool:
        """Whether the compiled or recorded pass has taken over."""
        return PART in self.changeover.compiled

    @torch.no_grad()
    def of(self, batch: HasImages) -> list[Output]:
        """What each teacher says of a batch's images, in float32."""
        images = batch.images
        function, changeover = self.stages.of(PART, images)
        if function is not None and changeover is None:
            return paired(self._ask(function, images))
        expected = self.panel(images)
        if function is not None and changeover is not None:
            self._tensors = PurePanel(self.panel, images).tensors()
            try:
                found = self._ask(function, images)
            except Exception as error:
                changeover.give_up(PART, error)
            else:
                changeover.agree(PART, function, _compared(paired(found), expected))
        return expected

    def _compile(self, images: Tensor) -> Source:
        count = slices_of(images)
        return self._make_source(images[: len(images) // count], torch.get_num_threads() if count == 1 else 1)

    def _record(self, images: Tensor) -> Source:
        side_by_side = SideBySide()

        def teachers(tensors: list[list[Tensor]], images: Tensor) -> list[Tensor]:
            laid_out = images.contiguous(memory_format=torch.channels_last)
            calls = [partial(self.panel.one, number, laid_out) for number in range(len(tensors))]
            return [tensor for output in side_by_side(calls, images.device) for tensor in output]

        return Recorder({PART: teachers}, fixed=1)

    def _ask(self, function: Function, images: Tensor) -> list[Tensor]:
        return self._slices(lambda part: function(self._tensors, part), images, slices_of(images))

    def consider(self, seconds_left: float) -> None:
        """How long the training has still to go, at the pace that it has now."""
        self.stages.consider(seconds_left)

    def release(self) -> bool:
        """Gives back the memory that a recording takes, and records nothing more; whether there was any."""
        return self.stages.release(spared)

    def close(self) -> None:
        """Ends the compiling, if it goes on, and the threads."""
        self.stages.close()
        self._slices.close()


def _compared(found: Sequence[Output], expected: Sequence[Output]) -> list[Result]:
    """Each teacher's logits and feature maps apart: beside a feature map, all logits are small."""
    return [
        Result(words, [ours], [theirs])
        for one, other in zip(found, expected, strict=True)
        for words, ours, theirs in zip(("logits", "feature maps"), one, other, strict=True)
    ]
