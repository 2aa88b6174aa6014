"""Rewrites of the graph as text before and after; none of them may change what the network computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from calibrated import Calibrated
from onnx import numpy_helper, parser

from edgec.pipeline.forms.scheme import load_scheme, parse_scheme
from edgec.pipeline.network.graph import Graph
from edgec.pipeline.quantize.absorption import absorb_high_biases
from edgec.pipeline.quantize.channels import Channels
from edgec.pipeline.quantize.equalize import equalize
from edgec.pipeline.quantize.executor import run
from edgec.pipeline.quantize.plan import Network
from edgec.pipeline.quantize.prepare import prepare
from edgec.pipeline.quantize.ranges import observed
from edgec.pipeline.quantize.rescaling import remove_unused_rescaling

STREAM = np.random.default_rng(4)


def parsed(body: str, constants: dict[str, tuple[int, ...]], outputs: str = "float[N, 4, 6, 6] y") -> onnx.ModelProto:
    """A network of input ``x`` (N, 3, 6, 6); constants are random, variances positive."""
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> net (float[N, 3, 6, 6] x) => ({outputs}) {{ {body} }}'
    )
    for name, shape in constants.items():
        values = STREAM.normal(0, 1, shape).astype(np.float32)
        values = np.abs(values) + 0.1 if name.startswith("var") else values
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


def bare(model: onnx.ModelProto, **seen: Channels) -> Network:
    return Network(Graph.read(model), seen)


def reach(*highest: float) -> Channels:
    high = np.array(highest)
    return Channels(np.zeros_like(high), high, high / 4, high**2 / 8)


def operators(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def assert_same_function(before: onnx.ModelProto, after: Graph, side: int = 6) -> None:
    x = torch.from_numpy(STREAM.normal(0, 2, (2, 3, side, side)).astype(np.float32))
    wanted, got = (run(g, {g.inputs[0]: x})[g.outputs[0]] for g in (Graph.read(before), Graph.read(after.write())))
    torch.testing.assert_close(got, wanted, atol=1e-5 * float(wanted.abs().max()), rtol=1e-5)


BN = {"scale": (4,), "shift": (4,), "mean": (4,), "var": (4,)}


def test_a_batch_norm_becomes_part_of_its_convolution() -> None:
    model = parsed(
        "c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w) "
        "n = BatchNormalization (c, scale, shift, mean, var) y = Relu (n)",
        {"w": (4, 3, 3, 3), **BN},
    )
    after = prepare(bare(model), load_scheme("tflite")).graph
    assert operators(after) == ["Conv", "Relu"]
    assert_same_function(model, after)


def test_a_batch_norm_is_a_layer_of_its_own_where_another_reads_the_convolution() -> None:
    """A depthwise 1x1 convolution: the first convolution's output has two readers and may not change."""
    model = parsed(
        "c = Conv <kernel_shape = [1, 1]> (x, w) n = BatchNormalization (c, scale, shift, mean, var) y = Add (n, c)",
        {"w": (4, 3, 1, 1), **BN},
    )
    after = prepare(bare(model), load_scheme("tflite")).graph
    assert operators(after) == ["Conv", "Conv", "Add"]
    first, normal, last = after.nodes
    assert (normal.attributes["group"], normal.inputs[0], last.inputs[1]) == (4, "c", first.outputs[0])
    assert_same_function(model, after)


def test_linear_nodes_own_their_constants() -> None:
    model = parsed(
        "a = Conv <kernel_shape = [1, 1]> (x, w) b = Conv <kernel_shape = [1, 1]> (x, w) y = Add (a, b)",
        {"w": (4, 3, 1, 1)},
    )
    after = prepare(bare(model), load_scheme("tflite")).graph
    first, second = (node for node in after.nodes if node.op == "Conv")
    assert len({*first.inputs[1:], *second.inputs[1:]}) == 4
    assert_same_function(model, after)


def test_a_gemm_becomes_plain() -> None:
    model = parsed(
        "p = GlobalAveragePool (x) f = Flatten (p) y = Gemm <alpha = 0.5, beta = 2.0> (f, w, b)",
        {"w": (3, 4), "b": (4,)},
        "float[N, 4] y",
    )
    after = prepare(bare(model), load_scheme("tflite")).graph
    (gemm,) = (node for node in after.nodes if node.op == "Gemm")
    assert dict(gemm.attributes) == {"transB": 1}
    assert after.constants[gemm.inputs[1]].shape == (4, 3)
    assert_same_function(model, after)


HARD_SWISH = "c = Conv <kernel_shape = [1, 1]> (x, w, b) h = HardSwish (c) y = Conv <kernel_shape = [1, 1]> (h, v, d)"
HARD_SWISH_SHAPES = {"w": (5, 3, 1, 1), "b": (5,), "v": (4, 5, 1, 1), "d": (4,)}


