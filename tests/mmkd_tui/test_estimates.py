"""Rough guesses: they grow with what they should grow with, learn from the store, and promise nothing in words."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch
from support import picture_sets as sets
from support.presets import tiny
from support.stock import quickstart, stored

from engine.catalog import ARCHITECTURES, DATASETS
from engine.image_folders import facts_of
from engine.preset import DatasetPart, EvaluatePart, HardwarePart, TrainPart
from engine.preset_yaml import PresetEntry, find_preset, load_preset
from mmkd_tui import machine
from mmkd_tui.estimates import (
    cache_size,
    estimate,
    learning,
    pace,
    rough_time,
    size_words,
    training,
    training_images,
    validation_images,
)
from mmkd_tui.machine import Gpu, Machine, this_machine
from mmkd_tui.screens.home_lines import Offered, preset_row
from mmkd_tui.starting import missing_data
from mmkd_tui.stock import Stock
from mmkd_tui.widgets.marks import marks

CPU = Machine(cores=2, memory=8 << 30, free=6 << 30)
GPU = Machine(cores=8, memory=64 << 30, free=60 << 30, gpus=(Gpu(0, "H100", 80 << 30, 79 << 30),))
DIGITS = DatasetPart(name="digits")

PUBLISHED = [name for name in DATASETS if not DATASETS[name].own]


def test_quickstart_takes_less_than_a_minute_on_two_cores() -> None:
    guess = estimate(quickstart(), Stock(), CPU)
    assert 20 < guess.total < 60
    assert len(guess.teachers) == 3
    assert guess.total == pytest.approx(guess.start + sum(guess.teachers) + guess.alone + guess.distil)
    assert guess.kind == "cpu"


@pytest.mark.parametrize(
    "override",
    ["train.epochs=20", "student.arch=resnet56", "teachers.0.train.epochs=100", "teachers.*.arch=vgg13", "method.meta.every=1"],
)
def test_more_work_takes_longer(override: str) -> None:
    assert estimate(quickstart(override), Stock(), CPU).total > estimate(quickstart(), Stock(), CPU).total


def test_what_the_store_has_is_not_trained(tmp_path: Path) -> None:
    stored(tmp_path, quickstart())
    guess = estimate(quickstart(), Stock.read(tmp_path), CPU)
    assert guess.teachers == (0.0, 0.0, 0.0)
    other = estimate(quickstart("dataset.split_seed=1", "teachers.0.checkpoint=x.pth", "teachers.0.train=null"), Stock(), CPU)
    assert other.teachers[0] == 0.0
    assert min(other.teachers[1:]) > 0


def test_no_student_alone_where_none_is_asked_for() -> None:
    assert estimate(quickstart("evaluate.student_alone=false"), Stock(), CPU).alone == 0.0
    assert estimate(tiny("method={name: ce}", "teachers=[]"), Stock(), CPU).alone == 0.0


def test_of_teachers_alone_nothing_is_guessed_for_a_student() -> None:
    whole, alone = (estimate(quickstart(*more), Stock(), CPU) for more in ((), ("only_teachers=true", "teacher_cache.views=2")))
    assert alone.teachers == whole.teachers
    assert (alone.alone, alone.distil) == (0.0, 0.0)
    assert alone.memory <= whole.memory


def test_the_store_corrects_the_pace(tmp_path: Path) -> None:
    preset = quickstart()
    plain = pace(preset.hardware, CPU, Stock())
    expected = learning("resnet20", preset.dataset, preset.teachers[0].recipe, plain, facts_of(preset.dataset))
    stored(tmp_path, preset, seconds=expected * 3)
    here = pace(preset.hardware, CPU, Stock.read(tmp_path))
    assert (here.samples, here.factor) == (3, pytest.approx(3.0 ** (3 / 4)))  # the guess itself counts as a fourth
    again = learning("resnet20", preset.dataset, preset.teachers[0].recipe, here, facts_of(preset.dataset))
    assert again == pytest.approx(here.factor * expected)
    assert pace(preset.hardware, GPU, Stock.read(tmp_path)).samples == 0  # another kind of device tells nothing


def test_a_long_training_says_more_than_a_short_one(tmp_path: Path) -> None:
    preset = quickstart()
    plain = pace(preset.hardware, CPU, Stock())
    expected = learning("resnet20", preset.dataset, preset.teachers[0].recipe, plain, facts_of(preset.dataset))
    stored(tmp_path, preset, seconds=9.0)  # most of which may have been spent on reading and warming up
    stock = Stock.read(tmp_path)
    assert pace(preset.hardware, CPU, stock).samples == 0
    short, long, _ = stock.networks
    long = dataclasses.replace(
        long, seconds=20 * expected, recipe=long.recipe.model_copy(update={"epochs": 10 * long.recipe.epochs})
    )
    mixed = Stock((dataclasses.replace(short, seconds=6 * expected), long))
    assert pace(preset.hardware, CPU, mixed).factor == pytest.approx(2 ** (2 / 3), rel=0.05)


def test_one_training_on_a_busy_machine_does_not_make_days_of_hours(tmp_path: Path) -> None:
    preset = quickstart()
    plain = pace(preset.hardware, CPU, Stock())
    expected = learning("resnet20", preset.dataset, preset.teachers[0].recipe, plain, facts_of(preset.dataset))
    stored(tmp_path, preset, seconds=3 * expected)
    first, *others = Stock.read(tmp_path).networks
    busy = dataclasses.replace(first, seconds=50 * expected)
    assert pace(preset.hardware, CPU, Stock((busy,))).factor < 8
    assert pace(preset.hardware, CPU, Stock((busy, *others))).factor == pytest.approx(3 ** (3 / 4))


def test_the_maps_of_an_imagenet_network_are_small() -> None:
    """What autograd keeps of torchvision's ResNet-18, of 224x224 pixels: 8.5 million numbers an image."""
    changes = ("student.arch=torchvision:resnet18", "method={name: ce}", "teachers=[]")
    preset = load_preset(find_preset("dogs-resnet34x2-resnet18"), changes)
    one, many = (preset.model_copy(update={"train": TrainPart(batch_size=size)}) for size in (2, 66))
    image = (estimate(many, Stock(), CPU).memory - estimate(one, Stock(), CPU).memory) / 64
    assert 4 * 4e6 < image < 4 * 17e6


