"""What a person has chosen so far: a preset's data that may still be wrong, with every mistake at its field."""

from __future__ import annotations

import copy
import types
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from engine.catalog import DATASETS, SHARDS, DatasetFacts
from engine.image_folders import facts_of, trouble_with
from engine.paths import expanded, is_file
from engine.preset import METHOD_PARTS, CePart, DatasetPart, Preset, StudentPart, TeacherPart, TrainPart
from engine.preset_errors import Mistake, field_at, mistakes
from engine.preset_yaml import dump_preset, parse_preset
from engine.yaml_lines import KeyPath, dotted, scalar, show
from mmkd_tui.estimates import training_images, validation_images
from mmkd_tui.timm_names import trouble_with_name

MOST_CHARACTERS = 300  # of a number as it is typed; Python refuses to read some that are longer


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: the field at which it is shown, and the sentence for there and for elsewhere."""

    path: KeyPath
    sentence: str  # begins with the field's path

    @property
    def beside(self) -> str:
        """For beside the field, where its name need not be said again."""
        return self.sentence.partition(": ")[2] or self.sentence


def fresh() -> Preset:
    """What the wizard begins with; it lacks teachers, which no default can choose."""
    return Preset(
        name="my-run", dataset=DatasetPart(name="digits"), student=StudentPart(arch="resnet8"), method=CePart(name="ce")
    )


@dataclass(slots=True)
class Draft:
    """A preset in the making. `data` is shaped as a preset, all defaults filled in; its values may be anything."""

    data: dict[str, Any]
    typed: dict[KeyPath, str] = field(default_factory=dict)  # fields as they were typed
    _others: dict[str, tuple[dict[str, Any], dict[KeyPath, str]]] = field(default_factory=dict)  # methods not chosen now
    _saved: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def new(cls) -> Draft:
        """Defaults, and no teachers."""
        draft = cls.of(fresh())
        draft.choose_method("mmkd")
        draft.mark_saved()
        return draft

    @classmethod
    def of(cls, preset: Preset, folder: Path | None = None) -> Draft:
        """A preset's choices; relative checkpoints are looked for in `folder`, so that the draft can be saved anywhere."""
        preset = preset.anchored(folder) if folder is not None else preset
        draft = cls(preset.model_dump())
        draft.mark_saved()
        return draft

    def copy(self) -> Draft:
        """One of its own, for a dialog that may be cancelled."""
        return copy.deepcopy(self)

    @property
    def changed(self) -> bool:
        """Whether anything would be lost."""
        return self.data != self._saved

    def mark_saved(self) -> None:
        """Nothing would be lost now."""
        self._saved = copy.deepcopy(self.data)

    # -- fields

    def text(self, path: KeyPath) -> str:
        """What a field's input shows: as it was typed, else the value as a preset has it; "" for null."""
        if path in self.typed:
            return self.typed[path]
        value = self.value(path)
        if isinstance(value, tuple):
            return ", ".join(str(item) for item in value)
        return "" if value is None else value if isinstance(value, str) else show(value)

    def value(self, path: KeyPath) -> Any:
        """What stands at a path; None where there is nothing."""
        node: Any = self.data
        for step in path:
            try:
                node = node[step]
            except (KeyError, IndexError, TypeError):
                return None
        return node

    def put(self, path: KeyPath, text: str) -> None:
        """Takes a field as it is typed, right or wrong."""
        if path == ("method", "name"):
            self.choose_method(text)
            return
        found = field_at(path, self.data)
        self.data = _with(self.data, path, read_field(found, text) if found else text)
        self.typed[path] = text

    # -- choices

    @property
    def method(self) -> str:
        return str(self.data["method"]["name"])

    @property
    def dataset(self) -> str:
        return str(self.data["dataset"]["name"])

    @property
    def student(self) -> str:
        return str(self.data["student"]["arch"])

    def choose_dataset(self, name: str) -> None:
        """Another data set; what is said only of the one before is forgotten."""
        facts = DATASETS[name]
        self.put(("dataset", "name"), name)
        if not facts.own and self.value(("dataset", "path")) is not None:
            self.put(("dataset", "path"), "")
        if name != SHARDS and self.value(("dataset", "shuffle")) not in (None, "images"):
            self.put(("dataset", "shuffle"), "images")
        for setting in ("size", "resize"):
            if not facts.from_files and self.value(("dataset", setting)) is not None:
                self.put(("dataset", setting), "")

    def facts(self) -> DatasetFacts:
        """Of the data set; of a user's own pictures, what is in their folder, if that is known."""
        try:
            return facts_of(DatasetPart.model_validate(self.data["dataset"]))
        except ValidationError:
            return DATASETS[self.dataset]

    def choose_method(self, name: str) -> None:
        """Another method with its defaults, or as it was left."""
        if name == self.method:
            return
        mine = {path: text for path, text in self.typed.items() if path[0] == "method"}
        self._others[self.method] = (self.data["method"], mine)
        data, typed = self._others.pop(name, (METHOD_PARTS[name].model_validate({"name": name}).model_dump(), {}))
        self.data = self.data | {"method": data}
        self.typed = {path: text for path, text in self.typed.items() if path[0] != "method"} | typed

    # -- teachers

    @property
    def teachers(self) -> tuple[dict[str, Any], ...]:
        return tuple(self.data["teachers"])

    def add_teacher(self, arch: str, seed: int | None = None, recipe: TrainPart | None = None) -> int:
        """One to be trained, or found in the store; its number. By default: the next free seed, the recipe of the one before."""
        if seed is None:
            taken = {t["seed"] for t in self.teachers if t["arch"] == arch and t["checkpoint"] is None}
            seed = next(number for number in range(len(taken) + 1) if number not in taken)
        before = [t["train"] for number, t in enumerate(self.teachers) if not self._given(number)]
        train = recipe.model_dump() if recipe else copy.deepcopy(before[-1]) if before else None
        return self._set_teachers((*self.teachers, _teacher(arch, seed, train, None)))

    def add_checkpoint(self, arch: str, path: str) -> int:
        """One from a file; its number."""
        return self._set_teachers((*self.teachers, _teacher(arch, 0, None, path)))

    def is_teacher(self, number: int, arch: str, seed: int, recipe: TrainPart) -> bool:
        """Whether one of the teachers is the network of that recipe."""
        teacher = self.teachers[number]
        train = teacher["train"] if teacher["train"] is not None else TrainPart().model_dump()
        same = (teacher["arch"], teacher["seed"], teacher["checkpoint"], teacher["pretrained"]) == (arch, seed, None, False)
        return same and train == recipe.model_dump()

    def _given(self, number: int) -> bool:
        """Whether a teacher needs no training: from a file, or as its library publishes it."""
        teacher = self.teachers[number]
        return teacher["checkpoint"] is not None or (teacher["pretrained"] and teacher["train"] is None)

    def remove_teacher(self, number: int) -> None:
        """Those after it move up."""
        self._set_teachers(tuple(t for index, t in enumerate(self.teachers) if index != number))

    def spell_recipe(self, number: int) -> None:
        """Fills in a teacher's recipe where it has none, so that its settings can be changed."""
        if self.value(("teachers", number, "train")) is None:
            self.change_teacher(number, train=TrainPart().model_dump())

    def change_teacher(self, number: int, **parts: Any) -> None:
        """Other values in a teacher, whatever was typed."""
        self.data = _with(self.data, ("teachers", number), {**self.teachers[number], **parts})

    def _set_teachers(self, teachers: tuple[dict[str, Any], ...]) -> int:
        self.data = self.data | {"teachers": teachers}
        self.typed = {path: text for path, text in self.typed.items() if path[0] != "teachers"}  # their numbers have changed
        return len(teachers) - 1

    # -- what it comes to

    def problems(self) -> list[Problem]:
        """All that is wrong, in a preset's own words; and what does not fit the data set, which a run would refuse."""
        try:
            preset = Preset.model_validate(self.data)
        except ValidationError as error:
            wrong = mistakes(error, self.data)
            found = [Problem(one.places[0], one.sentence) for one in [*wrong, *self._between(wrong)]]
        else:
            found = _too_few_images(preset)
        told = {problem.path for problem in found}
        return found + [problem for problem in self._not_there() if problem.path not in told]

    def _not_there(self) -> Iterator[Problem]:
        """What this machine's files tell, whatever else is wrong."""
        archs = [self.student, *(str(teacher["arch"]) for teacher in self.teachers)]
        places: list[KeyPath] = [("student", "arch"), *(("teachers", number, "arch") for number in range(len(self.teachers)))]
        for path, arch in zip(places, archs, strict=True):
            if said := trouble_with_name(arch):
                yield Problem(path, f"{dotted(path)}: {said}")
        with suppress(ValidationError):
            part = DatasetPart.model_validate(self.data["dataset"])
            if part.path is not None and (said := trouble_with(part)):
                yield Problem(("dataset", "path"), f"dataset.path: {said.removeprefix('dataset.path: ')}")
        for number in range(len(self.teachers)):
            if missing := missing_checkpoint(self, number):
                yield missing

    def _between(self, wrong: list[Mistake]) -> list[Mistake]:
        """What is wrong between the parts in which nothing is: of a preset that is told only when every part is right."""
        parts = {mistake.places[0][0] for mistake in wrong if mistake.places[0]}
        right = fresh().model_dump() | {"method": METHOD_PARTS[self.method].model_validate({"name": self.method}).model_dump()}
        data = self.data | {part: right[part] for part in parts}
        try:
            Preset.model_validate(data)
        except ValidationError as error:
            chosen: tuple[KeyPath, ...] = ((), ("method",), ("method", "name"))  # the method's name is never wrong
            return [one for one in mistakes(error, data) if all(place in chosen or place[0] not in parts for place in one.places)]
        return []

    def preset(self) -> Preset | None:
        """The preset, if nothing is wrong with it by itself. A recipe that says what the default says is the default, but for
        a pretrained network, which without one is not trained.
        """
        try:
            preset = Preset.model_validate(self.data)
        except ValidationError:
            return None
        plain = TrainPart()
        teachers = tuple(
            t.model_copy(update={"train": None}) if t.train == plain and not t.pretrained else t for t in preset.teachers
        )
        return preset.model_copy(update={"teachers": teachers})

    def yaml(self, anchor: Path | None = None) -> str | None:
        """As it is saved: without what says the same as its default. None where something is wrong. `anchor`: the folder that
        its relative paths begin in, where they are to be absolute.
        """
        preset = self.preset()
        if preset is None:
            return None
        preset = preset.anchored(anchor) if anchor else preset
        text = dump_preset(preset, brief=True)
        return text if parse_preset(text, "draft") == preset else dump_preset(preset)


