"""Constants may change without new shapes only where no shape hangs on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgec.pipeline.network.graph import Graph


def resized() -> Graph:
    """A convolution, and a Resize whose scales are floats that decide a shape."""
    constants = {
        "w": np.ones((4, 3, 1, 1), np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Resize", ["c", "", "scales"], ["r"]),
        helper.make_node("Pad", ["r", "pads"], ["y"]),
    ]
    values = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", ["N", 3, 8, 8]), ("y", None))
    ]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "resized", values[:1], values[1:], initializers)
    return Graph.read(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


@pytest.mark.parametrize(
    ("name", "value", "side"),
    [
        ("w", np.zeros((4, 3, 1, 1), np.float32), 18),
        ("w", np.zeros((5, 3, 1, 1), np.float32), 18),
        ("scales", np.array([1, 1, 3, 3], np.float32), 26),
        ("pads", np.array([0, 0, 2, 2, 0, 0, 2, 2]), 20),
        ("new", np.zeros(3, np.float32), 18),
    ],
)
def test_shapes_are_those_of_a_graph_that_never_knew_others(name: str, value: np.ndarray, side: int) -> None:
    graph = resized()
    assert graph.shapes["y"][2] == 18
    changed = graph.with_constants({name: value})
    fresh = Graph.read(changed.write()) if name != "new" else changed
    assert changed.shapes["y"][2] == side
    assert {key: changed.shapes[key] for key in fresh.shapes} == dict(fresh.shapes)


def test_a_weight_in_place_of_a_weight_infers_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    graph = resized()
    before = graph.shapes
    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", lambda *_, **__: pytest.fail("inferred again"))
    assert graph.with_constants({"w": np.zeros((4, 3, 1, 1), np.float32)}).shapes is before
