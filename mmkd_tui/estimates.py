"""Rough guesses, before a run is started, of the time and the memory that it takes here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.architecture_facts import ArchitectureFacts
from engine.architectures import architecture_of
from engine.catalog import DatasetFacts
from engine.image_folders import facts_of
from engine.preset import DatasetPart, HardwarePart, MmkdPart, Preset, TrainPart
from mmkd_tui.machine import Machine
from mmkd_tui.stock import Stock

# Measured with torch 2.10 on one core of a 2.x GHz server; layers and meta steps on a GPU, recorded, with torch 2.11 on an H100
# that had other work as well, the rest of a GPU's from memory: good to a factor of two or three, which is what "rough" means on
# the screen. Trainings in the store correct them.
CPU_MACS = 33e9  # multiply-adds a second and core
CPU_LAYER = 0.5e-3  # seconds a layer and training step that do not depend on its size
CPU_PARAMETER = 4e-9  # seconds a parameter and step: the optimizer's passes over memory
GPU_MACS = 3e12
GPU_LAYER = 0.3e-3
GPU_PARAMETER = 2e-11
BF16_GAIN = 1.6  # on a GPU
META = {"cpu": 0.025, "cuda": 0.002}  # seconds an inner step of a meta step, beside the student's passes
START = {"cpu": 4.0, "cuda": 8.0}  # seconds until the first step: importing, reading, warming up

# Multiply-adds an image for each parameter and pixel: a halved map quarters the work of the layers after it.
WORK = {"vgg": 0.025, "resnet": 0.15, "wrn": 0.15, "resnet-deep": 0.05, "mobilenet": 0.01, "shufflenet": 0.04}
WORK_ELSEWHERE = 0.003  # of a network whose stem makes the map four times smaller, as torchvision's and timm's do
TOLD = 10.0  # seconds of a training below which its pace says little: reading and warming up are most of it
TYPICAL = 20_000_000  # parameters, where nobody knows how many there are
PROGRAM = {"cpu": 350 << 20, "cuda": 600 << 20}  # bytes before any tensor of ours: Python and torch, or CUDA's context


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast this machine trains."""

    kind: str  # "cpu" or "cuda"
    macs: float
    layer: float
    parameter: float
    factor: float = 1.0  # of the trainings in the store: what they took over what would have been guessed
    samples: int = 0  # how many those are


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of one run. Times in seconds, sizes in bytes; `teachers` has one time each, 0.0 where none is trained."""

    teachers: tuple[float, ...]
    alone: float
    distil: float
    start: float
    memory: int  # on the device that trains
    disk: int
    kind: str  # of that device
    samples: int

    @property
    def total(self) -> float:
        return self.start + sum(self.teachers) + self.alone + self.distil


def is_counted(dataset: DatasetPart) -> bool:
    """Whether it is known how many images there are; where it is not, no guess makes sense."""
    facts = facts_of(dataset)
    return bool(facts.classes) or not facts.own


def training_images(dataset: DatasetPart, facts: DatasetFacts | None = None) -> int:
    """How many are trained on: the validation split is taken out first. `facts`: the data set's, where they are known."""
    facts = facts or facts_of(dataset)
    left = max(facts.train_images - (validation_images(dataset, facts) if facts.validation_images is None else 0), 0)
    return min(left, dataset.train_images or left)


def validation_images(dataset: DatasetPart, facts: DatasetFacts | None = None) -> int:
    """How many are held out."""
    facts = facts or facts_of(dataset)
    return facts.validation_images or max(1, round(facts.train_images * dataset.validation_fraction))


def pace(hardware: HardwarePart, machine: Machine, stock: Stock) -> Pace:
    """Of the device that `hardware` names, corrected by what the store's trainings took on one of its kind."""
    kind = "cuda" if hardware.device.startswith("cuda") or (hardware.device == "auto" and machine.gpus) else "cpu"
    if kind == "cuda":
        gain = BF16_GAIN if hardware.precision == "bf16" else 1.0
        plain = Pace(kind, GPU_MACS * gain, GPU_LAYER, GPU_PARAMETER)
    else:
        threads = min(hardware.threads or machine.cores, machine.cores)
        plain = Pace(kind, CPU_MACS * threads**0.8, CPU_LAYER, CPU_PARAMETER)
    known: dict[DatasetPart, DatasetFacts] = {}
    found: list[tuple[float, float]] = []  # what a training took over what it would have been guessed to, and the guess
    for network in stock.networks[-100:]:
        device = "cuda" if network.device.startswith("cuda") else "cpu"
        if device != kind or not network.seconds or network.seconds < TOLD:
            continue
        facts = known[network.dataset] = known.get(network.dataset) or facts_of(network.dataset)
        if facts.classes or not facts.own:
            guess = learning(network.arch, network.dataset, network.recipe, plain, facts)  # the store's seconds are of its steps
            found.append((network.seconds / guess, guess))
    if not found:
        return plain
    # The guess itself counts as one training more: a single one may have run on a busy machine, or be unlike what is asked about.
    factor = min(max(_median(found), 0.01), 100.0) ** (len(found) / (len(found) + 1))
    return Pace(kind, plain.macs, plain.layer, plain.parameter, factor, len(found))


