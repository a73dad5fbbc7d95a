"""What a table file says: presets, methods, seeds, and figures that others have published. Frozen, validated data."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from engine import catalog
from engine.preset import Part, Seed, known, setting

Label = Annotated[str, Field(min_length=1, max_length=60)]


class MethodLine(Part):
    """A line of the table: a method, and what differs from the preset."""

    name: Annotated[str, known("method", catalog.METHODS)] = setting(..., "the method, by its name in the catalogue")
    label: Label | None = setting(None, "how the table calls it; null: the method's title")
    settings: dict[str, Any] = setting({}, "the method's settings, as under a preset's method")
    overrides: dict[str, Any] = setting({}, "anything else of the preset, as the preset would have it")

    @property
    def title(self) -> str:
        """How the table calls it."""
        return self.label or catalog.METHODS[self.name].title


class Published(Part):
    """A figure from somewhere else, shown beside ours."""

    method: Label = setting(..., "the label of a line of the table, or a method that is not run here")
    preset: str | None = setting(None, "which of the table's presets it belongs to; needed where there are several")
    mean: float = setting(..., "test accuracy", "%", ge=0.0, le=100.0)
    std: float | None = setting(None, "its standard deviation over runs", "%", ge=0.0, le=100.0)
    source: str = setting(..., "where it stands: authors, title, venue, table", min_length=1, max_length=500)
    url: str | None = setting(None, "where that can be read", max_length=500, pattern=r"^https?://[!-~]+$")


class TableForm(Part):
    """A table: for each preset, methods x seeds."""

    name: str = setting(..., "a short name; the folder of its runs", pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    description: str = setting("", "one line, for the caption", max_length=500)
    presets: tuple[Annotated[str, Field(min_length=1, max_length=4096)], ...] = setting(
        ..., "shipped presets by name, or files relative to the table's folder", min_length=1, max_length=64
    )
    methods: tuple[MethodLine, ...] = setting(..., "the lines of the table", min_length=1, max_length=64)
    reference: Label | None = setting(None, "the label that the others are tested against; null: the first method's")
    seeds: tuple[Seed, ...] = setting(..., "seeds of the student: one run of each method for each", min_length=1, max_length=1000)
    overrides: dict[str, Any] = setting({}, "what differs from the presets for every method")
    published: tuple[Published, ...] = setting((), "figures from elsewhere", max_length=256)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        _once("methods", [line.title for line in self.methods], "give one another label")
        _once("seeds", list(self.seeds), "remove one")
        _once("presets", list(self.presets), "remove one")
        titles = [line.title for line in self.methods]
        if self.reference is not None and self.reference not in titles:
            raise PydanticCustomError(
                "reference", "no method is labelled '{given}'; use one of {titles}",
                {"given": self.reference, "titles": ", ".join(titles)},
            )  # fmt: skip
        return self

    @property
    def reference_title(self) -> str:
        """The label of the line that the others are tested against."""
        return self.reference or self.methods[0].title


def _once(key: str, values: list[Any], remedy: str) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise PydanticCustomError(key, "'{value}' stands there twice; {remedy}", {"value": twice[0], "remedy": remedy})