def test_a_hard_swish_splits_and_its_sixth_moves_into_the_next_weights() -> None:
    model = parsed(HARD_SWISH, HARD_SWISH_SHAPES)
    after = prepare(bare(model), load_scheme("tflite")).graph
    assert operators(after) == ["Conv", "Conv", "Clip", "Mul", "Conv"]
    last = after.nodes[-1]
    np.testing.assert_allclose(
        after.constants[last.inputs[1]] * 6, numpy_helper.to_array(model.graph.initializer[2]), 1e-6
    )
    assert_same_function(model, after)


def test_a_hard_swish_that_is_the_answer_is_divided() -> None:
    model = parsed("c = Conv <kernel_shape = [1, 1]> (x, w, b) y = HardSwish (c)", {"w": (4, 3, 1, 1), "b": (4,)})
    after = prepare(bare(model), load_scheme("tflite")).graph
    assert operators(after) == ["Conv", "Conv", "Clip", "Mul", "Mul"]
    assert_same_function(model, after)


@pytest.mark.parametrize("scheme", ["openvino", "tensorrt", "tflite-native"])
def test_a_hard_swish_stays_whole_where_the_scheme_says_so(scheme: str) -> None:
    model = parsed(HARD_SWISH, HARD_SWISH_SHAPES)
    after = remove_unused_rescaling(prepare(bare(model), load_scheme(scheme)).graph)
    assert operators(after) == ["Conv", "HardSwish", "Conv"]
    assert_same_function(model, after)


def test_a_rescaling_is_inserted_before_a_quantized_tensor_and_vanishes_unused() -> None:
    model = parsed(HARD_SWISH, HARD_SWISH_SHAPES)
    rules = parse_scheme({"extends": "openvino", "rescale_activations": True})
    prepared = prepare(bare(model), rules).graph
    assert operators(prepared) == ["Conv", "HardSwish", "Mul", "Conv"]
    assert_same_function(model, prepared)
    assert operators(remove_unused_rescaling(prepared)) == ["Conv", "HardSwish", "Conv"]
    assert_same_function(model, remove_unused_rescaling(prepared))


def test_uneven_channels_are_evened_out() -> None:
    """A stream through a ReLU whose channels span three decades: the factors meet in the two weights around it."""
    model = parsed(
        "c = Conv <kernel_shape = [1, 1]> (x, w, b) r = Relu (c) y = Conv <kernel_shape = [1, 1]> (r, v, d)",
        {"w": (5, 3, 1, 1), "b": (5,), "v": (4, 5, 1, 1), "d": (4,)},
    )
    before = bare(model, x=reach(1, 1, 1), r=reach(100, 10, 1, 0.1, 50), y=reach(9, 9, 9, 9))
    after = equalize(prepare(before, load_scheme("tflite")), load_scheme("tflite"))
    spread = [float(part.seen["r"].high.max() / part.seen["r"].high.min()) for part in (before, after)]
    assert spread[1] < spread[0] / 4
    assert_same_function(model, after.graph)


@pytest.mark.parametrize("scheme", ["openvino", "tflite", "tensorrt"])
@pytest.mark.parametrize("name", ["mobilenetv3-small"])
def test_whole_networks_keep_their_function(network: Callable[[str], Calibrated], name: str, scheme: str) -> None:
    source, rules = network(name), load_scheme(scheme)
    start = observed(Graph.read(source.model), source.calibration)
    after = equalize(prepare(start, rules), rules)
    assert_same_function(source.model, remove_unused_rescaling(after.graph), side=32)


def test_a_high_bias_moves_into_the_layer_behind() -> None:
    model = parsed(
        "h = Conv(x, w, b) r = Relu(h) y = Conv(r, v, c)",
        {"w": (2, 3, 1, 1), "b": (2,), "v": (4, 2, 1, 1), "c": (4,)},
    )
    lifted = Graph.read(model).with_constants({"b": np.array([50.0, 0.0], np.float32)})
    seen = Channels(np.array([30.0, 0.0]), np.array([70.0, 9.0]), np.array([50.0, 2.0]), np.array([2600.0, 9.0]))
    after = absorb_high_biases(Network(lifted, {"r": seen}))
    assert_same_function(lifted.write(), after.graph)
    assert after.graph.constants["b"].tolist() == [20.0, 0.0]
    assert after.seen["r"].high.tolist() == [40.0, 9.0]


@pytest.mark.parametrize("reader", ["Conv<pads=[1, 1, 1, 1]>(r, v, c)", "Add(r, r)"])
def test_a_high_bias_stays_where_the_reader_would_notice(reader: str) -> None:
    model = parsed(
        f"h = Conv(x, w, b) r = Relu(h) y = {reader}",
        {"w": (4, 3, 1, 1), "b": (4,), "v": (4, 4, 3, 3), "c": (4,)},
    )
    seen = Channels(np.full(4, 30.0), np.full(4, 70.0), np.full(4, 50.0), np.full(4, 2600.0))
    before = bare(model, r=seen)
    assert absorb_high_biases(before) is before