def _median(weighed: list[tuple[float, float]]) -> float:
    """Of values with weights: a long training says more than a short one."""
    left = sum(weight for _, weight in weighed) / 2
    for value, weight in sorted(weighed):
        left -= weight
        if left <= 0:
            return value
    raise ValueError("weights are positive")


def step_seconds(arch: str, facts: DatasetFacts, images: int, pace: Pace, *, train: bool = True) -> float:
    """A training step (or a pass without gradients) of one batch."""
    parameters = _parameters(arch, facts)
    macs = _work(arch) * parameters * facts.size**2 * images
    if not train:
        return pace.factor * (macs / pace.macs + _layers(arch) * pace.layer / 3)
    return pace.factor * (3 * macs / pace.macs + _layers(arch) * pace.layer + parameters * pace.parameter)


def training(arch: str, dataset: DatasetPart, recipe: TrainPart, pace: Pace, facts: DatasetFacts | None = None) -> float:
    """A training on the labels alone, with its measurements after each epoch."""
    facts = facts or facts_of(dataset)
    measured = recipe.epochs * validation_images(dataset, facts) + facts.test_images
    passes = step_seconds(arch, facts, 512, pace, train=False) * measured / 512
    return learning(arch, dataset, recipe, pace, facts) + passes


def learning(arch: str, dataset: DatasetPart, recipe: TrainPart, pace: Pace, facts: DatasetFacts) -> float:
    """The steps of such a training."""
    steps = recipe.epochs * (training_images(dataset, facts) // recipe.batch_size)
    return steps * step_seconds(arch, facts, recipe.batch_size, pace)


def estimate(preset: Preset, stock: Stock, machine: Machine) -> Estimate:
    """Of a run of `preset` here and now: what the store holds is not trained again."""
    here = pace(preset.hardware, machine, stock)
    facts = facts_of(preset.dataset)
    teachers = tuple(
        0.0
        if not part.trained or stock.teacher(preset, part) is not None
        else training(part.arch, preset.dataset, part.recipe, here, facts)
        for part in preset.teachers
    )
    alone = training(preset.student.arch, preset.dataset, preset.train, here, facts)
    distil = alone
    if preset.method.name != "ce":
        steps = preset.train.epochs * (training_images(preset.dataset, facts) // preset.train.batch_size)
        batch = preset.train.batch_size
        asked = sum(step_seconds(part.arch, facts, batch, here, train=False) for part in preset.teachers)
        if preset.teacher_cache is not None:
            asked *= _views(preset) / preset.train.epochs  # each view is asked for once
        distil += steps * (asked + _meta_seconds(preset, facts, here))
    kept = stock.of(preset, preset.student.arch, preset.seed, preset.train) is not None
    if kept or preset.method.name == "ce" or not preset.evaluate.student_alone:
        alone = 0.0
    if preset.only_teachers:
        alone = distil = 0.0
    new = [part for part, seconds in zip(preset.teachers, teachers, strict=True) if seconds]
    largest = max((_parameters(part.arch, facts) for part in new), default=0)  # whose checkpoints are kept meanwhile
    last = largest if preset.only_teachers else _parameters(preset.student.arch, facts)
    disk = 4 * (sum(_parameters(part.arch, facts) for part in new) + 4 * last) + (1 << 20)
    memory = _memory(preset, facts, here.kind)
    if preset.teacher_cache is not None and preset.teacher_cache.storage == "memory":
        memory += cache_size(preset)
    else:
        disk += cache_size(preset)
    return Estimate(teachers, alone, distil, START[here.kind], memory, disk, here.kind, here.samples)


def cache_size(preset: Preset) -> int:
    """Of the teacher cache, in bytes; 0 where there is none."""
    if preset.teacher_cache is None or preset.method.name == "ce" or preset.only_teachers:
        return 0
    facts = facts_of(preset.dataset)
    row = 0
    for part in preset.teachers:
        row += 4 * len(facts.classes)
        row += (
            2 * _features(architecture_of(part.arch)) * feature_side(part.arch, facts.size) ** 2
            if preset.looks_at_features
            else 0
        )
    return _views(preset) * training_images(preset.dataset) * row


def feature_side(arch: str, size: int) -> int:
    """Pixels along a side of an architecture's last feature map, of images with `size` along theirs."""
    shape = architecture_of(arch)
    if shape.family != "vgg" or arch.startswith("torchvision:"):
        return -(-size // shape.step)
    for _ in range(4 if size >= 64 else 3):
        size = max(size // 2, 1)
    return size


def _views(preset: Preset) -> int:
    if preset.teacher_cache is None:
        return 0
    return preset.teacher_cache.views if preset.train.augment else 1


def _meta_seconds(preset: Preset, facts: DatasetFacts, pace: Pace) -> float:
    """Of the meta steps, spread over all steps: each goes forwards and back through a few steps of the student."""
    if not isinstance(preset.method, MmkdPart) or not preset.method.buffered:
        return 0.0
    step = step_seconds(preset.student.arch, facts, preset.train.batch_size, pace)
    return (2.5 * step + META[pace.kind]) * (preset.method.meta.match_steps + 1) / preset.method.meta.every


def _memory(preset: Preset, facts: DatasetFacts, kind: str) -> int:
    images = 0 if facts.from_files else facts.train_images + facts.test_images
    pixels = images * facts.channels * facts.size**2  # one byte each
    batch = preset.train.batch_size
    student = 12 * _parameters(preset.student.arch, facts) + 4 * batch * _activations(preset.student.arch, facts)
    if (
        isinstance(preset.method, MmkdPart) and preset.method.buffered
    ):  # the graph of the inner steps is kept until the hyper-gradient is known
        student *= preset.method.meta.match_steps + 2
    teachers = sum(4 * _parameters(part.arch, facts) for part in preset.teachers)
    if preset.hardware.teachers == "in_turn":  # two at a time, of the largest's size
        teachers = 2 * max((4 * _parameters(part.arch, facts) for part in preset.teachers), default=0)
    passing = max((_activations(part.arch, facts) for part in preset.teachers), default=0) / 8 * 4 * batch
    trained = [part for part in preset.teachers if part.trained]
    alone = max(
        (12 * _parameters(p.arch, facts) + 4 * p.recipe.batch_size * _activations(p.arch, facts) for p in trained), default=0
    )
    if preset.only_teachers:
        student = passing = 0.0
    return int(PROGRAM[kind] + pixels + teachers + max(student + passing, alone))


def _work(arch: str) -> float:
    """Multiply-adds an image for each parameter and pixel. Libraries' networks may have the names of our families."""
    return WORK_ELSEWHERE if ":" in arch else WORK.get(architecture_of(arch).family, WORK_ELSEWHERE)


def _activations(arch: str, facts: DatasetFacts) -> float:
    """Numbers that a training step keeps for each image."""
    shape = architecture_of(arch)
    vgg = shape.family == "vgg"
    if _work(arch) == WORK_ELSEWHERE:  # a stem that makes the map four times smaller, and half as many channels in four stages
        return 2.5 * _features(shape) / 8 * (facts.size / 4) ** 2 * (1 + 1 / 2 + 1 / 4 + 1 / 8) * _layers(arch) / 4
    first = _features(shape) / (8 if vgg else 4)  # channels of the largest maps; each halved map has twice as many
    stages = (1, 1 / 2, 1 / 4, 1 / 8, 1 / 8) if vgg else (1, 1 / 2, 1 / 4)
    return 2.5 * first * facts.size**2 * sum(stages) * _layers(arch) / len(stages)


def _parameters(arch: str, facts: DatasetFacts) -> int:
    known = architecture_of(arch).parameters_for(facts.channels, len(facts.classes))
    return TYPICAL if known is None else known


def unknown_sizes(preset: Preset) -> tuple[str, ...]:
    """The architectures of a preset whose size is not known before they are built."""
    archs = dict.fromkeys([*(part.arch for part in preset.teachers), preset.student.arch])
    return tuple(arch for arch in archs if architecture_of(arch).parameters is None)


def _features(shape: ArchitectureFacts) -> int:
    """Channels of the last feature map."""
    return shape.features or 768


def _layers(arch: str) -> int:
    """The depth stands in an architecture's name."""
    found = re.search(r"[0-9]+", arch)
    return min(int(found[0]), 200) if found else 20


def rough_time(seconds: float) -> str:
    """In words that promise no more than is known."""
    if seconds < 10:
        return "a few seconds"
    if seconds < 55:
        return f"about {round(seconds, -1):.0f} s"
    if seconds < 55 * 60:
        return f"about {max(1, round(seconds / 60))} min"
    if seconds < 36 * 3600:
        hours = seconds / 3600
        return f"about {hours:.0f} h" if hours >= 9.5 else f"about {hours:.1f} h"
    days = seconds / 86400
    return f"about {days:.0f} days" if days < 1000 else "years"


def size_words(size: float) -> str:
    """`1.4 GB`: powers of ten, as drives and memory are sold."""
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 999.5 or unit == "TB":
            return f"{size:.0f} {unit}" if size >= 9.95 or unit == "kB" else f"{size:.1f} {unit}"
    raise AssertionError
