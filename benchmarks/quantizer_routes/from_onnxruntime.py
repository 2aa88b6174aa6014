"""ONNX Runtime's static quantization: int8 activations with zero points, int8 weights per channel. Variants: ranges."""

from __future__ import annotations

import math
from pathlib import Path

from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from process import Images, run

METHODS = {
    "min-max": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
STRIDE = 20
"""Images whose activations are held at most. Without it every activation of every image stays in memory."""


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """One image after the other; ONNX Runtime asks for ``STRIDE`` of them at a time."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self.set_range(0, len(images))

    def __len__(self) -> int:
        return len(self._images)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._rest = iter(range(start_index, min(end_index, len(self))))

    def get_next(self) -> dict[str, Images] | None:
        index = next(self._rest, None)
        return None if index is None else {"input": self._images[index : index + 1]}


def from_onnxruntime(source: Path, images: Images, variant: str, output: Path) -> None:
    quantize_static(
        source,
        output.with_suffix(".onnx"),
        Reader(images),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=METHODS[variant],
        extra_options={"CalibStridedMinMax": math.gcd(len(images), STRIDE)},
    )


run(from_onnxruntime)