def test_of_a_folder_that_was_not_counted_nothing_is_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets.pictures(tmp_path, {"train": 3, "test": 1})
    dataset = DatasetPart(name="imagefolder", path=str(tmp_path))
    monkeypatch.setattr("engine.image_folders.PATIENCE", -1.0)
    item = Offered(PresetEntry("own", tmp_path / "own.yaml", "", quickstart().model_copy(update={"dataset": dataset})), True)
    row = preset_row(item, Stock(), CPU, tmp_path, marks(False))
    assert row.cells[2] == "time not known"
    assert missing_data(dataset, tmp_path) == ""
    monkeypatch.undo()
    assert preset_row(item, Stock(), CPU, tmp_path, marks(False)).cells[2].startswith("a")


def test_a_gpu_is_faster_and_takes_another_memory() -> None:
    fashion = load_preset(find_preset("fashion-mnist"))
    slow, fast = estimate(fashion, Stock(), CPU), estimate(fashion, Stock(), GPU)
    assert fast.total < slow.total / 10
    assert (slow.kind, fast.kind) == ("cpu", "cuda")
    assert estimate(fashion.model_copy(update={"hardware": HardwarePart(device="cpu")}), Stock(), GPU).kind == "cpu"
    bf16 = fashion.model_copy(update={"hardware": HardwarePart(precision="bf16")})
    assert estimate(bf16, Stock(), GPU).total < fast.total


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("dataset", PUBLISHED)
def test_every_architecture_has_a_guess(arch: str, dataset: str) -> None:
    here = pace(HardwarePart(), CPU, Stock())
    images = DATASETS[dataset].train_images * (DATASETS[dataset].size / 32) ** 2
    assert 0 < training(arch, DatasetPart(name=dataset), TrainPart(epochs=1), here) < max(1e5, images)


def test_larger_batches_need_more_memory() -> None:
    small, large = (estimate(quickstart(f"train.batch_size={size}"), Stock(), CPU).memory for size in (16, 256))
    assert small < large


def test_the_splits_are_those_of_a_run() -> None:
    """As engine.data.split_images makes them."""
    assert (training_images(DIGITS), validation_images(DIGITS)) == (1080, 120)
    assert training_images(DatasetPart(name="digits", train_images=160)) == 160
    assert training_images(DatasetPart(name="digits", train_images=5000)) == 1080


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "a few seconds"),
        (42, "about 40 s"),
        (58, "about 1 min"),
        (600, "about 10 min"),
        (5400, "about 1.5 h"),
        (86400, "about 24 h"),
        (400000, "about 5 days"),
        (1e12, "years"),
    ],
)
def test_time_in_words(seconds: float, words: str) -> None:
    assert rough_time(seconds) == words


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 kB"), (5_600_000, "5.6 MB"), (387e6, "387 MB"), (2.5e10, "25 GB"), (3e12, "3.0 TB"), (9e15, "9000 TB")],
)
def test_size_in_words(size: float, words: str) -> None:
    assert size_words(size) == words


# -- the facts of the store are untrusted


@pytest.mark.parametrize(
    "facts",
    [
        {"arch": "[/red]x[bold]\x1b"},
        {"arch": ["vgg8"]},
        {"seed": "0"},
        {"seed": True},
        {"seed": -1},
        {"recipe": None},
        {"recipe": {"epochs": "many"}},
        {"dataset": "digits"},
        {"dataset": {"name": "\x1b"}},
    ],
)
def test_facts_that_make_no_sense_are_passed_over(facts: dict[str, object], tmp_path: Path) -> None:
    stored(tmp_path, quickstart(), **facts)
    assert Stock.read(tmp_path).networks == ()


