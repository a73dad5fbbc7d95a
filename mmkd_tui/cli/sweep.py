"""`mmkd sweep`: many runs from one file, on this machine or a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmkd_tui.cli import exit_codes
from mmkd_tui.cli.executors import Gpus, Minutes, On, Partition, Ray, Slots, Where, executor
from mmkd_tui.cli.many import do_all, refuse_hindered
from mmkd_tui.cli.options import DataRoot, Device, Force, Overrides, Plugin, as_overrides, data_root_of, load_plugins
from mmkd_tui.cli.table import print_table
from mmkd_tui.cli.talk import answered, say
from mmkd_tui.figures import percent

if TYPE_CHECKING:
    from engine.sweeps.manifest import Manifest
    from engine.sweeps.overview import Overview, Shown
    from engine.sweeps.plan import SweepPlan, SweepRun

COLUMNS = ("run", "state", "epochs", "best", "test", "folder")
RIGHT = ("epochs", "best", "test")


def sweep_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A sweep file.")],
    on: On = None,
    slots: Slots = None,
    ray: Ray = None,
    slurm_partition: Partition = None,
    slurm_time: Minutes = None,
    slurm_gpus: Gpus = None,
    runs: Annotated[Path, typer.Option("--runs", "--runs-dir", help="The runs lie in RUNS/sweeps/NAME.")] = Path("runs"),
    device: Device = None,
    overrides: Overrides = None,
    data_root: DataRoot = None,
    plugin: Plugin = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout: every run and its figures.")] = False,
    report_only: Annotated[bool, typer.Option("--report-only", help="Train nothing; report what there is.")] = False,
    force: Force = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> int:
    """Train presets x settings x seeds, and say which is best. mmkd tui shows it live.

    Runs that are done are not done again, others go on from their checkpoints: the same command goes on with a sweep that was
    broken off. Ctrl-C stops all runs and saves, a second one leaves at once. Exit codes: 0 done, 1 a run failed, 2 a mistake in
    what was asked, 130 stopped.

    Example: mmkd sweep grid.yaml --slots 2
    """
    from engine.sweeps.executor import Job
    from engine.sweeps.manifest import SweepLock, write_manifest
    from engine.sweeps.overview import Overview
    from engine.sweeps.plan import plan_sweep

    load_plugins(plugin)
    with as_overrides(device) as own:
        plan = plan_sweep(file, runs.expanduser(), [*(overrides or ()), *own])
    manifest, jobs = _manifest(plan), [Job(run.folder, run.preset) for run in plan.runs]
    overview = Overview(manifest)
    failures: list[str] = []
    stops: list[int] = []
    if not report_only:
        refuse_hindered(jobs, data_root_of(data_root))
        where = Where(on, slots, ray, slurm_partition, slurm_time, slurm_gpus)
        with executor(where, jobs, plan.folder / "slurm", data_root, force) as made:
            lock = SweepLock(plan.folder)
            try:
                write_manifest(manifest)
                if not quiet:
                    say(_beginning(plan))
                failures, stops = do_all([run.label for run in plan.runs], jobs, made, plan.halving, quiet, overview.standings)
            finally:
                lock.release()
    overview.look()
    told = answered(lambda: _report(overview, plan, as_json))
    if stops:
        say("Stopped; what is done stays done, and the same command goes on from here")
        return 128 + stops[0]
    return exit_codes.FAILED if failures or not told else exit_codes.DONE


def _manifest(plan: SweepPlan) -> Manifest:
    from engine.sweeps.manifest import Listed, Manifest

    listed = tuple(Listed(run.folder.name, _named(run), run.preset.train.epochs) for run in plan.runs)
    return Manifest(plan.folder, plan.name, plan.description, plan.halving, listed)


def _named(run: SweepRun) -> str:
    return f"{run.label} s{run.seed}"


def _beginning(plan: SweepPlan) -> str:
    from engine.run_state import RunState
    from engine.sweeps.executor import state_of

    done = sum(state_of(run.folder) is RunState.FINISHED for run in plan.runs)
    again = f", {plan.repeated} more were drawn that are the same training as one of them" if plan.repeated else ""
    return f"{len(plan.runs)} runs, {done} of them done{again}; what they leave lies in {plan.folder}; mmkd tui shows it"


def _report(overview: Overview, plan: SweepPlan, as_json: bool) -> None:
    """What there is now: a table, the best first, or one JSON object in the plan's order."""
    from engine.sweeps.overview import ranked

    if as_json:
        typer.echo(json.dumps(_as_data(overview, plan)))
        return
    print_table(COLUMNS, (_cells(row) for row in ranked(overview.rows)), RIGHT)


def _cells(row: Shown) -> list[str]:
    epochs = f"{row.epoch}/{row.epochs}" if row.epoch else ""
    return [row.label, row.group, epochs, percent(row.best_accuracy), percent(row.accuracy), row.folder]


def _as_data(overview: Overview, plan: SweepPlan) -> dict[str, Any]:
    runs = []
    for run, row in zip(plan.runs, overview.rows, strict=True):
        settings = {"settings": dict(run.settings), "seed": run.seed, "preset": run.preset.name, "run_dir": str(run.folder)}
        figures = {key: getattr(row, key) for key in ("epoch", "epochs", "best_accuracy", "seconds", "message")}
        runs.append({"label": run.label, "state": row.group, **settings, **figures, "student_accuracy": row.accuracy})
    best = overview.best
    return {
        "name": plan.name,
        "folder": str(plan.folder),
        "counts": dict(overview.counts),
        "best": None if best is None else str(plan.folder / best.folder),
        "runs": runs,
    }
