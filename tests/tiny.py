"""A small network that is right for a reason: it tells blue, green and red pictures apart."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TINY_PX = 32


def tiny_network(batch: str | int = "N", side: int | str = TINY_PX, opset: int = 17) -> onnx.ModelProto:
    """Answers (blue, green, red) by colour; a little seeded noise keeps the weights from being trivial."""
    stream = np.random.default_rng(3)
    pick = np.zeros((3, 6), np.float32)
    for row, channel in enumerate((2, 1, 0)):  # inputs are RGB, classes are sorted: blue, green, red
        pick[row, channel], pick[row, 3 + channel] = 4.0, 2.0
    first = stream.normal(0, 0.03, (6, 3, 3, 3)).astype(np.float32)
    for channel in range(6):
        first[channel, channel % 3, 1, 1] = 1.0
    depthwise = stream.normal(0, 0.03, (6, 1, 3, 3)).astype(np.float32)
    depthwise[:, 0, 1, 1] = 1.0
    weights = {
        "w1": first,
        "b1": np.full(6, 0.5, np.float32),
        "w2": depthwise,
        "w3": pick,
        "b3": np.zeros(3, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["c1"], "first", pads=[1] * 4, kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "depthwise", pads=[1] * 4, kernel_shape=[3, 3], group=6),
        helper.make_node("GlobalAveragePool", ["c2"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"], "classify", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, side, side])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def lopsided_network() -> onnx.ModelProto:
    """As ``tiny_network``, but one channel of its first tensor is 500 times larger: 8 bits leave nothing of the others.

    Only where no factor for each channel undoes it (``LOPSIDED_MCU``).
    """
    model = tiny_network()
    for tensor in model.graph.initializer:
        if tensor.name in ("w1", "b1", "w2"):
            values = numpy_helper.to_array(tensor).copy()
            values[0] *= 1 / 500 if tensor.name == "w2" else 500
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model


LOPSIDED_MCU = """\
extends = "mcu"
[scheme]
name = "unequalized"
extends = "tflite-native"
equalize = []
"""


def crowded_network() -> onnx.ModelProto:
    """As ``tiny_network``, but one tensor carries a difference of thousands and one of a few, which 8 bits cannot hold.

    The scores go through one number, h: about 6000 for blue, 4 for green and 0 for red, and the answer is one of three
    lines through it. A step of 8 bits is 24: green becomes red, a third of the answers, unless h stays in float.
    """
    model = tiny_network()
    graph = model.graph
    graph.node[-1].output[0] = "scores"  # the right class about 6, the others below 0.4
    weights = {
        "wu": np.array([[1.0, -0.5, -0.5], [-0.5, 1.0, -0.5]], np.float32),  # is it blue, is it green
        "bu": np.array([-1.0, -1.0], np.float32),
        "wh": np.array([[1000.0, 1.0]], np.float32),
        "bh": np.zeros(1, np.float32),
        "wo": np.array([[2.0], [1.0], [0.0]], np.float32),
        "bo": np.array([-100.0, -0.5, 0.0], np.float32),
    }
    graph.node.extend(
        [
            helper.make_node("Gemm", ["scores", "wu", "bu"], ["u"], "compare", transB=1),
            helper.make_node("Relu", ["u"], ["ru"], "compared"),
            helper.make_node("Gemm", ["ru", "wh", "bh"], ["h"], "crowd", transB=1),
            helper.make_node("Relu", ["h"], ["rh"], "crowded"),
            helper.make_node("Gemm", ["rh", "wo", "bo"], ["logits"], "tell", transB=1),
        ]
    )
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return model
