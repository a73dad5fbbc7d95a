"""Steps that come out not finite: left out to the bit, counted, gone back from, and told of."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.nets import mmkd_case, random_batch, sgd
from support.presets import tiny
from support.training import make_trainer
from torch import Tensor

from engine.checkpoint import load_checkpoint
from engine.checkpoints_of_run import RunCheckpoints
from engine.compiled.pure import Pure
from engine.data import Batch
from engine.errors import TrainingError
from engine.events import EpochEnded, Event, Log, Metrics, from_line, to_line
from engine.kernels.finite import Guard, all_finite, finite_parts
from engine.meta.sgd import Sgd, momenta_of
from engine.methods.base import Hard
from engine.models import Output
from engine.preset import CheckpointsPart, NonFinitePart
from engine.stepping import Stepper
from engine.trainer import Trainer

STEPS = 5  # of an epoch
MMKD = "{name: mmkd, beta: 1, meta: {every: 3, buffer_size: 32}}"
NAN, INF = float("nan"), float("inf")
SMALL = ("resnet8", "resnet8")


@pytest.fixture(autouse=True)
def every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise what is done would depend on the machine's pace."""
    monkeypatch.setattr("engine.trainer.METRICS_EVERY", 0.0)


@pytest.mark.parametrize("selects", [False, True])
def test_guard_takes_back_what_is_not_finite_and_nothing_else(selects: bool) -> None:
    def tensors() -> list[Tensor]:
        wide = torch.arange(24.0).view(2, 3, 2, 2).contiguous(memory_format=torch.channels_last)
        return [wide, torch.arange(6.0).view(2, 3).t(), torch.tensor(7), torch.tensor([0.5], dtype=torch.float64)]

    guard = Guard(selects)
    for finite in (True, False, True):
        own = tensors()
        guard.keep(own)
        for tensor in own:
            tensor += 1
        own[0][0, 0] = NAN
        guard.settle(own, torch.tensor(finite))
        expected = tensors()
        if finite:
            expected = [tensor + 1 for tensor in expected]
            expected[0][0, 0] = NAN
        for found, right in zip(own, expected, strict=True):
            torch.testing.assert_close(found, right, rtol=0, atol=0, equal_nan=True)


def test_what_is_finite() -> None:
    good, whole = torch.ones(3), torch.tensor([1, 2])
    assert all_finite([good, whole, torch.empty(0)])
    assert all_finite([])
    for wrong in (NAN, INF, -INF):
        assert not all_finite([good, torch.tensor([1.0, wrong])])
        for count in range(1, 8):  # wherever it is, however many there are
            for place in range(count):
                assert not all_finite([torch.tensor([wrong if place == other else 1.0]) for other in range(count)])
    found = finite_parts(torch.tensor(INF), [good], [good, torch.tensor([NAN])])
    assert found.tolist() == [False, True, False]


def everything(stepper: Stepper) -> list[Tensor]:
    """All that decides the future of an MMKD training."""
    method = stepper.method
    state = [*method.learner.state_dict().values(), *momenta_of(stepper.optimizer, stepper.parameters), *method.state().values()]
    return [value.clone() for value in state]


def poisoned(batch: Batch, teachers: list[Output], where: str) -> tuple[Batch, list[Output]]:
    if where == "images":
        images = batch.images.clone()
        images[0, 0, 0, 0] = NAN
        return Batch(images, batch.labels), teachers
    return batch, [replace_logits(teachers[0]), *teachers[1:]]


def replace_logits(output: Output) -> Output:
    logits = output.logits.clone()
    logits[2, 1] = INF
    return Output(logits, output.features)


@pytest.mark.parametrize("learning", ["meta", "joint"])
@pytest.mark.parametrize("selects", [False, True], ids=["host", "device"])
@pytest.mark.parametrize("where", ["images", "teacher"])
def test_a_step_that_is_not_finite_changes_nothing(where: str, selects: bool, learning: str) -> None:
    method, panel = mmkd_case(teachers=SMALL, meta={"every": 2, "buffer_size": 16, "learning": learning})
    stepper = Stepper(method, sgd(method))
    stepper._guard, method._guard = Guard(selects), Guard(selects)
    for number in range(5):  # the buffer is full, and there were meta steps
        step, _ = stepper(*random_batch(panel, 8, number), number)
        assert step.finite is not None
        assert step.finite.all()
    before = everything(stepper)
    step, _ = stepper(*poisoned(*random_batch(panel, 8, 9), where), 6)  # the buffer's places of step 6; no meta step
    assert not step.finite.all()
    assert not step.finite[0]  # the loss
    assert step.finite[2] == (where == "teacher")  # BatchNorm's statistics
    after = everything(stepper)
    if learning == "joint":  # Adam counts the step
        counts = [n for n, (a, b) in enumerate(zip(before, after, strict=True)) if not torch.equal(a, b)]
        assert all(before[n].dim() == 0 and after[n] == before[n] + 1 for n in counts)
    else:
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(value.isfinite().all() for value in after)


