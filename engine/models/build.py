"""From an architecture's name to a network with reproducible initial weights."""

from __future__ import annotations

import torch

from engine.catalog import ARCHITECTURES
from engine.models.interface import Classifier
from engine.models.resnet import resnet
from engine.models.vgg import BLOCKS, Vgg
from engine.models.wrn import wrn
from engine.randomness import key


def build_model(name: str, channels: int, classes: int, seed: int = 0) -> Classifier:
    """The named architecture for images of `channels` channels and `classes` classes.

    Its initial weights are a function of `seed` and `name` alone; torch's global generator is left as it was.
    KeyError where the catalogue has no such name.
    """
    family = ARCHITECTURES[name].family
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(seed, "initial weights", name))
        if family == "vgg":
            return Vgg(BLOCKS[name], channels, classes)
        if family == "resnet":
            return resnet(name, channels, classes)
        return wrn(name, channels, classes)


def count_parameters(model: torch.nn.Module) -> int:
    """How many numbers training may change."""
    return sum(parameter.numel() for parameter in model.parameters())
