"""A module called with other tensors in the places of its own, whatever parts of it are shared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call


def call_with(module: nn.Module, tensors: Mapping[str, Tensor], args: tuple[Any, ...]) -> Any:
    """`module(*args)` with `tensors`, by the names of `named_parameters` and `named_buffers`; the module stays as it is.

    torch.func.functional_call itself puts a tensor into a module that is found under two names twice, and takes the first for
    the module's own afterwards: that module would keep it.
    """
    given = {place: tensors[name] for place, name in _places(module).items() if name in tensors}
    return functional_call(module, given, args, tie_weights=False)


def _places(module: nn.Module) -> dict[str, str]:
    """Each place in which a module, or one of its parts, holds a tensor, once -> the tensor's first name."""
    names: dict[int, str] = {}
    found: dict[str, str] = {}
    for path, part in module.named_modules():
        for own in (part.named_parameters, part.named_buffers):
            for name, tensor in own(recurse=False, remove_duplicate=False):
                place = f"{path}.{name}" if path else name
                found[place] = names.setdefault(id(tensor), place)
    return found
