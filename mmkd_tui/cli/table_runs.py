"""`mmkd table`: methods x seeds, each a run; then the table of what they brought."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import UserError
from engine.text import one_line, plain
from mmkd_tui.cli import exit_codes
from mmkd_tui.cli.executors import Gpus, Minutes, On, Partition, Ray, Slots, Where, executor
from mmkd_tui.cli.many import do_all, refuse_hindered, stop_signals
from mmkd_tui.cli.options import DataRoot, Device, Force, Overrides, Plugin, as_overrides, data_root_of, load_plugins
from mmkd_tui.cli.talk import answered, say

if TYPE_CHECKING:
    from engine.sweeps.executor import Job
    from engine.tables.gather import Report
    from engine.tables.plan import Plan, PlannedRun


def table_command(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Table files, or names of shipped ones.")],
    runs: Annotated[Path, typer.Option("--runs", "--runs-dir", help="The runs lie in RUNS/tables/NAME.")] = Path("runs"),
    out: Annotated[
        Path | None, typer.Option(help="Where NAME.md, .csv and .tex are written (RUNS/tables/NAME).", show_default=False)
    ] = None,
    on: On = None,
    slots: Slots = None,
    ray: Ray = None,
    slurm_partition: Partition = None,
    slurm_time: Minutes = None,
    slurm_gpus: Gpus = None,
    device: Device = None,
    overrides: Overrides = None,
    data_root: DataRoot = None,
    plugin: Plugin = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON object on stdout, on a line, for each file; accuracies in per cent.")
    ] = False,
    report_only: Annotated[bool, typer.Option("--report-only", help="Train nothing; report what there is.")] = False,
    force: Force = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> int:
    """Train methods x seeds of a table file, and write the table.

    As Markdown, CSV and LaTeX. One run after the other, shown live; by --slots or --on several at once, a line for each change.

    Runs that are done are not done again: the same command goes on with a table that was broken off. Ctrl-C stops the run in hand
    with a checkpoint. Exit codes: 0 done, 1 a run failed, 2 a mistake in what was asked, 130 stopped.

    Example: mmkd table fashion-mnist-small --slots 2
    """
    from engine.sweeps.executor import Job

    load_plugins(plugin)
    plans = _plans(files, runs, overrides or [], device)
    failed = False
    if not report_only:
        jobs = [Job(run.folder, run.preset) for run in _runs(plans)]
        refuse_hindered(jobs, data_root_of(data_root))
        where = Where(on, slots, ray, slurm_partition, slurm_time, slurm_gpus)
        if where.given:
            failed, stops = _work_at_once(plans, jobs, where, data_root, force, quiet)
        else:
            if not force:
                _refuse_if_busy(jobs)
            with stop_signals() as stops:
                failed = _work(plans, stops, data_root, force, quiet)
        if stops:
            again = _again(files, runs, out, where, device, overrides or [], data_root, plugin or [], as_json, force, quiet)
            say(f"Stopped; what is done stays done, and this goes on from here: {again}")
            return 128 + stops[0]
    for plan in plans:
        failed |= not _report(plan, out or plan.folder, as_json)
    return exit_codes.FAILED if failed else exit_codes.DONE


def _plans(files: list[str], runs: Path, overrides: list[str], device: str | None) -> list[Plan]:
    """All of them before anything is begun."""
    from engine.tables.plan import plan_table
    from engine.tables.read import find_table

    with as_overrides(device) as own:
        plans = [plan_table(find_table(name), runs.expanduser(), [*overrides, *own]) for name in files]
    names = [plan.name for plan in plans]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two of these tables are called '{plain(name)}'; give one another name")
    return plans


def _refuse_if_busy(jobs: Sequence[Job]) -> None:
    """GpuBusyError where another run has the GPU of one that is not done; where it is one of these, that one is waited for."""
    from engine.gpu_lock import refuse_if_busy
    from engine.run_state import RunState
    from engine.sweeps.executor import state_of

    states = [(job, state_of(job.folder)) for job in jobs]
    if not any(state is not None and state.live for _, state in states):
        for device in {job.preset.hardware.device for job, state in states if state is not RunState.FINISHED}:
            refuse_if_busy(device)


def _work(plans: list[Plan], stops: list[int], data_root: Path | None, force: bool, quiet: bool) -> bool:
    """Does what is not done; whether any run failed. UserError where the runs' folders cannot be made."""
    from engine.run_state import RunState
    from engine.sweeps.executor import state_of
    from engine.tables.work import refuse_unwritable, wait_for_gpu, work_off
    from mmkd_tui.console_thread import ConsoleThread
    from mmkd_tui.progress import RunConsole, make_progress

    refuse_unwritable(plans)
    runs, labels = list(_runs(plans)), _labels(plans)
    done = sum(state_of(run.folder) is RunState.FINISHED for run in runs)
    if not quiet:
        say(f"{len(runs)} runs, {done} of them done; what they leave lies in {', '.join(str(plan.folder) for plan in plans)}")
    failures: list[str] = []
    for number, run in enumerate(runs, start=1):
        state = state_of(run.folder)
        if state is RunState.FINISHED:
            continue
        if stops:
            return False
        what = f"run {number} of {len(runs)}: {one_line(labels[run.folder])}, seed {run.seed}"
        if not quiet:
            how = "" if state is None else " is at work; waiting for it" if state.responding else f" was {state}; it goes on"
            say(f"{what}{how} (mmkd attach {shlex.quote(str(run.folder))} shows it)")
        ended = None
        while ended is None or (ended.refused_by_gpu and not stops):
            if not force:
                wait_for_gpu(run, lambda busy: None if quiet else say(f"{busy}; waiting for its end"), lambda: bool(stops))
            with ConsoleThread(make_progress(RunConsole(), quiet)) as progress:
                ended = work_off(run, progress, lambda: bool(stops), data_root=data_root, force=force)
        if stops:
            return False
        if ended.state is not RunState.FINISHED:
            failures.append(f"{what}: {ended.state}: {one_line(ended.message, 500)}; its log is {run.folder}/console.log")
            say(f"mmkd: {failures[-1]}")
    if failures:
        say(f"mmkd: {len(failures)} of {len(runs)} runs are not done; the same command tries them again:")
        for line in failures:
            say(f"  {line}")
    return bool(failures)


