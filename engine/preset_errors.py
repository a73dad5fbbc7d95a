"""Says in one line what is wrong in a preset, sweep or table: which key, what was given, what is allowed, how to mend it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from engine import catalog
from engine.preset import METHOD_PARTS, Preset
from engine.text import one_line, plain
from engine.yaml_lines import LIMIT, KeyPath, dotted, show

_Model = TypeVar("_Model", bound=BaseModel)
MAX_PROBLEMS = 50  # what nobody would read to the end need not be made
NAME = "use 1 to 64 of a-z, 0-9, '.', '_' and '-', a letter or digit first"

# What to write where something is missing or of the wrong type; elsewhere the default is the example.
EXAMPLES = {
    "name": "my-run",
    "description": '""',
    "dataset": "{name: digits}",
    "dataset.name": "digits",
    "dataset.train_images": "1000",
    "dataset.path": "/where/your/pictures/are",
    "dataset.size": "224",
    "dataset.resize": "256",
    "teachers": "[{arch: resnet20}, {arch: resnet20, seed: 1}]",
    "teachers.*": "{arch: resnet20, seed: 1}",
    "teachers.*.arch": "resnet20",
    "teachers.*.train": "{epochs: 240}",
    "teachers.*.train.milestones": "[150, 180, 210]",
    "teachers.*.train.milestones.*": "150",
    "teachers.*.checkpoint": "teachers/first.safetensors",
    "student": "{arch: resnet8}",
    "student.arch": "resnet8",
    "method": "{name: mmkd}",
    "method.name": "mmkd",
    "method.meta": "{every: 5}",
    "train": "{epochs: 240}",
    "train.milestones": "[150, 180, 210]",
    "train.milestones.*": "150",
    "teacher_cache": "{views: 4}",
    "teacher_cache.views": "4",
    "evaluate": "{every: 1}",
    "hardware": "{device: cpu}",
    "hardware.threads": "2",
    "hardware.workers": "4",
    "trackers": "[tensorboard]",
}

_PATTERNS = {
    "name": NAME,
    "hardware.device": "use auto, cpu, cuda or cuda:N",
}

_TOGETHER: dict[str, tuple[KeyPath, ...]] = {
    "nesterov": (("momentum",), ("nesterov",)),
    "milestones": (("milestones",),),
    "either": (("checkpoint",), ("train",)),
    "pretrained": (("pretrained",),),
    "only_teachers": (("only_teachers",), ("method", "name"), ("method",)),
    "teachers": (("teachers",), ("method", "name"), ("method",)),
    "joint": (("batches",), ("learning",)),
    "tolerance": (("method", "tolerance"), ("teachers",)),
    "path": (("path",), ("name",)),
    "size": (("size",),),
    "resize": (("resize",),),
    "shuffle": (("shuffle",),),
    "sharded": (("hardware", "teachers"), ("teacher_cache",)),
    "buffer": (("method", "meta", "buffer_size"), ("train", "batch_size")),
}


@dataclass(frozen=True, slots=True)
class Wording(Generic[_Model]):
    """A kind of file: what it holds, and how mistakes in it are told. In paths "*" stands for an element's number."""

    model: type[_Model]
    noun: str  # "preset"
    needs: str  # the keys that it cannot do without
    examples: Mapping[str, str]  # by path, what to write; elsewhere the default is the example
    patterns: Mapping[str, str]  # by path, what a text must be
    together: Mapping[str, tuple[KeyPath, ...]]  # by kind, where a mistake of several keys is shown: the first that was given


