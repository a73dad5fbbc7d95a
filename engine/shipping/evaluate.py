"""Measures a model on a data set's test images, and beside it the teachers of its run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from engine import plugins
from engine.architectures import is_architecture
from engine.catalog import DATASETS, FOLDER, SHARDS, nearest
from engine.data import AnySplit, Images, load_images
from engine.errors import UserError
from engine.image_folders import of_size, own_part
from engine.models import Classifier, build_model
from engine.preprocessing import Preprocessing
from engine.preset import DatasetPart, Preset, TeacherPart
from engine.result import result_from
from engine.run_dir import RunDir, begun_with
from engine.shipping.facts import ModelFacts
from engine.shipping.material import batches, held_against
from engine.shipping.opening import Model
from engine.shipping.runners import Ask, Logits, NoRoomError, of_module, room_on
from engine.shipping.scores import Scores, agreement, scored
from engine.teachers.foreign import load_fitting
from engine.teachers.store import KEY, TeacherStore, content_key
from engine.teachers.weights import unpack
from engine.text import one_line
from engine.untrusted import read_object

BATCH = 256  # images a pass
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class TeacherScore:
    """A teacher on the same images; None where it is not at hand, and why."""

    name: str
    accuracy: float | None
    agreement: float | None  # share of images of which it says what the student says
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was found. `notes` is what has to be known to read it."""

    dataset: str
    classes: tuple[str, ...]
    scores: Scores
    teachers: tuple[TeacherScore, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        found = self.scores
        named = zip(self.classes, found.per_class, strict=True)
        return {
            "dataset": self.dataset,
            "images": found.images,
            "top1": found.top1,
            "top5": found.top5,
            "loss": found.loss,
            "calibration_error": found.calibration_error,
            "per_class": [{"class": name, "images": count, "accuracy": share} for name, (count, share) in named],
            "teachers": [
                {"name": t.name, "accuracy": t.accuracy, "agreement": t.agreement, "missing": t.missing or None}
                for t in self.teachers
            ],
            "notes": list(self.notes),
        }


def dataset_part(
    name: str,
    preset: Preset | None = None,
    size: int | None = None,
    split_seed: int | None = None,
    resize: int | None = None,
) -> DatasetPart:
    """What --data names: a data set of the catalogue, or a folder of pictures or shards; a run's own is split as in the run.

    `size`: pixels along a side, where pictures lie in files, and `resize` of their shorter side before. `split_seed`: by which a
    model's images were split, so that none of them is one to test on, wherever their folder lies now. UserError where it is
    neither, or its size is given already.
    """
    return of_size(_named(name, preset, split_seed or 0), size, resize)


def _named(name: str, preset: Preset | None, split_seed: int) -> DatasetPart:
    if preset is not None and name == preset.dataset.name:
        return preset.dataset
    if name in DATASETS and not DATASETS[name].own:
        return DatasetPart(name=name)
    if name in ("", FOLDER, SHARDS):
        raise UserError("which images it is to be measured on is not known; name a data set or a folder of pictures by --data")
    folder = Path(name).expanduser()
    if folder.is_dir():
        if preset and preset.dataset.path and Path(preset.dataset.path).expanduser().resolve() == folder.resolve():
            return preset.dataset
        return own_part(folder, split_seed)
    likely = nearest(name, DATASETS)
    hint = f"did you mean '{likely}'?" if likely else f"for example {', '.join(list(DATASETS)[:5])}"
    raise UserError(f"--data {one_line(name, 80)}: there is no data set of that name, and no such folder of pictures; {hint}")


def facts_of(images: Images) -> ModelFacts:
    """What a data set says of a model whose file says nothing: classes in its order, its own normalisation."""
    mean, std = (tuple(value.flatten().tolist()) for value in (images.train.mean, images.train.std))
    prepared = Preprocessing.of(images.facts, mean, std)
    return ModelFacts("", images.facts.name, images.facts.classes, prepared)


@contextmanager
def opened_images(part: DatasetPart, data_root: Path, device: torch.device, say: Say) -> Iterator[Images]:
    """A data set; what is broken in it is told by `say`. UserError where it is not there."""
    if part.path is not None and not Path(part.path).expanduser().is_dir():
        raise UserError(
            f"its pictures were in {one_line(part.path, 300)}, and are there no more; say by --data which folder has them"
        )
    images = load_images(part, data_root, device)
    images.troubles.listen(lambda level, message: say(message) if level != "info" else None)
    try:
        yield images
    finally:
        images.close()


def logits_on(split: AnySplit, prepared: Preprocessing, asks: list[Ask], batch_size: int = BATCH) -> list[Tensor]:
    """What each says of a split's images, [N, C] each on the CPU; every image is decoded once."""
    rows: list[list[Tensor]] = [[] for _ in asks]
    for batch in batches(split, prepared, batch_size):
        for found, ask in zip(rows, asks, strict=True):
            found.append(ask(batch.images))
    return [torch.cat(found) for found in rows]


def evaluate(model: Model, images: Images, teachers: list[tuple[str, Classifier | str]]) -> Evaluation:
    """`teachers`: of the model's run, by their labels; for one that is not at hand, why."""
    test, notes = held_against(model.facts, images)
    own, *others = _answers(model, [Logits(teacher).eval() for _, teacher in teachers if not isinstance(teacher, str)], test)
    model.checked(own)
    if not torch.isfinite(own).all():
        raise UserError(f"{model.name} gives logits that are not finite numbers; it cannot be measured")
    labels = test.labels.cpu()
    answers = iter(others)
    found = []
    for name, teacher in teachers:
        if isinstance(teacher, str):
            found.append(TeacherScore(name, None, None, teacher))
            continue
        theirs = next(answers)
        found.append(TeacherScore(name, scored(theirs, labels).top1, agreement(own, theirs, labels)))
    return Evaluation(images.facts.name, model.facts.classes, scored(own, labels), tuple(found), tuple(notes))


def _answers(model: Model, networks: list[Logits], split: AnySplit) -> list[Tensor]:
    """[N, C] of the model, and of each network on its device: side by side, or where that has no room, one after the other.

    NoRoomError where it has none for one.
    """
    prepared, device = model.facts.preprocessing, model.device
    try:
        return logits_on(split, prepared, [model.ask, *(_placed(network, device) for network in networks)])
    except NoRoomError:
        if not networks:
            raise
    for network in networks:
        network.to("cpu")
    found = logits_on(split, prepared, [model.ask])
    for network in networks:
        found += logits_on(split, prepared, [_placed(network, device)])
        network.to("cpu")
    return found


def _placed(network: Logits, device: torch.device) -> Ask:
    with room_on(device):
        return of_module(network.to(device), device)


def teachers_of(folder: Path, preset: Preset, facts: ModelFacts, store: TeacherStore) -> list[tuple[str, Classifier | str]]:
    """The teachers of the run in `folder` from their checkpoints and from the store; for one that is neither there nor readable,
    why.
    """
    run = RunDir(folder)
    result = result_from(read_object(run.result) or {}) or {}
    # What the run itself says: a key made now would be another one where its pictures have changed since.
    said = {teacher["name"]: teacher["key"] for teacher in result.get("teachers", ())}
    labelled = zip(preset.teacher_labels, preset.teachers, strict=True)
    return [(label, _teacher(preset, run, part, facts, store, said.get(label))) for label, part in labelled]


def _teacher(
    preset: Preset, run: RunDir, part: TeacherPart, facts: ModelFacts, store: TeacherStore, said: str | None
) -> Classifier | str:
    """`said`: its key in the store, where the run has told it."""
    if not is_architecture(part.arch):
        return plugins.missing(part.arch, run.meta)
    prepared = facts.preprocessing

    def make() -> Classifier:
        size = prepared.size
        return build_model(part.arch, prepared.channels, len(facts.classes), part.seed, size=size, features=part.features)

    try:
        if part.checkpoint is not None:
            return load_fitting(Path(part.checkpoint), part.arch, make)
        if not part.trained:
            return "its library's weights are not kept by runs"
        key = said if said and KEY.fullmatch(said) else None
        if key is None:
            ranks = begun_with(run)
            key = content_key(preset, part.arch, part.seed, part.recipe, ranks=ranks, pretrained=part.pretrained)
        kept = store.find(key)
        if kept is None:
            return store.damaged.get(key, f"it is not in {store.root}")
        model = make()
        model.load_state_dict(unpack(kept[1]))
        return model
    except (UserError, OSError, SafetensorError, RuntimeError) as error:
        return one_line(str(error), 300)
