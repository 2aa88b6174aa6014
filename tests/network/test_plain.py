"""Spellings that a runtime refuses, though the network is one that it takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import parser

from edgec.pipeline.core.stage import source
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.network.import_onnx import ImportOnnx
from edgec.pipeline.network.plain import plain

WEIGHT = np.random.default_rng(2).normal(size=(4, 3, 3, 2)).astype(np.float32)


def network(body: str, outputs: str = "float y", opset: int = 17) -> onnx.ModelProto:
    head = f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[N, 3, 9, 7] x) => ({outputs})'
    model = parser.parse_model(f"{head} {{ {body} }}")
    model.graph.initializer.append(onnx.numpy_helper.from_array(WEIGHT, "w"))
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(model)


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("dilations", [(2, 2), (3, 1), (1, 2)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 1)])
@pytest.mark.parametrize("told", [True, False])
def test_a_dilated_same_convolution_is_imported(
    auto: str, dilations: tuple[int, int], strides: tuple[int, int], told: bool, tmp_path: Path
) -> None:
    """Against torch: the odd pixel of padding is behind under SAME_UPPER, and the sides are those of the stride."""
    kernel = "kernel_shape = [3, 2], " if told else ""
    settings = f'auto_pad = "{auto}", {kernel}dilations = {list(dilations)}, strides = {list(strides)}'
    onnx.save(network(f"y = Conv<{settings}>(x, w)"), tmp_path / "given.onnx")
    ImportOnnx().run(tmp_path / "imported.onnx", source(tmp_path / "given.onnx"))
    runner = OrtRunner(tmp_path / "imported.onnx")
    noise, pads = torch.from_numpy(runner.noise()), []
    for side, size, stride, dilation in zip((7, 9), (2, 3), strides[::-1], dilations[::-1], strict=True):
        total = max((-(-side // stride) - 1) * stride + dilation * (size - 1) + 1 - side, 0)
        pads += sorted([total // 2, total - total // 2], reverse=auto == "SAME_LOWER")
    padded = torch.nn.functional.pad(noise, pads)
    expected = torch.nn.functional.conv2d(padded, torch.from_numpy(WEIGHT), None, strides, 0, dilations)
    np.testing.assert_allclose(runner.predict(noise.numpy())[0], expected.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("body", "counts"),
    [
        ("y, i = MaxPool<kernel_shape = [2, 2]>(x)", [1]),
        ("d, m = Dropout(x) y = Relu(d)", [1, 1]),
        ("p, i = MaxPool<kernel_shape = [1, 1]>(x) j = Cast<to = 1>(i) y = Add(p, j)", [2, 1, 1]),
        ("y, b, c = Split<axis = 1>(x)", [3]),
    ],
)
def test_outputs_that_nobody_reads_are_left_where_an_operator_can_be_without(body: str, counts: list[int]) -> None:
    found = [len(node.output) for node in plain(network(body)).graph.node]
    assert found[: len(counts)] == counts


def test_a_second_output_that_is_one_of_the_network_stays() -> None:
    made = plain(network("y, i = MaxPool<kernel_shape = [2, 2]>(x)", "float y, int64 i"))
    assert list(made.graph.node[0].output) == ["y", "i"]