PRESET = Wording(Preset, "preset", "at least name, dataset, teachers and student", EXAMPLES, _PATTERNS, _TOGETHER)


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake: the places at which it may be shown, best first, and the sentence about it."""

    places: tuple[KeyPath, ...]
    at_key: bool  # the key itself is wrong, not what it holds
    sentence: str


def true_errors(error: ValidationError) -> list[ErrorDetails]:
    """What pydantic found, without the lists that it calls too short because elements of them were wrong."""
    details = error.errors(include_url=False)
    return [one for one in details if one["type"] != "too_short" or len(one["input"]) < one["ctx"]["min_length"]]


def mistakes(error: ValidationError, data: Any, wording: Wording[Any] = PRESET) -> list[Mistake]:
    """The first `MAX_PROBLEMS` of what pydantic found wrong with `data`, in our words."""
    teller = _Teller(data, wording)
    return [teller.mistake(detail) for detail in true_errors(error)[:MAX_PROBLEMS]]


@dataclass(frozen=True, slots=True)
class _Teller:
    """Puts pydantic's mistakes about `data` into words."""

    data: Any
    wording: Wording[Any]

    def mistake(self, detail: ErrorDetails) -> Mistake:
        kind, given = detail["type"], detail["input"]
        path = _without_tag(detail["loc"])
        if kind == "extra_forbidden":
            return Mistake((path,), True, f"{self._spelled(path)}: {self._unknown_key(path, given)}")
        if kind == "missing":
            example = f"{path[-1]}: {self._example(path)}"
            return Mistake((path[:-1],), True, f"{self._spelled(path)}: is missing; add for example '{example}'")
        if kind in self.wording.together:
            places = tuple(path + place for place in self.wording.together[kind])
            return Mistake((*places, path), not path, f"{self._spelled(path or places[0])}: {plain(detail['msg'])}")
        if kind in ("union_tag_not_found", "union_tag_invalid"):
            return self._wrong_method(path, given)
        said = self._wrong_value(kind, path, given, detail.get("ctx", {})) or _fallback(detail)
        return Mistake((path,), False, f"{self._spelled(path)}: {said}")

    def _spelled(self, path: KeyPath) -> str:
        return dotted(tuple(plain(step, LIMIT) if isinstance(step, str) else step for step in path)) or self.wording.noun

    def _unknown_key(self, path: KeyPath, given: Any) -> str:
        key = str(path[-1])
        model = self._walk(path[:-1])[0]
        known = list(model.model_fields) if model else []
        part = self._spelled(path[:-1]) if path[:-1] else f"a {self.wording.noun}"
        said = f"there is no key '{plain(key, LIMIT)}' in {part} (given: {show(given)})"
        if path[0] == "method":
            others = [method for method, fields in METHOD_PARTS.items() if key in fields.model_fields and len(path) == 2]
            if others:
                does = f"{', '.join(others)} {'do' if len(others) > 1 else 'does'}"
                return f"{said}; method {_method_name(self.data)} does not take it, {does}; remove it or change the method"
        likely = catalog.nearest(key, known)
        return f"{said}; did you mean '{likely}'?" if likely else f"{said}; the keys are {', '.join(known)}"

    def _wrong_method(self, path: KeyPath, given: Any) -> Mistake:
        spelled, names = f"{self._spelled(path)}.name", ", ".join(METHOD_PARTS)
        if not isinstance(given, Mapping) or "name" not in given:
            return Mistake((path,), True, f"{spelled}: is missing; add for example 'name: mmkd' (one of {names})")
        name = given["name"]
        likely = catalog.nearest(name, METHOD_PARTS) if isinstance(name, str) else None
        hint = f"did you mean '{likely}'? There are {names}" if likely else f"use one of {names}"
        return Mistake(((*path, "name"),), False, f"{spelled}: there is no method {show(name)}; {hint}")

    def _wrong_value(self, kind: str, path: KeyPath, given: Any, context: Mapping[str, Any]) -> str | None:
        shown, unit = show(given), self._unit(path)
        match kind:
            case "unknown_name":
                return f"there is no {context['kind']} {shown}; {context['hint']}"
            case "literal_error":
                return self._not_a_choice(path, given)
            case "int_type" | "int_from_float" | "int_parsing_size":
                return f"{shown} is not a whole number; write for example {_whole(given) or self._example(path)}{unit}"
            case "float_type":
                return f"{shown} is not a number; write for example {self._example(path)}{unit}"
            case "finite_number":
                return f"{shown} is not a finite number; write for example {self._example(path)}{unit}"
            case "bool_type":
                return f"{shown} is neither true nor false; write true or false"
            case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
                return f"{shown} is out of range; it must be {self._range(path)}{unit}"
            case "tuple_type":
                return f"{shown} is not a list; write for example {self._example(path)}"
            case "model_type" | "model_attributes_type" | "dict_type":
                return f"{shown} is not a mapping of keys; write for example {self._example(path)}"
            case "string_type":
                quoted = (
                    f'"{plain(str(given), LIMIT)}"' if isinstance(given, int | float) and not isinstance(given, bool) else None
                )
                return f"{shown} is not text; write for example {quoted or self._example(path)}"
            case "string_too_long":
                return f"{shown} has {len(given)} characters; shorten it to at most {context['max_length']}"
            case "string_too_short" | "too_short":
                return f"{shown} is too short; write for example {self._example(path)}"
            case "too_long":
                return f"{len(given)} are too many; give at most {context['max_length']}"
            case "string_pattern_mismatch":
                return f"{shown} does not fit; {self.wording.patterns.get(_starred(path), context['pattern'])}"
            case "string_unicode":
                return "the text holds half a character (a lone surrogate); remove the escape"
        return None

    def _not_a_choice(self, path: KeyPath, given: Any) -> str:
        field = self._field(path)
        choices = _choices(field.annotation) if field else []
        likely = catalog.nearest(given, choices) if isinstance(given, str) else None
        if likely:
            return f"{show(given)} is not one of {', '.join(choices)}; did you mean '{likely}'?"
        return f"{show(given)} is not among the choices; use one of {', '.join(choices)}"

    def _range(self, path: KeyPath) -> str:
        field = self._field(path)
        limits = list(_limits(field.metadata, field.annotation)) if field else []
        words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
        return " and ".join(
            f"{said} {_number(limit)}" for name, said in words.items() for found, limit in limits if found == name
        )

    def _unit(self, path: KeyPath) -> str:
        field = self._field(path)
        extra = field.json_schema_extra if field else None
        unit = extra.get("unit") if isinstance(extra, dict) else None
        return "" if unit in (None, "none", "factor") else f" ({unit})"

    def _example(self, path: KeyPath) -> str:
        if example := self.wording.examples.get(_starred(path)):
            return example
        field = self._field(path)
        return "null" if field is None or field.default is None else show(field.default).strip("'")

    def _field(self, path: KeyPath) -> FieldInfo | None:
        return self._walk(path)[1]

    def _walk(self, path: KeyPath) -> tuple[type[BaseModel] | None, FieldInfo | None]:
        return _walk(path, self.data, self.wording.model)


