"""Each method's loss and weights against the papers' formulas, computed by NumPy in float64."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support.nets import method_case, random_batch

from engine.methods.aekd import shortest
from engine.methods.base import Method, Step
from engine.methods.camkd import confidence_weights
from engine.methods.ebkd import entropy_weights
from engine.models import Output
from engine.models.regressor import LearnerOutput
from engine.preset import METHOD_PARTS

TEACHERS = ("resnet14", "vgg8", "resnet8")  # the maps of the second are smaller than the student's
TEMPERATURE = 3.0
GAMMA, ALPHA, BETA = 0.7, 1.3, 2.0


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def cross_entropies(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return -np.log(softmax(logits)[np.arange(len(labels)), labels])


class Said:
    """What student and teachers say of a batch, as arrays, and the losses between them."""

    def __init__(self, output: LearnerOutput, teachers: list[Output], labels: torch.Tensor) -> None:
        self.student, self.labels = output.logits.detach().numpy(), labels.numpy()
        self.mapped = [r.detach().numpy() for r in output.regressed]
        self.teachers = [t.logits.numpy() for t in teachers]
        self.features = [t.features.numpy() for t in teachers]

    @property
    def ce(self) -> float:
        return float(cross_entropies(self.student, self.labels).mean())

    @property
    def kl(self) -> np.ndarray:
        q = softmax(self.student / TEMPERATURE)
        ps = [softmax(z / TEMPERATURE) for z in self.teachers]
        return np.stack([TEMPERATURE**2 * (p * np.log(p / q)).sum(1) for p in ps], axis=1)

    @property
    def distances(self) -> np.ndarray:
        columns = []
        for own, mapped in zip(self.features, self.mapped, strict=True):
            factor = own.shape[2] // mapped.shape[2]
            b, c, h, w = mapped.shape
            pooled = own.reshape(b, c, h, factor, w, factor).mean((3, 5))
            columns.append(((pooled - mapped) ** 2).reshape(b, -1).mean(1))
        return np.stack(columns, axis=1)


def stepped(name: str, **settings: Any) -> tuple[Method, Step, Said]:
    """A step of the method, and what it was computed from."""
    method, panel = method_case(name, TEACHERS, gamma=GAMMA, alpha=ALPHA, temperature=TEMPERATURE, **settings)
    batch, teachers = random_batch(panel, 8, seed=3)
    seen: list[LearnerOutput] = []
    method.learner.register_forward_hook(lambda module, given, output: seen.append(output))
    step = method.step(batch, teachers)
    return method, step, Said(seen[0], teachers, batch.labels)


def check(
    step: Step, said: Said, logit_weights: np.ndarray, feature_weights: np.ndarray | None, tolerance: float = 1e-10
) -> None:
    assert step.logit_weights is not None
    np.testing.assert_allclose(step.logit_weights, logit_weights, atol=tolerance)
    assert not step.logit_weights.requires_grad
    expected = GAMMA * said.ce + ALPHA * (logit_weights * said.kl).sum(1).mean()
    if feature_weights is None:
        assert step.feature is None
        assert step.feature_weights is None
    else:
        assert step.feature_weights is not None
        assert not step.feature_weights.requires_grad
        np.testing.assert_allclose(step.feature_weights, feature_weights, atol=tolerance)
        expected += BETA * (feature_weights * said.distances).sum(1).mean()
    assert step.loss.item() == pytest.approx(expected, rel=max(tolerance, 1e-9))


def by_confidence(predictions: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
    exponentials = np.exp(np.stack([cross_entropies(z, labels) for z in predictions], axis=1))
    return (1 - exponentials / exponentials.sum(1, keepdims=True)) / (len(predictions) - 1)


def test_fitnet() -> None:
    _, step, said = stepped("fitnet", beta=BETA)
    equal = np.full((8, 3), 1 / 3)
    check(step, said, equal, equal)


def test_ebkd() -> None:
    _, step, said = stepped("ebkd")
    entropies = np.stack([-(p * np.log(p)).sum(1) for p in map(softmax, said.teachers)], axis=1)
    check(step, said, (1 - entropies / entropies.sum(1, keepdims=True)) / 2, None)


def test_camkd() -> None:
    _, step, said = stepped("camkd", beta=BETA)
    _, panel = method_case("camkd", TEACHERS)
    predictions = []
    for mapped, teacher in zip(said.mapped, panel.teachers, strict=True):
        last = dict(teacher.named_children()).get("fc") or teacher.classifier
        predictions.append(mapped.mean((2, 3)) @ last.weight.numpy().T + last.bias.numpy())
    check(step, said, by_confidence(said.teachers, said.labels), by_confidence(predictions, said.labels))


def test_camkds_heads_are_asked_not_owned() -> None:
    method, panel = method_case("camkd", TEACHERS)
    names = {name for name, _ in method.named_parameters()} | {name for name, _ in method.named_buffers()}
    assert names
    assert all(name.startswith("learner.") for name in names)
    before = [value.clone() for teacher in panel.teachers for value in teacher.state_dict().values()]
    batch, teachers = random_batch(panel, 8, seed=1)
    optimizer = torch.optim.SGD(method.learner.parameters(), lr=0.1)
    method.step(batch, teachers).loss.backward()
    optimizer.step()
    after = [value for teacher in panel.teachers for value in teacher.state_dict().values()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert all(p.grad is None for teacher in panel.teachers for p in teacher.parameters())


def best_of_faces(gram: np.ndarray, most: float) -> float:
    """The least w^T gram w, by trying every set of weights at 0, at `most` and in between: each is a linear system."""
    count, best = len(gram), np.inf
    for kinds in itertools.product((0, 1, 2), repeat=count):
        free = [k for k in range(count) if kinds[k] == 2]
        weights = np.array([most if kind == 1 else 0.0 for kind in kinds])
        rest = 1 - weights.sum()
        if free:
            own = gram[np.ix_(free, free)]
            system = np.block([[own, np.ones((len(free), 1))], [np.ones((1, len(free))), np.zeros((1, 1))]])
            right = np.append(-(gram @ weights)[free], rest)
            weights[free] = np.linalg.lstsq(system, right, rcond=None)[0][:-1]
        if abs(weights.sum() - 1) < 1e-9 and weights.min() > -1e-9 and weights.max() < most + 1e-9:
            best = min(best, float(weights @ gram @ weights))
    return best


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e6])
def test_the_shortest_vector_is_the_shortest(count: int, scale: float) -> None:
    generator = np.random.default_rng(count)
    for most in (1.0, 0.6, 1 / count):
        for dimensions in (2, 40):  # in two dimensions the hull may hold the origin, and the program has many solutions
            vectors = scale * generator.normal(size=(count, dimensions)) * generator.uniform(0.1, 3.0, (count, 1))
            gram = vectors @ vectors.T
            weights = shortest(gram, most)
            assert weights.sum() == pytest.approx(1.0, abs=1e-12)
            assert weights.min() >= 0
            assert weights.max() <= most + 1e-7
            unit = np.trace(gram) / count
            assert weights @ gram @ weights / unit == pytest.approx(best_of_faces(gram / unit, most), abs=1e-6)


@pytest.mark.parametrize("gram", [np.zeros((3, 3)), np.full((3, 3), np.nan)])
def test_where_there_is_nothing_to_weigh_all_weigh_the_same(gram: np.ndarray) -> None:
    np.testing.assert_array_equal(shortest(gram, 0.6), np.full(3, 1 / 3))


@pytest.mark.parametrize("tolerance", [0.4, 0.6, 1.0])
def test_aekd_weighs_by_the_gradients_at_the_logits(tolerance: float) -> None:
    _, step, said = stepped("aekd", tolerance=tolerance)
    assert step.logit_weights is not None
    q = softmax(said.student / TEMPERATURE)
    gradients = [TEMPERATURE * (q - softmax(z / TEMPERATURE)).reshape(-1) / 8 for z in said.teachers]  # of the mean KL
    gram = np.stack(gradients) @ np.stack(gradients).T
    weights = step.logit_weights[0].numpy()
    assert weights @ gram @ weights == pytest.approx(best_of_faces(gram, tolerance), rel=1e-6)
    assert weights.max() <= tolerance + 1e-7
    check(step, said, np.tile(weights, (8, 1)), None)
    assert not np.allclose(weights, 1 / 3, atol=1e-3)


def test_aekd_weighs_features_by_the_gradients_at_the_feature_map() -> None:
    method, panel = method_case("aekd", TEACHERS, gamma=GAMMA, alpha=ALPHA, beta=BETA, temperature=TEMPERATURE)
    batch, teachers = random_batch(panel, 8, seed=3)
    method.eval()  # so that the map can be moved by itself: BatchNorm is a function of each position then
    seen: list[LearnerOutput] = []
    method.learner.register_forward_hook(lambda module, given, output: seen.append(output))
    step = method.step(batch, teachers)
    assert step.feature_weights is not None
    features = seen[0].features.detach()

    def mean_distance(k: int, at: torch.Tensor) -> float:
        size = min(at.shape[2], teachers[k].features.shape[2])
        factor = at.shape[2] // size
        pooled = at.numpy().reshape(8, at.shape[1], size, factor, size, factor).mean((3, 5))
        mapped = method.learner.regressors[k](torch.from_numpy(pooled)).detach().numpy()
        other = teachers[k].features.numpy()
        step = other.shape[2] // size
        other = other.reshape(8, other.shape[1], size, step, size, step).mean((3, 5))
        return float(((mapped - other) ** 2).mean())

    # The inner products; that of two of them is also a difference quotient of one distance along the other's gradient.
    gradients = []
    for k in range(3):
        leaf = features.clone().requires_grad_()
        size = min(leaf.shape[2], teachers[k].features.shape[2])
        mapped = method.learner.regressors[k](torch.nn.functional.adaptive_avg_pool2d(leaf, size))
        other = torch.nn.functional.adaptive_avg_pool2d(teachers[k].features, size)
        gradients.append(torch.autograd.grad(((mapped - other) ** 2).mean(), leaf)[0])
    moved = 1e-6 / gradients[0].norm()
    along = (mean_distance(1, features + moved * gradients[0]) - mean_distance(1, features - moved * gradients[0])) / (2 * moved)
    gram = np.array([[float((a * b).sum()) for a in gradients] for b in gradients])
    assert float(along) == pytest.approx(gram[0, 1], rel=1e-4, abs=1e-9)
    weights = step.feature_weights[0].numpy()
    assert weights @ gram @ weights == pytest.approx(best_of_faces(gram, 0.6), rel=1e-5)
    said = Said(seen[0], teachers, batch.labels)
    check(step, said, step.logit_weights.numpy(), np.tile(weights, (8, 1)))  # type: ignore[union-attr]


def test_in_bfloat16_aekds_weights_are_about_the_same() -> None:
    found = []
    for bf16 in (False, True):
        method, panel = method_case("aekd", TEACHERS, dtype=torch.float32, bf16=bf16, beta=BETA)
        step = method.step(*random_batch(panel, 8, seed=3, dtype=torch.float32))
        assert step.feature_weights is not None
        assert step.loss.dtype == step.feature_weights.dtype == torch.float32
        found.append(torch.cat([step.logit_weights[0], step.feature_weights[0]]))  # type: ignore[index]
    torch.testing.assert_close(*found, atol=0.1, rtol=0)


@pytest.mark.parametrize("weights", [entropy_weights, lambda said: confidence_weights(said, torch.tensor([0, 1]))])
def test_extreme_predictions_give_weights_all_the_same(weights: Callable[[list[torch.Tensor]], torch.Tensor]) -> None:
    sure, unsure = torch.tensor([[900.0, 0.0], [0.0, 900.0]]), torch.zeros(2, 2)
    for said in ([sure, sure, sure], [sure, unsure, sure], [sure, -sure, unsure]):
        found = weights(said)
        assert torch.isfinite(found).all()
        torch.testing.assert_close(found.sum(1), torch.ones(2))
    torch.testing.assert_close(weights([sure, sure, sure]), torch.full((2, 3), 1 / 3))
    assert (weights([sure, unsure, sure])[:, 1] < 0.3).all()


@pytest.mark.parametrize("name", [name for name in METHOD_PARTS if name != "ce"])
def test_no_gradient_reaches_the_teachers_and_all_of_the_learner_has_one(name: str) -> None:
    teachers = TEACHERS[:1] if name == "kd" else TEACHERS
    method, panel = method_case(name, teachers)
    batch, said = random_batch(panel, 8, seed=1)
    method.step(batch, said).loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.learner.parameters())
