"""`mmkd pause`, `resume`, `stop` and `checkpoint`: what a person wishes of a run, from any terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import UserError
from mmkd_tui.cli import exit_codes
from mmkd_tui.cli.options import DataRoot, Overrides, Plugin, RunsDir, SameGpus, load_plugins
from mmkd_tui.cli.talk import say

if TYPE_CHECKING:
    from engine.control import Command
    from engine.run_client import DirectoryClient
    from engine.run_state import RunState

WAIT = 10.0  # seconds for an answer
LOOK_EVERY = 0.1  # seconds

RunName = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="A run's name, a part of it, or its folder; nothing: the newest live one.")
]
ToResume = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]",
        help="A run's name, a part of it, or its folder; nothing: the newest paused one, else the newest live one, else the "
        "newest that was stopped, failed or crashed.",
    ),
]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait up to 10 s until the run answers.")]


def register(app: typer.Typer) -> None:
    """Adds the four commands."""
    for command in (pause_command, resume_command, stop_command, checkpoint_command):
        app.command(command.__name__.removesuffix("_command"))(command)


def pause_command(run: RunName = None, runs_dir: RunsDir = Path("runs"), wait: Wait = True) -> int:
    """Hold a run between two steps, until it is resumed.

    Example: mmkd pause quickstart
    """
    return _ask(_live(runs_dir, run), "pause", wait)


def stop_command(run: RunName = None, runs_dir: RunsDir = Path("runs"), wait: Wait = True) -> int:
    """Have a run finish its step, save a checkpoint and end.

    `mmkd resume` goes on with it later.

    Example: mmkd stop quickstart
    """
    return _ask(_live(runs_dir, run), "stop", wait)


def checkpoint_command(run: RunName = None, runs_dir: RunsDir = Path("runs"), wait: Wait = True) -> int:
    """Have a run save a checkpoint now.

    Example: mmkd checkpoint quickstart
    """
    return _ask(_live(runs_dir, run), "checkpoint", wait)


def resume_command(
    run: ToResume = None,
    runs_dir: RunsDir = Path("runs"),
    data_root: DataRoot = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Start even where another run is at work on the same GPU, or where the run's own machine does not respond.",
        ),
    ] = False,
    plugin: Plugin = None,
    overrides: Overrides = None,
    gpus: SameGpus = None,
    wait: Wait = True,
) -> int:
    """Go on with a run that was paused, stopped or crashed.

    From its newest checkpoint, in the background.

    One that was at work on another machine, which gives no sign of life any more, is taken over with --force.

    --set changes what leaves its past as it was: more epochs, another device, when checkpoints are saved.

    Example: mmkd resume quickstart --set train.epochs=40
    """
    from engine.run_client import DirectoryClient
    from engine.run_dir import RunDir
    from engine.run_state import RunState, other_machine
    from engine.spawning import respawn

    load_plugins(plugin)
    path = _to_resume(runs_dir, run)
    client = DirectoryClient(path, only_new=True)
    state = client.state()
    if state is RunState.FINISHED:
        raise UserError(f"{path.name} is finished; there is nothing to resume")
    lost = other_machine(path) if state is RunState.NOT_RESPONDING else ""
    if lost and not force:
        raise UserError(
            f"{path.name} does not respond, and was at work on {lost}. If that machine or container is gone for good, "
            f"mmkd resume {path.name} --force takes it over; if it may still be at work, wait: two processes would spoil the run"
        )
    if not state.resumable and not lost:
        if overrides:
            raise UserError(f"{path.name} is {state}; its settings can be changed when it is stopped (mmkd stop {path.name})")
        if state is RunState.RUNNING:
            say(f"{path.name} is not paused")
            return exit_codes.DONE
        return _ask(client, "resume", wait)
    respawn(path, data_root=data_root, force=force, overrides=overrides or (), processes=gpus)
    how = "from its newest checkpoint" if RunDir(path).has_checkpoint() else "from where its phase began"
    say(f"{path.name} was {state}; it goes on in the background, {how}; mmkd attach {path.name} shows it")
    return exit_codes.DONE


def _to_resume(runs_dir: Path, name: str | None) -> Path:
    """The run that is meant: without a name, the newest paused one, else a live one, else one that can be gone on with."""
    from engine.run_list import find_run, list_runs

    folder = runs_dir.expanduser()
    if name is not None:
        return find_run(folder, name, live=True)
    runs = list_runs(folder, strict=True)
    order: tuple[Callable[[RunState], bool], ...] = (
        lambda state: state == "paused",
        lambda state: state.live,
        lambda state: state.resumable,
    )
    for fits in order:
        for run in runs:
            if fits(run.state):
                return run.path
    raise UserError(f"there is no run to resume in {folder}; mmkd runs list shows all")


def _live(runs_dir: Path, name: str | None) -> DirectoryClient:
    from engine.run_client import DirectoryClient
    from engine.run_list import find_run

    path = find_run(runs_dir.expanduser(), name, live=True)
    client = DirectoryClient(path, only_new=True)
    state = client.state()
    if not state.live:
        remedy = f"; mmkd resume {path.name} goes on with it" if state.resumable else ""
        raise UserError(f"{path.name} is not live: it is {state}{remedy}")
    return client


def _ask(client: DirectoryClient, command: Command, wait: bool) -> int:
    """Sends a wish, and says what became of it."""
    name = client.path.name
    id = client.request(command)
    if not wait:
        say(f"{name} is asked to {command}")
        return exit_codes.DONE
    answer = _answer(client, id, command)
    if answer is not None:
        say(f"{name}: {answer}")
        return exit_codes.DONE
    state = client.state()
    if not state.live:
        say(f"{name} is {state}")
        return exit_codes.DONE if command == "stop" and state != "crashed" else exit_codes.FAILED
    say(f"{name} is {state} and has not answered within {WAIT:.0f} s; it will {command} when it comes to it")
    return exit_codes.FAILED


def _answer(client: DirectoryClient, id: str, command: Command) -> str | None:
    from engine.events import Acknowledged, CheckpointSaved, Log, RunEnded

    saved, stopping, told = "", False, False
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        for event in client.poll():
            if isinstance(event, CheckpointSaved):
                saved = event.path
            elif isinstance(event, Log):
                told |= event.level != "info"
            elif isinstance(event, Acknowledged) and event.id == id:
                if command != "stop":
                    return {"pause": "paused", "resume": "goes on"}.get(command) or _saved(saved)
                stopping = True
            elif isinstance(event, RunEnded) and stopping:
                # Before its first step, or while a teacher is measured, there is none.
                outcome = _saved(saved) if saved or told else "there was nothing new to save"
                return f"stopped; {outcome}; mmkd resume {client.path.name} goes on with it"
        if client.caught_up() and not client.state().live:
            break
        time.sleep(LOOK_EVERY)
    return "is stopping" if stopping else None


def _saved(path: str) -> str:
    return f"saved {path}" if path else "the checkpoint could not be saved; its log says why"
