"""The change-over from eager steps to compiled ones: only at a step on which both agree, and never at the cost of the training.

What stands for compiled steps here are the functions that a compiler would be given, so that nothing has to be compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.nets import mmkd_case, random_batch, sgd

from engine.compiled.pure import Pure
from engine.compiled.steps import CompiledStepper
from engine.meta.sgd import Sgd
from engine.stepping import Stepper

STEPS = 22
TEACHERS = ("resnet8", "resnet14")  # quick ones


class Prepared:
    """Has its steps ready when it is told so."""

    def __init__(self, steps: dict[str, Any], compiled_before: bool = False) -> None:
        self.steps, self.compiled_before = steps, compiled_before
        self.ready_now = self.started = self.closed = False

    def ready(self, part: str) -> bool:
        return self.compiled_before

    def start(self) -> None:
        self.started = True

    def take(self, part: str) -> Any:
        return self.steps[part] if self.ready_now else None

    def close(self) -> None:
        self.closed = True


def pieces(change: Callable[[dict[str, Any]], dict[str, Any]] = lambda steps: steps, mode: str = "on", **known: bool):
    """MMKD in float64, what its steps are taken from, the stepper, and what it tells."""
    method, panel = mmkd_case(teachers=TEACHERS)
    optimizer = sgd(method)
    pure = Pure(method, Sgd.of(optimizer))
    source = Prepared(change({"train": pure.train, "meta": pure.meta}), **known)
    told: list[tuple[str, str]] = []
    stepper = CompiledStepper(
        method, optimizer, lambda batch, teachers, sgd: source, lambda level, text: told.append((level, text)), mode
    )
    return method, panel, source, stepper, told


def go(stepper: Stepper, panel, at: Callable[[int], None] = lambda number: None) -> list[float]:
    losses = []
    for number in range(STEPS):
        at(number)
        step, meta = stepper(*random_batch(panel, 8, seed=number), number)
        losses += [step.loss.item()] if meta is None else [step.loss.item(), meta.outer_loss.item()]
    return losses


def eager() -> list[float]:
    method, panel = mmkd_case(teachers=TEACHERS)
    return go(Stepper(method, sgd(method)), panel)


def test_it_changes_over_and_the_training_stays_the_same() -> None:
    _, panel, source, stepper, told = pieces()
    seen = []

    def at(number: int) -> None:
        source.ready_now = number >= 3
        seen.append((stepper.compiled("train"), stepper.compiled("meta")))

    losses = go(stepper, panel, at)
    assert losses == pytest.approx(eager(), rel=1e-8)
    assert seen[3] == (False, False)
    assert seen[4] == (True, False)  # one eager step beside it, then it takes over
    assert seen[-1] == (True, True)
    assert [level for level, _ in told] == ["info"] * 3


def test_a_state_saved_from_compiled_steps_goes_on_eagerly() -> None:
    method, panel, source, stepper, _ = pieces()
    source.ready_now = True
    go(stepper, panel)
    assert stepper.compiled("train")
    other, _ = mmkd_case(teachers=TEACHERS)
    other.learner.load_state_dict({name: value.clone() for name, value in method.learner.state_dict().items()})
    other.load_state({name: value.clone() for name, value in method.state().items()})
    optimizer = sgd(other)
    for ours, theirs in zip(other.learner.parameters(), stepper.parameters, strict=True):
        optimizer.state[ours]["momentum_buffer"] = stepper.optimizer.state[theirs]["momentum_buffer"].clone()
    assert go(Stepper(other, optimizer), panel) == pytest.approx(go(stepper, panel), rel=1e-8)


def wrong(steps: dict[str, Any]) -> dict[str, Any]:
    def train(*args: Any) -> Any:
        after, *rest = steps["train"](*args)
        return [p * 1.1 for p in after], *rest

    def meta(*args: Any) -> Any:
        gradient, rest = steps["meta"](*args)
        return [g * 1.5 for g in gradient], rest

    return {"train": train, "meta": meta}


def changed(place: int, what: Callable[[Any], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """One thing alone of what a training step gives: parameters, momenta, buffers, what it tells."""

    def change(steps: dict[str, Any]) -> dict[str, Any]:
        def train(*args: Any) -> Any:
            given = list(steps["train"](*args))
            given[place] = what(given[place])
            return given

        return steps | {"train": train, "meta": OSError("none")}

    return change


def raising(steps: dict[str, Any]) -> dict[str, Any]:
    def fail(*args: Any) -> Any:
        raise RuntimeError("no such kernel\nand a long story")

    return {"train": fail, "meta": fail}


def failed(steps: dict[str, Any]) -> dict[str, Any]:
    return dict.fromkeys(steps, OSError("the compiler ended with 1"))


def not_a_number(steps: dict[str, Any]) -> dict[str, Any]:
    def train(*args: Any) -> Any:
        after, *rest = steps["train"](*args)
        return [p * torch.nan for p in after], *rest

    return steps | {"train": train, "meta": OSError("none")}


@pytest.mark.parametrize(
    ("place", "what", "word"),
    [
        (1, lambda momenta: [1.1 * m for m in momenta], "momenta"),
        (2, lambda buffers: [b * 1.1 if b.is_floating_point() else b for b in buffers], "buffers"),
        (3, lambda told: told | {"logit_weights": 1.1 * told["logit_weights"]}, "logit weights"),
    ],
)
def test_each_of_a_steps_results_has_to_be_right(
    place: int, what: Callable[[Any], Any], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only what is large: running statistics that are wrong show in the next evaluation alone."""
    monkeypatch.setattr("engine.compiled.steps.TRIES", (1,))
    _, panel, source, stepper, told = pieces(changed(place, what))
    source.ready_now = True
    go(stepper, panel)
    assert not stepper.compiled("train")
    assert any(text.endswith(f" % in {word})") for _, text in told)


