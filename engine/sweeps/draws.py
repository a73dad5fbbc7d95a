"""The values that a varied setting takes: those of its list, or one drawn for each trial. Each is a function of its position."""

from __future__ import annotations

import math
from typing import Any

from engine.position_key import key
from engine.sweeps.form import DRAWS
from engine.yaml_lines import show


class DrawError(Exception):
    """What is wrong with how a setting varies: the step below it where that stands (or None), and the sentence."""

    def __init__(self, sentence: str, step: str | int | None = None) -> None:
        super().__init__(sentence)
        self.sentence, self.step = sentence, step


def check(varied: Any) -> None:
    """DrawError where `varied` is neither a list of different values nor a way to draw one."""
    if isinstance(varied, tuple):
        if not varied:
            raise DrawError("is an empty list; give the values that are to be tried, for example [0.01, 0.1]")
        for index, value in enumerate(varied):
            if any(same(value, earlier) for earlier in varied[:index]):
                raise DrawError(f"{show(value)} stands there twice; remove one", index)
        return
    if not isinstance(varied, dict) or len(varied) != 1:
        raise DrawError(f"{show(varied)} does not vary; give a list, {{log_uniform: [0.001, 0.1]}} or one of {', '.join(DRAWS)}")
    ((how, given),) = varied.items()
    if how not in DRAWS:
        raise DrawError(f"there is no way to draw called {show(how)}; use one of {', '.join(DRAWS)}", how)
    if not isinstance(given, tuple):
        raise DrawError(f"{show(given)} is not a list; write for example {{{how}: [1, 10]}}", how)
    if how == "choice":
        if not given:
            raise DrawError("is an empty list; give what is to be chosen from", how)
        return
    numbers = [
        value for value in given if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ]
    if len(given) != 2 or len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise DrawError(f"{show(given)} is no range; give the least and the greatest value, for example {{{how}: [1, 10]}}", how)
    if how == "log_uniform" and numbers[0] <= 0:
        raise DrawError(f"{show(given)} has no logarithm at its lower end; begin above 0, for example at 0.001", how)
    if how == "int_uniform" and not all(isinstance(value, int) for value in numbers):
        raise DrawError(f"{show(given)} are not whole numbers; use uniform, or write for example [1, 10]", how)


def drawn(varied: dict[str, Any], seed: int, name: str, trial: int) -> Any:
    """The value of the setting `name` in one trial; floats are rounded to six digits, so that names and files can be read."""
    ((how, given),) = varied.items()
    number = key(seed, "sweep", name, trial)
    if how == "choice":
        return given[number % len(given)]
    low, high = given
    if how == "int_uniform":
        return low + number % (high - low + 1)
    share = number / 2**63  # in 0..1, 1 excluded
    value = low + share * (high - low) if how == "uniform" else math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    return min(max(float(f"{value:.6g}"), low), high)


def same(one: Any, other: Any) -> bool:
    """Equal, and of one type: 1 and true are two values."""
    return type(one) is type(other) and one == other
