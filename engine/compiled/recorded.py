"""A function of tensors on a GPU, recorded once as a CUDA graph: from then on one launch serves its thousands of kernels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
import torch.utils._pytree as pytree
from torch import Tensor

from engine.compiled.changeover import Source
from engine.compiled.flat import Function, channels_last

T = TypeVar("T")
WORTH_RECORDING = 5.0  # seconds that a training must have before it: recording takes about one
WARM_UP = 2  # calls before the recording: libraries choose their algorithms and take their room


class Recording(NamedTuple):
    """A function's kernels and the memory that they use."""

    replay: Callable[[], None]  # computes the results anew, in their places, from what lies in the arguments' places
    results: Any
    room: int  # bytes that it keeps to itself


def records(device: torch.device) -> bool:
    """Whether functions can be recorded there."""
    return device.type == "cuda"


def record(function: Function, args: tuple[Any, ...], device: torch.device) -> Recording:
    """By calling `function` a few times. MemoryError where what it keeps would leave too little; any error of the function's."""
    aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream(device))
    # Backwards in this thread, too: the mode of a recording is a thread's. What other threads do meanwhile does not matter.
    with torch.cuda.stream(aside), torch.autograd.set_multithreading_enabled(False):
        for _ in range(WARM_UP):
            function(*args)
        graph = torch.cuda.CUDAGraph()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved(device)
        with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
            results = function(*args)
        room = torch.cuda.memory_reserved(device) - before
    torch.cuda.current_stream(device).wait_stream(aside)
    if torch.cuda.mem_get_info(device)[0] < room:  # eager steps and measurements need some as well
        raise MemoryError(f"the {room >> 20} MiB of a recording would leave too little memory on the GPU")
    return Recording(graph.replay, results, room)


def side_by_side(calls: Sequence[Callable[[], T]], device: torch.device) -> list[T]:
    """What each of the calls returns. On a GPU each has a stream of its own: what a small one asks for leaves much of it idle."""
    if not records(device):
        return [call() for call in calls]
    here, found = torch.cuda.current_stream(device), []
    streams = [torch.cuda.Stream(device) for _ in calls]  # type: ignore[no-untyped-call]
    for call, stream in zip(calls, streams, strict=True):
        stream.wait_stream(here)
        with torch.cuda.stream(stream):
            found.append(call())
    for stream in streams:
        here.wait_stream(stream)
    return found


class Recorded:
    """Calls as `function` does, whose tensors all lie on one GPU and which changes none that it is given.

    Each call's results take the place of the last one's: whoever wants to keep them copies them. Arguments are copied to where
    they are read, unless they lie there already; the first `fixed` of them are read where the first call had them, and have to
    stay there.
    """

    def __init__(self, function: Function, *, fixed: int = 0, laid_out: bool = False) -> None:
        """`laid_out`: the function takes its arguments channels-last."""
        self.function, self.fixed, self.laid_out = function, fixed, laid_out
        self._recording: Recording | None = None
        self._given: tuple[Any, ...] = ()
        self._places: list[Tensor] = []

    @property
    def given(self) -> tuple[Any, ...]:
        """The last call's arguments, where they were read and as they were; the next call overwrites them."""
        return self._given

    @property
    def room(self) -> int:
        """Bytes that it keeps to itself."""
        return self._recording.room if self._recording else 0

    @torch.no_grad()
    def __call__(self, *args: Any) -> Any:
        """The results, which the next call overwrites. The first call raises what `record` does."""
        if self._recording is None:
            self._recording = self._record(args)
        else:
            self._take(pytree.tree_leaves(args[self.fixed :]))
        self._recording.replay()
        return self._recording.results

    def _record(self, args: tuple[Any, ...]) -> Recording:
        flat, structure = pytree.tree_flatten(args[self.fixed :])
        places = [tensor.detach().clone() for tensor in flat]
        self._places = channels_last(places) if self.laid_out else places
        self._given = (*args[: self.fixed], *pytree.tree_unflatten(self._places, structure))
        return record(self.function, self._given, flat[0].device)

    def _take(self, given: Sequence[Tensor]) -> None:
        copies: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = defaultdict(lambda: ([], []))
        for place, tensor in zip(self._places, given, strict=True):
            if place.data_ptr() != tensor.data_ptr():
                places, tensors = copies[tensor.dtype]
                places.append(place)
                tensors.append(tensor)
        for places, tensors in copies.values():
            torch._foreach_copy_(places, tensors)


class RecordedSource:
    """A source of recorded functions: those of another source, or some that need no compiling."""

    def __init__(self, functions: Mapping[str, Function] | Source, *, fixed: int = 0) -> None:
        self._functions, self._fixed = functions, fixed

    def ready(self, part: str) -> bool:
        """Whether it needs no compiling."""
        return isinstance(self._functions, Mapping) or self._functions.ready(part)

    def start(self) -> None:
        """Begins to compile."""
        if not isinstance(self._functions, Mapping):
            self._functions.start()

    def take(self, part: str) -> Function | Exception | None:
        """A new one each time: it is taken again only if the last one did not agree."""
        if isinstance(self._functions, Mapping):
            return Recorded(self._functions[part], fixed=self._fixed)
        found = self._functions.take(part)
        return Recorded(found, fixed=self._fixed, laid_out=True) if callable(found) else found

    def close(self) -> None:
        """Ends the compiling."""
        if not isinstance(self._functions, Mapping):
            self._functions.close()


def held_by(function: Function | None) -> int:
    """Bytes that a function keeps to itself from one call to the next."""
    return function.room if isinstance(function, Recorded) else 0
