"""What a run keeps of the test images: every figure against a computation of its own, and nothing of the run is changed by it."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.presets import tiny
from support.training import make_trainer
from torch import Tensor

from engine import Run
from engine.analyse import analysed, leave_analysis
from engine.analysis import Analysis, read_analysis
from engine.data.images import LEFT_OUT, Split
from engine.errors import AwayError
from engine.events import Event, Log
from engine.measure import logits_of
from engine.models.panel import TeacherPanel
from engine.randomness import permutation
from engine.run_dir import RunDir
from engine.trainer import Trainer

BATCH = 32


class Case:
    """A student that learned for an epoch, teachers of random weights, one test image that cannot be read."""

    def __init__(self, *overrides: str) -> None:
        self.trainer: Trainer = make_trainer(tiny("train.epochs=1", *overrides))
        self.trainer.run()
        self.method, self.panel = self.trainer.method, self.trainer.panel
        assert isinstance(self.panel, TeacherPanel)
        split = self.trainer.images.test
        assert isinstance(split, Split)
        self.split = split.labelled(torch.where(torch.arange(len(split)) == 7, LEFT_OUT, split.labels))
        self.student = logits_of(self.trainer.student, split, 64)
        self.teachers = [logits_of(teacher, split, 64) for teacher in self.panel.teachers]
        self.found: Analysis = self.analysed()

    def analysed(self) -> Analysis:
        return analysed(
            self.method, self.panel, self.split, self.student, self.teachers, batch_size=BATCH, seed=5, poll=lambda: None
        )  # fmt: skip

    @property
    def kept(self) -> list[int]:
        return [n for n in range(len(self.split)) if n != 7]

    def average(self) -> Tensor:
        return torch.stack([logits.double().softmax(1) for logits in self.teachers]).mean(0)


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


def test_confusions_and_who_is_right(case: Case) -> None:
    found, labels = case.found, case.split.labels.tolist()
    own, together = case.student.argmax(1).tolist(), case.average().argmax(1).tolist()
    counts = Counter((labels[n], own[n]) for n in case.kept)
    assert found.images == len(case.kept)
    assert found.confusion.classes == tuple(range(10))
    assert all(found.confusion.student[a][b] == counts[a, b] for a in range(10) for b in range(10))
    average = Counter((labels[n], together[n]) for n in case.kept)
    assert found.confusion.ensemble is not None
    assert all(found.confusion.ensemble[a][b] == average[a, b] for a in range(10) for b in range(10))
    for teacher, logits in zip(found.confusion.teachers, case.teachers, strict=True):
        assert np.trace(np.array(teacher)) == sum(int(logits[n].argmax()) == labels[n] for n in case.kept)
    agreement = found.agreement
    assert agreement is not None
    alone = [n for n in case.kept if own[n] != labels[n] and together[n] == labels[n]]
    assert agreement.student_wrong == len(alone) > 0
    assert agreement.teachers_wrong == sum(own[n] == labels[n] != together[n] for n in case.kept)
    assert agreement.both_right == sum(own[n] == labels[n] == together[n] for n in case.kept)
    commonest = agreement.student_mistakes[0]
    assert commonest.images == max(Counter((labels[n], own[n]) for n in alone).values())
    these = [n for n in alone if (labels[n], own[n]) == (commonest.label, commonest.predicted)]
    assert commonest.right == tuple(sum(int(z[n].argmax()) == labels[n] for n in these) for z in case.teachers)


def test_the_hardest_images(case: Case) -> None:
    losses = {n: -float(case.student[n].double().log_softmax(0)[case.split.labels[n]]) for n in case.kept}
    hardest = case.found.hardest
    assert [image.number for image in hardest] == sorted(losses, key=lambda n: -losses[n])[:24]
    for image in hardest[:3]:
        assert image.loss == pytest.approx(losses[image.number], abs=1e-4)
        shares = case.student[image.number].softmax(0)
        assert image.student.predicted == int(shares.argmax())
        assert image.student.probability == pytest.approx(float(shares.max()), abs=1e-4)
        picture = np.asarray(Image.open(io.BytesIO(image.png)))
        assert np.array_equal(picture, case.split.pixels[image.number, 0].numpy())


def test_who_was_trusted(case: Case) -> None:
    """a = softmax(W2 relu(W1 [z_1; ...; z_K; z_s] + b1) + b2), and b the same of the image's row of each Gram matrix."""
    nets = dict(case.method.nets.named_parameters())  # type: ignore[union-attr, operator]

    def weights(net: str, x: Tensor) -> Tensor:
        hidden = (nets[f"{net}.hidden.weight"] @ x + nets[f"{net}.hidden.bias"]).clamp(min=0)
        return (nets[f"{net}.output.weight"] @ hidden + nets[f"{net}.output.bias"]).softmax(0).detach()

    taken = {image.number for image in case.found.hardest}
    order = [case.kept[n] for n in permutation(len(case.kept), 5, "analysis batch").tolist()]
    others = [n for n in order if n not in taken][: BATCH - 1]
    student = case.trainer.student.eval()
    for image in case.found.hardest[:4]:
        n = image.number
        a = weights("logit", torch.cat([*(logits[n] for logits in case.teachers), case.student[n]]))
        assert [one.logit_weight for one in image.teachers] == pytest.approx(a.tolist(), abs=1e-4)
        images = (case.split.pixels[[n, *others]] - case.split.mean) / case.split.std
        rows = []
        for network in (*case.panel.teachers, student):  # type: ignore[union-attr]
            maps = network(images).features.flatten(1)
            products = torch.stack([maps[0] @ one for one in maps])
            rows.append(products / products.norm())
        b = weights("feature", torch.cat(rows))
        assert [one.feature_weight for one in image.teachers] == pytest.approx(b.tolist(), abs=1e-3)


