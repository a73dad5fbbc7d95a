"""When quicker functions take the place of eager ones: once they are there, at a call on which both were found to agree.

They are compiled, or recorded on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from engine.compiled.flat import Function

WORTH_LOADING = 30.0  # seconds that a training must have before it, for compiled functions to be looked for
LEAST_TOLD = 0.001  # % of difference below which nobody wants to know more

Compile = Literal["auto", "on", "off"]
Tell = Callable[[str, str], None]  # level, message


class Source(Protocol):
    """Where quicker functions come from."""

    def ready(self, part: str) -> bool:
        """Whether it needs no compiling."""

    def start(self) -> None:
        """Begins to compile."""

    def take(self, part: str) -> Function | Exception | None:
        """The function, why there is none, or None while that is not known."""

    def close(self) -> None:
        """Ends it."""


@dataclass(frozen=True, slots=True)
class Part:
    """One of the functions that take over."""

    words: str  # for the log, in the plural
    tolerance: float  # of each result: the difference's norm, as a share of the eager result's
    tries: tuple[int, ...] = (1, 2, 3)  # the calls, since it is there, on which it is compared; after the last one it is given up


class Result(NamedTuple):
    """One of the things that a function computes; what is small beside the others is one of its own."""

    words: str  # for the log
    found: Sequence[Tensor]  # by the compiled function
    expected: Sequence[Tensor]  # by the eager one


class Changeover:
    """Of some parts that come from one source. Any failure leaves things as they are, with one line to `tell`."""

    def __init__(
        self,
        parts: dict[str, Part],
        title: str,
        worth: float,
        tell: Tell,
        mode: Compile,
        kind: str = "compiled",
        least: float = WORTH_LOADING,
    ) -> None:
        """`title` says what is compiled. Under "auto" that needs a training with `worth` seconds before it; to use what needs
        no compiling, one with `least`. `kind` is what becomes of the functions.
        """
        self.parts, self.title, self.worth, self.tell, self.mode = parts, title, worth, tell, mode
        self.kind, self.least = kind, least
        self.compiled: dict[str, Function] = {}
        self._source: Source | None = None
        self._seconds_left = 0.0
        self._given_up: set[str] = set()
        self._calls: dict[str, int] = {}
        self._began = False

    def consider(self, seconds_left: float) -> None:
        """How long the training has still to go, at the pace that it has now."""
        self._seconds_left = seconds_left

    def close(self) -> None:
        """Ends the compiling, if it goes on, and lets go of what took over."""
        if self._source is not None:
            self._source.close()
        self._source = None
        self.compiled.clear()
        self._given_up.update(self.parts)

    def gave_up(self, part: str) -> bool:
        """Whether nothing will take over any more."""
        return part in self._given_up

    def awaited(self, part: str) -> bool:
        """Whether a function is about to be here."""
        source = self._source
        return source is not None and source.ready(part) and source.take(part) is None

    def retire(self, part: str) -> None:
        """Something quicker has taken over: what it holds is let go of."""
        self._given_up.add(part)
        self.compiled.pop(part, None)

    def candidate(self, part: str, source: Callable[[], Source]) -> Function | None:
        """A compiled function that has not been tried yet. `source` is made when it is time to look for one."""
        if part in self._given_up or not self._started(source):
            return None
        assert self._source is not None
        found = self._source.take(part)
        if isinstance(found, Exception):
            self.give_up(part, found)
            return None
        if found is not None:
            self._calls[part] = self._calls.get(part, 0) + 1
            if self._calls[part] not in self.parts[part].tries:
                return None
        return found

    def agree(self, part: str, function: Function, results: Sequence[Result]) -> bool:
        """Whether each of a compiled function's results is as good as the eager one's; it is used from now on if all are."""
        errors = torch.stack([_difference(result) for result in results]).tolist()
        bad = [number for number, error in enumerate(errors) if not error <= self.parts[part].tolerance]  # or no number
        if bad:
            if self._calls[part] >= self.parts[part].tries[-1]:
                first = bad[0]
                self.give_up(part, RuntimeError(f"they differ by {100 * errors[first]:.2g} % in {results[first].words}"))
            return False
        self.compiled[part] = function
        close = f"{max(100 * max(errors), LEAST_TOLD):.2g} %"
        self.tell("info", f"{self.kind} {self.parts[part].words} from here on: faster, results agree to within {close}")
        return True

    def give_up(self, part: str, error: Exception) -> None:
        """Leaves it as it is, and says why."""
        self._given_up.add(part)
        text = str(error).strip().splitlines()
        why = f"{type(error).__name__}: {text[0] if text else ''}"
        self.tell("warning", f"training goes on as before, but no faster: no {self.kind} {self.parts[part].words} ({why})")

    def _started(self, source: Callable[[], Source]) -> bool:
        """Begins to compile when it is time; whether it has begun."""
        if self._began:
            return self._source is not None
        if self.mode == "auto" and self._seconds_left < self.least:
            return False
        if self._source is None:
            self._source = source()
        ready = all(self._source.ready(part) for part in self.parts)
        if self.mode == "auto" and not ready and self._seconds_left < self.worth:
            return False
        self._began = True
        if not ready:
            try:
                self._source.start()
            except Exception as error:
                self.give_up(next(iter(self.parts)), error)
                self._given_up.update(self.parts)
                return False
            self.tell("info", f"{self.title} are being compiled, to become faster; training goes on meanwhile")
        return True


class Stages:
    """Changeovers of the same parts, the quickest last; each with what makes its source from the batch in hand."""

    def __init__(self, *stages: tuple[Changeover, Callable[..., Source]]) -> None:
        self._stages = stages
        self._trying = False

    def of(self, part: str, *hand: Any) -> tuple[Function | None, Changeover | None]:
        """The quickest function that has taken over, if one has; or one that is to be compared now, and the changeover of it."""
        self._trying = False
        quicker: list[Changeover] = []
        for changeover, source in reversed(self._stages):
            found = changeover.compiled.get(part)
            if found is not None:
                return found, None
            if changeover.gave_up(part):
                continue
            if any(other.awaited(part) for other in quicker):
                break  # nothing else is begun with meanwhile
            candidate = changeover.candidate(part, partial(source, *hand))
            if candidate is not None:
                self._trying = True
                return candidate, changeover
            quicker.append(changeover)
        return None, None

    def used(self, part: str) -> Function | None:
        """The quickest function that has taken over."""
        return next((found for changeover, _ in reversed(self._stages) if (found := changeover.compiled.get(part))), None)

    def release(self, spare: Callable[[Function], bool]) -> bool:
        """Has every function that took over give memory back, and gives recorded ones up; whether any memory came back.

        `spare` has a function do so, and says whether it had something to give. A function that was being compared is gone.
        """
        given = [spare(function) for changeover, _ in self._stages for function in changeover.compiled.values()]
        released, self._trying = any(given) or self._trying, False
        for changeover, _ in self._stages:
            if released and changeover.kind == "recorded":
                for part in changeover.parts:
                    changeover.retire(part)
        return released

    def settle(self, part: str) -> None:
        """Lets go of what something quicker has taken the place of."""
        done = False
        for changeover, _ in reversed(self._stages):
            if done:
                changeover.retire(part)
            done = done or part in changeover.compiled

    def consider(self, seconds_left: float) -> None:
        """How long the training has still to go, at the pace that it has now."""
        for changeover, _ in self._stages:
            changeover.consider(seconds_left)

    def close(self) -> None:
        """Ends the compiling, if it goes on, and lets go of what took over."""
        for changeover, _ in self._stages:
            changeover.close()
        self._stages = ()  # their sources are made by whoever holds these: memory comes back when they go, not at some later time


def _difference(result: Result) -> Tensor:
    size = _norm(result.expected)
    return _norm(torch._foreach_sub(list(result.found), list(result.expected))) / size.clamp_min(torch.finfo(size.dtype).tiny)


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    total: Tensor = torch.stack(torch._foreach_norm(list(tensors))).double().norm()
    return total
