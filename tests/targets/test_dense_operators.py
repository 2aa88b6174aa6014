"""Atrous convolutions and bilinear resizing as DeepLabV3+ exports them, in every runtime at hand, pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgec.pipeline.core.stage import Artifact
from edgec.pipeline.forms.compiler import load_compiler
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.network.export import export_onnx
from edgec.pipeline.network.models.atrous import SpatialPyramid, resized
from edgec.pipeline.network.simplify import Simplify
from edgec.targets.tflite.compiler import to_tflite
from edgec.targets.tflite.options import TfliteOptions


class Resizing(nn.Module):
    """Strided convolutions and back to the picture's size."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 2, 1, stride=stride) for stride in (4, 8, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([resized(conv(x), x.shape[-2:]) for conv in self.convs], dim=1)


def float_answers(network: nn.Module, side: int, folder: Path) -> dict[str, np.ndarray]:
    """torch, ONNX Runtime, LiteRT with and without XNNPACK, OpenVINO: of one seeded picture."""
    from edgec.targets.openvino.runner import OpenVinoRunner
    from edgec.targets.tflite.runner import LiteRtRunner

    torch.manual_seed(0)
    x = torch.randn(1, 3, side, side)
    export_onnx(network, side, folder / "traced.onnx")
    Simplify().run(folder / "m.onnx", Artifact(folder / "traced.onnx", ""))
    (folder / "m.tflite").write_bytes(to_tflite(onnx.load(folder / "m.onnx"), TfliteOptions()))
    (folder / "ir").mkdir()
    import openvino

    openvino.save_model(openvino.Core().read_model(folder / "m.onnx"), folder / "ir/model.xml", compress_to_fp16=False)
    runners = {
        "onnxruntime": OrtRunner(folder / "m.onnx"),
        "xnnpack": LiteRtRunner(folder / "m.tflite"),
        "reference kernels": LiteRtRunner(folder / "m.tflite", xnnpack=False, reference=True),
        "openvino": OpenVinoRunner(folder / "ir", 1),
    }
    with torch.no_grad():
        expected = network(x).numpy()
    return {"torch": expected} | {name: runner.predict(x.numpy())[0] for name, runner in runners.items()}


@pytest.mark.parametrize("side", [33, 32])
def test_a_resize_looks_at_the_same_pixels_everywhere(side: int, tmp_path: Path) -> None:
    """A converter that takes the other corners is off by a share of a pixel: about a tenth of the contrast."""
    found = float_answers(Resizing().eval(), side, tmp_path)
    for name, values in found.items():
        np.testing.assert_allclose(values, found["torch"], atol=2e-5, err_msg=name)


def test_each_atrous_layer_is_one_operator(tmp_path: Path) -> None:
    """Also where the rate is beyond the border of a map of 9 pixels: then the middle tap alone sees something."""
    found = float_answers(SpatialPyramid(3, 8, (1, 2, 6, 18)).eval(), 9, tmp_path)
    for name, values in found.items():
        np.testing.assert_allclose(values, found["torch"], atol=5e-5, err_msg=name)
    operators = load_compiler("tflite").FORMAT.contract(tmp_path / "m.tflite").operators
    expected = {"CONV_2D": 7, "DEPTHWISE_CONV_2D": 4, "CONCATENATION": 1, "MEAN": 1, "RESIZE_BILINEAR": 1}
    assert operators == expected
