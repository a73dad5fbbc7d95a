"""A teacher made quick to ask: BatchNorm folded into the convolutions before it, channels-last, products in bfloat16.

Which BatchNorm follows which convolution is seen in one pass of the network itself, so it holds for every architecture.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode

from engine.models.interface import Classifier


class _Watch(TorchFunctionMode):
    """Notes which convolution's output goes into a BatchNorm and nowhere else."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Tensor] = []  # a tensor that lives keeps its id
        self.made: dict[int, Tensor] = {}  # output -> the weight it was made with
        self.uses: dict[int, int] = {}
        self.followed: dict[int, tuple[Tensor, Tensor]] = {}  # output -> weight, running mean

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):  # questions after a shape or a dtype read nothing
            for value in (*args, *(kwargs or {}).values()):
                for tensor in value if isinstance(value, (list, tuple)) else (value,):
                    if id(tensor) in self.made:
                        self.uses[id(tensor)] += 1
        if func is F.batch_norm and id(args[0]) in self.made:
            self.followed[id(args[0])] = (self.made[id(args[0])], args[1])
        if func is torch.conv2d:
            self.kept.append(result)
            self.made[id(result)], self.uses[id(result)] = args[1], 0
        return result

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """(a convolution's weight, the running mean of the only thing that reads its output)."""
        weights = [id(weight) for weight in self.made.values()]
        return [
            (weight, mean)
            for output, (weight, mean) in self.followed.items()
            if self.uses[output] == 1 and weights.count(id(weight)) == 1
        ]


@torch.no_grad()
def folded(model: Classifier, images: Tensor) -> Classifier:
    """A copy of `model`, in evaluation mode, that says the same in fewer operations; `images` [B, channels, H, W] are any.

    Where it turns out not to say the same of `images`, the copy is left as it is: what is folded is guessed from one pass.
    """
    given = model.eval()
    model = copy.deepcopy(given).requires_grad_(False)
    with _Watch() as watch:
        expected = model(images)
    try:
        quick = _fold(model, watch)
        same = all(_close(found, wanted) for found, wanted in zip(quick(images), expected, strict=True))
    except (RuntimeError, AttributeError, TypeError):
        same = False
    return quick if same else copy.deepcopy(given).requires_grad_(False)


def _close(found: Tensor, wanted: Tensor) -> bool:
    """To rounding, by their norms."""
    return found.shape == wanted.shape and bool((found - wanted).norm() <= 1e-3 * wanted.norm() + 1e-6)


def _fold(model: Classifier, watch: _Watch) -> Classifier:
    """Changes `model` in place."""
    owners = [(parent, name, child) for parent in model.modules() for name, child in parent.named_children()]
    convolutions = {id(child.weight): child for _, _, child in owners if isinstance(child, nn.Conv2d)}
    # A kind of its own may do more than normalise: timm has some that hold an activation.
    norms = {id(child.running_mean): (parent, name, child) for parent, name, child in owners if type(child) is nn.BatchNorm2d}
    for weight, mean in watch.pairs():
        convolution, found = convolutions.get(id(weight)), norms.get(id(mean))
        if convolution is None or found is None:
            continue
        parent, name, norm = found
        assert norm.running_mean is not None  # it was seen
        assert norm.running_var is not None
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        parent.register_module(name, nn.Identity())
    return model.requires_grad_(False)


def narrowed(model: Classifier) -> Classifier:
    """The same model with the weights of its convolutions and linear layers in bfloat16, but for its head's; laid out
    channels-last. It is changed in place.
    """
    round_weights(model)
    return model.to(memory_format=torch.channels_last)


def round_weights(model: Classifier) -> None:
    """Rounds weights to bfloat16, as `narrowed`."""
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    for module in model.modules():
        # The head comes last; some networks have two beside each other.
        inner = isinstance(module, nn.Linear) and module.out_features != linears[-1].out_features
        if inner or isinstance(module, nn.Conv2d | nn.MultiheadAttention):
            module.to(torch.bfloat16)
