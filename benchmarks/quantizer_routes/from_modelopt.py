"""NVIDIA ModelOpt's ONNX PTQ, in an environment of its own: Q/DQ for TensorRT. Variants: how ranges are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from modelopt.onnx.quantization import quantize
from process import Images, run

METHODS = {"default": None, "max": "max"}


def from_modelopt(source: Path, images: Images, variant: str, output: Path) -> None:
    quantize(
        str(source),
        calibration_data=np.asarray(images),
        calibration_method=METHODS[variant],
        calibration_eps=["cpu"],
        output_path=str(output.with_suffix(".onnx")),
    )


run(from_modelopt)
