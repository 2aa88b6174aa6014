"""NNCF on the OpenVINO model, in an environment of its own. Variants: its presets, and full bias correction."""

from __future__ import annotations

from pathlib import Path

import nncf
import openvino
from process import Images, run

OPTIONS = {
    "default": {},
    "mixed": {"preset": nncf.QuantizationPreset.MIXED},
    "full-bias-correction": {"fast_bias_correction": False},
}


def from_nncf(source: Path, images: Images, variant: str, output: Path) -> None:
    model = openvino.Core().read_model(source)
    model.reshape([1, *images.shape[1:]])
    dataset = nncf.Dataset(range(len(images)), lambda index: images[index : index + 1])
    quantized = nncf.quantize(model, dataset, subset_size=len(images), **OPTIONS[variant])
    output.mkdir()
    openvino.save_model(quantized, output / "model.xml", compress_to_fp16=False)


run(from_nncf)
