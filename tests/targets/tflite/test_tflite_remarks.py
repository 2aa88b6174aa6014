"""What XNNPACK will leave to other kernels is said by the check, before an image is read."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgec.pipeline.forms.scheme import load_scheme
from edgec.pipeline.quantize.check import pretended
from edgec.targets.tflite.compiler import check
from edgec.targets.tflite.options import TfliteOptions


def hard_swish_network() -> onnx.ModelProto:
    stream = np.random.default_rng(1)
    weights = {"w1": stream.normal(0, 0.3, (8, 3, 3, 3)), "w2": stream.normal(0, 0.3, (4, 8, 1, 1))}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c"], "first", kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("HardSwish", ["c"], ["h"], "swish"),
        helper.make_node("Conv", ["h", "w2"], ["y"], "second", kernel_shape=[1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "swish",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 16, 16])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_operators_that_xnnpack_lacks_are_named_with_the_pieces() -> None:
    native = pretended(hard_swish_network(), load_scheme("tflite-native"))
    words = "XNNPACK takes the network in 2 pieces; TFLite's own kernels compute 1 x HARD_SWISH"
    assert check(native, TfliteOptions()) == (words,)


def test_nothing_is_said_where_xnnpack_takes_all_or_is_not_there() -> None:
    split = pretended(hard_swish_network(), load_scheme("tflite"))
    assert check(split, TfliteOptions()) == ()
    native = pretended(hard_swish_network(), load_scheme("tflite-native"))
    assert check(native, TfliteOptions(xnnpack=False)) == ()