def test_the_very_first_step_may_be_left_out() -> None:
    def trained(poison: bool) -> list[Tensor]:
        method, panel = mmkd_case(teachers=SMALL)
        stepper = Stepper(method, sgd(method))
        if poison:
            stepper.train(*poisoned(*random_batch(panel, 8, 5), "images"))
        stepper.train(*random_batch(panel, 8, 0))
        return everything(stepper)

    assert all(torch.equal(a, b) for a, b in zip(trained(True), trained(False), strict=True))


def test_a_hypergradient_that_is_not_finite_teaches_nothing() -> None:
    method, panel = mmkd_case(teachers=SMALL)
    stepper = Stepper(method, sgd(method))
    found = stepper.meta_gradient(Hard(*random_batch(panel, 8, 1)))
    assert found.told.finite
    method.learn(found)
    before = [weight.clone() for weight in method.weights]
    wrong = stepper.meta_gradient(Hard(*poisoned(*random_batch(panel, 8, 2), "images")))
    assert not wrong.told.finite
    method.learn(wrong)
    assert all(torch.equal(a, b) for a, b in zip(before, method.weights, strict=True))
    method.learn(found)
    assert not any(torch.equal(a, b) for a, b in zip(before, method.weights, strict=True))


def test_the_step_that_is_compiled_leaves_it_out_too() -> None:
    method, panel = mmkd_case(teachers=SMALL)
    stepper = Stepper(method, sgd(method))
    stepper.train(*random_batch(panel, 8, 0))
    pure = Pure(method, Sgd.of(stepper.optimizer))
    momenta = momenta_of(stepper.optimizer, stepper.parameters)
    for poison in (False, True):
        batch, teachers = random_batch(panel, 8, 1)
        if poison:
            batch, teachers = poisoned(batch, teachers, "images")
        parameters, buffers, weights = pure.tensors()
        outputs = [tensor for teacher in teachers for tensor in teacher]
        lr = torch.tensor(0.05, dtype=torch.float64)
        *found, told = pure.train(parameters, momenta, buffers, weights, lr, batch.images, batch.labels, *outputs)
        pairs = zip(found, (parameters, momenta, buffers), strict=True)
        same = [torch.equal(a, b) for new, old in pairs for a, b in zip(new, old, strict=True)]
        assert all(same) == poison
        assert told["finite"].all() == (not poison)


class Poison:
    """Teachers that say what no number is at some steps."""

    def __init__(self, trainer: Trainer, steps: Collection[int]) -> None:
        self.trainer, self.steps, self.panel = trainer, steps, trainer.panel
        trainer.panel = self  # type: ignore[assignment]

    def of(self, batch: Any) -> list[Output]:
        said = self.panel.of(batch)
        return [replace_logits(output) for output in said] if self.trainer.step in self.steps else said

    def __getattr__(self, name: str) -> Any:
        return getattr(self.panel, name)


def trainer_of(
    steps: Collection[int],
    events: list[Event],
    poll: Callable[[Trainer], None] = lambda trainer: None,
    skip: int = 10,
    method: str = "{name: aver}",
) -> Trainer:
    trainer = make_trainer(tiny(f"method={method}"), poll)
    trainer.emit = events.append
    trainer.non_finite = NonFinitePart(skip=skip)
    Poison(trainer, steps)
    return trainer


def test_steps_are_counted_told_and_in_no_average() -> None:
    events: list[Event] = []
    trainer_of({1, 2, 7}, events).run()
    epochs = [event for event in events if isinstance(event, EpochEnded)]
    assert [event.skipped for event in epochs] == [2, 1, 0]
    assert all(event.loss is not None and event.loss < INF for event in epochs)
    metrics = [event for event in events if isinstance(event, Metrics)]
    assert [event.step for event in metrics if event.skipped] == [2, 3, 8]
    assert [event.step for event in metrics if event.loss is None] == [2, 3, 8]  # a window with no other step
    assert [from_line(to_line(event)) for event in metrics] == metrics
    logs = [event.message for event in events if isinstance(event, Log)]
    assert len(logs) == 2  # at the first and the second
    assert "the loss and gradient of tiny were not finite numbers up to step 2" in logs[0]


