"""The loop over epochs and batches: the same for every method, for a teacher, a student alone and a distilled one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from engine.data import Images
from engine.errors import TrainingError, UserError
from engine.events import EpochEnded, Event, Metrics, PhaseStarted
from engine.measure import Measurement, logits_of, measured
from engine.meta.sgd import momenta_of
from engine.meter import Meter
from engine.methods import Method, Teachers
from engine.models.build import count_parameters
from engine.preset import EvaluatePart, TrainPart
from engine.stepping import Stepper

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


def steps_per_epoch(images: Images, recipe: TrainPart, where: str = "train") -> int:
    """Whole batches in an epoch. UserError where there is none; `where` is the recipe's place in the preset."""
    steps = len(images.train) // recipe.batch_size
    if steps == 0:
        have = f"the {len(images.train)} training images of {images.facts.name}"
        raise UserError(f"{where}.batch_size is {recipe.batch_size}, more than {have}; make it smaller")
    return steps


def refuse_unlike(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """ValueError where names, shapes or types of a checkpoint's tensors are not those of what they are to replace."""
    if given.keys() != own.keys() or any((given[n].shape, given[n].dtype) != (own[n].shape, own[n].dtype) for n in own):
        raise ValueError("its tensors are not those of this training")


class Trainer:
    """Trains `method.learner` on a data set by SGD.

    `poll` is called with this trainer between two steps: it may wait (a pause), save, or raise StoppedError. Everything
    random is a function of (seed, epoch, step), so that a loaded state goes on as if it had never been interrupted.
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
    ) -> None:
        images = images.with_label_noise(recipe.label_noise, seed)
        self.method, self.images, self.panel, self.recipe, self.evaluate = method, images, panel, recipe, evaluate
        self.seed, self.phase, self.emit, self.poll = seed, phase, emit, poll
        self.student = method.learner.student
        self.parameters = list(method.learner.parameters())
        self.optimizer = torch.optim.SGD(
            self.parameters,
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov,
        )
        self.stepper = stepper(method, self.optimizer)
        self.meter = Meter(images.classes, len(panel.channels), images.train.labels.device)
        self.steps_per_epoch = steps_per_epoch(images, recipe)
        self.epoch = self.step_in_epoch = 0
        self.best: Best | None = None
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
        try:
            while self.epoch < self.recipe.epochs:
                self._train_epoch()
                self._end_epoch()
        finally:
            self.stepper.close()
            self.panel.close()
        assert self.best is not None
        return self.best

    def _train_epoch(self) -> None:
        self.method.learner.train()
        lr = self.recipe.lr_at(self.epoch)
        self.optimizer.param_groups[0]["lr"] = lr
        augmentation = self.images.augmenting(self.recipe.augment)
        batches = self.images.train.shuffled(self.recipe.batch_size, self.seed, self.epoch, augmentation, self.step_in_epoch)
        self.poll(self)
        while True:
            began = time.monotonic()  # waiting for pictures to be decoded counts, too
            batch = next(batches, None)
            if batch is None:
                break
            teachers = self.panel.of(batch)
            step, meta = self.stepper(batch, teachers, self.step)
            self.meter.add(step, batch.labels, meta)
            self.step_in_epoch += 1
            self._window_images += len(batch.labels)
            # Reading the averages waits for the device, so it counts as training time.
            fields = self._due_fields()
            self._window_seconds += time.monotonic() - began
            if fields is not None:
                self._emit_metrics(fields, lr)
            if self.step_in_epoch < self.steps_per_epoch:
                self.poll(self)

    def _due_fields(self) -> dict[str, Any] | None:
        last = self.step == self.recipe.epochs * self.steps_per_epoch
        if not last and time.monotonic() - self._emitted < METRICS_EVERY:
            return None
        return self.meter.take_recent()

    def _emit_metrics(self, fields: dict[str, Any], lr: float) -> None:
        steps = self.recipe.epochs * self.steps_per_epoch
        rate = self._window_images / max(self._window_seconds, 1e-9)
        seconds_left = (steps - self.step) * self.recipe.batch_size / max(rate, 1e-9)
        self.panel.consider(seconds_left)
        self.stepper.consider(seconds_left)
        if not math.isfinite(fields["loss"]):
            fields["loss"] = None
        self.emit(Metrics(**self._position(), steps=steps, lr=lr, images_per_second=rate, **fields))
        self.train_seconds += self._window_seconds
        self.images_trained += self._window_images
        self._emitted, self._window_seconds, self._window_images = time.monotonic(), 0.0, 0
        if fields["loss"] is None:
            raise TrainingError(
                f"the loss of {self.phase.label} is not a finite number at step {self.step} (epoch {self.epoch + 1}); "
                "a smaller train.lr usually mends it"
            )

    def _end_epoch(self) -> None:
        last = self.epoch + 1 == self.recipe.epochs
        measurement = None
        if last or (self.epoch + 1) % self.evaluate.every == 0:
            split = self.images.choosing(self.evaluate.select_on)
            logits = logits_of(self.student, split, self.evaluate.batch_size, lambda: self.poll(self))
            measurement = measured(logits, split.labels)
            best = self.best.measurement if self.best else None
            # Small validation splits tie often: the smaller loss decides.
            if best is None or (measurement.accuracy, -measurement.loss) > (best.accuracy, -best.loss):
                weights = {name: value.clone() for name, value in self.student.state_dict().items()}
                self.best = Best(measurement, self.epoch, weights)
        position = self._position()
        lr = self.recipe.lr_at(self.epoch)
        fields = self.meter.take_epoch()  # after the last moment at which a checkpoint of this epoch can be saved
        self.epoch, self.step_in_epoch = self.epoch + 1, 0
        self.emit(
            EpochEnded(
                **position,
                lr=lr,
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
        """All that decides the future of this training: tensors by name, and facts."""
        tensors = {f"learner.{name}": value for name, value in self.method.learner.state_dict().items()}
        tensors |= {f"momentum.{n}": m for n, m in enumerate(momenta_of(self.optimizer, self.parameters))}
        tensors |= {f"method.{name}": value for name, value in self.method.state().items()}
        tensors |= {f"meter.{name}": value for name, value in self.meter.state().items()}
        facts: dict[str, Any] = {"phase": self.phase.name, "index": self.phase.index}
        facts |= {"epoch": self.epoch, "step_in_epoch": self.step_in_epoch, "best": None}
        facts |= {"train_seconds": self.train_seconds + self._window_seconds}
        facts |= {"images_trained": self.images_trained + self._window_images}
        if self.best is not None:
            tensors |= {f"best.{name}": value for name, value in self.best.weights.items()}
            found = self.best.measurement
            facts["best"] = {"epoch": self.best.epoch, "accuracy": found.accuracy, "loss": found.loss}
        return tensors, facts

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Takes up what `state` gave; the next `run` goes on from there."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        epoch, step, best = facts["epoch"], facts["step_in_epoch"], facts["best"]
        if type(epoch) is not int or type(step) is not int or not 0 <= epoch <= self.recipe.epochs:
            raise ValueError("it is of no epoch of this training")
        if not 0 <= step <= self.steps_per_epoch:
            raise ValueError("it is of no step of this training")
        if best is None and epoch == self.recipe.epochs:
            raise ValueError("it is of the end, and knows no best epoch")
        momenta = {str(number): parameter for number, parameter in enumerate(self.parameters)}
        refuse_unlike(part("momentum."), momenta)
        if best is not None:
            refuse_unlike(part("best."), self.student.state_dict())
            best = Best(Measurement(float(best["accuracy"]), float(best["loss"])), int(best["epoch"]), {})
        seconds, images = float(facts.get("train_seconds", 0.0)), int(facts.get("images_trained", 0))
        self.method.learner.load_state_dict(part("learner."))
        self.method.load_state(part("method."))
        self.meter.load_state(part("meter."))
        for number, parameter in enumerate(self.parameters):
            self.optimizer.state[parameter]["momentum_buffer"] = tensors[f"momentum.{number}"].to(parameter.device).clone()
        self.epoch, self.step_in_epoch = epoch, step
        self.train_seconds, self.images_trained = seconds, images
        if best is not None:
            device = self.parameters[0].device
            self.best = replace(best, weights={name: value.to(device) for name, value in part("best.").items()})
