"""Architectures of the user's own: Python files that the command line names (never a preset) and what they register."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shlex
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.architecture_facts import ARCHITECTURES
from engine.errors import UserError
from engine.text import one_line, plain
from engine.untrusted import as_text, read_object

Builder = Callable[[int, int], Any]  # (channels, classes) -> a torch.nn.Module that gives logits
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Plugin:
    """A file that was run, as it was when it was run."""

    path: Path  # absolute
    sha256: str


_builders: dict[str, tuple[Builder, Plugin | None]] = {}
_loaded: dict[Path, Plugin] = {}
_loading: list[Plugin] = []


def register_architecture(name: str, builder: Builder) -> None:
    """Makes `name` an architecture that presets may name. `builder(channels, classes)` gives a `torch.nn.Module` that maps images
    [B, channels, H, W] to logits [B, classes]. UserError where the name cannot be one, or is taken.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UserError(f"{one_line(str(name), 80)!r} cannot name an architecture; letters, digits, '_', '.' and '-' can")
    if not callable(builder):
        raise UserError(f"the builder of {name} cannot be called; give a function of (channels, classes)")
    owner = _loading[-1] if _loading else None
    known = _builders.get(name)
    if name in ARCHITECTURES or (known is not None and known[1] != owner):
        raise UserError(f"there is an architecture {name} already; give yours another name")
    _builders[name] = (builder, owner)


def load_plugin(path: Path) -> Plugin:
    """Runs a user's Python file, once. UserError where it is none, where it fails, and where it registers nothing."""
    path = path.expanduser().absolute()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"--plugin {path} cannot be read: {error.strerror or error}; check the path") from error
    plugin = Plugin(path, hashlib.sha256(content).hexdigest())
    if path in _loaded:
        if _loaded[path] != plugin:
            raise UserError(f"--plugin {path} has changed since it was loaded; start the program again")
        return plugin
    before = set(_builders)
    spec = importlib.util.spec_from_loader(f"mmkd_plugin_{plugin.sha256[:12]}", loader=None, origin=str(path))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    sys.modules[spec.name] = module  # dataclasses look there
    _loading.append(plugin)
    try:
        # What was hashed is what is run.
        exec(compile(content, str(path), "exec"), module.__dict__)  # noqa: S102
    except UserError as error:
        raise UserError(f"--plugin {path}: {error}") from error
    except (Exception, SystemExit) as error:
        line = _line_in(error, path)
        what = f"{type(error).__name__}: {one_line(str(error), 300)}; mend the file"
        if isinstance(error, SystemExit):
            what = "it ends the process when it is loaded (sys.exit): put such code under if __name__ == '__main__'"
        raise UserError(f"--plugin {path}{f':{line}' if line else ''}: {what}") from error
    finally:
        _loading.pop()
    if set(_builders) == before:
        raise UserError(f"--plugin {path} registers nothing; call engine.register_architecture(name, builder) in it")
    _loaded[path] = plugin
    return plugin


def load_plugins(paths: Iterable[Path]) -> None:
    """Each of them."""
    for path in paths:
        load_plugin(path)


def loaded() -> tuple[Plugin, ...]:
    """All that were, in that order."""
    return tuple(_loaded.values())


def recorded(meta: Path) -> list[Plugin]:
    """Those that a run's meta.json says it was started with. They are never run by themselves: anybody may have written that."""
    known = (read_object(meta) or {}).get("plugins")
    found = []
    for entry in known if isinstance(known, list) else ():
        path, digest = (as_text(entry.get(key)) if isinstance(entry, dict) else None for key in ("path", "sha256"))
        if path is not None and digest is not None:
            found.append(Plugin(Path(path), digest))
    return found


def as_options(given: Iterable[Plugin], *, names: bool = False) -> str:
    """What a command gets at its end to load them: " --plugin FILE" for each; `names`: of the files, without folders."""
    files = (plugin.path.name if names else str(plugin.path) for plugin in given)
    return "".join(f" --plugin {shlex.quote(plain(file))}" for file in files)


def missing(arch: str, meta: Path) -> str:
    """Why a run's network cannot be built, whose architecture nothing that is loaded registers; and the remedy."""
    here = {plugin.sha256 for plugin in _loaded.values()}
    files = [plain(str(plugin.path)) for plugin in recorded(meta) if plugin.sha256 not in here]
    said = f"there is no architecture {one_line(arch, 80)}"
    if not files:
        return f"{said} (one of your own needs --plugin FILE)"
    return f"{said}; the run was started with {' '.join(f'--plugin {file}' for file in files)}: give that here, too"


def registered() -> tuple[str, ...]:
    """The architectures' names."""
    return tuple(_builders)


def builder_of(name: str) -> Builder:
    """KeyError where none has been registered under that name."""
    return _builders[name][0]


def plugin_of(name: str) -> Plugin | None:
    """The file that registered an architecture; None where that was no file, or there is no such architecture."""
    found = _builders.get(name)
    return found[1] if found else None


def forget() -> None:
    """Forgets all of them, for tests."""
    _builders.clear()
    _loaded.clear()


def _line_in(error: BaseException, path: Path) -> int | None:
    """The line of the file at which it failed."""
    if isinstance(error, SyntaxError):
        return error.lineno
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
