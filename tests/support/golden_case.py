"""A golden case as the engine's own objects: the student, the method and the batches that a .npz file describes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.data import Batch
from engine.meta.weight_nets import WeightNets
from engine.methods.mmkd import Mmkd
from engine.models import Classifier, Output
from engine.models.regressor import Learner
from engine.preset import MetaPart, MmkdPart
from support.device import DEVICE


class GoldenStudent(Classifier):
    """conv, BatchNorm, ReLU, strided conv, BatchNorm, ReLU, pooling, linear; method.md, 'Golden cases'."""

    def __init__(self, widths: list[int], classes: int) -> None:
        super().__init__()
        self.feature_channels = widths[1]
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.conv2 = nn.Conv2d(widths[0], widths[1], 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(widths[1])
        self.fc = nn.Linear(widths[1], classes)

    def features(self, images: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(images))))))

    def head(self, pooled: Tensor) -> Tensor:
        return self.fc(pooled)


@dataclass
class GoldenCase:
    """One file: its arrays, and the engine's objects in the state that it starts from."""

    arrays: dict[str, np.ndarray]
    config: dict[str, Any]
    method: Mmkd
    optimizer: torch.optim.SGD

    def tensor(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name]).to(DEVICE)

    def batch(self, suffix: str = "") -> tuple[Batch, list[Output]]:
        """The batch and the teachers' outputs on it; suffix "_hard" for the meta step's."""
        numbers = range(len(self.config["teachers"]))
        teachers = [
            Output(self.tensor(f"teacher{k}.logits{suffix}"), self.tensor(f"teacher{k}.features{suffix}")) for k in numbers
        ]
        return Batch(self.tensor(f"x{suffix}"), self.tensor(f"y{suffix}")), teachers

    def learner_name(self, name: str) -> str:
        """The engine's name of a golden parameter: `student.conv1.weight`, `regressor.regressor0.transfer.0.weight`."""
        part, rest = name.split(".", 1)
        return f"student.{rest}" if part == "student" else "regressors." + rest.removeprefix("regressor").replace(".transfer", "")


def load_case(path: Path) -> GoldenCase:
    """Reads a golden case in float64."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    config = json.loads(str(arrays["config"]))
    batch, classes, teachers = config["batch"], config["classes"], config["teachers"]
    settings = MmkdPart(
        name="mmkd",
        alpha=float(config["alpha"]),
        beta=float(config["beta"]),
        temperature=float(config["temperature"]),
        gram="raw",
        regressor="bottleneck" if config["three_layer_regressor"] else "pointwise",
        meta=MetaPart(match_steps=config["match_steps"]),
    )
    student = GoldenStudent(config["student_channels"], classes)
    learner = Learner(student, [t["channels"] for t in teachers], settings.regressor).double().to(DEVICE)
    nets = WeightNets(len(teachers), classes, batch, normalise=False, seed=0).double().to(DEVICE)
    method = Mmkd(settings, learner, nets, seed=0)
    optimizer = torch.optim.SGD(
        learner.parameters(),
        lr=config["lr"],
        momentum=config["momentum"],
        weight_decay=config["weight_decay"],
        nesterov=config["nesterov"],
    )
    case = GoldenCase(arrays, config, method, optimizer)
    start = {}
    for name in arrays:
        part, _, rest = name.partition(".")
        if part in ("student0", "regressor0"):
            start[case.learner_name(f"{part[:-1]}.{rest}")] = case.tensor(name)
    missing = learner.load_state_dict(start, strict=False)
    assert not missing.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in missing.missing_keys)
    for net, own in (("logit_weight_net", nets.logit), ("feature_weight_net", nets.feature)):
        own.load_state_dict(
            {f"{to}.{kind}": case.tensor(f"{net}.{at}.{kind}") for at, to in LAYERS.items() for kind in ("weight", "bias")}
        )
    return case


LAYERS = {"layer": "hidden", "all_act": "output"}
