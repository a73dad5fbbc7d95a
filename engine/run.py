"""A run: teachers, then the student alone, then distillation, evaluation, and what is kept of it all; or teachers alone."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from engine import paths
from engine.analyse import analysed, leave_analysis
from engine.checkpoints_of_run import RunCheckpoints
from engine.compiled.stepper import panel_of, stepper_of
from engine.control import Control
from engine.data import Images, load_images
from engine.device import device_name, resolve_device, use_threads
from engine.errors import AwayError, StoppedError, TrainingError, UserError
from engine.event_writer import EventWriter
from engine.events import (
    EpochEnded,
    Event,
    Log,
    RunEnded,
    RunStarted,
    StudentAloneReady,
    TeacherReady,
)
from engine.folder_watch import FolderWatch
from engine.gpu_lock import GpuLock, gpu_of
from engine.measure import ensemble, logits_of, measured
from engine.methods import Plan
from engine.models.build import refuse_misfits
from engine.models.library import refuse_unknown
from engine.models.placement import placed, refuse_to_share_alone
from engine.origin import made_with, origin
from engine.out_of_memory import lacks_memory, told_of
from engine.preset import Preset
from engine.preset_yaml import dump_preset
from engine.ranks import ALONE, LostRankError, Ranks
from engine.result import Result, TeacherResult, stopped
from engine.run_dir import NO_ROOM, Lock, RunDir, begun_with, take_over
from engine.student_file import save_student
from engine.teachers.cache import CachedTeachers, TeacherCache
from engine.teachers.shared_store import SharedStore, SpareStore
from engine.teachers.train import Classroom, Trained
from engine.trackers import refuse_missing
from engine.trackers.feed import Feed
from engine.trainer import Phase, Trainer, steps_per_epoch
from engine.untrusted import read_object
from engine.version import versions
from engine.wishes import Wishes

Listener = Callable[[Event], None]


class Run:
    """One run of a preset in one folder. `execute` does it on the caller's thread, `start` on a thread of its own."""

    def __init__(
        self,
        preset: Preset,
        run_dir: Path,
        *,
        control: Control | None = None,
        data_root: Path | None = None,
        store: Path | None = None,
        cache: Path | None = None,
        resume: bool = False,
        lock: Lock | None = None,
        share_gpu: bool = False,
        ranks: Ranks = ALONE,
    ) -> None:
        """`resume` goes on with the stopped, failed or crashed run in the folder. Who gives a `lock` gives the folder to the
        run: a failure to begin is then written there, too. `share_gpu`: another run may be at work on the same GPU.

        Of several `ranks`, each executes a Run of the same preset; the first one has the folder, the store and the listeners.
        """
        self.preset, self.ranks = preset, ranks
        self.dir = RunDir(run_dir)
        self.control = control or Control()
        self.data_root = data_root or paths.data_root()
        self.store = SharedStore(store or paths.teacher_store(), ranks)
        self.spare = SpareStore(self.dir.teachers, ranks)
        self.cache = cache or paths.teacher_cache()
        self.result: Result | None = None
        self._result = Result(
            str(self.dir.path),
            name=preset.name,
            method=preset.method.name,
            seed=preset.seed,
            selected_on=preset.evaluate.select_on,
            only_teachers=preset.only_teachers,
        )
        self._begun = False
        self._listeners: list[Listener] = []
        self._thread: threading.Thread | None = None
        self._share_gpu = share_gpu
        self._student_saved = False  # by this process, since the newest best epoch
        self._gpu_lock: GpuLock | None = None
        self._no_gpu_lock = ""  # why there is none
        self._resume, self._lock, self._folder_given = resume, lock, lock is not None
        self._checkpoints = RunCheckpoints(self.dir.checkpoints, self._emit, preset.checkpoints, ranks)
        self._wishes = Wishes(self.control, self._checkpoints, self._emit, self._leave_student, lambda: self._watch.look(), ranks)

    def subscribe(self, listener: Listener) -> None:
        """Calls `listener` with every event, on the thread that trains; it must be quick and must not raise."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Executes on the thread `mmkd-train`."""
        self._thread = threading.Thread(target=self.execute, name="mmkd-train", daemon=True)
        self._thread.start()

    def join(self, timeout: float | None = None) -> Result | None:
        """Waits for the thread; the result, or None when it is still at work after `timeout` seconds."""
        assert self._thread is not None, "start() first"
        self._thread.join(timeout)
        if self._thread.is_alive():
            return None
        return self.result or self._fail(TrainingError("the training ended without saying why; mmkd resume goes on with it"))

    def execute(self) -> Result:
        """The whole job. Never raises: what went wrong is in the result, in `result.json` and in the last event. A Ctrl-C on
        the caller's thread alone goes through, and leaves the folder as that of a run that crashed.
        """
        try:
            return self._execute()
        except KeyboardInterrupt:
            self._release()
            raise
        except BaseException as error:  # a library that ends the process, or panics, must not leave a run that never ends
            return self._fail(error)

    def _execute(self) -> Result:
        try:
            device, images = self._prepare()
            if self.ranks.told([self.control.asked_to_stop()])[0]:
                raise StoppedError
            if self.ranks.first:
                self._open(device)
        except StoppedError:
            return self._leave_unbegun(replace(self._result, state="stopped", message="stopped before it began"))
        except LostRankError as error:
            return self._break_off(replace(self._result, message=str(error)))
        except Exception as error:
            return self._leave_unbegun(replace(self._result, message=_reason(error), mistake=isinstance(error, UserError)))
        self._begun = True
        self._result = replace(self._result, versions=versions())
        try:
            with ExitStack() as held:
                self._work(device, images, held)
            ending: dict[str, Any] = {"state": "done"}
        except StoppedError:
            ending = {"state": "stopped", "message": stopped(self._checkpoints.unsaved)}
        except LostRankError as error:
            if self.ranks.first:
                with suppress(OSError):
                    self._log("error", f"{error}; the run goes on from its last checkpoint when it is started again")
                    self._writer.close()
            return self._break_off(replace(self._result, message=str(error)))
        except AwayError as error:
            ending = {"state": "failed", "message": error.of_run}
        except (UserError, TrainingError) as error:
            ending = {"state": "failed", "message": str(error), "mistake": isinstance(error, UserError)}
        except OSError as error:  # the machine's trouble, not ours: where in the code it was met helps nobody
            gone = self._watch.why_gone() if self.ranks.first else None
            ending = {"state": "failed", "message": gone or _reason(error)}
        except Exception as error:
            if lacks_memory(error):
                ending = {"state": "failed", "message": told_of(error)}
            else:
                self._log_trace(error)
                ending = {"state": "failed", "message": _reason(error)}
        self.result = replace(self._result, **ending, seconds=round(self._checkpoints.seconds(), 2))
        try:
            if self.ranks.first:
                self._conclude(self.result)
        except OSError as error:
            # Of a run that failed before, this is but a consequence.
            if self.result.state != "failed":
                message = f"the result could not be written to {self.dir.path}: {error.strerror or error}; make room there, and "
                self.result = replace(
                    self.result, state="failed", message=message + "mmkd resume goes on from its last checkpoint"
                )
        self._release()
        return self.result

    def _fail(self, error: BaseException) -> Result:
        """The end of a run that could not end itself."""
        failed = replace(self._result, message=_reason(error), seconds=round(self._checkpoints.seconds(), 2))
        if not self._begun:
            return self._leave_unbegun(failed)
        if self.result is None:  # else it had ended, and only the rest of that went wrong
            self.result = failed
            self._log_trace(error)
        if self.ranks.first:
            with suppress(BaseException):  # what is written first are result and event; what fails again has been told
                self._conclude(self.result)
        self._release()
        return self.result

    def _log_trace(self, error: BaseException) -> None:
        with suppress(BaseException):  # it is not the log that decides how a run ended
            self._log("error", "".join(traceback.format_exception(error)))

    def _break_off(self, result: Result) -> Result:
        """Without the others nothing can go on here. The folder stays as that of a run that crashed: it has not ended."""
        self.result = result
        self._release()
        return result

    def _conclude(self, result: Result) -> None:
        if self._watch.why_gone() is None:  # else nothing is left to write to
            self.dir.write_json(self.dir.result, asdict(result))
        if result.state == "done":
            self._checkpoints.forget(_distilling(self.preset))
        self._feed.close(result)
        self._emit(RunEnded(state=result.state, message=result.message))
        self._writer.close()

    def _prepare(self) -> tuple[torch.device, Images]:
        """All that can be found wrong before anything is written."""
        begun = self._resume and self.dir.events.exists()
        self._begun_with = self.ranks.told([begun_with(self.dir) if begun else self.ranks.size])[0]
        with self.ranks.all_or_none():  # nothing in here asks the others
            device, images, classroom = self._prepare_alone()
        self.ranks.use(device)
        if self._caches:
            cache = TeacherCache(self.preset, images, self.cache, self.ranks.here)
            subjects = [cache.subject(number, *classroom.as_planned(part)) for number, part in enumerate(self.preset.teachers)]
            with self.ranks.all_or_none():
                cache.place(subjects)
        return device, images

    def _prepare_alone(self) -> tuple[torch.device, Images, Classroom]:
        if self.ranks.first:
            refuse_missing(self.preset.trackers)
        device = resolve_device(self.preset.hardware, self.ranks.local, self.ranks.here)
        if not self.preset.only_teachers:  # else nobody asks them together
            refuse_to_share_alone(self.preset.hardware.teachers, self.ranks)
        if (gpu := gpu_of(str(device))) is not None:
            try:
                self._gpu_lock = GpuLock.take(gpu, self.dir.path, share=self._share_gpu)
            except OSError as error:  # a home that is read-only, or has no locks: no reason not to train
                self._no_gpu_lock = error.strerror or str(error)
        use_threads(self.preset.hardware)
        images = load_images(self.preset.dataset, self.data_root, device, self.preset.hardware.workers)
        for arch in dict.fromkeys(arch for arch, _ in self.preset.networks):
            refuse_unknown(arch)
        if not self.preset.only_teachers:
            steps_per_epoch(images, self.preset.train, ranks=self.ranks.size)
        for number, part in enumerate(self.preset.teachers):
            if part.trained:
                steps_per_epoch(images, part.recipe, f"teachers.{number}.train", self.ranks.size)
        facts = images.facts
        refuse_misfits(self.preset.networks, facts.channels, images.classes, facts.size)
        classroom = self._classroom(device, images)
        for part in () if self._resume else self.preset.teachers:
            classroom.refuse_unfit(part)
            if self.preset.asks_heads and not self.preset.only_teachers:
                classroom.refuse_headless(part)
        return device, images, classroom

    @property
    def _caches(self) -> bool:
        return self.preset.teacher_cache is not None and self.preset.method.name != "ce" and not self.preset.only_teachers

    def _classroom(self, device: torch.device, images: Images) -> Classroom:
        return Classroom(
            self.preset,
            images,
            self.store,
            device,
            emit=self._emit,
            poll=self._poll,
            begin=self._begin,
            keeper=self._checkpoints,
            spare=self.spare,
            glance=self._glance if self.ranks.size == 1 else None,
            ranks=self.ranks,
            begun_with=self._begun_with,
        )

    def _open(self, device: torch.device) -> None:
        """Takes the folder, and writes what is written once. TrainingError where its disk does not take that."""
        new = not (self._folder_given or self._resume) and self.dir.is_empty()
        try:
            self._begin_folder(device)
        except OSError as error:
            if new and self._lock is not None:
                self.dir.discard()
            why = error.strerror or error
            raise TrainingError(f"{self.dir.path} cannot be written: {why}; {NO_ROOM}") from error

    def _begin_folder(self, device: torch.device) -> None:
        paths.private_folder(self.dir.path)
        self._lock = self._lock or (take_over(self.dir) if self._resume else Lock(self.dir))
        if self.dir.events.exists() and not self._resume:
            raise UserError(f"{self.dir.path} holds another run; name another folder")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        meta = made_with(self.preset, device, self.data_root) | {"ranks": self._begun_with, "processes": self.ranks.size}
        before = read_object(self.dir.meta) or {}
        meta["begun_by"] = before.get("begun_by", before.get("argv", meta["argv"]))
        if self._resume:
            times = before.get("resumed")
            meta |= {"started": before.get("started", now), "resumed": [*(times if isinstance(times, list) else ()), now][-100:]}
            self._checkpoints.clear_leftovers()
        else:
            meta["started"] = now
            paths.write_whole(self.dir.preset, dump_preset(self.preset))
        self.dir.write_json(self.dir.meta, meta)
        self._writer = EventWriter(self.dir, tell=self._log)
        self._listeners.insert(0, self._writer)
        self._feed = Feed(self.preset, self.dir, self._log)
        self._listeners.append(self._feed)
        self._watch = FolderWatch(self.dir.path)

    def _work(self, device: torch.device, images: Images, held: ExitStack) -> None:
        preset = self.preset
        self._emit(
            RunStarted(
                name=preset.name,
                run_dir=str(self.dir.path),
                dataset=preset.dataset.name,
                classes=images.facts.classes,
                teachers=preset.teacher_labels,
                student=preset.student.arch,
                method=preset.method.name,
                device=device_name(device),
                seed=preset.seed,
                resumed=self._resume,
                only_teachers=preset.only_teachers,
            )
        )
        if self._no_gpu_lock:
            where = f"{paths.cache_dir()} cannot be locked in ({self._no_gpu_lock}); MMKD_CACHE names another place"
            self._log("warning", f"another run on this GPU would not be refused: {where}")
        held.callback(images.close)
        images.troubles.listen(self._log)
        classroom = self._classroom(device, images)
        bf16 = classroom.bf16
        self._checkpoints.origin = origin(preset)
        teachers = self._teachers(classroom)
        if preset.only_teachers:
            return
        labelled = zip(preset.teacher_labels, teachers, strict=True)
        self._checkpoints.origin = origin(preset, [(label, teacher.source, teacher.model) for label, teacher in labelled])
        if preset.evaluate.student_alone and preset.method.name != "ce":
            phase = Phase("alone", 0, f"{preset.student.arch} alone")
            alone = classroom.trained(preset.student.arch, preset.seed, preset.train, phase)
            self._checkpoints.forget(phase)
            self._emit(StudentAloneReady(accuracy=alone.accuracy, source=alone.source))
            self._result = replace(self._result, student_alone_accuracy=alone.accuracy)

        used = teachers if preset.method.name != "ce" else []
        panel = placed([teacher.model for teacher in used], device, preset.hardware.teachers, bf16, self._log, self.ranks)
        cached = None
        if self._caches:
            cache = TeacherCache(preset, images, self.cache, self.ranks.here)
            cached = held.enter_context(closing(CachedTeachers(cache, panel, self._emit)))
            images = replace(images, views=cache.views)
        asked = panel_of(panel, preset.teachers, images.classes, preset.hardware.compile, self._log)
        plan = Plan(
            preset.method,
            preset.student.arch,
            images.facts.channels,
            images.classes,
            preset.train.batch_size,
            tuple(panel.channels),
            bf16,
            images.facts.size,
            preset.student.features,
        )
        method = plan.build(preset.seed, device, panel.classifiers())
        if bf16 and not method.learner.bf16:
            self._log("warning", f"{preset.student.arch} cannot be computed in bfloat16; it is trained in float32")

        def listen(event: Event) -> None:
            # Whatever happens later, the best student so far is in the folder.
            if isinstance(event, EpochEnded) and event.best_epoch == event.epoch:
                self._student_saved = self._try_to_save_student(trainer)
            self._emit(event)

        trainer = Trainer(
            method,
            images,
            cached or asked,
            preset.train,
            preset.evaluate,
            seed=preset.seed,
            phase=_distilling(preset),
            emit=listen,
            poll=self._poll,
            stepper=stepper_of(plan, classroom.compile, self._log),
            non_finite=preset.non_finite,
            keeper=self._checkpoints,
            ranks=self.ranks,
        )
        self._begin(trainer)
        if cached is not None:
            self._fill(cached, trainer)
        best = trainer.run()
        if not self._student_saved and self.ranks.first:
            save_student(self.dir.student, preset, best.weights, best.epoch, images)
        size = preset.evaluate.batch_size
        logits = trainer.with_best(lambda: logits_of(trainer.student, images.test, size, classroom.glance, self.ranks))
        found = measured(logits, images.test.labels)
        self._result = replace(
            self._result,
            student_accuracy=found.accuracy,
            teachers=self._teacher_results(trainer),
            best_epoch=best.epoch,
            best_accuracy=best.measurement.accuracy,
            images_per_second=round(trainer.images_trained / max(trainer.train_seconds, 1e-9), 1),
        )
        if self.ranks.first:
            said = [teacher.logits for teacher in teachers]
            poll = classroom.glance or self._watch.look
            size, seed = preset.train.batch_size, preset.seed
            leave_analysis(
                self.dir,
                lambda: analysed(method, panel, images.test, logits, said, batch_size=size, seed=seed, poll=poll),
                self._log,
            )

    def _teachers(self, classroom: Classroom) -> list[Trained]:
        """Every teacher, those from checkpoints first: what cannot be read is found out before anything is spent."""
        preset = self.preset
        order = sorted(range(len(preset.teachers)), key=lambda k: preset.teachers[k].trained)
        teachers: dict[int, Trained] = {}
        self._result = replace(self._result, teachers=tuple(TeacherResult(label, None, None) for label in preset.teacher_labels))
        for index in order:
            label = preset.teacher_labels[index]
            phase = Phase("teacher", index, label)
            teacher = teachers[index] = classroom.teacher(preset.teachers[index], phase)
            self._checkpoints.forget(phase)
            self._emit(TeacherReady(index=index, label=label, accuracy=teacher.accuracy, source=teacher.source))
            known = list(self._result.teachers)
            known[index] = TeacherResult(label, teacher.accuracy, teacher.source, teacher.key)
            self._result = replace(self._result, teachers=tuple(known))
        if teachers:
            averaged = ensemble([teacher.logits for teacher in teachers.values()])
            accuracy = measured(averaged, classroom.images.test.labels).accuracy
            self._result = replace(self._result, ensemble_accuracy=accuracy)
        return [teachers[index] for index in range(len(preset.teachers))]

    def _teacher_results(self, trainer: Trainer) -> tuple[TeacherResult, ...]:
        """The teachers with the weights of the last epoch, which an earlier process may have come to."""
        if not trainer.logit_weights:
            return self._result.teachers
        features = trainer.feature_weights or (None,) * len(trainer.logit_weights)
        triples = zip(self._result.teachers, trainer.logit_weights, features, strict=True)
        return tuple(replace(teacher, logit_weight=logit, feature_weight=feature) for teacher, logit, feature in triples)

    def _emit(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    def _log(self, level: str, message: str) -> None:
        self._emit(Log(level=level, message=message))

    def _begin(self, trainer: Trainer) -> None:
        """Called before a training's first step."""
        if self._resume:
            self._checkpoints.take_up(trainer)

    def _fill(self, cached: CachedTeachers, trainer: Trainer) -> None:
        """Has the cache made: by the first rank, then what it could not leave in files by every other, too."""
        if self.ranks.first:

            def poll() -> None:
                self.ranks.told([False])
                self._poll(trainer)

            cached.fill(poll)
            self.ranks.told([True])
            return
        while not self.ranks.told([False])[0]:
            self._poll(trainer)
        cached.fill(lambda: None)

    def _poll(self, trainer: Trainer) -> None:
        """Called between two steps. TrainingError where the run has lost its folder."""
        if self.ranks.first:
            self._watch.look()
        self._wishes.in_training(trainer)

    def _glance(self) -> None:
        """As `_poll`, where no training is in hand."""
        self._watch.look()
        self._wishes.elsewhere()

    def _leave_student(self, trainer: Trainer) -> None:
        if trainer.phase.name == "distil":
            self._try_to_save_student(trainer)

    def _try_to_save_student(self, trainer: Trainer) -> bool:
        """The best student so far; where that fails the run goes on, and people are told."""
        if not self.ranks.first:
            return True
        try:
            save_student(self.dir.student, self.preset, *trainer.best_weights(), trainer.images)
        except OSError as error:
            why = error.strerror or error
            self._log(
                "error",
                f"{self.dir.student.name} could not be written: {why}; it is tried again after a better epoch and at the end",
            )
            return False
        return True

    def _leave_unbegun(self, result: Result) -> Result:
        """Why it could not begin is told in the folder if that is the run's own; else an empty folder is taken away."""
        self.result = result
        if not self.ranks.first:
            return result
        try:
            if not self._folder_given:
                self.dir.path.rmdir()
            elif self._resume or not self.dir.events.exists():
                self.dir.write_json(self.dir.result, asdict(result))
        except OSError:
            pass
        self._release()
        return result

    def _release(self) -> None:
        for lock in (self._lock, self._gpu_lock):
            if lock is not None:
                lock.release()
        self._lock = self._gpu_lock = None


def _distilling(preset: Preset) -> Phase:
    return Phase("distil", 0, f"{preset.student.arch} by {preset.method.name}")


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) if isinstance(error, (UserError, OSError, TrainingError)) else f"{type(error).__name__}: {error}"
