"""What a model file says of itself: read back as it was written, and refused where it cannot be."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.picture_sets import noise

from engine.catalog import DATASETS
from engine.errors import UserError
from engine.pictures import centre
from engine.preprocessing import Preprocessing
from engine.shipping.facts import ModelFacts, facts_from
from engine.shipping.material import converted
from engine.shipping.placing import put, refuse_existing, workshop, write

GREY = Preprocessing(1, 8, 8, (0.3,), (0.35,))
COLOUR = Preprocessing(3, 32, 37, (0.5, 0.4, 0.3), (0.2, 0.2, 0.25))
FACTS = ModelFacts("resnet8", "digits", ("a", "[/red]", "\x1b[2J"), GREY, "layer3", {"run": "r"})


def test_facts_come_back_as_they_were_written() -> None:
    found = facts_from(FACTS.to_metadata(), "file")
    assert found == dataclasses.replace(FACTS, said={})


def test_a_runs_own_student_has_its_statistics_of_0_to_255() -> None:
    said = {"arch": "resnet8", "dataset": "digits", "classes": '["a", "b"]', "channels": "1", "size": "8"}
    found = facts_from(said | {"mean": "[76.5]", "std": "[89.25]"}, "file")
    assert found is not None
    assert found.preprocessing == Preprocessing(1, 8, 8, (0.3,), (0.35,))
    dogs = facts_from(said | {"dataset": "stanford-dogs", "size": "224", "mean": "[76.5]", "std": "[89.25]"}, "file")
    assert dogs is not None
    assert dogs.preprocessing.resize == 256  # as its test pictures are measured
    whole = {"dataset": "imagefolder", "size": "224", "resize": "224", "mean": "[76.5]", "std": "[89.25]"}
    found = facts_from(said | whole, "file")
    assert found is not None
    assert found.preprocessing.resize == 224


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("preprocessing", "not JSON"),
        ("preprocessing", "[" * 100_000),
        ("preprocessing", json.dumps({"channels": 1, "size": 10**9, "resize": 10**9, "mean": [0], "std": [1]})),
        ("preprocessing", json.dumps({"channels": 2, "size": 8, "resize": 8, "mean": [0, 0], "std": [1, 1]})),
        ("preprocessing", json.dumps({"channels": 1, "size": 8, "resize": 4, "mean": [0], "std": [1]})),
        ("preprocessing", json.dumps({"channels": 1, "size": 8, "resize": 8, "mean": [0], "std": [0]})),
        ("preprocessing", '{"channels": 1, "size": 8, "resize": 8, "mean": [NaN], "std": [1]}'),
        ("preprocessing", json.dumps({"channels": 1, "size": 8, "mean": [0], "std": [1], "interpolation": "bicubic"})),
        ("classes", "[1, 2]"),
        ("classes", '["one"]'),
        ("classes", "null"),
    ],
)
def test_metadata_that_cannot_be_is_one_clear_line(name: str, value: str) -> None:
    with pytest.raises(UserError, match=r"^evil\.onnx ") as caught:
        facts_from(FACTS.to_metadata() | {name: value}, "evil.onnx")
    assert "\n" not in str(caught.value)


def test_nothing_said_is_no_mistake() -> None:
    assert facts_from({"format": "pt"}, "file") is None


def test_pictures_are_prepared_as_the_training_tests_them() -> None:
    """Scaled and cut as engine.pictures does it for pictures in files."""
    prepared = Preprocessing.of(dataclasses.replace(DATASETS["stanford-dogs"], size=32), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    for shape in ((50, 70, 3), (70, 33, 3), (32, 32, 3)):
        picture = Image.fromarray(noise(1, *shape))
        wanted = np.asarray(centre(picture, 32)).transpose(2, 0, 1)
        np.testing.assert_array_equal(prepared.pixels(picture), wanted)
    mean, std = np.array([1, 2, 3])[:, None, None], np.array([4, 5, 6])[:, None, None]
    np.testing.assert_allclose(prepared.normalised(wanted), (wanted.astype(float) - mean) / std, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "prepared", [GREY, Preprocessing(3, 32, 32, (0.5,) * 3, (0.2,) * 3), COLOUR], ids=["grey", "colour", "cut"]
)
@pytest.mark.parametrize("shape", [(8, 8, 3), (32, 32), (96, 96, 3)], ids=str)
def test_tensors_are_converted_as_pictures_are(prepared: Preprocessing, shape: tuple[int, ...]) -> None:
    """A test set of another size or colour is measured on the pixels that mmkd predict would make of its pictures."""
    pixels = noise(2, *shape)
    wanted = prepared.pixels(Image.fromarray(pixels)).astype(int)
    tensor = torch.from_numpy(pixels if pixels.ndim == 3 else pixels[:, :, None]).permute(2, 0, 1)[None].float()
    found = converted(tensor, prepared)[0].numpy()
    assert np.abs(found - wanted).max() <= 1  # Pillow rounds after each direction


def test_a_file_is_put_in_one_step_and_never_over_another(tmp_path: Path) -> None:
    target = tmp_path / "new" / "model.onnx"
    with workshop(target.parent) as bench:
        put(write(bench / "m", b"first"), target, force=False)
        with pytest.raises(UserError, match="is there already"):
            put(write(bench / "n", b"second"), target, force=False)
        assert target.read_bytes() == b"first"
        put(write(bench / "o", b"third"), target, force=True)
    assert target.read_bytes() == b"third"
    assert target.stat().st_mode & 0o777 == 0o600
    assert target.parent.stat().st_mode & 0o777 == 0o700
    assert list(target.parent.iterdir()) == [target]
    target.unlink()
    target.symlink_to("nowhere")
    with pytest.raises(UserError, match="is there already"):
        refuse_existing((target,), force=False)
