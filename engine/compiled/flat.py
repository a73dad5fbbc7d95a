"""A function of tensors, whatever it differentiates inside, as one flat graph that is compiled, kept in a file and loaded again.

`torch.compile` of a module cannot be differentiated twice; here the derivatives are inside what is compiled. The file holds what
Inductor made, as Inductor keeps it (a pickle): it is only ever read from a folder that is this user's alone.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor

from engine.paths import write_whole

Function = Callable[..., Any]
# Where there is a compiler for GPUs and no GPU, Inductor's import says so, in the middle of a live picture.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def channels_last(tensors: Sequence[Any]) -> list[Any]:
    """The same with every [*, C, h, w] tensor laid out channels-last, which compiled convolutions are quickest with."""
    return [_channels_last(t) if t.dim() == 4 else t for t in tensors]


def _channels_last(tensor: Tensor) -> Tensor:
    laid_out = tensor.contiguous(memory_format=torch.channels_last)
    # A dimension of length 1 may have any stride, and by that of grey images a convolution chooses the layout of what it gives:
    # what is compiled for one choice fails at the other.
    _, channels, height, width = laid_out.shape
    strides = (channels * height * width, 1, width * channels, channels)
    return laid_out if laid_out.stride() == strides else laid_out.as_strided(laid_out.shape, strides)


def compile_flat(function: Function, example: Sequence[Any], threads: int, workers: int = 1) -> tuple[Any, Any]:
    """(Inductor's artifact, the structure of what `function` returns). Takes seconds to minutes.

    `example` are arguments like those to come: the same structure, shapes, dtypes and layouts. `threads` is how many the
    compiled code uses on a CPU, `workers` how many compile.
    """
    import torch._inductor.lowering
    from torch._inductor import config, standalone_compile
    from torch._inductor.decomposition import select_decomp_table
    from torch.fx.experimental.proxy_tensor import make_fx

    flat, given = pytree.tree_flatten(tuple(example))
    flat = channels_last(flat)
    structure = None

    def flattened(*tensors: Tensor) -> list[Tensor]:
        nonlocal structure
        outputs, structure = pytree.tree_flatten(function(*pytree.tree_unflatten(list(tensors), given)))
        return outputs

    # A GPU's backward would run on a thread of its own, where the tracer is not.
    with torch.autograd.set_multithreading_enabled(False):
        graph = make_fx(flattened, decomposition_table=select_decomp_table(), tracing_mode="fake")(*flat)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    with torch.no_grad(), config.patch({"cpp.threads": threads, "compile_threads": workers}):
        return standalone_compile(graph, flat, dynamic_shapes="from_example_inputs"), structure


def save(artifact: Any, structure: Any, path: Path) -> None:
    """Writes `path` and, beside it, the structure of what comes out; `path` comes last, and whole."""
    write_whole(path.with_suffix(".json"), json.dumps({"structure": pytree.treespec_dumps(structure)}))
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    artifact.save(path=str(aside), format="binary")
    aside.chmod(0o600)  # many a user's umask lets a group write
    aside.replace(path)


def load(path: Path) -> Function:
    """What `save` wrote. Any error: it is not there, was made by another release, or is damaged."""
    from torch._inductor import config
    from torch._inductor.standalone_compile import CompiledArtifact

    for own in (path, path.parent):
        found = own.stat()
        if found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise PermissionError(f"{own} can be written by other people")
    structure = pytree.treespec_loads(json.loads(path.with_suffix(".json").read_text())["structure"])
    with config.patch({"compile_threads": 1}):  # else a GPU's artifact starts processes that compile, and has nothing for them
        return callable_of(CompiledArtifact.load(path=str(path), format="binary"), structure)


def callable_of(artifact: Any, structure: Any) -> Function:
    """The compiled function, with the arguments and results of the one that was traced."""

    @torch.no_grad()
    def run(*args: Any) -> Any:
        outputs = artifact(*channels_last(pytree.tree_leaves(args)))
        return pytree.tree_unflatten(list(outputs), structure)

    return run