def _fallback(detail: ErrorDetails) -> str:
    return f"{show(detail['input'])} is not allowed: {one_line(detail['msg'], 160)}"


def _without_tag(loc: tuple[int | str, ...]) -> KeyPath:
    """pydantic names the method's class in the path of everything in it; a preset does not."""
    return (loc[0], *loc[2:]) if len(loc) > 1 and loc[0] == "method" else loc


def _whole(given: Any) -> str | None:
    return str(int(given)) if isinstance(given, float) and given.is_integer() and abs(given) < 1e15 else None


def _number(limit: float) -> str:
    return str(int(limit)) if float(limit).is_integer() else str(limit)


def _limits(metadata: Iterable[Any], annotation: Any) -> Iterable[tuple[str, Any]]:
    """The limits of a field, also where they stand on the elements of its list or on one side of `| None`."""
    for item in metadata:
        yield from _limits(item.metadata, None) if isinstance(item, FieldInfo) else ()
        for name in ("ge", "gt", "le", "lt"):
            if getattr(item, name, None) is not None:
                yield name, getattr(item, name)
    for inner in get_args(annotation):
        yield from _limits(getattr(inner, "__metadata__", ()), inner)


def _choices(annotation: Any) -> list[str]:
    """The words that a field, or each element of its list, may be."""
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    return [choice for inner in get_args(annotation) for choice in _choices(inner)]


def _starred(path: KeyPath) -> str:
    return ".".join("*" if isinstance(step, int) else step for step in path)


def _method_name(data: Any) -> Any:
    method = data.get("method") if isinstance(data, Mapping) else None
    return method.get("name") if isinstance(method, Mapping) else None


def _parts(annotation: Any) -> list[type[BaseModel]]:
    """The parts that an annotation allows: none for a number, several for the method."""
    if isinstance(annotation, FieldInfo):
        return _parts(annotation.annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [part for inner in get_args(annotation) for part in _parts(inner)]


def _walk(path: KeyPath, data: Any, model: type[BaseModel] | None) -> tuple[type[BaseModel] | None, FieldInfo | None]:
    """The part of `model` that stands at `path`, and the field that it ends in; which method's part that is, `data` says."""
    field: FieldInfo | None = None
    for step in path:
        if isinstance(step, int):
            continue
        field = model.model_fields.get(step) if model else None
        parts = _parts(field) if field else []
        wanted = METHOD_PARTS.get(str(_method_name(data))) if len(parts) > 1 else None
        model = wanted or (parts[0] if parts else None)
    return model, field


def field_at(path: KeyPath, data: Any) -> FieldInfo | None:
    """The field of a preset that `path` ends in (the list's own for an element of it); which method's it is, `data` says."""
    return _walk(path, data, Preset)[1]
