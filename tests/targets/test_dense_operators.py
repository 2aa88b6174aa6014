"""Atrous convolutions and bilinear resizing as DeepLabV3+ exports them, in every runtime at hand, pixel by pixel."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgec.pipeline.forms.compiler import load_compiler
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.network.export import export_onnx
from edgec.pipeline.network.models.atrous import AtrousSeparable, SpatialPyramid, resized
from edgec.targets.tflite.compiler import to_tflite
from edgec.targets.tflite.options import TfliteOptions


class Resizing(nn.Module):
    """A strided convolution and back to the picture's size."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, stride=stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return resized(self.conv(x), x.shape[-2:])


def float_answers(network: nn.Module, side: int, folder: Path) -> dict[str, np.ndarray]:
    """torch, ONNX Runtime, LiteRT with and without XNNPACK, OpenVINO: of one seeded picture."""
    from edgec.targets.openvino.runner import OpenVinoRunner
    from edgec.targets.tflite.runner import LiteRtRunner

    torch.manual_seed(0)
    x = torch.randn(1, 3, side, side)
    export_onnx(network, side, folder / "m.onnx")
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


@pytest.mark.parametrize(("side", "stride"), [(9, 4), (17, 4), (33, 16), (16, 4), (32, 16), (9, 8)])
def test_a_resize_looks_at_the_same_pixels_everywhere(side: int, stride: int, tmp_path: Path) -> None:
    """A converter that takes the other corners is off by a share of a pixel: about a tenth of the contrast."""
    found = float_answers(Resizing(stride).eval(), side, tmp_path)
    for name, values in found.items():
        np.testing.assert_allclose(values, found["torch"], atol=2e-5, err_msg=name)


@pytest.mark.parametrize("rate", [1, 2, 6, 18])
def test_an_atrous_layer_is_one_operator(rate: int, tmp_path: Path) -> None:
    """Also where the rate is beyond the border of a map of 9 pixels: then the middle tap alone sees something."""
    network = nn.Sequential(nn.Conv2d(3, 8, 1), AtrousSeparable(8, 4, rate=rate)).eval()
    found = float_answers(network, 9, tmp_path)
    for name, values in found.items():
        np.testing.assert_allclose(values, found["torch"], atol=2e-5, err_msg=name)
    operators = load_compiler("tflite").FORMAT.contract(tmp_path / "m.tflite").operators
    assert operators == {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 1}
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node)
    assert kinds["Conv"] == 3
    assert "Pad" not in kinds


def test_the_pyramid_leaves_no_other_operator(tmp_path: Path) -> None:
    network = SpatialPyramid(3, 8, (2, 4, 6)).eval()
    found = float_answers(network, 9, tmp_path)
    for name, values in found.items():
        np.testing.assert_allclose(values, found["torch"], atol=5e-5, err_msg=name)
    operators = load_compiler("tflite").FORMAT.contract(tmp_path / "m.tflite").operators
    assert operators["DEPTHWISE_CONV_2D"] == 3
    assert set(operators) == {"CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "MEAN", "RESIZE_BILINEAR"}
