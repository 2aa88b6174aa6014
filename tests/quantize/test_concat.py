"""Two branches that meet in a Concat, and a depthwise convolution that reads it (ghost modules)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.pipeline.forms.compiler import load_compiler, settings_of
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.forms.spec import load_target
from edgec.pipeline.quantize.calibrate import collect
from edgec.pipeline.quantize.quantizer import quantize

IMAGES = np.random.default_rng(8).normal(0, 1, (4, 3, 16, 16)).astype(np.float32)
SHAPES = {"w1": (16, 3, 3, 3), "w2": (16, 1, 3, 3), "w3": (32, 1, 3, 3), "w4": (16, 32, 1, 1)}


def ghost() -> onnx.ModelProto:
    """A branch and its depthwise ghost of 20 times the range, side by side."""
    stream = np.random.default_rng(2)
    weights = {name: stream.normal(0, 0.3, shape).astype(np.float32) for name, shape in SHAPES.items()}
    weights["w2"] *= 20
    window = {"kernel_shape": [3, 3], "pads": [1] * 4}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], "primary", **window),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "cheap", group=16, **window),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("Concat", ["r1", "r2"], ["both"], "concat", axis=1),
        helper.make_node("Conv", ["both", "w3"], ["c3"], "depthwise", group=32, **window),
        helper.make_node("Conv", ["c3", "w4"], ["y"], "project", kernel_shape=[1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "ghost",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, 16, 16])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("board", ["cpu", "arm", "mcu", "jetson"])
def test_every_scheme_takes_it(board: str, tmp_path: Path) -> None:
    target = load_target(board)
    compiler, settings = load_compiler(target.compiler), settings_of(target)
    onnx.save(ghost(), tmp_path / "float.onnx")
    statistics = collect(tmp_path / "float.onnx", lambda: iter([IMAGES]))
    made = quantize(ghost(), statistics, target.scheme, "fast", lambda: iter([IMAGES]))
    onnx.save(made.model, tmp_path / "qdq.onnx")
    wanted = np.concatenate([OrtRunner(tmp_path / "float.onnx").predict(image[None])[0] for image in IMAGES])
    reference = OrtRunner(tmp_path / "qdq.onnx", as_written=True)
    answered = {"reference": np.concatenate([reference.predict(image[None])[0] for image in IMAGES])}
    compiler.compile_model(tmp_path / "qdq.onnx", tmp_path / "artifact", settings)
    if compiler.probe(settings).can_run:
        runner = compiler.open_runner(tmp_path / "artifact", settings, 1)
        answered["artifact"] = np.concatenate([runner.predict(image[None])[0] for image in IMAGES])
    for name, found in answered.items():
        noise = np.square(found.reshape(wanted.shape) - wanted).sum()
        least = 8 if (board, name) == ("cpu", "artifact") else 20  # x86 without VNNI saturates
        assert 10 * np.log10(np.square(wanted).sum() / noise) > least, name
