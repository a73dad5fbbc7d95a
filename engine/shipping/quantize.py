"""int8 by onnxruntime: statically by calibration images, or dynamically where that is better; which, held-out images decide."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from engine.errors import UserError
from engine.shipping.runners import need_onnx, quietly
from engine.shipping.writers import INPUT, labelled
from engine.text import one_line

CALIBRATION = 256  # training images
DECIDING = 1000  # validation images
MARGIN = 0.01  # of accuracy
WAYS = ("static", "static-7bit", "dynamic")  # the last is slower, and what it says of an image depends on its batch


@dataclass(frozen=True, slots=True)
class Quantized:
    """The model that was chosen, and how well each way did on the images that decided."""

    data: bytes
    way: str  # one of WAYS
    accuracies: dict[str, float]


def to_int8(data: bytes, calibration: Sequence[Tensor], accuracy: Callable[[bytes], float]) -> Quantized:
    """Weights in int8 with a scale for each output channel, activations in uint8: the pair that x86 processors are quickest at.

    `static`: activations' ranges are those that `calibration` shows (batches of normalised images); `static-7bit`: weights have 7
    bits, since processors with AVX2 but without VNNI may overflow in sums of pairs; `dynamic`: ranges are those of each batch.
    `accuracy` judges, and the first of them is taken of which none is better by more than MARGIN. UserError where onnxruntime
    cannot do it.
    """
    need_onnx()
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(calibration)

        def get_next(self) -> dict[str, Any] | None:
            images = next(self._left, None)
            return None if images is None else {INPUT: np.ascontiguousarray(images.float().cpu().numpy())}

    metadata = {entry.key: entry.value for entry in onnx.load_model_from_string(data).metadata_props}
    found: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory(prefix="mmkd-int8-") as scratch, quietly():
        given, ready = Path(scratch) / "given.onnx", Path(scratch) / "ready.onnx"
        given.write_bytes(data)
        try:
            quant_pre_process(given, ready, skip_symbolic_shape=True)
            for way in WAYS:
                target = Path(scratch) / f"{way}.onnx"
                if way == "dynamic":
                    quantize_dynamic(ready, target, per_channel=True)
                else:
                    quantize_static(
                        ready,
                        target,
                        Reader(),
                        quant_format=QuantFormat.QDQ,
                        activation_type=QuantType.QUInt8,
                        weight_type=QuantType.QInt8,
                        per_channel=True,
                        reduce_range=way == "static-7bit",
                    )
                found[way] = labelled(onnx.load(target), metadata | {"quantization": f"int8, {way}"})
        except Exception as error:
            raise UserError(f"onnxruntime cannot quantise it: {one_line(str(error), 300)}; leave --quantize out") from error
    accuracies = {way: accuracy(content) for way, content in found.items()}
    best = next(way for way in WAYS if accuracies[way] >= max(accuracies.values()) - MARGIN)
    return Quantized(found[best], best, accuracies)
