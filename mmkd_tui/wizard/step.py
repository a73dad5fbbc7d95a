"""What the wizard's steps share: the bench they work at, and telling what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from engine.architecture_facts import ARCHITECTURES, TORCHVISION
from engine.architectures import architecture_of
from engine.catalog import DatasetFacts
from engine.plugins import registered
from mmkd_tui.draft import Draft, Problem
from mmkd_tui.machine import Machine
from mmkd_tui.stock import Stock
from mmkd_tui.widgets.marks import Marks, marks
from mmkd_tui.widgets.table import shown_text
from mmkd_tui.wizard.form import tell_problems


class GoOn(Message):
    """A step is done; show the next."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step


@dataclass(slots=True)
class Bench:
    """What all steps see: the draft in hand, the networks in the store, this machine."""

    draft: Draft
    stock: Stock
    machine: Machine
    data_root: Path
    ascii: bool

    @property
    def marks(self) -> Marks:
        return marks(self.ascii)

    @property
    def facts(self) -> DatasetFacts:
        """Of the draft's data set."""
        return self.draft.facts()

    def parameters(self, arch: str) -> int | None:
        """Of an architecture, for the draft's data set; None where only building it tells."""
        return architecture_of(arch).parameters_for(self.facts.channels, len(self.facts.classes))

    def parameters_text(self, arch: str) -> str:
        """`1,233,540`, or `?`."""
        known = self.parameters(arch)
        return "?" if known is None else f"{known:,}"

    @property
    def listed(self) -> tuple[str, ...]:
        """Architectures that are always offered."""
        return (*ARCHITECTURES, *registered())

    @property
    def searched(self) -> tuple[str, ...]:
        """Those that are offered where something is typed."""
        return tuple(fact.name for fact in TORCHVISION.values())

    @property
    def input_size(self) -> str:
        """`28x28x1`"""
        return f"{self.facts.size}x{self.facts.size}x{self.facts.channels}"


class Step(Vertical):
    """One page. Subclasses say what it is about in `body`, and show the draft anew in `entered`."""

    TITLE: ClassVar[str] = ""
    HINT: ClassVar[str] = ""
    PARTS: ClassVar[tuple[str, ...]] = ()  # the preset's keys that are chosen here

    def __init__(self, bench: Bench, *, id: str) -> None:
        super().__init__(id=id, classes="step")
        self.bench = bench
        self._problems = Static("", classes="problem leftover", markup=False)
        self._problems.display = False

    def compose(self) -> ComposeResult:
        yield Static(self.HINT, classes="hint", markup=False)
        yield from self.body()
        yield self._problems

    def body(self) -> ComposeResult:
        """The page's widgets."""
        raise NotImplementedError

    @property
    def first(self) -> Widget:
        """What has the focus at first."""
        raise NotImplementedError

    def entered(self) -> None:
        """Called when the page is shown, and when what it shows may have changed."""

    def owns(self, problem: Problem) -> bool:
        """Whether a mistake is mended here."""
        return bool(problem.path) and problem.path[0] in self.PARTS

    def tell(self, problems: Sequence[Problem]) -> None:
        """Shows each mistake beside its field, and this page's others at its foot."""
        left = [problem.sentence for problem in tell_problems(self, problems) if self.owns(problem)]
        lines = [f"{self.bench.marks.wrong} {shown_text(line, self.bench.ascii)}" for line in left[:3]]
        self._problems.display = bool(lines)
        self._problems.update("\n".join(lines))
