"""Starts the process that owns a run, detached from this one: a terminal that is lost takes nothing with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from engine import plugins
from engine.control import STOP_SIGNALS
from engine.control_group import usable_cores
from engine.errors import PresetError, UserError
from engine.gpu_lock import refuse_if_busy
from engine.paths import write_whole
from engine.preset import Preset
from engine.preset_changes import refuse_changes
from engine.preset_yaml import dump_preset, load_preset
from engine.run_dir import Lock, RunDir, begun_with, take_over
from engine.run_state import ending, lock_held
from engine.text import plain
from engine.untrusted import as_number, as_text, open_to_append, read_object

PATIENCE = 15.0  # seconds in which the launcher of a run that has ended goes
TOGETHER = 64  # processes; a folder that says more is not believed


def spawn(preset: Preset, runs: Path, *, data_root: Path | None = None, force: bool = False) -> Path:
    """Makes a run's folder with its preset and starts `python -m engine.host` on it, detached; returns the folder.

    GpuBusyError where another run has its GPU and `force` does not say that this is all right.
    """
    if not force:
        refuse_if_busy(preset.hardware.device)
    run_dir = RunDir.create(runs.expanduser().absolute(), preset.name)
    lock = Lock(run_dir)
    try:
        write_whole(run_dir.preset, dump_preset(preset))
        start_host(run_dir, lock, data_root, ["--force"] * force)
    except OSError as error:
        raise run_dir.not_begun(error) from error
    finally:
        lock.release()
    return run_dir.path


def respawn(
    path: Path, *, data_root: Path | None = None, force: bool = False, overrides: Sequence[str] = (), processes: int | None = None
) -> None:
    """Starts a host that resumes a stopped, failed or crashed run from its newest checkpoint. UserError where it is live or
    finished, and where another run has its GPU, unless `force` is given. Data sets are looked for where the run looked for them,
    unless another root is given. `overrides` (KEY=VALUE) change its preset for good; UserError where its past would be another.
    `processes`: so many go on with it together; by default as many as were at work on it last.
    """
    run_dir = RunDir(path.expanduser().absolute())
    _want_plugins(run_dir)
    processes = _processes_of(run_dir) if processes is None else processes
    changed = _changed(run_dir, overrides) if overrides else None
    try:
        with ExitStack() as held:
            launcher = None
            if processes > 1 or run_dir.launcher.exists():  # first of all: who has it may start the run again, and has its GPUs
                launcher = _lock_of_launcher(run_dir)
                held.callback(launcher.release)
            if not force:
                with suppress(PresetError):  # the host tells of a preset that cannot be read
                    refuse_if_busy((changed or load_preset(run_dir.preset)).hardware.device, processes=processes)
            lock = take_over(run_dir)
            held.callback(lock.release)
            if data_root is None and (known := as_text((read_object(run_dir.meta) or {}).get("data_root"))):
                data_root = Path(known)
            if changed is not None:
                write_whole(run_dir.preset, dump_preset(changed))
            options = ["--resume", *["--force"] * force]
            if processes > 1:
                lock.release()  # the first of them takes it
                start_host(run_dir, launcher, data_root, options, processes=processes)
            else:
                start_host(run_dir, lock, data_root, options)
    except OSError as error:
        raise UserError(f"{path}: the run cannot be resumed: {error.strerror or error}") from error


def _processes_of(run_dir: RunDir) -> int:
    """How many were at work on a run last."""
    said = as_number((read_object(run_dir.meta) or {}).get("processes"))
    known = int(said or begun_with(run_dir))  # an older release wrote the latter alone
    if known > TOGETHER:
        raise UserError(
            f"{run_dir.path.name} was at work in {known} processes, more than a machine has GPUs; "
            f"mmkd resume {run_dir.path.name} --gpus N says how many go on with it here"
        )
    return max(known, 1)


def _lock_of_launcher(run_dir: RunDir) -> Lock:
    """Waits for the launcher of a run that has ended: it goes some seconds after its processes."""
    deadline = time.monotonic() + PATIENCE
    while ending(run_dir) is not None and lock_held(run_dir.launcher) and time.monotonic() < deadline:
        time.sleep(0.1)
    return Lock(run_dir, of_launcher=True)


def _changed(run_dir: RunDir, overrides: Sequence[str]) -> Preset:
    """A run's preset with other settings, where its newest checkpoint allows them."""
    before, now = load_preset(run_dir.preset), load_preset(run_dir.preset, overrides)
    epochs = 0
    for folder in run_dir.checkpoints.glob("*-step-*"):
        if folder.name.startswith(("alone-", "distil-")):  # a teacher's epochs are of a recipe of its own
            epochs = max(epochs, int(as_number((read_object(folder / "facts.json") or {}).get("epoch")) or 0))
    was, is_now = (preset.model_dump(mode="json") for preset in (before, now))
    refuse_changes(was, is_now, epochs, f"{run_dir.path.name} cannot go on with that")
    return now


