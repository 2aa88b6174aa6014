"""Hard-swish where the runtime has one operator for it: in parts if a factor for each channel passes, else whole."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from calibrated import Calibrated, calibrate
from onnx import TensorProto, helper, numpy_helper

from edgec.pipeline.forms.scheme import Scheme, load_scheme
from edgec.pipeline.network.graph import Graph
from edgec.pipeline.quantize.prefix import answers
from edgec.pipeline.quantize.quantizer import equalized, quantize
from edgec.pipeline.tasks.metrics import sqnr_db
from edgec.targets.tflite.compiler import to_tflite
from edgec.targets.tflite.flatbuffer import read_tflite
from edgec.targets.tflite.micro import MicroRunner
from edgec.targets.tflite.options import TfliteOptions

NATIVE = load_scheme("tflite-native")
WHOLE = replace(NATIVE, equalize=tuple(name for name in NATIVE.equalize if name != "hard_swish"))
SPLIT = replace(NATIVE, hard_swish="split")
MICRO = TfliteOptions(gemm="convolution", xnnpack=False, runtime="tflite-micro")
IMAGES = np.random.default_rng(6).normal(0, 1, (12, 3, 8, 8)).astype(np.float32)
LOUD = 100.0


def network(loud: float) -> onnx.ModelProto:
    """Two hard-swish: in front of the first one channel is ``loud`` times larger, which the layer behind undoes."""
    stream = np.random.default_rng(1)
    weights = {
        name: stream.normal(0, spread, shape).astype(np.float32)
        for name, spread, shape in (
            ("first.w", 1.0, (8, 3, 1, 1)),
            ("second.w", 0.5, (16, 8, 1, 1)),
            ("last.w", 0.5, (5, 16, 1, 1)),
        )
    }
    weights["first.w"][0] *= loud
    weights["second.w"][:, 0] /= loud
    biases = {f"{name}.b": np.zeros(size, np.float32) for name, size in (("first", 8), ("second", 16), ("last", 5))}
    nodes = [
        helper.make_node("Conv", ["input", "first.w", "first.b"], ["first"], "first", kernel_shape=[1, 1]),
        helper.make_node("HardSwish", ["first"], ["first.swish"], "first.swish"),
        helper.make_node("Conv", ["first.swish", "second.w", "second.b"], ["second"], "second", kernel_shape=[1, 1]),
        helper.make_node("HardSwish", ["second"], ["second.swish"], "second.swish"),
        helper.make_node("Conv", ["second.swish", "last.w", "last.b"], ["logits"], "last", kernel_shape=[1, 1]),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", channels, 8, 8])
        for name, channels in (("input", 3), ("logits", 5))
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in {**weights, **biases}.items()]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    return saved(network(LOUD), tmp_path_factory)


@pytest.fixture(scope="module")
def even(tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    return saved(network(1.0), tmp_path_factory)


def saved(model: onnx.ModelProto, folders: pytest.TempPathFactory) -> Calibrated:
    path = folders.mktemp("swish") / "net.onnx"
    onnx.save(model, path)
    return calibrate(path, IMAGES)


def made(net: Calibrated, scheme: Scheme) -> onnx.ModelProto:
    return quantize(net.model, net.calibration, scheme, "fast", net.batches).model


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(operator.kind for operator in read_tflite(to_tflite(model, MICRO)).operators)


def test_only_the_one_that_a_factor_passes_is_in_parts(loud: Calibrated) -> None:
    found = made(loud, NATIVE)
    assert [node.name for node in found.graph.node if node.op_type == "HardSwish"] == ["second.swish"]
    assert kinds(found) == {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 1, "MUL": 1, "HARD_SWISH": 1}
    assert kinds(made(loud, WHOLE)) == {"CONV_2D": 3, "HARD_SWISH": 2}
    assert kinds(made(loud, SPLIT)) == {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 1, "ADD": 1, "MUL": 2}


def test_the_parts_have_less_noise(loud: Calibrated) -> None:
    expected = answers(loud.model, IMAGES)[0]
    parts, whole = (sqnr_db(answers(made(loud, scheme), IMAGES)[0], expected) for scheme in (NATIVE, WHOLE))
    assert parts > whole + 10


def test_where_no_factor_passes_the_file_is_that_of_one_operator(even: Calibrated) -> None:
    assert made(even, NATIVE).SerializeToString() == made(even, WHOLE).SerializeToString()


def test_the_function_stays(loud: Calibrated) -> None:
    source = Graph.read(loud.model)
    network = equalized(source, loud.calibration, NATIVE)
    gates = [name for name in network.graph.constants if name.endswith("gate_weight")]
    assert gates == ["first.swish.gate_weight"]
    assert (network.graph.constants[gates[0]] != 1).any()
    given, expected = (answers(graph.write(), IMAGES)[0] for graph in (network.graph, source))
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-4 * float(np.abs(expected).max()))


OF_PRODUCTS = {
    "a sum": "y = HardSwish (c) d = Conv (y, v) s = Add (y, d) z = HardSwish (s) logits = Conv (z, u)",
    "a product": "y = HardSwish (c) z = HardSwish (y) logits = Conv (z, u)",
    "three": "y = HardSwish (c) z = HardSwish (y) t = HardSwish (z) logits = Conv (t, u)",
    "its own sum": "y = HardSwish (c) z = HardSwish (y) s = Add (y, z) logits = Conv (s, u)",
    "a sum of a sum": "y = HardSwish (c) d = Conv (y, v) s = Add (y, d) z = HardSwish (s) e = Conv (z, w) "
    "t = Add (s, e) r = HardSwish (t) logits = Conv (r, u)",
    "unlike ones": "y = HardSwish (c) z = HardSwish (y) d = Conv (x, f) e = HardSwish (d) s = Add (z, e) "
    "logits = Conv (s, u)",
    "a pooled one": "y = HardSwish (c) p = MaxPool <kernel_shape = [2, 2]> (y) z = HardSwish (p) logits = Conv (z, u)",
    "a gated one": "y = HardSwish (c) g = HardSigmoid (c) p = Mul (y, g) z = HardSwish (p) logits = Conv (z, u)",
}
"""Hard-swish of what a hard-swish gave."""


@pytest.mark.parametrize("body", OF_PRODUCTS.values(), ids=OF_PRODUCTS)
def test_the_function_stays_where_one_reads_another(body: str, tmp_path: Path) -> None:
    stream = np.random.default_rng(5)
    shapes = {"f": (4, 3, 1, 1), "u": (5, 4, 1, 1), "v": (4, 4, 1, 1), "w": (4, 4, 1, 1)}
    used = {name: shape for name, shape in shapes.items() if name == "f" or f", {name})" in body}
    constants = [numpy_helper.from_array(stream.normal(0, 1, used[name]).astype(np.float32), name) for name in used]
    inside = "float[N, 3, 8, 8] x) => (float[N, 5, H, W] logits"
    text = f'<ir_version: 8, opset_import: ["" : 17]> g ({inside}) {{ c = Conv (x, f) {body} }}'
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(constants)
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}{number}"
    onnx.save(model, tmp_path / "net.onnx")
    net = calibrate(tmp_path / "net.onnx", IMAGES)
    expected = answers(net.model, IMAGES)[0]
    for scheme in (NATIVE, SPLIT):
        given = answers(equalized(Graph.read(net.model), net.calibration, scheme).graph.write(), IMAGES)[0]
        np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-4 * float(np.abs(expected).max()))
    assert sqnr_db(answers(made(net, SPLIT), IMAGES)[0], expected) > 15


@pytest.mark.parametrize("scheme", [NATIVE, SPLIT], ids=["native", "split"])
def test_no_integer_is_spent_below_minus_three(even: Calibrated, scheme: Scheme) -> None:
    """The hard-swish of everything below is 0; 1.5 steps are left for a zero that is an integer."""
    graph = Graph.read(made(even, scheme))
    (pair,) = (node for node in graph.nodes if node.op == "QuantizeLinear" and node.inputs[0] == "second")
    scale, zero_point = (float(graph.constants[name]) for name in pair.inputs[1:])
    assert float(answers(even.model, IMAGES)[0].min()) < 0
    assert scale * (-128 - zero_point) >= -3 - 1.5 * scale


@pytest.mark.skipif(find_spec("tflite_micro") is None, reason="needs the extra mcu")
@pytest.mark.parametrize("scheme", [NATIVE, WHOLE, SPLIT], ids=["chosen", "whole", "split"])
def test_tflite_micro_answers_as_the_reference(loud: Calibrated, scheme: Scheme, tmp_path: Path) -> None:
    model = made(loud, scheme)
    (tmp_path / "net.tflite").write_bytes(to_tflite(model, MICRO))
    given = MicroRunner(tmp_path / "net.tflite").predict(IMAGES[:4])[0]
    expected = answers(model, IMAGES[:4])[0]
    assert sqnr_db(given, expected) > 40 or float(np.abs(given - expected).max()) <= 2 * step(model)


def step(model: onnx.ModelProto) -> float:
    """Of the output's integers."""
    graph = Graph.read(model)
    last = [node for node in graph.nodes if node.op == "QuantizeLinear" and node.inputs[0] not in graph.constants][-1]
    return float(graph.constants[last.inputs[1]])
