"""The interface between a method and the training loop, and what the methods have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from engine.data import Batch
from engine.meta.sgd import Sgd, Tensors
from engine.methods.step import MetaStep, Step
from engine.models import Output
from engine.models.regressor import Learner, LearnerOutput
from engine.ranks import ALONE, Ranks


class Teachers(Protocol):
    """Where the teachers' outputs come from: the teachers themselves, or what is kept of them."""

    @property
    def channels(self) -> list[int]:
        """Of each teacher's feature map."""

    def of(self, batch: Batch) -> list[Output]:
        """What each teacher says of a batch, in float32."""

    def consider(self, seconds_left: float) -> None:
        """Told now and then how long the training has still to go."""

    def release(self) -> bool:
        """Gives back memory that answering could do without; whether there was any."""

    def close(self) -> None:
        """Called after the last batch; a second time does nothing."""


@dataclass(frozen=True, slots=True)
class MetaGradient:
    """The hyper-gradient, one tensor a weight tensor, and what the meta step tells of itself."""

    gradient: Tensors
    told: MetaStep


class Hard(NamedTuple):
    """What a meta step learns from."""

    batch: Batch
    teachers: list[Output]


class Method(nn.Module, ABC):
    """How a student is trained. The loop calls `step`, updates `learner` by SGD, calls `after_step`, and where that returns
    a hard batch, `meta_gradient` and `learn`.

    `step` and `meta_gradient` are functions of the module's tensors and their arguments alone: they change nothing but the
    learner's buffers (`step`), so that they can be compiled. A method of which that is not true says why in `eager_because`.
    """

    ranks: Ranks = ALONE  # the processes that train together; the trainer says which
    own_state: tuple[str, ...] = ()  # beginnings of the names in `state` of which each rank has tensors of its own, shaped alike
    eager_because: str = ""  # why its steps cannot be compiled, as the end of a sentence about a training step
    weighs_samples: tuple[str, ...] = ()  # what it weighs sample by sample, so that unlike samples may trust unlike teachers

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.learner = learner

    def forward(self, part: str, *args: Any) -> Any:
        """Calls the method's function of that name; the way in for `call_with`."""
        return getattr(self, part)(*args)

    @abstractmethod
    def step(self, batch: Batch, teachers: Sequence[Output]) -> Step:
        """The loss on a batch, given the teachers' outputs (none, for a method that uses no teacher)."""

    def after_step(self, batch: Batch, teachers: Sequence[Output], step: Step, number: int) -> Hard | None:
        """Called after each update; `number` counts training steps from 0. A hard batch, where a meta step is due."""
        return None

    def meta_gradient(self, batch: Batch, teachers: Sequence[Output], momenta: Tensors, sgd: Sgd) -> MetaGradient:
        """What a meta step on a hard batch learns, given the learner's optimiser."""
        raise NotImplementedError

    def learn(self, found: MetaGradient) -> None:
        """Updates the weights by their hyper-gradient, where that is finite; never changes the learner."""
        raise NotImplementedError

    def logit_weights_of(self, student: Tensor, teachers: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Logits [B, C] and K times [B, C], labels [B] -> [B, K]; of a method with "logit" in `weighs_samples`."""
        raise NotImplementedError

    def feature_weights_of(self, output: LearnerOutput, teachers: Sequence[Output], labels: Tensor) -> Tensor:
        """Of a batch of B samples -> [B, K]; of a method with "feature" in `weighs_samples`."""
        raise NotImplementedError

    def withdraw(self) -> None:
        """The step in hand broke off after `after_step` was called: it will be taken again."""

    def state(self) -> dict[str, Tensor]:
        """All that decides the method's future, beside the learner and its optimiser, by name; tensors are not copied."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes up what `state` gave."""
        assert not state, "a method that has a state takes it up"


def sizes_of(teachers: Sequence[Output]) -> list[tuple[int, int]]:
    """(h, w) of each teacher's feature map."""
    return [(t.features.shape[2], t.features.shape[3]) for t in teachers]


__all__ = ["Hard", "Learner", "LearnerOutput", "MetaGradient", "MetaStep", "Method", "Step", "Teachers", "sizes_of"]
