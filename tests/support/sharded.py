"""A rank's process that asks teachers which it shares with the others, and the same teachers whole."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

import engine.models.sharded
from engine.models import build_model
from engine.models.heads import head_alone
from engine.models.interface import Classifier
from engine.models.panel import TeacherPanel
from engine.models.sharded import ShardedPanel, shares
from engine.ranks import ProcessGroup, leave

TEACHERS = ("resnet20", "attending")
CPU = torch.device("cpu")


class Attending(Classifier):
    """With parameters that are no module's own, and a linear layer that is never called: attention reads its weights."""

    feature_channels = 32

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 8, 8)
        self.places = nn.Parameter(torch.randn(1, 16, 32))
        self.attention = nn.MultiheadAttention(32, 2, batch_first=True)
        self.fc = nn.Linear(32, 10)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 3, 32, 32] -> [B, 32, 4, 4]."""
        words = self.patches(images).flatten(2).transpose(1, 2) + self.places
        return self.attention(words, words, words)[0].transpose(1, 2).unflatten(2, (4, 4)).relu()

    def head(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.fc(pooled)


def teachers(names: tuple[str, ...]) -> list[Classifier]:
    torch.manual_seed(0)
    return [Attending() if name == "attending" else build_model(name, 3, 10, 1) for name in names]


def ask(rank: int, size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": (folder / "port").read_text()}
    ranks = ProcessGroup()
    engine.models.sharded.PIECE = 1_500  # small teachers in many pieces
    found: dict[str, object] = {}
    for bf16 in (False, True):
        names = TEACHERS[:1] if bf16 else TEACHERS
        shared = ShardedPanel(teachers(names), CPU, ranks, bf16)
        whole = TeacherPanel(teachers(names), bf16)
        for step in range(2):
            images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(10 * rank + step))
            for number, (one, other) in enumerate(zip(shared(images), whole(images), strict=True)):
                for kind in ("logits", "features"):
                    wanted = getattr(other, kind)
                    difference = (getattr(one, kind) - wanted).norm() / wanted.norm()
                    found[f"{names[number]} {kind} {step} {bf16}"] = float(difference)
        found[f"gradients {bf16}"] = any(p.requires_grad for model in shared._quick for p in model.parameters())
        found[f"shares {bf16}"] = list(shares(shared))
    features = torch.randn(2, shared.channels[0], 4, 4)
    head = head_alone(shared.teachers[0], CPU)
    found["heads"] = torch.equal(shared.classifiers()[0](features), head(features))
    torch.save(found, folder / f"rank-{rank}.pt")
    ranks.close()
    leave(0)
