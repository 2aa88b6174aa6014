"""edgec: a variant is ``SCHEME LEVEL``. The OpenVINO scheme ends as IR, the others as the QDQ file itself."""

from __future__ import annotations

from pathlib import Path

import onnx
from process import Images, run

from edgec.pipeline.forms.compiler import settings_of
from edgec.pipeline.forms.scheme import load_scheme
from edgec.pipeline.forms.spec import load_target
from edgec.pipeline.quantize.calibrate import collect
from edgec.pipeline.quantize.quantizer import quantize
from edgec.pipeline.quantize.stages import BATCH_SIZE
from edgec.targets.openvino import compile_model


def from_edgec(source: Path, images: Images, variant: str, output: Path) -> None:
    def batches() -> list[Images]:
        return [images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE)]

    scheme, level = variant.split()
    calibration = collect(source, batches)
    quantized = quantize(onnx.load(source), calibration, load_scheme(scheme), level, batches)
    qdq = output.with_suffix(".onnx")
    onnx.save(quantized.model, qdq)
    if scheme == "openvino":
        compile_model(qdq, output, settings_of(load_target("cpu")))


run(from_edgec)
