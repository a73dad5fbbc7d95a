"""A function of tensors on a GPU, recorded once as a CUDA graph: from then on one launch serves its thousands of kernels."""

from __future__ import annotations

import gc
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
import torch.utils._pytree as pytree
from torch import Tensor

from engine.compiled.changeover import Source
from engine.compiled.flat import Function, channels_last

T = TypeVar("T")
# PyTorch says it once a process, in the middle of a live picture.
warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
_broken: list[str] = []  # why nothing more is recorded in this process
WORTH_RECORDING = 5.0  # seconds that a training must have before it: recording takes about one


class Recording(NamedTuple):
    """A function's kernels and the memory that they use."""

    replay: Callable[[], None]  # computes the results anew, in their places, from what lies in the arguments' places
    results: Any
    room: int  # bytes that it keeps to itself


def records(device: torch.device) -> bool:
    """Whether functions can be recorded there."""
    return device.type == "cuda" and os.environ.get("CUDA_LAUNCH_BLOCKING", "0") == "0"


def record(function: Function, args: tuple[Any, ...], device: torch.device) -> Recording:
    """By calling `function` a few times. MemoryError where what it keeps would leave too little; any error of the function's."""
    if _broken:
        raise RuntimeError(_broken[0])
    aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    here = torch.cuda.current_stream(device)
    aside.wait_stream(here)
    try:
        graph, results, room = _captured(function, args, aside, device)
    finally:
        here.wait_stream(aside)  # what was given may be freed by then
    if torch.cuda.mem_get_info(device)[0] < room:  # eager steps and measurements need some as well
        raise MemoryError(f"the {room >> 20} MiB of a recording would leave too little memory on the GPU")
    return Recording(graph.replay, results, room)


def _captured(
    function: Function, args: tuple[Any, ...], aside: torch.cuda.Stream, device: torch.device
) -> tuple[torch.cuda.CUDAGraph, Any, int]:
    # Backwards in this thread, too: the mode of a recording is a thread's. What other threads do meanwhile does not matter.
    with torch.cuda.stream(aside), torch.autograd.set_multithreading_enabled(False), _without_collecting():
        function(*args)  # libraries choose their algorithms and take their room
        with _waiting_for_the_device_is_an_error():
            function(*args)
        graph = torch.cuda.CUDAGraph()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved(device)
        try:
            with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
                results = function(*args)
        except Exception as error:
            # Up to release 2.11 PyTorch's allocator goes on as if the recording did: a second one would fail as well.
            _broken.append(f"a recording failed before ({type(error).__name__})")
            raise
        return graph, results, torch.cuda.memory_reserved(device) - before


