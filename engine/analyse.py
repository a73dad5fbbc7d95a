"""Looks at a trained student beside its teachers on the test split: confusions, the hardest images, and who was trusted on them.

Reads what the run has computed already (the networks' logits on the test split); beyond that it costs a pass of a batch or two.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from engine.analysis import (
    BINS,
    HARDEST,
    MOST_CLASSES,
    MOST_PICTURE,
    MOST_TEACHERS,
    PAIRS,
    SHOWN,
    SIDE,
    Agreement,
    Analysis,
    Confusion,
    Counts,
    Guess,
    HardImage,
    Mistake,
    Pair,
    Trust,
    analysis_text,
)
from engine.data import AnySplit, Batch
from engine.data.augment import FixedViews
from engine.data.images import LEFT_OUT
from engine.errors import AwayError, StoppedError, TrainingError
from engine.measure import ensemble
from engine.methods import Method
from engine.methods.base import LearnerOutput, sizes_of
from engine.models import Classifier, Output, paired
from engine.models.panel import TeacherPanel
from engine.paths import write_whole
from engine.randomness import permutation
from engine.run_dir import RunDir

PIECE = 2048  # images whose logits are worked on at a time

Numbers = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]
Poll = Callable[[], None]


def leave_analysis(folder: RunDir, analyse: Callable[[], Analysis], log: Callable[[str, str], None]) -> None:
    """Writes `analysis.json`. What goes wrong with it is a warning: a run has its result all the same.

    A run that is asked to stop here is over but for this file: it goes without one.
    """

    def warn(why: str) -> None:
        log("warning", f"{folder.analysis.name} could not be written: {why}; reports go without confusions and hardest images")

    try:
        write_whole(folder.analysis, analysis_text(analyse()))
    except StoppedError:
        log("info", "the analysis of the test images was left out, as the run was asked to stop")
    except AwayError as error:
        warn(error.said)
    except TrainingError:  # the run's folder is lost
        raise
    except Exception as error:
        warn(getattr(error, "strerror", None) or str(error) or type(error).__name__)


@torch.no_grad()
def analysed(
    method: Method,
    panel: TeacherPanel,
    split: AnySplit,
    student: Tensor,
    teachers: Sequence[Tensor],
    *,
    batch_size: int,
    seed: int,
    poll: Poll,
) -> Analysis:
    """Of the student in `method.learner`, as it is now. `panel` is asked where the method weighs feature maps.

    `student` [N, C] and `teachers`, K times [N, C]: their logits on `split`, in its order. `batch_size`: the training's, to which
    MMKD's feature net is tied. Nothing is changed: modes are put back, and no generator is drawn from but by position.
    """
    classes = student.shape[1]
    if classes > MOST_CLASSES or len(teachers) > MOST_TEACHERS:
        raise ValueError(f"{classes:,} classes and {len(teachers)} teachers are more than it holds")
    labels = split.labels
    kept = (labels != LEFT_OUT).nonzero().flatten().cpu()
    weights, averaged = _over_pieces(method, labels, student, teachers)
    true = labels.cpu().numpy()[kept]
    own = _predictions(student)[kept]
    said = [_predictions(logits)[kept] for logits in teachers]
    together = averaged.numpy()[kept] if teachers else None
    losses = np.concatenate([_losses(student[at], labels[at]) for at in _pieces(len(labels))])[kept]
    order = np.argsort(-np.where(np.isfinite(losses), losses, np.inf), kind="stable")[:HARDEST]
    hard = kept[torch.from_numpy(order)]
    pairs = _pairs(true, own, together, said)
    return Analysis(
        images=len(kept),
        classes=classes,
        teachers=len(teachers),
        confusion=_confusion(_shown(true, own, together, classes), true, own, together, said),
        pairs=pairs,
        agreement=None if together is None else _agreement(true, own, together, said),
        logit_weights=None if weights is None else _trust(weights.double().numpy()[kept], true, said, teachers, labels, kept),
        hardest=_hardest(method, panel, split, hard, kept, student, teachers, weights, losses[order], batch_size, seed, poll),
    )


def _pieces(count: int) -> list[slice]:
    return [slice(start, start + PIECE) for start in range(0, count, PIECE)]


def _predictions(logits: Tensor) -> Numbers:
    found: Numbers = logits.argmax(1).cpu().numpy()
    return found


def _losses(logits: Tensor, labels: Tensor) -> Weights:
    found: Weights = F.cross_entropy(logits.double(), labels, ignore_index=LEFT_OUT, reduction="none").cpu().numpy()
    return found


def _over_pieces(method: Method, labels: Tensor, student: Tensor, teachers: Sequence[Tensor]) -> tuple[Tensor | None, Tensor]:
    """The method's logit weights [N, K], if it gives any, and what the teachers' average predicts, [N]; on the CPU."""
    weights, predictions = [], []
    for at in _pieces(len(labels)) if teachers else ():
        said = [logits[at] for logits in teachers]
        predictions.append(ensemble(said).argmax(1).cpu())
        if "logit" in method.weighs_samples:
            weights.append(method.logit_weights_of(student[at], said, labels[at]).float().cpu())
    return torch.cat(weights) if weights else None, torch.cat(predictions) if predictions else torch.empty(0)


def _counted(true: Numbers, predicted: Numbers) -> dict[tuple[int, int], int]:
    """How often each pair of classes occurs; classes may be many, pairs are at most as many as images."""
    pairs, counts = np.unique(np.stack([true, predicted]), axis=1, return_counts=True)
    return {(int(a), int(b)): int(count) for a, b, count in zip(*pairs, counts, strict=True)}


def _differing(true: Numbers, own: Numbers, together: Numbers | None) -> list[tuple[int, int]]:
    """Pairs of unlike classes, those first in which student and teachers differ most."""
    mine, theirs = _counted(true, own), {} if together is None else _counted(true, together)
    pairs = {pair for pair in (*mine, *theirs) if pair[0] != pair[1]}
    return sorted(pairs, key=lambda pair: (-abs(mine.get(pair, 0) - theirs.get(pair, 0)), -mine.get(pair, 0), pair))


def _shown(true: Numbers, own: Numbers, together: Numbers | None, classes: int) -> list[int]:
    """All classes, or those between which student and teachers differ most."""
    if classes <= SHOWN:
        return list(range(classes))
    found: dict[int, None] = {}
    for pair in _differing(true, own, together):
        if len(found.keys() | set(pair)) <= SHOWN:
            found |= dict.fromkeys(pair)
    return sorted(found)


def _confusion(shown: list[int], true: Numbers, own: Numbers, together: Numbers | None, said: Sequence[Numbers]) -> Confusion:
    def counts(predicted: Numbers) -> Counts:
        found = _counted(true, predicted)
        return tuple(tuple(found.get((label, other), 0) for other in shown) for label in shown)

    ensembles = None if together is None else counts(together)
    return Confusion(tuple(shown), counts(own), ensembles, tuple(counts(one) for one in said))


def _pairs(true: Numbers, own: Numbers, together: Numbers | None, said: Sequence[Numbers]) -> tuple[Pair, ...]:
    mine, theirs = _counted(true, own), None if together is None else _counted(true, together)
    each = [_counted(true, one) for one in said]
    wrong = sorted((pair for pair in mine if pair[0] != pair[1]), key=lambda pair: (-mine[pair], pair))
    chosen = dict.fromkeys([*wrong[:PAIRS], *_differing(true, own, together)[:PAIRS]])
    return tuple(
        Pair(*pair, mine.get(pair, 0), None if theirs is None else theirs.get(pair, 0), tuple(one.get(pair, 0) for one in each))
        for pair in sorted(chosen, key=lambda pair: (-mine.get(pair, 0), pair))
    )


def _agreement(true: Numbers, own: Numbers, together: Numbers, said: Sequence[Numbers]) -> Agreement:
    mine, theirs = own == true, together == true
    right = np.stack([one == true for one in said])  # [K, N]

    def mistakes(where: npt.NDArray[np.bool_], predicted: Numbers) -> tuple[Mistake, ...]:
        found = []
        for (label, other), count in _counted(true[where], predicted[where]).items():
            here = where & (true == label) & (predicted == other)
            found.append(Mistake(label, other, count, tuple(int(number) for number in right[:, here].sum(1))))
        return tuple(sorted(found, key=lambda one: (-one.images, one.label, one.predicted))[:PAIRS])

    only_mine, only_theirs = ~mine & theirs, mine & ~theirs
    return Agreement(
        both_right=int((mine & theirs).sum()),
        student_wrong=int(only_mine.sum()),
        teachers_wrong=int(only_theirs.sum()),
        both_wrong=int((~mine & ~theirs).sum()),
        student_mistakes=mistakes(only_mine, own),
        teacher_mistakes=mistakes(only_theirs, together),
    )


def _trust(
    weights: Weights, true: Numbers, said: Sequence[Numbers], teachers: Sequence[Tensor], labels: Tensor, kept: Tensor
) -> Trust:
    """`weights` [n, K] of the n images that count."""
    right = np.stack([one == true for one in said], 1)  # [n, K]

    def mean(where: npt.NDArray[np.bool_], k: int) -> float | None:
        return _round(float(weights[where, k].mean())) if where.any() else None

    every = range(weights.shape[1])
    first = np.bincount(weights.argmax(1), minlength=weights.shape[1]) / len(weights)
    bins = np.clip((weights * BINS).astype(np.int64), 0, BINS - 1)
    votes = np.zeros((2, len(true)), np.int64)  # by these weights, and by equal ones
    place = torch.from_numpy(weights).to(labels.device, torch.float32)
    for at in _pieces(len(true)):
        rows = kept[at].to(labels.device)
        shares = torch.stack([logits[rows].softmax(1) for logits in teachers], 1)  # [n, K, C]
        votes[0, at] = (place[at, :, None] * shares).sum(1).argmax(1).cpu().numpy()
        votes[1, at] = ensemble([logits[rows] for logits in teachers]).argmax(1).cpu().numpy()
    accuracy = (votes == true).mean(1)
    return Trust(
        mean=tuple(_round(float(value)) for value in weights.mean(0)),
        spread=tuple(_round(float(value)) for value in weights.std(0)),
        where_right=tuple(mean(right[:, k], k) for k in every),
        where_wrong=tuple(mean(~right[:, k], k) for k in every),
        first=tuple(_round(float(value)) for value in first),
        histogram=tuple(tuple(int(n) for n in np.bincount(bins[:, k], minlength=BINS)) for k in every),
        accuracy=float(accuracy[0]),
        plain_accuracy=float(accuracy[1]),
    )


def _hardest(
    method: Method,
    panel: TeacherPanel,
    split: AnySplit,
    hard: Tensor,
    kept: Tensor,
    student: Tensor,
    teachers: Sequence[Tensor],
    logit_weights: Tensor | None,
    losses: Weights,
    batch_size: int,
    seed: int,
    poll: Poll,
) -> tuple[HardImage, ...]:
    poll()
    batch = _plain(split, hard)
    labels = split.labels[hard.to(split.labels.device)]
    pictures = [_png(image) for image in batch.images * split.std + split.mean]
    feature_weights = None
    if "feature" in method.weighs_samples:
        feature_weights = _feature_weights(method, panel, split, hard, kept, batch, batch_size, seed, poll)

    def guesses(logits: Tensor) -> list[Guess]:
        shares = logits.double().softmax(1).cpu()
        return [
            Guess(int(row.argmax()), _finite(row[row.argmax()]), _finite(row[label]))
            for row, label in zip(shares, labels.tolist(), strict=True)
        ]

    rows = hard.to(student.device)
    own = guesses(student[rows])
    together = guesses(ensemble([logits[rows] for logits in teachers])) if teachers else [None] * len(hard)
    columns = []
    for k, logits in enumerate(teachers):
        columns.append(
            [
                replace(
                    guess,
                    logit_weight=None if logit_weights is None else _finite(logit_weights[hard[n], k]),
                    feature_weight=None if feature_weights is None else _finite(feature_weights[n, k]),
                )
                for n, guess in enumerate(guesses(logits[rows]))
            ]
        )
    return tuple(
        HardImage(
            number=int(number),
            label=int(labels[n]),
            loss=_round(float(losses[n])) if math.isfinite(losses[n]) else None,
            student=own[n],
            ensemble=together[n],
            teachers=tuple(column[n] for column in columns),
            png=pictures[n],
        )
        for n, number in enumerate(hard.tolist())
    )


def _feature_weights(
    method: Method,
    panel: TeacherPanel,
    split: AnySplit,
    hard: Tensor,
    kept: Tensor,
    batch: Batch,
    batch_size: int,
    seed: int,
    poll: Poll,
) -> Tensor:
    """[n, K] of the n hard images: each as the first of a batch whose other images are drawn from the rest of the split.

    MMKD's feature weights of an image depend on the batch that it is in; the same others for all make them comparable.
    """
    ours = set(hard.tolist())
    others = kept[permutation(len(kept), seed, "analysis batch")]
    others = torch.tensor([number for number in others.tolist() if number not in ours][: batch_size - 1] or hard.tolist())
    learner = method.learner
    training = learner.training
    learner.eval()
    try:
        poll()
        rows = _asked(method, panel, batch)
        joined = [part[:1].clone() for part in rows]
        if batch_size > 1:
            poll()
            filling = _asked(method, panel, _plain(split, others[torch.arange(batch_size - 1) % len(others)]))
            joined = [torch.cat(parts) for parts in zip(joined, filling, strict=True)]
        found = []
        for n in range(len(hard)):
            poll()
            for into, given in zip(joined, rows, strict=True):
                into[0] = given[n]
            found.append(_weighed(method, len(panel.teachers), joined))
    finally:
        learner.train(training)
    return torch.stack(found)


def _asked(method: Method, panel: TeacherPanel, batch: Batch) -> list[Tensor]:
    """Tensors with a row for each image: labels, what the teachers say, what the learner says."""
    said = [_said(teacher, batch.images) for teacher in panel.teachers]
    output: LearnerOutput = method.learner(batch.images, sizes_of(said) if len(method.learner.regressors) else ())
    return [batch.labels, *(part for one in said for part in one), output.logits, output.features, *output.regressed]


def _said(teacher: Classifier, images: Tensor) -> Output:
    """By itself, as it is measured: the panel's quicker copies may not have been made. One that lives elsewhere is moved here."""
    home = next(teacher.parameters()).device
    try:
        return Output(*(part.float() for part in teacher.to(images.device)(images)))
    finally:
        teacher.to(home)


def _weighed(method: Method, count: int, rows: Sequence[Tensor]) -> Tensor:
    """[K]: the first image's feature weights, from what `_asked` found of its batch."""
    labels, said, (logits, features, *regressed) = rows[0], rows[1 : 1 + 2 * count], rows[1 + 2 * count :]
    output = LearnerOutput(logits, features, regressed, features)
    return method.feature_weights_of(output, paired(said), labels)[0].float().cpu()


def _plain(split: AnySplit, numbers: Tensor) -> Batch:
    """The images of these numbers as they are, whatever is done to others in training."""
    return next(split.viewed([numbers], FixedViews(None, 1), 0))


def _png(image: Tensor) -> bytes:
    """An image [channels, H, W] on the scale of 0 to 255, at most SIDE pixels along a side; none where it has no colours."""
    pixels = image.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    if pixels.shape[2] not in (1, 3):
        return b""
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue() if file.tell() <= MOST_PICTURE else b""


def _finite(value: Tensor) -> float | None:
    number = float(value)
    return _round(number) if math.isfinite(number) else None


def _round(value: float) -> float:
    return round(value, 5)