def _teacher(arch: str, seed: int, train: dict[str, Any] | None, checkpoint: str | None) -> dict[str, Any]:
    """A teacher's data, defaults filled in."""
    made = TeacherPart.model_construct(arch=arch, seed=seed, train=None, checkpoint=checkpoint)
    return {**made.model_dump(), "train": train}


def read_field(found: FieldInfo, text: str) -> Any:
    """A typed text as the field's kind of value; what cannot be one stays text, and validation says so."""
    kinds = _kinds(found.annotation)
    if not text.strip() and type(None) in kinds:
        return None
    if str in kinds:
        return text
    stripped = text.strip()
    if not stripped or len(stripped) > MOST_CHARACTERS:
        return text
    if tuple in kinds:
        items = stripped.removeprefix("[").removesuffix("]").strip().removesuffix(",")
        return tuple(scalar(item.strip()) for item in items.split(",")) if items else ()
    value = scalar(stripped)
    return stripped if value is None and type(None) not in kinds else value


def choices_of(found: FieldInfo) -> tuple[str, ...]:
    """The texts among which a field chooses; () where it can be anything."""
    if _kinds(found.annotation) == {bool}:
        return ("true", "false")
    return tuple(str(choice) for choice in get_args(found.annotation)) if get_origin(found.annotation) is Literal else ()


