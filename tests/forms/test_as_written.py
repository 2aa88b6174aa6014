"""The reference executes every Q and DQ as the file says, whatever ONNX Runtime would make of two in a row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgec.pipeline.forms.ort import OrtRunner

INPUTS = (4 * np.random.default_rng(0).normal(size=(2, 3, 8, 8))).astype(np.float32)


def rounded(values: np.ndarray, scale: float) -> np.ndarray:
    return np.asarray(np.clip(np.rint(values / np.float32(scale)), -128, 127) * np.float32(scale))


def pairs_in_a_row(scales: tuple[float, ...]) -> onnx.ModelProto:
    nodes, constants, source = [], [numpy_helper.from_array(np.int8(0), "z")], "input"
    for i, scale in enumerate(scales):
        constants.append(numpy_helper.from_array(np.float32(scale), f"s{i}"))
        nodes.append(helper.make_node("QuantizeLinear", [source, f"s{i}", "z"], [f"q{i}"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"q{i}", f"s{i}", "z"], [f"d{i}"]))
        source = f"d{i}"
    values = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["N", 3, 8, 8]) for n in ("input", source)]
    graph = helper.make_graph(nodes, "pairs", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("integer_sums", [True, False])
@pytest.mark.parametrize("scales", [(0.02, 0.25), (0.25, 0.02), (0.03, 0.25, 0.02)])
def test_pairs_in_a_row_all_round(scales: tuple[float, ...], integer_sums: bool, tmp_path: Path) -> None:
    onnx.save(pairs_in_a_row(scales), tmp_path / "net.onnx")
    found = OrtRunner(tmp_path / "net.onnx", as_written=True, integer_sums=integer_sums).predict(INPUTS)[0]
    expected = INPUTS
    for scale in scales:
        expected = rounded(expected, scale)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("fixed", [None, 1, 2])
@pytest.mark.parametrize("at_once", [2, 3, 16])
def test_images_side_by_side_answer_as_in_a_batch(fixed: int | None, at_once: int, tmp_path: Path) -> None:
    model = pairs_in_a_row((0.02, 0.25))
    if fixed is not None:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = fixed
    onnx.save(model, tmp_path / "pairs.onnx")
    images = np.random.default_rng(1).normal(size=(6, 3, 8, 8)).astype(np.float32)
    usual = OrtRunner(tmp_path / "pairs.onnx").predict(images)
    found = OrtRunner(tmp_path / "pairs.onnx", at_once=at_once).predict(images)
    np.testing.assert_array_equal(found[0], usual[0])
