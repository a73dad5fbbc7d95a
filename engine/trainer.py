"""The loop over epochs and batches: the same for every method, for a teacher, a student alone and a distilled one."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from engine.data import Batch, Images
from engine.data.images import Share
from engine.errors import AwayError, StoppedError, TrainingError, UserError
from engine.events import EpochEnded, Event, Log, Metrics, PhaseStarted
from engine.keeper import Keeper, NoKeeper
from engine.measure import Measurement, logits_of, measured
from engine.meta.sgd import momenta_of
from engine.meter import Meter
from engine.methods import Method, Teachers
from engine.methods.base import MetaStep, Step
from engine.models.build import count_parameters
from engine.optimizers import SGD
from engine.out_of_memory import OutOfMemoryError, lacks_memory, told, told_of
from engine.preset import EvaluatePart, NonFinitePart, TrainPart
from engine.ranks import ALONE, Ranks
from engine.stepping import Stepper
from engine.tally import Left, Tally

T = TypeVar("T")
METRICS_EVERY = 0.1  # seconds: at most 10 metric events a second


@dataclass(frozen=True, slots=True)
class Phase:
    """Which part of a run a training is."""

    name: str  # "teacher", "alone" or "distil"
    index: int
    label: str


@dataclass(slots=True)
class Best:
    """The best epoch so far, and the student as it was then."""

    measurement: Measurement
    epoch: int
    weights: dict[str, Tensor]


def steps_per_epoch(images: Images, recipe: TrainPart, where: str = "train", ranks: int = 1) -> int:
    """Whole batches of every rank in an epoch. UserError where there is none; `where` is the recipe's place in the preset."""
    steps = len(images.train) // (recipe.batch_size * ranks)
    if steps == 0:
        have = f"the {len(images.train)} training images of {images.facts.name}"
        each = f" in each of {ranks} processes" if ranks > 1 else ""
        raise UserError(f"{where}.batch_size is {recipe.batch_size}{each}, more than {have}; make it smaller")
    return steps


