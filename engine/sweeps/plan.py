"""From a sweep file to its runs: one preset and one folder for each combination, the same ones whenever it is asked."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from engine.forms import Source, line_of
from engine.overrides import OverrideError, apply, laid_over, lay, source_of
from engine.preset import Preset
from engine.preset_errors import MAX_PROBLEMS, Mistake, mistakes
from engine.same_training import run_key
from engine.sweeps.draws import DrawError, check, drawn, same
from engine.sweeps.form import HalvingPart, SweepForm
from engine.sweeps.read import read_sweep
from engine.text import plain, slug
from engine.yaml_lines import KeyPath, show

MOST_RUNS = 10_000
_OWN = {  # what a sweep says elsewhere, or what changes nothing of a run
    "seed": "the sweep's seeds give it; change seeds",
    "name": "names say nothing about a training; remove it",
    "description": "descriptions say nothing about a training; remove it",
}

_Source = Source[SweepForm]


@dataclass(frozen=True, slots=True)
class SweepRun:
    """One run of a sweep."""

    label: str  # what is special about it: `lr=0.05 beta=10`
    settings: tuple[tuple[str, Any], ...]  # dotted keys and their values
    seed: int
    preset: Preset
    folder: Path


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """A sweep file, worked out."""

    name: str
    description: str
    folder: Path
    halving: HalvingPart | None
    runs: tuple[SweepRun, ...]
    repeated: int  # combinations that were drawn again: the same training is done once


def plan_sweep(path: Path, runs: Path, overrides: Sequence[str] = ()) -> SweepPlan:
    """The runs of the sweep file `path`, in folders below `runs/sweeps`. `overrides` are KEY=VALUE, laid over all else.

    `PresetError` with a line for each mistake, in the sweep or in a preset that it names.
    """
    form, document = read_sweep(path)
    source = Source(plain(str(path)), document, path.parent, tuple(overrides), form)
    _check(source)
    bases = [source.preset(given) for given in form.presets]
    if len({base.name for base in bases}) < len(bases):
        source.say(("presets",), "two of these presets have the same name; give one another name")
    source.refuse()
    folder = runs / "sweeps" / form.name
    same_for_all = {key for key, varied in form.settings.items() if isinstance(varied, tuple) and len(varied) == 1}
    found: dict[str, SweepRun] = {}
    count = 0
    for base, combination in itertools.product(bases, _combinations(form)):
        preset = _resolved(source, base, combination)
        if preset is None:
            if len(source.problems) >= MAX_PROBLEMS:
                break
            continue
        source.want_student(preset, ("settings", "only_teachers"), ("overrides", "only_teachers"), ("presets",))
        if preset.only_teachers or not _measured_at_rungs(source, preset):
            break
        preset_name = base.name if len(bases) > 1 else ""
        label = _label(preset_name, {key: value for key, value in combination.items() if key not in same_for_all})
        # The folder's name has all settings: it stays what it is when one of them gets a second value.
        stem = slug(_label(preset_name, combination), "run")
        for seed in form.seeds:
            count += 1
            seeded = preset.model_copy(update={"seed": seed})
            key = run_key(seeded)
            where = folder / f"{stem}-s{seed}-{key}"
            found.setdefault(key, SweepRun(label or base.name, tuple(combination.items()), seed, seeded, where))
    source.refuse()
    if len(found) < count and form.trials is None:
        source.say(("settings",), f"{count - len(found)} of these runs are the same training as another; vary what is trained")
        source.refuse()
    # Seed by seed, so that a sweep that is broken off has something of every combination.
    ordered = sorted(found.values(), key=lambda run: form.seeds.index(run.seed))
    return SweepPlan(form.name, form.description, folder, form.halving, tuple(ordered), count - len(found))


def _check(source: _Source) -> None:
    """What is wrong with the settings as such, before any is laid over a preset."""
    form, count = source.form, len(source.form.presets) * len(source.form.seeds) * (source.form.trials or 1)
    for key, varied in form.settings.items():
        if key.partition(".")[0] in _OWN:
            source.say(("settings", key), f"cannot be varied: {_OWN[key.partition('.')[0]]}")
        try:
            check(varied)
        except DrawError as error:
            source.say(("settings", key, *([] if error.step is None else [error.step])), error.sentence)
        count *= len(varied) if isinstance(varied, tuple) else 1
    laid = _in_turn(form.settings)
    for number, key in enumerate(laid):
        for earlier in laid[:number]:
            if _covers(key, earlier):
                source.say(
                    ("settings", key), f"would overwrite {plain(earlier)}, which varies, too; vary its other parts one by one"
                )
    for key in _OWN:
        if key in form.overrides:
            source.say(("overrides", key), f"cannot be overridden: {_OWN[key]}")
    for override in source.overrides:
        key = override.partition("=")[0].strip()
        if key == "seed":
            source.problems.append(f"{source_of(override)}: a sweep gives the seeds itself; change its seeds")
        elif overwritten := [varied for varied in form.settings if _covers(key, varied)]:
            source.problems.append(f"{source_of(override)}: the sweep varies {plain(overwritten[0])}; change its settings")
    if count > MOST_RUNS:
        source.say(("settings",), f"these are {count} runs; a sweep has at most {MOST_RUNS}: draw some by trials, or split it")
    source.refuse()


def _in_turn(settings: Iterable[str]) -> list[str]:
    """The keys in the order in which they are laid over a preset: the method first, so that what is set beside it is its."""
    return sorted(settings, key=lambda key: key != "method.name")


def _covers(key: str, other: str) -> bool:
    """Whether who sets one setting sets the other one, too: `train` that of `train.lr`, `teachers.*.seed` `teachers.0.seed`."""
    steps, others = key.split("."), other.split(".")
    return len(steps) <= len(others) and all(step in ("*", there) for step, there in zip(steps, others, strict=False))


def _combinations(form: SweepForm) -> Iterator[dict[str, Any]]:
    """The varied settings' values: all of the grid, for each trial. A trial draws the same for every cell of the grid."""
    grid = {key: varied for key, varied in form.settings.items() if isinstance(varied, tuple)}
    for trial in range(form.trials or 1):
        for cell in itertools.product(*grid.values()):
            chosen = dict(zip(grid, cell, strict=True))
            yield {
                key: chosen[key] if key in chosen else drawn(varied, form.draw_seed, key, trial)
                for key, varied in form.settings.items()
            }


