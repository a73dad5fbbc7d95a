"""The trackers themselves: a few lines each between our names and the library's. Their own environment variables hold."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from engine import paths
from engine.trackers import Beginning, Opener
from engine.untrusted import open_regular

PROJECT = "mmkd"  # what runs stand under where the library's own variables say nothing


class TensorBoard:
    """Event files in the run's folder, `tensorboard/`. A process that goes on with a run writes another file there."""

    id: str | None = None

    def __init__(self, begin: Beginning) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(begin.folder / "tensorboard"))
        self._config = {key: _simple(value) for key, value in begin.config.items()}
        self._writer.add_text("preset", "\n".join(f"    {key}: {value}" for key, value in self._config.items()))
        self._writer.flush()

    def log(self, scalars: Mapping[str, float], step: int, t: float) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step, walltime=t)

    def finish(self, summary: Mapping[str, float], state: str) -> None:
        if summary:
            self._writer.add_hparams(self._config | {"state": state}, dict(summary), run_name=".")
        self._writer.close()


class Mlflow:
    """A run of MLflow's where MLFLOW_TRACKING_URI says, in MLFLOW_EXPERIMENT_NAME."""

    def __init__(self, begin: Beginning) -> None:
        for switch, value in (("MLFLOW_DISABLE_TELEMETRY", "true"), ("MLFLOW_LOGGING_LEVEL", "WARNING")):
            os.environ.setdefault(switch, value)
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param
        from mlflow.exceptions import MlflowException

        self._metric = Metric
        self.id: str | None = begin.id
        with _one_at_a_time("mlflow"):  # who comes first makes a database and its tables, and two who do that break it for both
            self._client = MlflowClient()
            if self.id is not None:
                try:
                    self._client.update_run(self.id, status="RUNNING")
                    return
                except MlflowException:
                    self.id = None  # of another store, or deleted
            experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT), MlflowException)
            self.id = self._client.create_run(experiment, run_name=begin.name).info.run_id
        params = [Param(key, str(_simple(value))[:500]) for key, value in begin.config.items()]
        for first in range(0, len(params), 100):
            self._client.log_batch(self.id, params=params[first : first + 100])

    def _experiment(self, name: str, refused: type[Exception]) -> str:
        """Its id; made where it is not there."""
        if (known := self._client.get_experiment_by_name(name)) is not None:
            return str(known.experiment_id)
        try:
            return str(self._client.create_experiment(name))
        except refused:  # a run on another machine was quicker
            if (known := self._client.get_experiment_by_name(name)) is None:
                raise
            return str(known.experiment_id)

    def log(self, scalars: Mapping[str, float], step: int, t: float) -> None:
        metrics = [self._metric(name, value, int(t * 1000), step) for name, value in scalars.items()]
        self._client.log_batch(self.id or "", metrics=metrics)

    def finish(self, summary: Mapping[str, float], state: str) -> None:
        import time

        self.log(summary, 0, time.time())
        self._client.set_terminated(self.id or "", status={"done": "FINISHED", "stopped": "KILLED"}.get(state, "FAILED"))


class WandB:
    """A run of Weights & Biases' in WANDB_PROJECT; WANDB_MODE=offline sends nothing and keeps it in the run's folder."""

    def __init__(self, begin: Beginning) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        offline = os.environ.get("WANDB_MODE", "online") in ("offline", "disabled", "dryrun", "shared")
        if not offline and wandb.api.api_key is None:  # it would ask in the terminal
            raise RuntimeError("it knows no key; wandb login keeps one, and WANDB_MODE=offline needs none")
        self.id: str | None = begin.id or uuid.uuid4().hex[:12]
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=begin.name,
            id=self.id,
            resume="allow",
            dir=str(begin.folder),
            config={key: _simple(value) for key, value in begin.config.items()},
            settings=wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True),
        )
        self._phases: set[str] = set()

    def log(self, scalars: Mapping[str, float], step: int, t: float) -> None:
        phase = next(iter(scalars)).partition("/")[0]
        if phase not in self._phases:  # steps are counted anew in each phase
            self._phases.add(phase)
            self._run.define_metric(f"{phase}/step")
            self._run.define_metric(f"{phase}/*", step_metric=f"{phase}/step")
        self._run.log({**scalars, f"{phase}/step": step, "time": t})

    def finish(self, summary: Mapping[str, float], state: str) -> None:
        self._run.summary.update({**summary, "result/state": state})
        self._run.finish(exit_code=1 if state == "failed" else 0)


class Trackio:
    """A run of trackio's, on this machine unless TRACKIO_SPACE_ID says where else."""

    def __init__(self, begin: Beginning) -> None:
        for switch, value in (("HF_HUB_DISABLE_TELEMETRY", "1"), ("GRADIO_ANALYTICS_ENABLED", "False")):
            os.environ.setdefault(switch, value)
        import trackio

        config = {key: _simple(value) for key, value in begin.config.items()}
        # It is the run's name there, too; long names of runs differ at their ends only.
        self.id: str | None = begin.id or f"{begin.name.replace('.', '-')[:51]}-{uuid.uuid4().hex[:12]}"
        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        self._run: Any = trackio.init(project=project, name=self.id, config=config, resume="allow", embed=False)

    def log(self, scalars: Mapping[str, float], step: int, t: float) -> None:
        self._run.log(dict(scalars), step=step)

    def finish(self, summary: Mapping[str, float], state: str) -> None:
        self._run.log({**summary, "result/state": state})
        self._run.finish()


OPENERS: dict[str, Opener] = {"tensorboard": TensorBoard, "mlflow": Mlflow, "wandb": WandB, "trackio": Trackio}


@contextmanager
def _one_at_a_time(name: str) -> Iterator[None]:
    """Of all runs that a user has on this machine. Where no lock can be had, nobody waits."""
    with ExitStack() as held:
        with suppress(OSError):
            folder = paths.cache_dir() / "locks"
            paths.private_folder(folder)
            handle = open_regular(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT)
            held.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _simple(value: object) -> bool | int | float | str:
    """A hyper-parameter as every library takes it."""
    return value if isinstance(value, bool | int | float | str) else str(value)