@pytest.mark.parametrize(
    "change", [wrong, raising, *(pytest.param(change, marks=pytest.mark.slow) for change in (failed, not_a_number))]
)
def test_what_is_wrong_is_not_used_and_costs_nothing(change: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.compiled.steps.TRIES", (1, 2, 4))
    _, panel, source, stepper, told = pieces(change)
    source.ready_now = True
    assert go(stepper, panel) == eager()
    assert not stepper.compiled("train")
    assert not stepper.compiled("meta")
    warnings = [text for level, text in told if level == "warning"]
    assert len(warnings) == 2  # one line each, once
    assert all("\n" not in text for text in warnings)


def test_a_noisy_beginning_is_no_reason_to_give_up() -> None:
    """In bfloat16 a MobileNet's first updates agree with nothing, and later ones do."""
    calls: list[int] = []

    def noisy(steps: dict[str, Any]) -> dict[str, Any]:
        def train(*args: Any) -> Any:
            calls.append(1)
            after, *rest = steps["train"](*args)
            return [p * 1.1 if len(calls) == 1 else p for p in after], *rest

        return steps | {"train": train}

    _, panel, source, stepper, told = pieces(noisy)
    source.ready_now = True
    go(stepper, panel)
    assert stepper.compiled("train")
    assert not [text for level, text in told if level == "warning"]
    assert len(calls) == 2 + STEPS - 10  # the first and the tenth step are compared, and all that follow are compiled ones


def test_auto_compiles_only_what_is_long_enough() -> None:
    _, panel, source, stepper, _ = pieces(mode="auto")
    go(stepper, panel)
    assert not source.started
    stepper.consider(590.0)
    go(stepper, panel)
    assert not source.started
    stepper.consider(3600.0)
    go(stepper, panel)
    assert source.started


def test_auto_takes_up_what_was_compiled_before_sooner() -> None:
    _, panel, source, stepper, _ = pieces(mode="auto", compiled_before=True)
    source.ready_now = True
    stepper.consider(20.0)
    go(stepper, panel)
    assert not stepper.compiled("train")
    stepper.consider(60.0)
    go(stepper, panel)
    assert stepper.compiled("train")
    assert not source.started


def test_closing_ends_the_compiling() -> None:
    _, panel, source, stepper, _ = pieces()
    go(stepper, panel)
    stepper.close()
    assert source.closed