def _resolved(source: _Source, base: Preset, combination: Mapping[str, Any]) -> Preset | None:
    """The preset of one combination (None where it has mistakes, which are noted)."""
    data = _overridden(source, base, combination)
    origins: dict[KeyPath, KeyPath | str] = {}
    for key in _in_turn(combination):
        value, here = combination[key], ("settings", key)
        try:
            data, written = lay(data, key, value)
        except OverrideError as error:
            source.say(here, str(error))
            return None
        origins |= dict.fromkeys(written, _place(source, here, value))
    for override in source.overrides:
        try:
            data, written = apply(data, override)
        except OverrideError as error:
            source.problems.append(str(error))
            return None
        origins |= dict.fromkeys(written, source_of(override))
    try:
        return Preset.model_validate(data).anchored(source.folder)
    except ValidationError as error:
        for mistake in mistakes(error, data):
            source.problems.append(_told(source, mistake, origins, combination))
        return None


def _overridden(source: _Source, base: Preset, combination: Mapping[str, Any]) -> Any:
    """A preset's data with the sweep's overrides. A method that is not the preset's begins from its own defaults."""
    data: Any = laid_over(base.model_dump(), source.form.overrides)
    method = source.form.overrides.get("method", {})
    if not isinstance(method, Mapping):
        return data
    name = combination.get("method.name", method.get("name", base.method.name))
    for override in source.overrides:
        if override.partition("=")[0].strip() == "method.name":
            with suppress(OverrideError):  # it is told when it is laid over the rest
                name = apply({}, override)[0]["method"]["name"]
    own = base.method.model_dump() if name == base.method.name else {}
    return {**data, "method": {**laid_over(own, method), "name": name}}


def _measured_at_rungs(source: _Source, preset: Preset) -> bool:
    """Whether runs of a preset are compared only after epochs that are measured; notes it where not."""
    halving, every = source.form.halving, preset.evaluate.every
    if halving is None or not halving.rungs(preset.train.epochs) or halving.min_epochs % every == 0:
        return True
    first = -(-halving.min_epochs // every) * every
    source.say(
        ("halving", "min_epochs"),
        f"after epoch {halving.min_epochs} a run is not measured: evaluate.every is {every}; give a multiple of that, as {first}",
    )
    return False


def _place(source: _Source, here: KeyPath, value: Any) -> KeyPath:
    """Where a value stands: in a list that is written a line each, on its own line."""
    varied = source.form.settings[str(here[-1])]
    values = varied if isinstance(varied, tuple) else ()
    return next(((*here, index) for index, one in enumerate(values) if same(one, value)), here)


def _told(source: _Source, mistake: Mistake, origins: Mapping[KeyPath, KeyPath | str], combination: Mapping[str, Any]) -> str:
    """A mistake in a run's preset, with the line of the sweep that brought it, or the option."""
    for place in mistake.places:
        for length in range(len(place), 0, -1):
            origin = origins.get(place[:length])
            if isinstance(origin, str):
                return f"{origin}: {mistake.sentence}"
            if origin is not None:
                return f"{source.name}:{line_of(source.document, origin)}: {mistake.sentence}"
        path: KeyPath = ("overrides", *place)
        if path in source.document.keys or path in source.document.values:
            return f"{source.name}:{line_of(source.document, path)}: {mistake.sentence}"
    # Of several settings together: it is not one of them that is wrong.
    given = ", ".join(f"{plain(key)}={show(value)}" for key, value in combination.items())
    line = line_of(source.document, ("settings",))
    return f"{source.name}:{line}: {mistake.sentence}" + (f" (with {given})" if given else "")


def _label(preset: str, combination: Mapping[str, Any]) -> str:
    """The preset where there are several, and the settings by the last part of their names, or whole where that is not clear."""
    short = [key.removesuffix(".name").rpartition(".")[2] for key in combination]
    words = [preset] if preset else []
    for key, last in zip(combination, short, strict=True):
        name = key if short.count(last) > 1 else last
        value = combination[key]
        words.append(f"{name}={value if isinstance(value, str) else show(value)}")
    return plain(" ".join(words), 120)
