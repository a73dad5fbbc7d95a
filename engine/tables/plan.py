"""From a table file to its runs: one preset and one folder for each method and seed, the same ones whenever it is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from engine.forms import Source, line_of
from engine.overrides import OverrideError, apply, laid_over, source_of
from engine.preset import Preset
from engine.preset_errors import Mistake, mistakes
from engine.same_training import run_key, same_test_images
from engine.tables.form import MethodLine, Published, TableForm
from engine.tables.read import read_table
from engine.text import plain, slug
from engine.yaml_lines import KeyPath

_Source = Source[TableForm]


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of a table."""

    label: str  # of its method
    seed: int
    preset: Preset
    folder: Path


@dataclass(frozen=True, slots=True)
class Block:
    """The runs of one preset, which make one table."""

    title: str  # the preset's name
    preset: Preset  # as the methods find it
    labels: tuple[str, ...]
    methods: tuple[str, ...]  # the catalogue's names, one for each label
    runs: tuple[PlannedRun, ...]
    published: tuple[Published, ...]

    @property
    def selected_on(self) -> str:
        """The split that chooses the best epoch, in all of its runs."""
        return self.runs[0].preset.evaluate.select_on


@dataclass(frozen=True, slots=True)
class Plan:
    """A table file, worked out."""

    name: str
    description: str
    reference: str
    folder: Path
    blocks: tuple[Block, ...]

    @property
    def runs(self) -> tuple[PlannedRun, ...]:
        """All of them, preset by preset, and of each seed by seed: what is broken off there has something of every method."""
        return tuple(run for block in self.blocks for run in block.runs)


def plan_table(path: Path, runs: Path, overrides: Sequence[str] = ()) -> Plan:
    """The runs of the table file `path`, in folders below `runs/tables`. `overrides` are KEY=VALUE, laid over all else.

    `PresetError` with a line for each mistake, in the table or in a preset that it names.
    """
    form, document = read_table(path)
    folder = runs / "tables" / form.name
    source = Source(plain(str(path)), document, path.parent, tuple(overrides), form)
    blocks = tuple(_block(source, number, folder) for number in range(len(form.presets)))
    source.refuse()
    named = {block.title for block in blocks}
    for number, figure in enumerate(form.published):
        if figure.preset not in named and not (figure.preset is None and len(blocks) == 1):
            choices = ", ".join(sorted(named))
            source.say(("published", number), f"needs the preset that it belongs to; add preset: one of {choices}")
    if len(named) < len(blocks):
        source.say(("presets",), "two of these presets have the same name; give one another name")
    source.refuse()
    return Plan(form.name, form.description, form.reference_title, folder, blocks)


def _block(source: _Source, number: int, folder: Path) -> Block:
    form, base = source.form, source.preset(source.form.presets[number])
    several = len(form.presets) > 1
    resolved = [_resolved(source, base, index, method) for index, method in enumerate(form.methods)]
    source.refuse()
    presets = [preset for preset in resolved if preset is not None]
    for index, preset in enumerate(presets):
        named = ("methods", index, "overrides", "only_teachers"), ("overrides", "only_teachers"), ("presets", number)
        source.want_student(preset, *named)
    source.refuse()
    _agree(source, presets)
    runs = []
    for seed in form.seeds:
        for method, preset in zip(form.methods, presets, strict=True):
            seeded = preset.model_copy(update={"seed": seed})
            stem = f"{base.name}-{slug(method.title, 'method')}" if several else slug(method.title, "method")
            runs.append(PlannedRun(method.title, seed, seeded, folder / f"{stem}-s{seed}-{run_key(seeded)}"))
    return Block(
        base.name,
        presets[0],
        tuple(method.title for method in form.methods),
        tuple(method.name for method in form.methods),
        tuple(runs),
        tuple(figure for figure in form.published if figure.preset in (None, base.name)),
    )


def _agree(source: _Source, presets: Sequence[Preset]) -> None:
    """Refuses what cannot be compared, and what would be the same run twice."""
    titles = [method.title for method in source.form.methods]
    for later, preset in enumerate(presets):
        split = preset.evaluate.select_on
        if split != presets[0].evaluate.select_on:
            source.say(
                ("methods", later),
                f"'{plain(titles[later])}' chooses its best epoch on the {split} split and '{plain(titles[0])}' on the "
                f"{presets[0].evaluate.select_on} split; give evaluate.select_on once, under the table's overrides",
            )
        if not same_test_images(preset.dataset, presets[0].dataset):
            source.say(
                ("methods", later),
                f"'{plain(titles[later])}' is tested on other images than '{plain(titles[0])}', by its dataset; "
                "make that a preset of its own, under the table's presets",
            )
        keys = [run_key(earlier) for earlier in presets[:later]]
        if run_key(preset) in keys:
            first = titles[keys.index(run_key(preset))]
            source.say(("methods", later), f"asks for the same training as '{plain(first)}'; remove one, or change a setting")
    source.refuse()


def _resolved(source: _Source, base: Preset, index: int, method: MethodLine) -> Preset | None:
    """The preset of one method (None where it has mistakes, which are noted)."""
    here: KeyPath = ("methods", index)
    before = len(source.problems)
    for place, given in ((("overrides",), source.form.overrides), ((*here, "overrides"), method.overrides)):
        for key, remedy in (("seed", "the table's seeds give it"), ("method", "give name and settings of a line under methods")):
            if key in given:
                source.say((*place, key), f"cannot be overridden: {remedy}; remove it")
    if "name" in method.settings:
        source.say((*here, "settings", "name"), "stands beside settings, not in it; remove it")
    if len(source.problems) > before:
        return None
    data: Any = laid_over(laid_over(base.model_dump(), source.form.overrides), method.overrides)
    # Settings of the preset's own method hold for lines of that method; another method begins from its defaults.
    own = base.method.model_dump() if base.method.name == method.name else {"name": method.name}
    data["method"] = laid_over(own, method.settings)
    origins: dict[KeyPath, str] = {}
    for override in source.overrides:
        try:
            data, written = apply(data, override)
        except OverrideError as error:
            source.problems.append(str(error))
            return None
        if ("seed",) in written:
            source.problems.append(f"{source_of(override)}: a table gives the seeds itself; change its seeds")
            return None
        origins |= dict.fromkeys(written, source_of(override))
    try:
        return Preset.model_validate(data).anchored(source.folder)
    except ValidationError as error:
        for mistake in mistakes(error, data):
            source.problems.append(_told(source, here, method, mistake, origins))
        return None


def _told(source: _Source, here: KeyPath, method: MethodLine, mistake: Mistake, origins: Mapping[KeyPath, str]) -> str:
    """A mistake in a method's preset, with the line of the table that brought it, or the option."""
    for place in mistake.places:
        for length in range(len(place), 0, -1):
            if place[:length] in origins:
                return f"{origins[place[:length]]}: {plain(method.title)}: {mistake.sentence}"
    for place in mistake.places:
        if place[:2] == ("method", "name"):
            given: list[KeyPath] = [(*here, "name")]
        elif place[:1] == ("method",):
            given = [(*here, "settings", *place[1:])]
        else:
            given = [(*here, "overrides", *place), ("overrides", *place)]
        for path in given:
            if path in source.document.keys or path in source.document.values:
                return f"{source.name}:{line_of(source.document, path)}: {plain(method.title)}: {mistake.sentence}"
    return f"{source.name}:{line_of(source.document, here)}: {plain(method.title)}: {mistake.sentence}"
