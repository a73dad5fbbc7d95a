"""The mathematics against the golden cases: every expected array to 1e-9 in float64, by the engine's own classes.

Reads every .npz file in the folder named by MMKD_GOLDEN_DIR (default: tests/golden).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from support.golden_case import LAYERS, GoldenCase, load_case
from torch import Tensor

from engine.meta.sgd import Sgd, momenta_of

FOLDER = Path(os.environ.get("MMKD_GOLDEN_DIR") or Path(__file__).parent.parent / "golden")
CASES = sorted(FOLDER.glob("*.npz"))


def test_there_are_golden_cases() -> None:
    assert CASES, f"no .npz file in {FOLDER}"


def computed(case: GoldenCase) -> dict[str, Tensor]:
    """Everything a golden case expects, by its name there, from the engine."""
    method, optimizer, learner = case.method, case.optimizer, case.method.learner
    values: dict[str, Tensor] = {}
    batch, teachers = case.batch()

    start = {name: value.clone() for name, value in learner.state_dict().items()}
    step = method.step(batch, teachers)
    output = learner(batch.images, [(t.features.shape[2], t.features.shape[3]) for t in teachers])
    learner.load_state_dict(start)  # each pass moves BatchNorm's statistics
    matching = method.match(output, teachers, (step.logit_weights, step.feature_weights))
    values["start.student_logits"] = step.logits
    values["start.kl"] = matching.divergences
    values["start.logit_weights"] = step.logit_weights
    values["start.feature_weights"] = step.feature_weights
    values["start.loss_logits"] = step.logit
    values["start.loss_features"] = step.feature
    values["start.loss_ce"] = step.ce

    settings = method.settings
    method.settings = settings.model_copy(update={"alpha": 1.0, "gamma": 1.0})  # so it is in the cases' ordinary step
    method.step(batch, teachers).loss.backward()
    optimizer.step()
    method.settings = settings
    values |= named(case, "after_train_step.", learner.state_dict())
    momenta = {name: optimizer.state[p].get("momentum_buffer") for name, p in learner.named_parameters()}
    values |= named(case, "after_train_step.momentum.", {n: m for n, m in momenta.items() if m is not None})

    filled = momenta_of(optimizer, list(learner.parameters()))
    result, buffers, _ = method.inner_steps(*case.batch("_hard"), filled, Sgd.of(optimizer))
    after = dict(zip((name for name, _ in learner.named_parameters()), result.parameters, strict=True))
    values |= named(case, "after_inner_steps.", after | buffers)
    values["outer_loss"] = result.outer_loss
    gradients = dict(zip((name for name, _ in method.nets.named_parameters()), result.gradient, strict=True))
    for net in ("logit", "feature"):
        for theirs, ours in LAYERS.items():
            for kind in ("weight", "bias"):
                values[f"hypergradient.{net}_weight_net.{theirs}.{kind}"] = gradients[f"{net}.{ours}.{kind}"]
    return values


def named(case: GoldenCase, prefix: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The engine's tensors under the names of the golden case."""
    names = {}
    for name in case.arrays:
        rest = name.removeprefix("expect." + prefix)
        if rest != name and rest.split(".")[0] in ("student", "regressor"):
            names[prefix + rest] = values[case.learner_name(rest)]
    return names


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_expected_array_is_met(path: Path) -> None:
    case = load_case(path)
    got = computed(case)
    expected = {name.removeprefix("expect."): array for name, array in case.arrays.items() if name.startswith("expect.")}
    assert set(got) == set(expected)
    for name, array in expected.items():
        value = got[name].detach().cpu().numpy()
        scale = np.abs(array).max()
        error = np.abs(value - array).max() / (scale if scale else 1.0)
        assert error <= 1e-9, f"{name}: relative error {error:.2e}"
