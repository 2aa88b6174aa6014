"""What a tensor cannot leave, by what makes it: no range reaches beyond it, however long the tails are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.pipeline.network.graph import Graph
from edgec.pipeline.quantize.calibrate import collect
from edgec.pipeline.quantize.ranges import observed

NODES = [  # in the order of execution
    helper.make_node("Relu", ["x"], ["relu"]),
    helper.make_node("Clip", ["x", "minus one", "six"], ["clipped"]),
    helper.make_node("Clip", ["x", "", "minus one"], ["above"]),
    helper.make_node("Concat", ["relu", "clipped"], ["joined"], axis=1),
    helper.make_node("Concat", ["relu", "constant"], ["with a constant"], axis=1),
    helper.make_node("MaxPool", ["relu"], ["largest"], kernel_shape=[3, 3], pads=[1] * 4),
    helper.make_node("AveragePool", ["above"], ["mean"], kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1),
    helper.make_node("GlobalMaxPool", ["relu"], ["pooled"]),
    helper.make_node("Flatten", ["pooled"], ["flat"]),
    helper.make_node("Neg", ["relu"], ["negative"]),
    helper.make_node("MaxPool", ["x"], ["largest of anything"], kernel_shape=[3, 3]),
]
BOUNDS = {
    "joined": (-1.0, np.inf),
    "with a constant": (-2.0, np.inf),
    "largest": (0.0, np.inf),
    "mean": (-np.inf, 0.0),  # the padding's zeros are above all that was clipped
    "flat": (0.0, np.inf),
    "negative": (-np.inf, np.inf),
    "largest of anything": (-np.inf, np.inf),
}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    floats = {"minus one": np.float32(-1), "six": np.float32(6), "constant": np.full((1, 1, 8, 8), -2, np.float32)}
    graph = helper.make_graph(
        NODES,
        "bounds",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in BOUNDS],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in floats.items()],
    )
    path = tmp_path_factory.mktemp("bounds") / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.mark.parametrize("name", BOUNDS)
def test_pools_and_joints_stay_within_their_inputs(name: str, network: Path) -> None:
    rng = np.random.default_rng(0)
    images = [rng.normal(size=(1, 3, 8, 8)).astype(np.float32) for _ in range(4)]
    seen = observed(Graph.read(onnx.load(network)), collect(network, lambda: images)).seen[name]
    assert (float(seen.lowest[0]), float(seen.highest[0])) == BOUNDS[name]
    low, high = seen.reach(100.0)
    assert low.min() >= BOUNDS[name][0]
    assert high.max() <= BOUNDS[name][1]