@pytest.mark.parametrize("facts", [{"seconds": "long", "accuracy": 7, "device": ["\x1b"]}, {"seconds": -1, "accuracy": True}])
def test_figures_that_make_no_sense_are_left_out(facts: dict[str, object], tmp_path: Path) -> None:
    stored(tmp_path, quickstart(), **facts)
    stock = Stock.read(tmp_path)
    assert [(network.accuracy, network.seconds) for network in stock.networks] == [(None, None)] * 3
    assert estimate(quickstart(), stock, CPU).samples == 0


def test_the_stock_finds_what_a_run_would_find(tmp_path: Path) -> None:
    preset = quickstart()
    stored(tmp_path, preset)
    stock = Stock.read(tmp_path)
    assert all(stock.teacher(preset, teacher) for teacher in preset.teachers)
    elsewhere = preset.model_copy(update={"evaluate": EvaluatePart(select_on="test")})
    assert stock.teacher(elsewhere, preset.teachers[0]) is None
    assert [network.dataset.name for network in stock.on("digits")] == ["digits"] * 3
    assert list(stock.on("fashion-mnist")) == []
    assert Stock.read(tmp_path / "none").networks == ()


# -- this machine


def test_this_machine_has_a_core_and_memory() -> None:
    found = this_machine()
    assert found.cores >= 1
    assert found.memory is None or found.memory > 1 << 20


def test_gpus_come_from_nvidias_library(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        nvmlInit = nvmlShutdown = staticmethod(lambda: None)  # noqa: N815
        nvmlDeviceGetCount = staticmethod(lambda: 2)  # noqa: N815
        nvmlDeviceGetHandleByIndex = staticmethod(lambda index: index)  # noqa: N815
        nvmlDeviceGetName = staticmethod(lambda handle: b"H100 \x1b[31m")  # noqa: N815

        @staticmethod
        def nvmlDeviceGetMemoryInfo(handle: int) -> object:  # noqa: N802
            if handle:
                raise RuntimeError("GPU is lost")
            return dataclasses.make_dataclass("Memory", ["total", "free"])(80, 79)

    monkeypatch.setitem(sys.modules, "pynvml", Library)
    assert machine._gpus() == (Gpu(0, "H100 \\x1b[31m", 80, 79),)
    monkeypatch.setitem(sys.modules, "pynvml", json)
    assert machine._gpus() == ()


# A forward pass of every architecture for each data set takes a minute: all of them for one, these for the others.
OF_EACH_KIND = ["resnet8", "vgg8", "mobilenetv2", "shufflenetv1", "wrn_16_1"]
ALL = list(ARCHITECTURES)


@pytest.mark.parametrize(
    ("dataset", "method", "architectures"),
    [
        pytest.param(dataset, method, architectures, id=f"{dataset}-{method}-{len(architectures)}", marks=marks)
        for dataset, method in (
            ("digits", "mmkd"),
            ("fashion-mnist", "camkd"),
            ("cifar-100", "aekd, beta: 1"),
            ("cub-200", "aver"),
            ("digits", "aekd"),
        )
        for architectures, marks in ((OF_EACH_KIND, ()), (ALL, () if method == "camkd" else (pytest.mark.slow,)))
    ],
)
def test_the_teacher_caches_size_is_what_the_engine_makes_of_it(
    dataset: str, method: str, architectures: list[str], tmp_path: Path
) -> None:
    from engine.data import Images, Split
    from engine.models import build_model
    from engine.teachers.cache import TeacherCache

    teachers = ", ".join(f"{{arch: {arch}}}" for arch in architectures)
    preset = tiny(
        f"dataset={{name: {dataset}}}",
        f"method={{name: {method}}}",
        f"teachers=[{teachers}]",
        "train.batch_size=32",
        "teacher_cache={views: 5}",
    )
    facts = DATASETS[dataset]
    count = training_images(preset.dataset)
    # Only their number is asked for.
    split = Split(torch.empty(count, 1, 1, 1, dtype=torch.uint8), torch.zeros(count), torch.zeros(1), torch.ones(1))
    cache = TeacherCache(preset, Images(facts, split, split, split, None), tmp_path)  # type: ignore[arg-type]
    subjects = [
        cache.subject(k, build_model(part.arch, facts.channels, len(facts.classes)), False)
        for k, part in enumerate(preset.teachers)
    ]
    assert cache.sizes(subjects) == (cache_size(preset), cache_size(preset))


def test_a_teacher_cache_saves_time_and_takes_room() -> None:
    plain, cached = (estimate(quickstart(*more), Stock(), CPU) for more in ((), ("teacher_cache.views=2",)))
    assert cached.distil < plain.distil
    assert cached.disk - plain.disk == cache_size(quickstart("teacher_cache.views=2")) > 0
    memory = estimate(quickstart("teacher_cache={views: 2, storage: memory}"), Stock(), CPU)
    assert memory.disk == plain.disk
    assert memory.memory > plain.memory
    assert cache_size(quickstart()) == 0
    assert cache_size(quickstart("teacher_cache.views=3", "train.augment=false")) == cache_size(
        quickstart("teacher_cache.views=1")
    )
