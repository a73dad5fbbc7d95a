"""What timm has, by its files alone."""

from __future__ import annotations

import pytest

from mmkd_tui.timm_names import trouble_with_name


@pytest.mark.slow  # it imports timm, and torch
def test_every_network_of_timm_is_known() -> None:
    timm = pytest.importorskip("timm")
    assert [name for name in timm.list_models() if trouble_with_name(f"timm:{name}")] == []
    assert [name for name in timm.list_pretrained() if trouble_with_name(f"timm:{name}")] == []


def test_other_names_are_nothing_to_timm() -> None:
    assert [trouble_with_name(name) for name in ("resnet1", "torchvision:resnet1")] == ["", ""]