def _want_plugins(run_dir: RunDir) -> None:
    """A run that was started with plugins goes on with the same."""
    here = {plugin.sha256: plugin.path for plugin in plugins.loaded()}
    for plugin in plugins.recorded(run_dir.meta):
        if plugin.sha256 in here:
            continue
        path = plain(str(plugin.path))
        if plugin.path in here.values():
            raise UserError(
                f"{run_dir.path.name}: {path} has changed since this run was started; put the file back as it was "
                f"(SHA-256 {plain(plugin.sha256)[:16]}...), or start a new run"
            )
        raise UserError(
            f"{run_dir.path.name} was started with the plugin {path}, which is not loaded; "
            f"mmkd resume {run_dir.path.name} --plugin {path} goes on with it"
        )


def start_host(
    run_dir: RunDir,
    lock: Lock | None,
    data_root: Path | None,
    options: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    tied: bool = False,
    plugin_files: Sequence[str] | None = None,
    processes: int = 1,
    restarts: int = 0,
) -> subprocess.Popen[bytes]:
    """The child inherits the lock: from its first moment to its last, whoever looks can tell that it lives. Without one, it takes
    the lock itself. `environment` is laid over ours. `tied`: it stops and saves when this process ends, however that happens.
    `plugin_files`: by default those that are loaded here. `processes`: so many train together, under PyTorch's launcher, which
    starts them all again up to `restarts` times when one is lost; then the first of them takes the run's lock, and `lock` is the
    launcher's own.
    """
    # -P: a folder called `engine` where the user happens to be must not be taken for ours.
    command = [sys.executable, "-P", "-m", "engine.host", *options]
    if processes > 1:
        command = [sys.executable, "-P", "-m", "engine.launcher", str(processes), str(restarts), *command]
    elif lock is not None:
        command += ["--lock", str(lock.handle)]
    inherited = Lock(run_dir, of_launcher=True) if processes > 1 and lock is None else lock
    for plugin in plugin_files if plugin_files is not None else [str(plugin.path) for plugin in plugins.loaded()]:
        command += ["--plugin", plugin]
    if data_root is not None:
        command += ["--data-root", str(data_root.expanduser().absolute())]
    with open_to_append(run_dir.console) as console:
        # The child inherits this, too: a signal waits until it can tell what it was stopped by.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            process = subprocess.Popen(
                [*command, *["--until-eof"] * tied, str(run_dir.path)],
                stdin=subprocess.PIPE if tied else subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
                pass_fds=() if inherited is None else (inherited.handle,),
                env=dict(os.environ) | source_path() | _launched(processes) | dict(environment or {}),
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            if inherited is not None and inherited is not lock:
                inherited.release()
    # It outlives us; if it does not, its end is taken note of.
    threading.Thread(target=process.wait, name="mmkd-reaper", daemon=True).start()
    return process


def _launched(processes: int) -> dict[str, str]:
    """What a launcher of so many is told: a terminal that goes away is no reason to stop, and each process has its share of the
    cores, unless somebody said otherwise.
    """
    if processes == 1:
        return {}
    cores = str(max(usable_cores() // processes, 1))
    handed_on = "SIGTERM,SIGINT,SIGQUIT,SIGUSR1,SIGUSR2"
    return {
        "TORCHELASTIC_SIGNALS_TO_HANDLE": handed_on,
        "PET_SIGNALS_TO_HANDLE": handed_on,  # newer launchers overwrite the former by this option's value
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", cores),
    }


def source_path() -> dict[str, str]:
    """The variable by which another Python finds this package where it is run from its source; nothing where it is installed."""
    home = str(Path(__file__).resolve().parents[1])
    if Path(home).name in ("site-packages", "dist-packages"):
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))}
