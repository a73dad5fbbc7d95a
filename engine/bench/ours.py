"""The engine's own forms, as the benchmark times them. The one place that knows how the engine takes its steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from engine.bench.networks import BATCHES, Setting, recipe
from engine.bench.subject import Subject
from engine.compiled.changeover import Compile
from engine.compiled.flat import Function, callable_of, compile_flat
from engine.compiled.panel import PART, CompiledPanel
from engine.compiled.pure import Pure, PurePanel
from engine.compiled.recorded import held_by
from engine.compiled.steps import CompiledStepper
from engine.control_group import usable_cores
from engine.data import Batch
from engine.device import uses_bf16
from engine.meta.sgd import Sgd, momenta_of
from engine.methods import Method, make_method
from engine.methods.base import Hard
from engine.methods.mmkd import Mmkd
from engine.models import Output, paired
from engine.models.panel import TeacherPanel
from engine.preset import CePart, HardwarePart, MetaPart, MmkdPart
from engine.randomness import permutation

Taught = Iterator[tuple[Batch, list[Output]]]


def ours(setting: Setting, name: str, precision: str, *, cached: bool) -> Subject:
    """MMKD by the engine; with `cached`, a batch's teacher outputs are gathered from float16 rows, and no teacher runs."""
    case = setting.case
    bf16 = _bf16(setting, precision)
    teachers = TeacherPanel(setting.teachers(), bf16)
    part = MmkdPart(name="mmkd", meta=MetaPart(every=case.every, buffer_size=case.buffer))
    method = _method(part, setting, bf16, teachers.channels)
    assert isinstance(method, Mmkd)
    stepper = _stepper(method, setting)
    asked = _Asked(setting, teachers)
    source = _from_store(setting, teachers) if cached else asked.settled()
    numbers = (number for number in itertools.count() if (number + 1) % case.every)  # those without a meta step

    def train() -> None:
        batch, said = next(source)
        step = stepper.train(batch, said)
        method.after_step(batch, said, step, next(numbers))

    def meta() -> None:
        drawn = permutation(method.buffer.size, 0, "benchmark draw", next(numbers))[: case.batch]
        images, labels, *rest = method.buffer.draw(drawn)
        method.learn(stepper.meta_gradient(Hard(Batch(images, labels), paired(rest))))

    while not method.buffer.full:
        train()

    def settle() -> None:
        for part, step in (("train", train), ("meta", meta)):
            while case.compiled and not stepper.compiled(part):
                step()

    def held(part: str) -> int:
        return held_by(stepper.stages.used(part)) + (asked.held if part == "train" else 0)

    return Subject(name, train, meta, settle, held)


def limit(setting: Setting, precision: str) -> Subject:
    """The teachers' forward and a plain student step: no form of distillation without a cache can be faster."""
    bf16 = _bf16(setting, precision)
    asked = _Asked(setting, TeacherPanel(setting.teachers(), bf16))
    return _plain(setting, "limit", bf16, asked.settled(), lambda: asked.held)


def student(setting: Setting, precision: str) -> Subject:
    """A plain student step."""
    return _plain(setting, "student", _bf16(setting, precision), ((batch, []) for batch in setting.in_turn()), lambda: 0)


def _plain(setting: Setting, name: str, bf16: bool, source: Taught, others: Callable[[], int]) -> Subject:
    method = _method(CePart(name="ce"), setting, bf16, [])
    stepper = _stepper(method, setting)

    def train() -> None:
        batch, _ = next(source)  # the teachers were asked; the step does without what they said
        stepper.train(batch, [])

    def settle() -> None:
        while setting.case.compiled and not stepper.compiled("train"):
            train()

    return Subject(name, train, None, settle, lambda part: held_by(stepper.stages.used(part)) + others())


def _method(part: MmkdPart | CePart, setting: Setting, bf16: bool, channels: Sequence[int]) -> Method:
    case = setting.case
    made = make_method(
        part,
        setting.student(),
        channels,
        classes=case.classes,
        batch_size=case.batch,
        seed=0,
        device=setting.device,
        bf16=bf16,
    )
    made.learner.train()
    return made


def _bf16(setting: Setting, precision: str) -> bool:
    return uses_bf16(HardwarePart.model_validate({"precision": precision}), setting.device)


class _AtOnce:
    """Compiles `pure`'s functions here and now, which a run never does: the benchmark times settled steps alone."""

    def __init__(
        self, setting: Setting, kind: Hashable, pure: Pure | PurePanel, example: tuple[Any, ...], threads: int | None = None
    ) -> None:
        """`kind` tells its functions from others of the setting."""
        self.setting, self.kind, self.pure, self.example = setting, kind, pure, example
        self.threads = threads or torch.get_num_threads()

    def ready(self, part: str) -> bool:
        return True

    def start(self) -> None:
        pass

    def take(self, part: str) -> Function | Exception:
        made, key = self.setting.compiled, (self.kind, part, self.threads)
        if key not in made:
            found = compile_flat(getattr(self.pure, part), self.example, self.threads, workers=usable_cores())
            made[key] = callable_of(*found)
        return made[key]

    def close(self) -> None:
        pass


def _fail(level: str, message: str) -> None:
    if level == "warning":
        raise RuntimeError(message)


def _stepper(method: Method, setting: Setting) -> CompiledStepper:
    optimizer = recipe(method.learner.parameters())

    def source(batch: Batch, teachers: Sequence[Output], sgd: Sgd) -> _AtOnce:
        pure = Pure(method, sgd)
        parameters, buffers, weights = pure.tensors()
        momenta = momenta_of(optimizer, list(method.learner.parameters()))
        outputs = [tensor for teacher in teachers for tensor in teacher]
        lr = parameters[0].new_zeros(())
        example = (parameters, momenta, buffers, weights, lr, batch.images, batch.labels, *outputs)
        return _AtOnce(setting, (type(method), method.learner.bf16), pure, example)

    return CompiledStepper(method, optimizer, source, _fail, _mode(setting.case.compiled))


def _mode(compiled: bool) -> Compile:
    return "on" if compiled else "auto"


class _Asked:
    """Teachers that are asked as in a run."""

    def __init__(self, setting: Setting, teachers: TeacherPanel) -> None:
        def source(images: Tensor, threads: int) -> _AtOnce:
            pure = PurePanel(teachers, images)
            return _AtOnce(setting, teachers.bf16, pure, (pure.tensors(), images), threads)

        self.setting = setting
        self.panel = CompiledPanel(teachers, source, _fail, _mode(setting.case.compiled))

    @property
    def held(self) -> int:
        """Bytes that the panel keeps to itself."""
        return held_by(self.panel.stages.used(PART))

    def settled(self) -> Taught:
        """Batches, and what the teachers say of them, in their final form from the first one on."""
        batches = self.setting.in_turn()
        while self.setting.case.compiled and not self.panel.quick:
            self.panel.of(next(batches))
        return ((batch, self.panel.of(batch)) for batch in batches)


def _from_store(setting: Setting, teachers: TeacherPanel) -> Taught:
    """As a teacher cache gives them: rows gathered from float16, by the images' numbers."""
    batches = setting.batches()
    said = [teachers(batch.images) for batch in batches]
    rows = [[torch.cat([s[k][part].half() for s in said]) for part in (0, 1)] for k in range(len(teachers.teachers))]
    size = setting.case.batch
    for number in itertools.cycle(range(BATCHES)):
        chosen = torch.arange(number * size, (number + 1) * size, device=setting.device)
        yield batches[number], [Output(*(stored[chosen].float() for stored in pair)) for pair in rows]