def test_what_the_weights_are_worth(case: Case) -> None:
    trust, labels = case.found.logit_weights, case.split.labels
    assert trust is not None
    with torch.no_grad():
        a = case.method.nets.logit_weights(case.teachers, case.student)[case.kept]  # type: ignore[union-attr, operator]
    right = (case.teachers[1].argmax(1) == labels)[case.kept]
    assert trust.mean == pytest.approx(a.mean(0).tolist(), abs=1e-4)
    assert trust.where_right[1] == pytest.approx(float(a[right, 1].mean()), abs=1e-4)
    assert trust.where_wrong[1] == pytest.approx(float(a[~right, 1].mean()), abs=1e-4)
    shares = torch.stack([logits.softmax(1) for logits in case.teachers], 1)[case.kept]
    votes = torch.einsum("nk,nkc->nc", a, shares).argmax(1)
    assert trust.accuracy == pytest.approx(float((votes == labels[case.kept]).float().mean()), abs=1e-6)
    assert [sum(line) for line in trust.histogram] == [len(case.kept)] * 2


def test_it_changes_nothing(case: Case) -> None:
    before = {name: value.clone() for name, value in case.method.state_dict().items()}
    case.method.train()
    generator = torch.get_rng_state()
    assert case.analysed() == case.found
    assert case.method.learner.training
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[name]) for name, value in case.method.state_dict().items())


@pytest.mark.parametrize(
    ("method", "logits", "features"),
    [("{name: aver}", False, False), ("{name: ebkd}", True, False), ("{name: camkd, beta: 1}", True, True),
     ("{name: aekd}", False, False), ("{name: mmkd, beta: 1, weigh: features, meta: {buffer_size: 40}}", False, True)],
)  # fmt: skip
def test_weights_are_there_where_a_method_gives_an_image_its_own(method: str, logits: bool, features: bool) -> None:
    found = Case(f"method={method}").found
    assert (found.logit_weights is not None) == logits
    guesses = [one for image in found.hardest for one in image.teachers]
    for kind, given in (("logit", logits), ("feature", features)):
        weights = [getattr(one, f"{kind}_weight") for one in guesses]
        assert all((weight is not None) == given for weight in weights)
        if given:
            assert sum(weights) == pytest.approx(len(found.hardest), abs=1e-3)


def test_of_many_classes_those_that_differ_most() -> None:
    """A hundred classes: class 90 is taken for 40 by the student alone, and nothing else is as common."""
    case = Case("method={name: aver}")
    labels = torch.arange(len(case.split)) % 100
    exact = torch.nn.functional.one_hot(labels, 100).float() * 9
    student = exact.clone()
    student[labels == 90] = exact[40]
    found = analysed(
        case.method, case.panel, case.split.labelled(labels), student, [exact, exact], batch_size=BATCH, seed=0, poll=lambda: None
    )  # fmt: skip
    count = int((labels == 90).sum())
    assert found.confusion.classes == (40, 90)
    assert found.confusion.student[1] == (count, 0)
    assert [(p.label, p.predicted, p.student, p.ensemble, p.teachers) for p in found.pairs] == [(90, 40, count, 0, (0, 0))]


def executed(folder: Path, *overrides: str) -> tuple[Run, list[Event]]:
    events: list[Event] = []
    run = Run(tiny("train.epochs=1", "hardware.threads=1", "evaluate.student_alone=false", *overrides), folder)
    run.subscribe(events.append)
    assert run.execute().state == "done"
    return run, events


def test_a_run_leaves_it(tmp_path: Path) -> None:
    run, _ = executed(tmp_path / "run")
    found, result = read_analysis(tmp_path / "run" / "analysis.json"), run.result
    assert found is not None
    assert found.agreement is not None
    assert result is not None
    assert (found.agreement.both_right + found.agreement.teachers_wrong) / found.images == result.student_accuracy
    assert (found.agreement.both_right + found.agreement.student_wrong) / found.images == result.ensemble_accuracy
    for teacher, counts in zip(result.teachers, found.confusion.teachers, strict=True):
        assert np.trace(np.array(counts)) / found.images == teacher.accuracy


def test_a_run_that_cannot_leave_it_has_its_result(tmp_path: Path) -> None:
    (tmp_path / "run" / "analysis.json").mkdir(parents=True)
    run, events = executed(tmp_path / "run", "method={name: ce}", "teachers=[]")
    warnings = [event.message for event in events if isinstance(event, Log) and event.level == "warning"]
    assert [warning for warning in warnings if warning.startswith("analysis.json could not be written: ")]
    assert run.result is not None
    assert run.result.student_accuracy is not None


def test_without_teachers(tmp_path: Path) -> None:
    executed(tmp_path / "run", "method={name: ce}", "teachers=[]")
    found = read_analysis(tmp_path / "run" / "analysis.json")
    assert found is not None
    assert (found.teachers, found.agreement, found.confusion.ensemble) == (0, None, None)
    assert len(found.hardest) == 24


def test_pictures_that_cannot_be_read_now_cost_a_run_its_analysis_alone(tmp_path: Path) -> None:
    def away() -> Analysis:
        raise AwayError("a.jpg", "Stale file handle")

    said: list[tuple[str, str]] = []
    leave_analysis(RunDir(tmp_path), away, lambda *line: said.append(line))
    ((level, message),) = said
    assert level == "warning"
    assert message.startswith(
        "analysis.json could not be written: a.jpg cannot be read now: Stale file handle; reports go without"
    )