def _kinds(annotation: Any) -> set[Any]:
    """The plain types that an annotation allows; a list's elements are not looked at."""
    origin = get_origin(annotation)
    if origin is Literal:
        return {str}
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return {kind for inner in get_args(annotation) for kind in _kinds(inner)}
    return {origin or annotation}


def _with(node: Any, path: KeyPath, value: Any) -> Any:
    """A copy of `node` with `value` at a path that is there."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(node, Mapping):
        return {**node, step: _with(node.get(str(step)), rest, value)}
    items = list(node)
    items[int(step)] = _with(items[int(step)], rest, value)
    return tuple(items)


def missing_checkpoint(draft: Draft, number: int) -> Problem | None:
    """The mistake that a teacher's checkpoint is no file; a relative one is looked for where this program was started."""
    path = draft.value(("teachers", number, "checkpoint"))
    if path is None or is_file(expanded(str(path))):
        return None
    where: KeyPath = ("teachers", number, "checkpoint")
    return Problem(where, f"{dotted(where)}: there is no file {show(path)}; check the path")


def _too_few_images(preset: Preset) -> list[Problem]:
    """Settings that ask for more images than the data set has."""
    if not facts_of(preset.dataset).classes:
        return []  # a folder of pictures that cannot be read, or not so quickly
    found: list[tuple[KeyPath, str]] = []
    left = training_images(preset.dataset.model_copy(update={"train_images": None}))
    wanted = preset.dataset.train_images
    if wanted is not None and wanted > left:
        held = validation_images(preset.dataset)
        said = f"{wanted} is more than the {left} training images that are left; {held} are held out; ask for {left} or fewer"
        found.append((("dataset", "train_images"), said))
    images = training_images(preset.dataset)
    recipes: list[tuple[KeyPath, TrainPart]] = [(("train",), preset.train)]
    recipes += [(("teachers", n, "train"), teacher.recipe) for n, teacher in enumerate(preset.teachers) if teacher.trained]
    for path, recipe in recipes:
        if recipe.batch_size > images:
            said = f"{recipe.batch_size} is more than the {images} training images of {preset.dataset.name}; make it smaller"
            found.append(((*path, "batch_size"), said))
    return [Problem(path, f"{dotted(path)}: {said}") for path, said in found]
