"""From an architecture's name to a network with reproducible initial weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from engine.architecture_facts import ARCHITECTURES
from engine.architectures import library_of
from engine.dataset_facts import Normalisation
from engine.errors import UserError
from engine.models.interface import Classifier
from engine.models.library import build_library_model
from engine.models.mobilenet import MobileNetV2
from engine.models.resnet import resnet
from engine.models.resnet_deep import SmallImageResNet, wide_resnet
from engine.models.shufflenet import WIDTHS, ShuffleNetV1, ShuffleNetV2
from engine.models.tapped import tapped
from engine.models.vgg import BLOCKS, Vgg
from engine.models.wrn import wrn
from engine.randomness import key

SIZE = 32  # pixels along a side of images, where nobody says


def _shufflenet(name: str, channels: int, classes: int) -> Classifier:
    return ShuffleNetV1(channels, classes) if name == "shufflenetv1" else ShuffleNetV2(WIDTHS[name], channels, classes)


FAMILIES: dict[str, Callable[[str, int, int], Classifier]] = {
    "vgg": lambda name, channels, classes: Vgg(BLOCKS[name], channels, classes),
    "resnet": resnet,
    "resnet-deep": lambda name, channels, classes: SmallImageResNet(name.removesuffix("_cifar"), channels, classes),
    "resnet-wide": wide_resnet,
    "wrn": wrn,
    "mobilenet": lambda name, channels, classes: MobileNetV2(0.5, channels, classes),
    "shufflenet": _shufflenet,
}


def build_model(
    name: str,
    channels: int,
    classes: int,
    seed: int = 0,
    *,
    size: int = SIZE,
    features: str | None = None,
    pretrained: bool = False,
    normalised: Normalisation | None = None,
) -> Classifier:
    """The named architecture for images of `channels` channels, `size` pixels along a side, and `classes` classes.

    `features`: the path of the module whose output is the feature map, in place of the last one before the global pooling.
    `pretrained`: with the weights of the library that the network is from; images, which are given `normalised` so (None: as
    ImageNet's are), are brought to what those weights are of, as the network's first step. Initial weights are otherwise a
    function of `seed` and `name` alone; torch's global generator is left as it was. KeyError where the catalogue has no such
    name; UserError where a library has none, or the network cannot be fitted to the data.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(seed, "initial weights", name))
        if library_of(name)[0] != "catalogue":
            return build_library_model(name, channels, classes, size, features, pretrained, normalised)
        model = FAMILIES[ARCHITECTURES[name].family](name, channels, classes)
    if features is None:
        return model
    try:
        return tapped(model, torch.zeros(2, channels, size, size), features, None, None)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def refuse_misfits(networks: Iterable[tuple[str, str | None]], channels: int, classes: int, size: int) -> None:
    """UserError where one of `networks`, names of architectures and their `features`, is a plugin's that cannot be built for
    such images or gives something else than it has to; those of the catalogue and of libraries are fitted.
    """
    for name, features in dict.fromkeys(networks):
        if library_of(name)[0] == "plugin":
            build_model(name, channels, classes, size=size, features=features)


def count_parameters(model: torch.nn.Module) -> int:
    """How many numbers training may change."""
    return sum(parameter.numel() for parameter in model.parameters())