@contextmanager
def _without_collecting() -> Iterator[None]:
    """A graph that is collected while another one is recorded would end the recording."""
    gc.collect()
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextmanager
def _waiting_for_the_device_is_an_error() -> Iterator[None]:
    """What waits cannot be recorded; to find out by recording would do damage."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


class SideBySide:
    """Calls on streams of their own, on a GPU: what a small one asks for leaves much of it idle. Elsewhere one by one."""

    def __init__(self) -> None:
        self._streams: list[torch.cuda.Stream] = []

    def __call__(self, calls: Sequence[Callable[[], T]], device: torch.device) -> list[T]:
        """What each of them returns."""
        if device.type != "cuda":
            return [call() for call in calls]
        while len(self._streams) < len(calls):
            self._streams.append(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
        here, found = torch.cuda.current_stream(device), []
        streams = self._streams[: len(calls)]
        for stream in streams:
            stream.wait_stream(here)
        try:
            for call, stream in zip(calls, streams, strict=True):
                with torch.cuda.stream(stream):
                    found.append(call())
        finally:
            for stream in streams:
                here.wait_stream(stream)
        return found


class Recorded:
    """Calls as `function` does, whose tensors all lie on one GPU and which changes none that it is given.

    Each call's results are the same tensors, in the places of the last one's: whoever wants to keep them copies them. Arguments
    are tensors and lists of them, copied to where they are read: a list that is given again has to hold the same tensors. The
    first `fixed` are read where the first call had them, and have to stay there. A compiled function is called as it is where a
    recording of it would take too much memory.
    """

    def __init__(self, function: Function, *, fixed: int = 0, compiled: bool = False) -> None:
        """`compiled`: the function is quick as it is, and takes its arguments channels-last."""
        self.function, self.fixed, self.compiled = function, fixed, compiled
        self._plain = False
        self._recording: Recording | None = None
        self._given: tuple[Any, ...] = ()
        self._known: dict[int, tuple[Any, list[tuple[list[Tensor], list[Tensor]]]]] = {}  # arguments of the last call

    @property
    def given(self) -> tuple[Any, ...]:
        """The last call's arguments, where they were read and as they were; the next call overwrites them."""
        return self._given

    @property
    def room(self) -> int:
        """Bytes that it keeps to itself."""
        places = _leaves(self._given[self.fixed :])
        return self._recording.room + sum(place.nbytes for place in places) if self._recording else 0

    @torch.no_grad()
    def __call__(self, *args: Any) -> Any:
        """The results, which the next call overwrites. The first call raises what `record` does."""
        if self._plain:
            self._given = args
            return self.function(*args)
        if self._recording is None:
            try:
                self._recording = self._record(args)
            except MemoryError:
                if not self.compiled:
                    raise
                self.release()
            if self._recording is None:
                return self(*args)
        else:
            self._take(args[self.fixed :])
        self._recording.replay()
        return self._recording.results

    def forget(self) -> None:
        """Lets go of the last call's arguments, which it knows again otherwise."""
        self._known.clear()

    def release(self) -> None:
        """Gives back all that it keeps: the function is called as it is from now on."""
        self._recording, self._given, self._known, self._plain = None, (), {}, True

    def _record(self, args: tuple[Any, ...]) -> Recording:
        flat, structure = pytree.tree_flatten(args[self.fixed :])
        places = [tensor.detach().clone() for tensor in flat]
        places = channels_last(places) if self.compiled else places
        self._given = (*args[: self.fixed], *pytree.tree_unflatten(places, structure))
        return record(self.function, self._given, flat[0].device)

    def _take(self, args: Sequence[Any]) -> None:
        places = self._given[self.fixed :]
        alone = [number for number, arg in enumerate(args) if isinstance(arg, Tensor)]
        for number, arg in enumerate(args):
            if isinstance(arg, Tensor):
                continue
            known = self._known.get(number)
            if known is None or known[0] is not arg:
                # A step's results, which are the next one's arguments, are one list: looked at once.
                known = self._known[number] = arg, _alike(_leaves(places[number]), _leaves(arg))
            for pair in known[1]:
                torch._foreach_copy_(*pair)
        for pair in _alike([places[number] for number in alone], [args[number] for number in alone]):
            torch._foreach_copy_(*pair)


def _alike(places: Sequence[Tensor], tensors: Sequence[Tensor]) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Pairs that one kernel copies: one other among them, and each would be copied by a kernel of its own."""
    pairs: dict[Any, tuple[list[Tensor], list[Tensor]]] = defaultdict(lambda: ([], []))
    for place, tensor in zip(places, tensors, strict=True):
        own, given = pairs[tensor.dtype, tensor.stride() == place.stride()]
        own.append(place)
        given.append(tensor)
    return list(pairs.values())


def _leaves(given: Sequence[Any]) -> list[Tensor]:
    """As pytree has them, which takes ten times as long: much, for a recorded step."""
    found: list[Tensor] = []
    for one in given:
        if isinstance(one, Tensor):
            found.append(one)
        else:
            found += _leaves(one)
    return found


class Recorder:
    """A source of functions that are recorded as they are: there is nothing to compile."""

    def __init__(self, functions: Mapping[str, Function], *, fixed: int = 0) -> None:
        self._functions, self._fixed = functions, fixed

    def ready(self, part: str) -> bool:
        """Always."""
        return True

    def start(self) -> None:
        """Nothing begins."""

    def take(self, part: str) -> Function:
        """A new one each time: it is taken again only if the last one did not agree."""
        return Recorded(self._functions[part], fixed=self._fixed)

    def close(self) -> None:
        """Nothing ends."""


class RecordedSource:
    """Another source, whose functions are recorded as long as there is room for that (`wanted`)."""

    def __init__(self, source: Source, wanted: Callable[[], bool]) -> None:
        self._source, self._wanted = source, wanted
        self.ready, self.start, self.close = source.ready, source.start, source.close

    def take(self, part: str) -> Function | Exception | None:
        """A new one each time, as by `Recorder`."""
        found = self._source.take(part)
        return Recorded(found, compiled=True) if callable(found) and self._wanted() else found


def spared(function: Function) -> bool:
    """For `Stages.release`: recordings are what can be done without."""
    if not isinstance(function, Recorded) or not function.room:
        return False
    function.release()
    return True


def held_by(function: Function | None) -> int:
    """Bytes that a function keeps to itself from one call to the next."""
    return function.room if isinstance(function, Recorded) else 0
