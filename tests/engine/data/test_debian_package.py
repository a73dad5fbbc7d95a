"""The real Fashion-MNIST, where Debian's package has put it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.data.fashion_mnist import read

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_debians_package_is_found_by_itself(tmp_path: Path) -> None:
    (images, labels), (test_images, test_labels) = read(tmp_path)
    assert images.shape == (60_000, 1, 28, 28)
    assert test_images.shape == (10_000, 1, 28, 28)
    assert labels.bincount().tolist() == [6000] * 10
    assert test_labels.bincount().tolist() == [1000] * 10
    # The mean and standard deviation by which the field normalises this data set.
    assert images.double().mean().item() / 255 == pytest.approx(0.2860, abs=1e-4)
    assert images.double().std().item() / 255 == pytest.approx(0.3530, abs=1e-4)