def refuse_unlike(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """ValueError where names, shapes or types of a checkpoint's tensors are not those of what they are to replace."""
    if given.keys() != own.keys() or any((given[n].shape, given[n].dtype) != (own[n].shape, own[n].dtype) for n in own):
        raise ValueError("its tensors are not those of this training")


class Trainer:
    """Trains `method.learner` on a data set by SGD.

    `poll` is called with this trainer between two steps: it may wait (a pause), save, or raise StoppedError. Everything
    random is a function of (seed, epoch, step), so that a loaded state goes on as if it had never been interrupted.

    A step whose loss or gradient is not finite is left out and counted. After `non_finite.skip` in a row, weights and optimisers
    go back to the last checkpoint from before them, and the position does not: the same batches would give the same numbers.

    Of several ranks, each trains on batches of its own, of `recipe.batch_size` images, and all take the same steps: those of one
    process on the joined batches, but that BatchNorm and what weighs the teachers see a rank's own batch.
    """

    def __init__(
        self,
        method: Method,
        images: Images,
        panel: Teachers,
        recipe: TrainPart,
        evaluate: EvaluatePart,
        *,
        seed: int,
        phase: Phase,
        emit: Callable[[Event], None],
        poll: Callable[[Trainer], None],
        stepper: Callable[[Method, torch.optim.SGD], Stepper] = Stepper,
        non_finite: NonFinitePart | None = None,
        keeper: Keeper | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        images = images.with_label_noise(recipe.label_noise, seed)
        self.method, self.images, self.panel, self.recipe, self.evaluate = method, images, panel, recipe, evaluate
        self.seed, self.phase, self.emit, self.poll = seed, phase, emit, poll
        self.ranks = method.ranks = ranks
        self.student = method.learner.student
        self.parameters = list(method.learner.parameters())
        self.optimizer = SGD(
            self.parameters,
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov,
        )
        self.stepper = stepper(method, self.optimizer)
        self.meter = Meter(images.classes, len(panel.channels), images.train.labels.device)
        self.tally = Tally(images.train.labels.device)
        self.non_finite, self.keeper = non_finite or NonFinitePart(), keeper or NoKeeper()
        self.rollbacks = self._warned = 0
        self.steps_per_epoch = steps_per_epoch(images, recipe, ranks=ranks.size)
        self.epoch = self.step_in_epoch = 0
        self.best: Best | None = None
        self.logit_weights: tuple[float, ...] = ()  # the teachers', means over the samples of the last epoch that ended
        self.feature_weights: tuple[float, ...] = ()
        self.train_seconds = 0.0
        self.images_trained = 0
        self._emitted = self._window_seconds = 0.0
        self._window_images = 0

    @property
    def step(self) -> int:
        """Training steps done."""
        return self.epoch * self.steps_per_epoch + self.step_in_epoch

    def run(self) -> Best:
        """All epochs that are left; the best one by the split that chooses."""
        self.emit(
            PhaseStarted(
                phase=self.phase.name,
                index=self.phase.index,
                label=self.phase.label,
                epochs=self.recipe.epochs,
                steps_per_epoch=self.steps_per_epoch,
                parameters=count_parameters(self.student),
                step=self.step,
            )
        )
        why = ""
        try:
            while self.epoch < self.recipe.epochs:
                self._train_epoch()
                self._end_epoch()
        except OutOfMemoryError as error:
            why = str(error)
        except AwayError as error:
            why = error.of_run
        except (RuntimeError, MemoryError) as error:
            if not lacks_memory(error):
                raise
            why = told_of(error)
        finally:
            self.stepper.close()
            self.panel.close()
        if why:  # nothing of the step or the measurement in hand is left
            raise TrainingError(f"{why}; {self._rescued()}")
        if self.best is None:
            raise TrainingError(
                f"the loss of {self.phase.label} on the images that choose its best epoch is not a finite number in any epoch; "
                "a smaller train.lr usually mends it"
            )
        return self.best

    def with_best(self, look: Callable[[], T]) -> T:
        """What `look` finds while the student is that of the best epoch. Where it is stopped, or pictures cannot be read now, the
        training is saved as it was.
        """
        assert self.best is not None, "run() first"
        last = {name: value.clone() for name, value in self.student.state_dict().items()}
        self.student.load_state_dict(self.best.weights)
        try:
            return look()
        except StoppedError:
            self.student.load_state_dict(last)
            self.keeper.save(self)
            raise
        except AwayError as error:
            self.student.load_state_dict(last)
            raise TrainingError(f"{error.of_run}; {self._rescued()}") from error

    def _rescued(self) -> str:
        """What became of the training in hand, as the end of a sentence."""
        if self.ranks.size > 1:  # the others are in the middle of a step
            return "what was trained until the last checkpoint is kept"
        try:
            name = self.keeper.save(self)
        except (RuntimeError, MemoryError) as error:
            if not lacks_memory(error):
                raise
            name = None
        return f"what was trained is in checkpoints/{name}" if name else "no checkpoint could be saved"

    def _train_epoch(self) -> None:
        self.method.learner.train()
        lr = self.recipe.lr_at(self.epoch)
        self.optimizer.param_groups[0]["lr"] = lr
        augmentation = self.images.augmenting(self.recipe.augment)
        share = Share(self.ranks.rank, self.ranks.size)
        train, size, seed, epoch = self.images.train, self.recipe.batch_size, self.seed, self.epoch
        batches = self._batches(lambda start: train.shuffled(size, seed, epoch, augmentation, start, share))
        self.poll(self)
        while True:
            began = time.monotonic()  # waiting for pictures to be decoded counts, too
            batch = next(batches, None)
            if batch is None:
                break
            step, meta = self._with_room(partial(self._lesson, batch), self._too_large)
            self.meter.add(step, batch.labels, meta)
            self.tally.add(step, meta)
            self.step_in_epoch += 1
            self._window_images += len(batch.labels) * self.ranks.size
            # Reading the averages waits for the device, so it counts as training time.
            fields = self._due_fields()
            left = self.tally.take() if fields is not None else None
            self._window_seconds += time.monotonic() - began
            if fields is not None and left is not None:
                self._emit_metrics(fields, lr, left)
                self._mind(left)
            if self.step_in_epoch < self.steps_per_epoch:
                self.poll(self)

    def _lesson(self, batch: Batch) -> tuple[Step, MetaStep | None]:
        return self.stepper(batch, self.panel.of(batch), self.step)

    def _batches(self, shuffled: Callable[[int], Iterator[Batch]]) -> Iterator[Batch]:
        """The epoch's batches from the step in hand on, given those from any step on; as `_with_room`."""
        batches = shuffled(self.step_in_epoch)

        def take() -> Batch | None:
            nonlocal batches
            try:
                return next(batches, None)
            except (RuntimeError, MemoryError) as error:
                if lacks_memory(error):  # a generator that has raised is at its end
                    batches = shuffled(self.step_in_epoch)
                raise

        while (batch := self._with_room(take, told_of)) is not None:
            yield batch

    def _with_room(self, work: Callable[[], T], told: Callable[[BaseException], str]) -> T:
        """What `work` returns; where memory does not suffice, once more without what could be done without."""
        for _ in range(2):
            try:
                return work()
            except OutOfMemoryError as error:  # a measurement has said it already
                why = str(error)
            except (RuntimeError, MemoryError) as error:
                if not lacks_memory(error):
                    raise
                why = told(error)
            # With the error, all that its frames held is gone.
            if self.ranks.size > 1 or not any([self.stepper.release(), self.panel.release()]):
                break  # several are in step with each other
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        raise OutOfMemoryError(why)

    def _due_fields(self) -> dict[str, Any] | None:
        last = self.step == self.recipe.epochs * self.steps_per_epoch
        due = last or time.monotonic() - self._emitted >= METRICS_EVERY
        # The first rank has the clock. The last step needs none.
        return self.meter.take_recent(self.ranks) if last or self.ranks.told([due])[0] else None

    def _emit_metrics(self, fields: dict[str, Any], lr: float, left: Left) -> None:
        steps = self.recipe.epochs * self.steps_per_epoch
        rate = self._window_images / max(self._window_seconds, 1e-9)
        seconds_left = (steps - self.step) * self.recipe.batch_size * self.ranks.size / max(rate, 1e-9)
        self.panel.consider(seconds_left)
        self.stepper.consider(seconds_left)
        self.emit(Metrics(**self._position(), steps=steps, lr=lr, images_per_second=rate, skipped=left.steps, **fields))
        self.train_seconds += self._window_seconds
        self.images_trained += self._window_images
        self._emitted, self._window_seconds, self._window_images = time.monotonic(), 0.0, 0

    def _mind(self, left: Left) -> None:
        """Tells of steps that were left out, and goes back where they are too many in a row."""
        before, self._warned = self._warned, self._warned + left.steps + left.meta_steps
        # At the first, the second, the fourth, the eighth, ...: a log is read by people.
        if self._warned.bit_length() > before.bit_length():
            what = f"the {left.words}" if left.steps else "the hyper-gradient"
            was = "were not finite numbers" if left.steps and left.several else "was not a finite number"
            self._log(f"{what} of {self.phase.label} {was} up to step {self.step}: so far {self._warned} steps were left out")
        if left.in_a_row >= self.non_finite.skip:
            self._go_back(left)

    def _go_back(self, left: Left) -> None:
        first = self.step - left.in_a_row
        is_not = "are not finite numbers" if left.several else "is not a finite number"
        what = (
            f"the {left.words} of {self.phase.label} {is_not} at step {first + 1} (epoch "
            f"{first // self.steps_per_epoch + 1})" + (f" and at the {left.in_a_row - 1} after it" if left.in_a_row > 1 else "")
        )
        remedy = f"a smaller learning rate (train.lr is {self.recipe.lr:g}) usually mends it"
        if self.rollbacks >= self.non_finite.rollbacks:
            often = f"it has gone back to a checkpoint {self.rollbacks} times already; " if self.rollbacks else ""
            raise TrainingError(f"{what}; {often}{remedy}")
        name = self.keeper.roll_back(self, first)
        if name is None:
            raise TrainingError(f"{what}, and there is no checkpoint from before; {remedy}")
        self.rollbacks += 1
        self.tally.break_row()
        self._log(
            f"{what}: its weights go back to checkpoints/{name}, the batches since then are left out "
            f"(time {self.rollbacks} of {self.non_finite.rollbacks}); {remedy}"
        )

    def _too_large(self, error: BaseException) -> str:
        where = f"teachers.{self.phase.index}.train" if self.phase.name == "teacher" else "train"
        return told(
            f"a training step of {self.phase.label} (step {self.step + 1})", f"{where}.batch_size", self.recipe.batch_size, error
        )

    def _log(self, message: str) -> None:
        self.emit(Log(level="warning", message=message))

    def _end_epoch(self) -> None:
        last = self.epoch + 1 == self.recipe.epochs
        measurement = None
        if last or (self.epoch + 1) % self.evaluate.every == 0:
            split = self.images.choosing(self.evaluate.select_on)
            # What several ranks do between two steps they do together, and here their passes are not in step.
            poll = (lambda: self.poll(self)) if self.ranks.size == 1 else None
            size = self.evaluate.batch_size
            logits = self._with_room(lambda: logits_of(self.student, split, size, poll, self.ranks), told_of)
            measurement = measured(logits, split.labels)
            best = self.best.measurement if self.best else None
            # Small validation splits tie often: the smaller loss decides.
            better = best is None or (measurement.accuracy, -measurement.loss) > (best.accuracy, -best.loss)
            if better and math.isfinite(measurement.loss):
                weights = {name: value.clone() for name, value in self.student.state_dict().items()}
                self.best = Best(measurement, self.epoch, weights)
        position = self._position()
        lr = self.recipe.lr_at(self.epoch)
        fields = self.meter.take_epoch(self.ranks)  # after the last moment at which a checkpoint of this epoch can be saved
        skipped = self.tally.take_epoch()
        self.logit_weights, self.feature_weights = (fields.get(f"{kind}_weights", ()) for kind in ("logit", "feature"))
        self.epoch, self.step_in_epoch = self.epoch + 1, 0
        self.emit(
            EpochEnded(
                **position,
                lr=lr,
                skipped=skipped,
                measured_accuracy=measurement.accuracy if measurement else None,
                measured_loss=measurement.loss if measurement else None,
                best_accuracy=self.best.measurement.accuracy if self.best else None,
                best_epoch=self.best.epoch if self.best else None,
                **fields,
            )
        )

    def _position(self) -> dict[str, Any]:
        return {"phase": self.phase.name, "index": self.phase.index, "epoch": self.epoch, "step": self.step}

    def best_weights(self) -> tuple[dict[str, Tensor], int]:
        """The student of the best epoch and that epoch's number; as it is now where none was measured yet."""
        return (self.best.weights, self.best.epoch) if self.best else (self.student.state_dict(), self.epoch)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that decides the future of this training: tensors by name, and facts. Every rank must call it; the first one has
        what the others have for themselves, too.
        """
        tensors = {f"learner.{name}": value for name, value in self.method.learner.state_dict().items()}
        tensors |= {f"momentum.{n}": m for n, m in enumerate(momenta_of(self.optimizer, self.parameters))}
        tensors |= self._method_state()
        tensors |= {f"meter.{name}": value for name, value in self.meter.state(self.ranks).items()}
        facts: dict[str, Any] = {"phase": self.phase.name, "index": self.phase.index}
        facts |= {"epoch": self.epoch, "step_in_epoch": self.step_in_epoch, "ranks": self.ranks.size, "best": None}
        facts |= {"train_seconds": self.train_seconds + self._window_seconds}
        facts |= {"images_trained": self.images_trained + self._window_images}
        facts |= {"left_out": self.tally.state(), "rollbacks": self.rollbacks}
        facts |= {"logit_weights": self.logit_weights, "feature_weights": self.feature_weights}
        if self.best is not None:
            tensors |= {f"best.{name}": value for name, value in self.best.weights.items()}
            found = self.best.measurement
            facts["best"] = {"epoch": self.best.epoch, "accuracy": found.accuracy, "loss": found.loss}
        return tensors, facts

    def _method_state(self) -> dict[str, Tensor]:
        own = {f"method.{name}": value for name, value in self.method.state().items()}
        found = dict(own)
        if self.ranks.size > 1:
            for name, value in own.items():
                if name.removeprefix("method.").startswith(self.method.own_state):
                    others = enumerate(self.ranks.gathered(value.to(self.parameters[0].device)))
                    found |= {f"rank{rank}.{name}": tensor for rank, tensor in others if rank}
        return found

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Takes up what `state` gave; the next `run` goes on from there."""
        epoch, step, best, ranks = facts["epoch"], facts["step_in_epoch"], facts["best"], facts.get("ranks", 1)
        if type(epoch) is not int or type(step) is not int or not 0 <= epoch <= self.recipe.epochs:
            raise ValueError("it is of no epoch of this training")
        if type(ranks) is not int or ranks < 1:
            raise ValueError("it is of no number of ranks")
        if ranks != self.ranks.size:  # as many images have been seen, but for some that fill no batch of every rank
            step = min(step * ranks // self.ranks.size, self.steps_per_epoch)
        if not 0 <= step <= self.steps_per_epoch:
            raise ValueError("it is of no step of this training")
        if best is None and epoch == self.recipe.epochs:
            raise ValueError("it is of the end, and knows no best epoch")
        if best is not None:
            refuse_unlike(_part(tensors, "best."), self.student.state_dict())
            best = Best(Measurement(float(best["accuracy"]), float(best["loss"])), int(best["epoch"]), {})
        seconds, images = float(facts.get("train_seconds", 0.0)), int(facts.get("images_trained", 0))
        weights = [tuple(map(float, facts.get(f"{kind}_weights", ()))) for kind in ("logit", "feature")]
        if any(len(own) not in (0, len(self.panel.channels)) for own in weights):
            raise ValueError("it has weights of other teachers")
        self.load_weights(tensors)
        self.meter.load_state(_part(tensors, "meter."), self.ranks)
        self.tally.load_state(facts.get("left_out", (0, 0)))  # older releases left no step out
        self.rollbacks = int(facts.get("rollbacks", 0))
        self.logit_weights, self.feature_weights = weights
        self.epoch, self.step_in_epoch = epoch, step
        self.train_seconds, self.images_trained = seconds, images
        if best is not None:
            device = self.parameters[0].device
            self.best = replace(best, weights={name: value.to(device) for name, value in _part(tensors, "best.").items()})

    def load_weights(self, tensors: dict[str, Tensor]) -> None:
        """The learner, its optimiser and the method as `state` gave them; position, averages and best epoch stay as they are."""
        momenta = {str(number): parameter for number, parameter in enumerate(self.parameters)}
        refuse_unlike(_part(tensors, "momentum."), momenta)
        self.method.learner.load_state_dict(_part(tensors, "learner."))
        method = _part(tensors, "method.")
        saved = 1 + len({name.partition(".")[0] for name in tensors if name.startswith("rank")})
        self.method.load_state(method | _part(tensors, f"rank{self.ranks.rank % saved}.method."))
        for number, parameter in enumerate(self.parameters):
            momentum = torch.empty_like(parameter.detach())  # laid out alike, else updates take PyTorch's slow way
            self.optimizer.state[parameter]["momentum_buffer"] = momentum.copy_(tensors[f"momentum.{number}"])


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
