"""Files as a stranger might make them: whole ones with bits, bytes, values, records and names changed (for hypothesis)."""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import yaml
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

# What readers stumble over, put between any two bytes.
TOKENS = (
    b"", b"\x00", b"\xff\xfe", b"\x80", b"\xed\xa0\x80", b"\x1b[2J", b"\x1b]52;c;aGk=\x07", "\u202e".encode(), b"\x9b",
    b"\n", b"\r", b'"', b"'", b"{", b"}", b"[", b"]", b":", b",", b"- ", b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-1",
    b"9" * 400, b"9" * 5000, b"[" * 20_000, b'{"a":' * 5_000, b"\\ud800", b"&a ", b"*a", b"!!python/object/apply:os.system ",
    b"<<: ", b"? ", b"../../../", b"/etc/passwd\x00", b"PK\x03\x04", b"PK\x05\x06", b"\x80\x02.", struct.pack("<Q", 2**60),
    struct.pack("<Q", 2**64 - 1), b"\x00" * 4096, b"cos\nsystem\n(S'true'\ntR.", b"A" * 70_000,
)  # fmt: skip
# What stands in the place of a value.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**300, 0.5, -0.0, 1e308, 5e-324, math.nan, math.inf, -math.inf,
    "", "x", "\x1b[31m[/red]", "\x9b2J\x1b]8;;http://x\x07", "\u202eabc\u2066", "\x00", "\ud800", "a" * 5000, "../../..",
    "/", "~", "nan",     [], {}, [[]], [None], {"": None}, [1, "a", None], {"kind": "log"}, [0] * 1000, {"a": {"b": {"c": {}}}},
)  # fmt: skip


def changed(seeds: Sequence[bytes], structural: Callable[[DrawFn, bytes], bytes] | None = None) -> SearchStrategy[bytes]:
    """One of `seeds`, changed: by its structure (where there is a way), byte by byte, or both."""

    @st.composite
    def build(draw: DrawFn) -> bytes:
        content = draw(st.sampled_from(seeds))
        how = draw(st.integers(0, 2)) if structural else 0
        if structural and how:
            content = structural(draw, content)
        if how != 1:
            for _ in range(draw(st.integers(1, 4))):
                content = _edited(draw, content, seeds)
        return content

    return build()


def _edited(draw: DrawFn, content: bytes, seeds: Sequence[bytes]) -> bytes:
    """One edit. Half of the places are within the first 200 bytes, where headers are."""
    size = len(content)
    at = draw(st.integers(0, min(size, 200 if draw(st.booleans()) else size)))
    match draw(st.sampled_from(("flip", "cut", "drop", "put", "splice", "repeat", "overwrite"))):
        case "flip" if at < size:
            return content[:at] + bytes((content[at] ^ 1 << draw(st.integers(0, 7)),)) + content[at + 1 :]
        case "cut":
            return content[:at]
        case "drop":
            return content[:at] + content[at + draw(st.integers(1, 64)) :]
        case "put":
            return content[:at] + draw(st.sampled_from(TOKENS)) + content[at:]
        case "splice":
            other = draw(st.sampled_from(seeds))
            start = draw(st.integers(0, len(other)))
            return content[:at] + other[start : start + draw(st.integers(1, 500))] + content[at:]
        case "repeat":
            return content[:at] + content[at : at + draw(st.integers(1, 64))] * draw(st.integers(2, 200)) + content[at:]
        case _:
            token = draw(st.sampled_from(TOKENS))
            return content[:at] + token + content[at + len(token) :]


def in_json(draw: DrawFn, content: bytes) -> bytes:
    """Values and names of a JSON text."""
    return json.dumps(_other(draw, json.loads(content))).encode("utf-8", "surrogatepass")


def in_json_lines(draw: DrawFn, content: bytes) -> bytes:
    """The same in some line."""
    lines = content.splitlines()
    at = draw(st.integers(0, len(lines) - 1))
    return b"\n".join([*lines[:at], in_json(draw, lines[at]), *lines[at + 1 :]]) + b"\n"


def in_yaml(draw: DrawFn, content: bytes) -> bytes:
    """The same of a YAML text."""
    return yaml.safe_dump(_other(draw, yaml.safe_load(content)), sort_keys=False).encode("utf-8", "surrogatepass")


def in_safetensors(draw: DrawFn, content: bytes) -> bytes:
    """The same of the header of a safetensors file, whose length stays right."""
    size = int.from_bytes(content[:8], "little")
    header = in_json(draw, content[8 : 8 + size])
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


def in_zip(draw: DrawFn, content: bytes) -> bytes:
    """Contents, names and kinds of a zip file's records; its directory stays right."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        records = [(one.filename, archive.read(one)) for one in archive.infolist()]
    at = draw(st.integers(0, len(records) - 1)) if draw(st.booleans()) else 0  # the first is the pickle
    name, data = records[at]
    match draw(st.sampled_from(("content", "content", "content", "name", "twice", "none", "packed"))):
        case "content":
            records[at] = (name, _edited(draw, data, [one for _, one in records]))
        case "name":
            records[at] = (draw(st.sampled_from(("../x", "/x", "data.pkl", "a\\b", "x/constants.pkl", "x/version", ""))), data)
        case "twice":
            records.append((name, _edited(draw, data, [data])))
        case "none":
            del records[at]
        case _:
            records[at] = (name, data + bytes(100_000))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", draw(st.sampled_from((zipfile.ZIP_STORED,) * 5 + (zipfile.ZIP_DEFLATED,)))) as archive:
        for name, data in records:
            archive.writestr(zipfile.ZipInfo(name or "x"), data)
    return out.getvalue()


def _other(draw: DrawFn, value: Any) -> Any:
    """`value` with one or two of the values in it, or their names, replaced."""
    for _ in range(draw(st.integers(1, 2))):
        value = _replaced(draw, value)
    return value


def _replaced(draw: DrawFn, value: Any) -> Any:
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not keys or draw(st.integers(0, 9)) == 0:
        if draw(st.integers(0, 9)) == 0:
            for _ in range(draw(st.integers(1, 60))):
                value = [value] if draw(st.booleans()) else {"a": value}
            return value
        return draw(st.sampled_from(VALUES))
    key = draw(st.sampled_from(keys))
    other = value.copy()
    match draw(st.sampled_from(("in", "in", "in", "in", "remove", "rename", "repeat"))):
        case "remove":
            del other[key]
        case "rename" if isinstance(value, dict):
            names = ("", "\x1b[31m", "a" * 300, "\ud800", "__class__", *value)
            other[draw(st.sampled_from([str(one) for one in names]))] = other.pop(key)
        case "repeat" if isinstance(value, list):
            other += [other[key]] * draw(st.integers(1, 300))
        case _:
            other[key] = _replaced(draw, value[key])
    return other
