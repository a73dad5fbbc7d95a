"""Trained networks on one data set: from the store where they are, by their recipe where they are not, or from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from engine.architectures import library_of
from engine.compiled.changeover import Compile
from engine.compiled.stepper import stepper_of
from engine.data import Images
from engine.device import uses_bf16
from engine.errors import UserError
from engine.events import Event, Log
from engine.keeper import Keeper
from engine.measure import logits_of, logits_of_shared, measured, whole_labels
from engine.methods import Plan
from engine.models import Classifier, build_model
from engine.models.build import count_parameters
from engine.models.panel import TeacherPanel
from engine.models.placement import placed
from engine.models.tapped import renormalises
from engine.preset import CePart, Preset, TeacherPart, TrainPart
from engine.ranks import ALONE, Ranks
from engine.teachers.chance import chance_level, needed
from engine.teachers.foreign import load_fitting, refuse_unfit, sketch, unsaid
from engine.teachers.store import TeacherStore, content_key, digest
from engine.teachers.weights import pack, unpack
from engine.trainer import Phase, Trainer
from engine.version import version

REMEDY = {
    "checkpoint": "check its architecture, the order of its classes and how its pixels were scaled and normalised (mmkd teachers "
    "check)",
    "pretrained": "give it a recipe (train) by which it learns these classes",
}


@dataclass(frozen=True, slots=True)
class Trained:
    """A network that was trained on the labels alone, and what it says of the test split."""

    model: Classifier
    source: str  # "trained", "store", "checkpoint" or "pretrained"
    logits: Tensor  # [N, C], of the test split
    accuracy: float  # on the test split
    key: str | None  # in the store


def _anew(trainer: Trainer) -> None:
    """A training that begins at its beginning; a resumed run has it take up a checkpoint instead."""


@dataclass(frozen=True, slots=True)
class Classroom:
    """Where a preset's networks are trained on the labels: its data, where they are kept, and who is told."""

    preset: Preset
    images: Images
    store: TeacherStore
    device: torch.device
    emit: Callable[[Event], None]
    poll: Callable[[Trainer], None]
    begin: Callable[[Trainer], None] = _anew  # called before a training's first step
    keeper: Keeper | None = None
    spare: TeacherStore | None = None  # the run's own: keeps what the store does not take, and is looked in first
    glance: Callable[[], None] | None = None  # called now and then where no training is in hand; may raise
    ranks: Ranks = ALONE  # the processes that train together
    begun_with: int = 1  # so many ranks, before it was gone on with

    @property
    def bf16(self) -> bool:
        """What the preset's precision means here."""
        return uses_bf16(self.preset.hardware, self.device)

    @property
    def compile(self) -> Compile:
        """Whether steps are compiled: not where ranks exchange their gradients in the middle of one."""
        return self.preset.hardware.compile if self.ranks.size == 1 else "off"

    def teacher(self, part: TeacherPart, phase: Phase) -> Trained:
        """The teacher that a preset asks for."""
        if part.trained:
            teacher = self.trained(part.arch, part.seed, part.recipe, phase, pretrained=part.pretrained, sharded=self._sharded)
            model = teacher.model
            if part.features is not None:  # what the store keeps is the network, wherever its map is taken
                model = self._new(part)
                model.load_state_dict(teacher.model.state_dict())
                teacher = replace(teacher, model=model if self._sharded else model.to(self.device))
            if not self._better_than_guessing(teacher):
                reached = f"{100 * teacher.accuracy:.1f} %"
                self._log("warning", f"{phase.label} is no better than guessing ({reached}); a longer recipe helps")
            return self._laid_by(teacher)
        source = "checkpoint" if part.checkpoint else "pretrained"
        model = self._given(part, lambda message: self._log("info", message))
        teacher = self._measured(model, source, None, sharded=self._sharded)
        name, dataset = part.checkpoint or f"{part.arch} with its library's weights", self.preset.dataset.name
        if not torch.isfinite(teacher.logits).all():
            raise UserError(f"{name}: its logits on {dataset} are not all finite; it can be no teacher")
        if not self.preset.evaluate.accept_weak_teachers and not self._better_than_guessing(teacher):
            raise UserError(
                f"teacher {phase.label} ({name}) is no better than guessing on {dataset}: "
                f"{100 * teacher.accuracy:.1f} % of the test images where always naming the largest class gives "
                f"{100 * self._chance():.1f} %; {REMEDY[teacher.source]}, "
                "or go on all the same with evaluate.accept_weak_teachers: true"
            )
        return self._laid_by(teacher)

    def _laid_by(self, teacher: Trained) -> Trained:
        """Off the device until its turn comes, where the preset says so."""
        if self.preset.hardware.teachers != "resident":
            teacher.model.to("cpu")
        return teacher

    def _better_than_guessing(self, teacher: Trained) -> bool:
        return teacher.accuracy > needed(self._chance(), len(whole_labels(self.images.test.labels)))

    def _chance(self) -> float:
        return chance_level(whole_labels(self.images.test.labels))

    def _given(self, part: TeacherPart, say: Callable[[str], None] = lambda _: None) -> Classifier:
        """A teacher that needs no training; what was chosen among its file's tensors is told by `say`."""
        if part.checkpoint is None:
            return self._new(part, pretrained=True)
        path = Path(part.checkpoint)
        model = load_fitting(path, part.arch, lambda: self._new(part), say)
        if said := unsaid(part.arch, self.images.normalised, model.state_dict()):
            say(f"{path}: {said}")
        return model

    def refuse_unfit(self, part: TeacherPart) -> None:
        """UserError where a teacher's checkpoint cannot be read or does not fit; no tensor of it is read."""
        if part.checkpoint is not None:
            refuse_unfit(sketch(lambda: self._new(part)), Path(part.checkpoint), part.arch)

    def refuse_headless(self, part: TeacherPart) -> None:
        """UserError where a teacher has no head of its own that may be asked; its architecture says that."""
        if library_of(part.arch)[0] == "catalogue":
            return  # these all have one
        model = self._new(part).eval()
        try:
            with torch.no_grad():
                model.classify(torch.zeros(1, model.feature_channels, 1, 1))
        except UserError as error:
            raise UserError(f"{part.arch}: {error}") from error

    def as_planned(self, part: TeacherPart) -> tuple[Classifier, bool]:
        """A teacher from its checkpoint or from the store, and True; where it must be trained first, as it begins, and False."""
        if not part.trained:
            return self._given(part), True
        kept = self._kept(part, self._key(part.arch, part.seed, part.recipe, part.pretrained))
        return (self._new(part), False) if kept is None else (kept, True)

    @property
    def _sharded(self) -> bool:
        return self.preset.hardware.teachers == "sharded" and self.ranks.size > 1

    def trained(
        self, arch: str, seed: int, recipe: TrainPart, phase: Phase, *, pretrained: bool = False, sharded: bool = False
    ) -> Trained:
        """A network trained by a recipe, from the store if it is there; else it is trained and kept.

        `pretrained`: training begins with its library's weights. `sharded`: one from the store is measured by all ranks
        together, and need not fit on a device; one that is trained must.
        """
        key = self._key(arch, seed, recipe, pretrained)
        kept = self._kept(TeacherPart(arch=arch), key)
        if kept is not None:
            return self._measured(kept, "store", key, sharded=sharded)
        for why in (store.damaged[key] for store in self._stores if key in store.damaged):
            self._log("warning", f"{phase.label} cannot be taken from the store: {why}, and trained anew")

        part = CePart(name="ce")
        facts = self.images.facts
        plan = Plan(part, arch, facts.channels, self.images.classes, recipe.batch_size, bf16=self.bf16, size=facts.size)
        first = self._new(TeacherPart(arch=arch, seed=seed), pretrained=True) if pretrained else None
        if first is not None:
            plan = replace(plan, renormalised=renormalises(first))
        method = plan.build(seed, self.device)
        model = method.learner.student
        if first is not None:
            model.load_state_dict(first.state_dict())
        if self.bf16 and not method.learner.bf16:
            self._log("warning", f"{arch} cannot be computed in bfloat16; {phase.label} is trained in float32")
        trainer = Trainer(
            method,
            self.images,
            TeacherPanel([]),
            recipe,
            self.preset.evaluate,
            seed=seed,
            phase=phase,
            emit=self.emit,
            poll=self.poll,
            stepper=stepper_of(plan, self.compile, self._log),
            non_finite=self.preset.non_finite,
            keeper=self.keeper,
            ranks=self.ranks,
        )
        self.begin(trainer)
        best = trainer.run()
        found = trainer.with_best(lambda: self._measured(model, "trained", key))
        kept_facts = {
            "arch": arch,
            "dataset": self.preset.dataset.model_dump(mode="json"),
            "seed": seed,
            "recipe": recipe.model_dump(mode="json"),
            "accuracy": found.accuracy,
            "chosen_on": self.preset.evaluate.select_on,
            "chosen_accuracy": best.measurement.accuracy,
            "best_epoch": best.epoch,
            "parameters": count_parameters(model),
            "seconds": round(trainer.train_seconds, 1),
            "device": str(self.device),
            **({"ranks": self.ranks.size} if self.ranks.size > 1 else {}),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "version": version(),
            "torch": torch.__version__,
        }
        weights = pack(best.weights)
        try:
            kept_by = self.store.add(key, weights, kept_facts).facts.get("sha256")
        except OSError as error:
            # The network is at hand: a full disk must not cost it.
            why, then = error.strerror or str(error), self._spared(key, weights, kept_facts)
            self._log("warning", f"{phase.label} could not be kept in {self.store.root}: {why}; {then}")
            return found
        if not self.ranks.told([kept_by != digest(weights)])[0]:
            return found
        return self._of_another(arch, key, phase, sharded=sharded) or found

    def _spared(self, key: str, weights: bytes, facts: dict[str, Any]) -> str:
        """What becomes of a network that the store does not take, in words."""
        try:
            if self.spare is not None:
                return f"this run keeps it as {self.spare.add(key, weights, facts).path}"
        except OSError as error:
            why = error.strerror or str(error)
            return f"nor in the run's folder ({why}): once stopped, this run would have to begin anew"
        return "nor anywhere else"

    def _of_another(self, arch: str, key: str, phase: Phase, *, sharded: bool) -> Trained | None:
        """The network that another run has kept while this one trained the same: it is what a resumed run would find."""
        kept = self._kept(TeacherPart(arch=arch), key)
        if kept is None:
            return None
        self._log("info", f"another run has kept {phase.label} meanwhile, in other bits: those of the store are taken")
        return self._measured(kept, "store", key, sharded=sharded)

    def _key(self, arch: str, seed: int, recipe: TrainPart, pretrained: bool) -> str:
        return content_key(self.preset, arch, seed, recipe, ranks=self.begun_with, pretrained=pretrained)

    def _log(self, level: str, message: str) -> None:
        self.emit(Log(level=level, message=message))

    @property
    def _stores(self) -> list[TeacherStore]:
        return [self.store] if self.spare is None else [self.spare, self.store]

    def _kept(self, part: TeacherPart, key: str) -> Classifier | None:
        """The network in the run's own store or in that of all, if it is there; one that does not fit is set aside."""
        for store in self._stores:
            stored = store.find(key)
            if stored is None:
                continue
            model = self._new(part)
            try:
                model.load_state_dict(unpack(stored[1]))
            except (SafetensorError, RuntimeError, ValueError, KeyError):
                store.set_aside(key, f"it does not fit {part.arch}")  # and this model holds some of it now
                continue
            return model
        return None

    def _new(self, part: TeacherPart, pretrained: bool = False) -> Classifier:
        facts = self.images.facts
        return build_model(
            part.arch,
            facts.channels,
            self.images.classes,
            part.seed,
            size=facts.size,
            features=part.features,
            pretrained=pretrained,
            normalised=self.images.normalised,
        )

    def _measured(self, model: Classifier, source: str, key: str | None, *, sharded: bool = False) -> Trained:
        test, size = self.images.test, self.preset.evaluate.batch_size
        if sharded:
            panel = placed([model], self.device, "sharded", False, self._log, self.ranks)
            logits = logits_of_shared(panel, test, size, self.glance, self.ranks)
        else:
            logits = logits_of(model.to(self.device), test, size, self.glance, self.ranks)
        return Trained(model, source, logits, measured(logits, self.images.test.labels).accuracy, key)
