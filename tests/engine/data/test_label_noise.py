"""Label noise: so many labels, other ones, the same every time; and nothing at all where there is none."""

from __future__ import annotations

import pytest
import torch
from support.classroom import few_digits
from support.presets import tiny
from support.training import make_trainer

from engine.data.label_noise import noisy_labels

LABELS = torch.arange(2000) % 7


@pytest.mark.parametrize("share", [0.1, 0.4, 0.999])
def test_so_many_labels_become_other_classes(share: float) -> None:
    noisy = noisy_labels(LABELS, 7, share, 0)
    assert int((noisy != LABELS).sum()) == round(share * 2000)
    assert set(noisy.tolist()) == set(range(7))


def test_each_other_class_has_the_same_chance() -> None:
    noisy = noisy_labels(LABELS, 7, 0.9, 0)
    steps = ((noisy - LABELS) % 7)[noisy != LABELS]
    counts = torch.bincount(steps, minlength=7)[1:].double()
    expected = 1800 / 6
    assert float(((counts - expected) ** 2 / expected).sum()) < 20.5  # chi-squared, 5 degrees of freedom: 1 in 1000


def test_two_classes_are_exchanged() -> None:
    noisy = noisy_labels(torch.tensor([0, 1] * 50), 2, 0.5, 3)
    assert set(noisy.tolist()) == {0, 1}


def test_it_is_a_function_of_seed_and_position() -> None:
    one = noisy_labels(LABELS, 7, 0.4, 0)
    assert torch.equal(one, noisy_labels(LABELS, 7, 0.4, 0))
    assert not torch.equal(one, noisy_labels(LABELS, 7, 0.4, 1))
    moved = (LABELS + 1) % 7
    assert torch.equal((one + 1) % 7, noisy_labels(moved, 7, 0.4, 0))  # what the labels are does not matter
    little = noisy_labels(LABELS, 7, 0.1, 0)
    assert torch.equal(one[little != LABELS], little[little != LABELS])


def test_only_training_labels_change() -> None:
    images = few_digits()
    noisy = images.with_label_noise(0.5, 0)
    assert int((noisy.train.labels != images.train.labels).sum()) == 48
    for same in ("validation", "test"):
        assert torch.equal(getattr(noisy, same).labels, getattr(images, same).labels)
    assert torch.equal(noisy.train.pixels, images.train.pixels)
    assert images.with_label_noise(0.0, 0) is images


def test_a_training_learns_from_them() -> None:
    plain, noisy = make_trainer(tiny()), make_trainer(tiny("train.label_noise=0.25"))
    differ = plain.images.train.labels != noisy.images.train.labels
    assert int(differ.sum()) == 40
    assert torch.equal(make_trainer(tiny("train.label_noise=0.25")).images.train.labels, noisy.images.train.labels)