def _work_at_once(
    plans: list[Plan], jobs: Sequence[Job], where: Where, data_root: Path | None, force: bool, quiet: bool
) -> tuple[bool, list[int]]:
    """Does what is not done as a sweep does; whether any run failed, and the signals that stopped it."""
    from engine.sweeps.manifest import Listed, Manifest, SweepLock, write_manifest

    runs, labels = list(_runs(plans)), _labels(plans)
    with executor(where, jobs, plans[0].folder / "slurm", data_root, force) as made, ExitStack() as held:
        for plan in plans:
            held.callback(SweepLock(plan.folder).release)
            listed = tuple(
                Listed(run.folder.name, f"{labels[run.folder]} s{run.seed}", run.preset.train.epochs) for run in plan.runs
            )
            write_manifest(Manifest(plan.folder, plan.name, plan.description, None, listed))
        if not quiet:
            say(f"{len(runs)} runs; what they leave lies in {', '.join(str(plan.folder) for plan in plans)}; mmkd tui shows it")
        failures, stops = do_all([labels[run.folder] for run in runs], jobs, made, None, quiet)
    return bool(failures), stops


def _runs(plans: list[Plan]) -> Iterator[PlannedRun]:
    return (run for plan in plans for run in plan.runs)


def _labels(plans: list[Plan]) -> dict[Path, str]:
    """What runs are called, by their folders: their method, and the preset before it where there are several."""
    blocks = [block for plan in plans for block in plan.blocks]
    return {run.folder: f"{block.title}, {run.label}" if len(blocks) > 1 else run.label for block in blocks for run in block.runs}


def _report(plan: Plan, out: Path, as_json: bool) -> bool:
    """Writes the table; whether it could be put out on stdout, too."""
    from engine.tables.gather import gather
    from engine.tables.write import as_data, as_markdown, write_report

    report: Report = gather(plan)
    try:
        written = write_report(report, out.expanduser())
    except OSError as error:
        raise UserError(
            f"the table cannot be written to {out}: {error.strerror or error}; name another folder with --out"
        ) from error
    told = answered(lambda: typer.echo(json.dumps(as_data(report)) if as_json else as_markdown(report), nl=as_json))
    say(f"Written: {', '.join(str(path) for path in written)}")
    return told


def _again(
    files: list[str],
    runs: Path,
    out: Path | None,
    where: Where,
    device: str | None,
    overrides: list[str],
    data_root: Path | None,
    plugins: list[Path],
    as_json: bool,
    force: bool,
    quiet: bool,
) -> str:
    """The command that goes on."""
    words = ["mmkd", "table", *files, *(["--runs", str(runs)] if runs != Path("runs") else [])]
    words += where.words
    for key, value in (("--out", out), ("--device", device), ("--data-root", data_root)):
        words += [key, str(value)] if value else []
    words += [word for override in overrides for word in ("--set", override)]
    words += [word for plugin in plugins for word in ("--plugin", str(plugin))]
    words += [word for word, given in (("--json", as_json), ("--force", force), ("--quiet", quiet)) if given]
    return shlex.join(words)