def test_steps_left_out_survive_a_checkpoint_to_the_bit() -> None:
    class EnoughError(Exception):
        pass

    def stop(trainer: Trainer) -> None:
        if trainer.step == 8:  # in the middle of the row
            raise EnoughError

    whole_events: list[Event] = []
    whole = trainer_of({6, 7, 8}, whole_events, method=MMKD)
    whole.run()
    first = trainer_of({6, 7, 8}, [], stop, method=MMKD)
    with pytest.raises(EnoughError):
        first.run()
    tensors, facts = first.state()
    events: list[Event] = []
    second = trainer_of({6, 7, 8}, events, method=MMKD)
    second.load_state({name: value.clone() for name, value in tensors.items()}, json.loads(json.dumps(facts)))
    assert second.tally.in_a_row() == 2
    second.run()
    for (name, value), other in zip(whole.state()[0].items(), second.state()[0].values(), strict=True):
        assert torch.equal(value, other), name

    def ended(of: list[Event]) -> list[Event]:
        return [replace(event, t=0.0) for event in of if isinstance(event, EpochEnded) and event.epoch]

    assert ended(events) == ended(whole_events)


def test_too_many_in_a_row_go_back_to_the_checkpoint_from_before_them(tmp_path: Path) -> None:
    events: list[Event] = []
    kept: dict[str, Tensor] = {}

    def poll(trainer: Trainer) -> None:
        if trainer.step == 4:
            kept.update({name: value.clone() for name, value in trainer.state()[0].items()})
        if trainer.step in (2, 4, 7):  # the last of them when two steps have been left out
            trainer.keeper.save(trainer)
        if trainer.step == 8:
            now = trainer.state()[0]
            assert all(torch.equal(now[n], kept[n]) for n in kept if n.startswith(("learner.", "momentum.", "method.")))
            assert trainer.tally.in_a_row() == 0

    trainer = trainer_of({5, 6, 7}, events, poll, skip=3, method=MMKD)
    trainer.keeper = RunCheckpoints(tmp_path, events.append)
    trainer.run()
    assert trainer.step == 3 * STEPS
    assert trainer.rollbacks == 1
    (told,) = [event.message for event in events if isinstance(event, Log) and "go back to" in event.message]
    assert "at step 6 (epoch 2) and at the 2 after it" in told
    assert "checkpoints/distil-0-step-000004" in told
    assert "train.lr is 0.05" in told


def test_momenta_that_are_taken_back_lie_in_memory_as_their_parameters_do() -> None:
    """After a change-over to compiled steps the learner is channels-last, and updates of unlike layouts are slow ones."""
    trainer = make_trainer(tiny())
    trainer.method.learner.to(memory_format=torch.channels_last)
    trainer.load_weights({name: value.clone(memory_format=torch.contiguous_format) for name, value in trainer.state()[0].items()})
    momenta = momenta_of(trainer.optimizer, trainer.parameters)
    assert [m.stride() for m in momenta] == [p.stride() for p in trainer.parameters]


def test_it_ends_where_there_is_nothing_to_go_back_to(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"not finite numbers at step 3 .*no checkpoint from before.*train\.lr"):
        trainer_of({2, 3, 4}, [], skip=3).run()


def test_it_ends_after_so_many_times_with_its_last_good_checkpoint_whole(tmp_path: Path) -> None:
    def poll(trainer: Trainer) -> None:
        if trainer.step == 2:
            trainer.keeper.save(trainer)

    trainer = trainer_of(range(3, 100), [], poll, skip=2)
    trainer.keeper = RunCheckpoints(tmp_path, lambda event: None)
    with pytest.raises(TrainingError, match=r"at step 8 .* gone back to a checkpoint 2 times already; a smaller learning rate"):
        trainer.run()
    (checkpoint,) = tmp_path.iterdir()
    tensors, _ = load_checkpoint(checkpoint)
    assert all(value.isfinite().all() for value in tensors.values())


def test_a_checkpoint_holds_nothing_that_is_not_finite(tmp_path: Path) -> None:
    events: list[Event] = []
    trainer = trainer_of((), events)
    checkpoints = RunCheckpoints(tmp_path, events.append, CheckpointsPart(every=0.0))
    assert checkpoints.save(trainer) == "distil-0-step-000000"
    trainer.step_in_epoch = 1
    with torch.no_grad():
        trainer.parameters[3].view(-1)[0] = INF
    assert checkpoints.save(trainer) is None
    assert [path.name for path in tmp_path.iterdir()] == ["distil-0-step-000000"]
    assert "is not finite; the one before it stays" in events[-1].message  # type: ignore[attr-defined]


def test_none_is_saved_by_the_clock_in_the_middle_of_a_row(tmp_path: Path) -> None:
    trainer = trainer_of({1, 2}, [])
    checkpoints = RunCheckpoints(tmp_path, lambda event: None, CheckpointsPart(every=0.0))
    saved: list[int] = []

    def poll(trainer: Trainer) -> None:
        before = set(tmp_path.iterdir())
        if checkpoints.due(trainer):
            checkpoints.save(trainer)
        saved.extend(int(path.name[-6:]) for path in set(tmp_path.iterdir()) - before)

    trainer.poll = poll
    trainer.run()
    assert saved[:3] == [0, 1, 4]  # not after the steps 2 and 3
