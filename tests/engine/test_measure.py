"""Accuracy, loss and the ensemble against plain numpy; measuring leaves the model as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.data import Split
from engine.measure import ensemble, logits_of, measured
from engine.models import Classifier, build_model


def noise(seed: int, rows: int = 37, classes: int = 5, scale: float = 3.0) -> Tensor:
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed)) * scale


def probabilities(logits: Tensor) -> np.ndarray:
    z = logits.double().numpy()
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def split(count: int = 21) -> Split:
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=draws, dtype=torch.uint8)
    labels = torch.randint(0, 10, (count,), generator=draws)
    return Split(pixels, labels, torch.full((1, 1, 1), 120.0), torch.full((1, 1, 1), 70.0))


def model() -> Classifier:
    """With running statistics that differ from any batch's, so that the mode shows."""
    network = build_model("resnet8", 1, 10, 0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.fill_(0.1)
            module.running_var.fill_(2.0)
    return network


@pytest.mark.parametrize("piece", [8, 8192])
def test_accuracy_and_loss_equal_numpy(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.measure.PIECE", piece)
    logits, labels = noise(0), torch.randint(0, 5, (37,), generator=torch.Generator().manual_seed(1))
    found = measured(logits, labels)
    p = probabilities(logits)
    assert found.accuracy == np.mean(p.argmax(1) == labels.numpy())
    assert found.loss == pytest.approx(-np.log(p[np.arange(37), labels.numpy()]).mean(), rel=1e-6)


def test_all_right_and_all_wrong() -> None:
    labels = torch.tensor([0, 1, 2])
    assert measured(torch.eye(3) * 50, labels).accuracy == 1
    assert measured(torch.eye(3).roll(1, 1) * 50, labels).accuracy == 0


def test_ensemble_is_the_log_of_the_mean_probability() -> None:
    logits = [noise(seed) for seed in range(3)]
    expected = np.log(np.mean([probabilities(one) for one in logits], axis=0))
    assert np.allclose(ensemble(logits).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_sure_teacher_does_not_outvote_the_others_by_its_scale() -> None:
    """Probabilities are averaged, not logits: two teachers that agree carry the vote."""
    sure, others = torch.tensor([[100.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    assert ensemble([sure, others, others]).argmax(1).item() == 1


def test_an_ensemble_of_certainties_is_finite() -> None:
    logits = torch.tensor([[1000.0, -1000.0]])
    assert torch.isfinite(ensemble([logits, logits])).all()


@pytest.mark.parametrize("batch_size", [1, 5, 21, 100])
def test_logits_do_not_depend_on_the_batch_size(batch_size: int) -> None:
    images = split()
    network = model().eval()
    with torch.no_grad():
        expected = network((images.pixels.float() - 120) / 70).logits
    got = logits_of(network, images, batch_size)
    assert got.shape == (21, 10)
    assert got.dtype == torch.float32
    assert torch.allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training: bool) -> None:
    network = model().train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    logits = logits_of(network, split(), 8)
    assert network.training is training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not logits.requires_grad


def test_the_mode_comes_back_when_measuring_is_broken_off() -> None:
    network = model().train()
    calls = []

    def poll() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        logits_of(network, split(), 8, poll=poll)
    assert network.training
    assert len(calls) == 2
