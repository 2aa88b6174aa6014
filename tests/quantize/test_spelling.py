"""Other spellings of the same function: unchanged answers, and operators that integer kernels have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from onnx import parser

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.scheme import load_scheme
from edgec.pipeline.network.graph import Graph
from edgec.pipeline.quantize.calibrate import unseen
from edgec.pipeline.quantize.check import pretended
from edgec.pipeline.quantize.executor import run
from edgec.pipeline.quantize.prepare import prepare
from edgec.pipeline.quantize.ranges import observed
from edgec.targets.tflite.compiler import check
from edgec.targets.tflite.options import TfliteOptions

IMAGE, ROW = "float[1, 3, 4, 4] x", "float[1, 3] x"
NORM = "<float[3] s = {1, 2, 0.5}, float[3] b = {0.1, -1, 2}, float[3] m = {0.3, 0, -1}, float[3] v = {1, 0.2, 3}>"
CHANNEL = "<float[1, 3, 1, 1] c = {0.5, 2, 3}, float[3, 1, 1] d = {1, -2, 0.25}>"
WEIGHT = "<float[3, 2] w = {1, 2, 3, 4, 5, 6}, float[2] b = {0.5, -1}, float[1, 2] r = {1, 2}, float k = {0.3}>"
TOKENS = "float[1, 5, 3] x"
LAYER = "<float two = {2}, float e = {1e-3}, float[3] g = {1, 2, 0.5}, float[3] o = {0.1, -1, 2}>"
STANDARD = (
    "m = ReduceMean<axes = [-1]>(x) d = Sub(x, m) p = Pow(d, two) v = ReduceMean<axes = [-1]>(p) "
    "w = Add(v, e) s = Sqrt(w)"
)
MAP = "float[1, 3, 4, 5] x"
CHANNELS = (
    "<float two = {2}, float half = {0.5}, float minus = {-0.5}, float[1] one = {1}, float e = {1e-3}, "
    "float k = {0.7}, float[3, 1, 1] g = {1, 2, 0.5}, float[1, 3, 1, 1] o = {0.1, -1, 2}, "
    "float[5] columns = {1, 2, 3, 4, 5}>"
)
OVER_CHANNELS = STANDARD.replace("-1", "1")
MAP_NORM = ["Transpose", "LayerNormalization", "Transpose"]
GATE = "<int64[4] whole = {1, 3, 4, 5}>"
BLOCKS = ["Reshape", "Transpose", "Reshape"]
SPELLINGS = [
    (IMAGE, NORM, "y = BatchNormalization(x, s, b, m, v)", ["Conv"]),
    (IMAGE, NORM, "r = Relu(x) n = BatchNormalization(r, s, b, m, v) y = Relu(n)", ["Relu", "Conv", "Relu"]),
    (ROW, NORM, "y = BatchNormalization(x, s, b, m, v)", ["Mul", "Add"]),
    (IMAGE, CHANNEL, "a = Sub(x, d) y = Div(a, c)", ["Conv"]),
    (IMAGE, CHANNEL, "a = Mul(x, c) y = Add(d, a)", ["Conv"]),
    (IMAGE, CHANNEL, "a = Mul(x, c) z = Relu(a) y = Add(z, a)", ["Conv", "Relu", "Add"]),
    (ROW, WEIGHT, "y = MatMul(x, w)", ["Gemm"]),
    (ROW, WEIGHT, "a = MatMul(x, w) y = Add(a, b)", ["Gemm"]),
    (ROW, WEIGHT, "a = MatMul(x, w) y = Add(r, a)", ["Gemm"]),
    (ROW, WEIGHT, "a = MatMul(x, w) y = Add(a, k)", ["Gemm"]),
    (ROW, WEIGHT, "a = MatMul(x, w) z = Relu(a) y = Add(a, z)", ["Gemm", "Relu", "Add"]),
    (ROW, WEIGHT, "n = ReduceL2<axes = [1], keepdims = 1>(x) y = Div(x, n)", ["LpNormalization"]),
    (TOKENS, LAYER, f"{STANDARD} y = Div(d, s)", ["LayerNormalization"]),
    (TOKENS, LAYER, f"{STANDARD} n = Div(d, s) y = Mul(g, n)", ["LayerNormalization"]),
    (TOKENS, LAYER, f"{STANDARD} n = Div(d, s) a = Mul(n, g) y = Add(a, o)", ["LayerNormalization"]),
    (TOKENS, LAYER, f"{STANDARD} n = Div(d, s) y = Add(n, o)", ["LayerNormalization"]),
    (
        TOKENS,
        LAYER,
        f"{STANDARD} n = Div(d, s) a = Mul(n, g) z = Relu(n) y = Add(a, z)",
        ["LayerNormalization", "Mul", "Relu", "Add"],
    ),
    (MAP, CHANNELS, f"{OVER_CHANNELS} s = Sqrt(w) y = Div(d, s)", MAP_NORM),
    (MAP, CHANNELS, f"{OVER_CHANNELS} s = Sqrt(w) n = Div(d, s) a = Mul(g, n) y = Add(a, o)", MAP_NORM),
    (MAP, CHANNELS, f"{OVER_CHANNELS} s = Sqrt(w) r = Reciprocal(s) n = Mul(d, r) y = Add(n, k)", MAP_NORM),
    (MAP, CHANNELS, f"{OVER_CHANNELS} s = Sqrt(w) r = Div(one, s) n = Mul(r, d) y = Mul(n, k)", MAP_NORM),
    (MAP, CHANNELS, f"{OVER_CHANNELS} s = Pow(w, half) n = Div(d, s) a = Mul(n, g) y = Add(a, o)", MAP_NORM),
    (MAP, CHANNELS, f"{OVER_CHANNELS} s = Pow(w, minus) n = Mul(s, d) y = Mul(n, g)", MAP_NORM),
    (MAP, CHANNELS, f"{OVER_CHANNELS} s = Sqrt(w) n = Div(d, s) y = Mul(n, columns)", [*MAP_NORM, "Mul"]),
    (MAP, GATE, "g = GlobalAveragePool(x) e = Expand(g, whole) y = Mul(x, e)", ["GlobalAveragePool", "Mul"]),
    (MAP, GATE, "g = GlobalAveragePool(x) e = Expand(g, whole) y = Sub(e, x)", ["GlobalAveragePool", "Sub"]),
    (IMAGE, "<int64[4] s = {1, 9, 1, 1}>", "y = Tile(x, s)", ["Concat"]),
    ("float[1, 1, 4, 4] x", "<int64[4] s = {1, 3, 1, 1}>", "y = Expand(x, s)", ["Concat"]),
    ("float[1, 1, 4, 4] x", "<int64[3] s = {2, 4, 4}>", "e = Expand(x, s) y = Relu(e)", ["Concat", "Relu"]),
    ("float[1, 8, 2, 4] x", "", "y = DepthToSpace<blocksize = 2>(x)", BLOCKS),
    ("float[1, 8, 2, 4] x", "", 'y = DepthToSpace<blocksize = 2, mode = "CRD">(x)', BLOCKS),
    ("float[1, 3, 6, 9] x", "", "y = SpaceToDepth<blocksize = 3>(x)", BLOCKS),
    (ROW, "<float e = {1e-12}>", "n = ReduceL2<axes = [1]>(x) m = Clip(n, e) y = Div(x, m)", ["LpNormalization"]),
]


def graph_of(inputs: str, constants: str, body: str) -> Graph:
    head = f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => (float y)'
    model = parser.parse_model(f"{head} {constants} {{ {body} }}")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return Graph.read(model)


def prepared(graph: Graph, scheme: str = "tflite") -> Graph:
    return prepare(observed(graph, unseen(graph)), load_scheme(scheme)).graph


@pytest.mark.parametrize(("inputs", "constants", "body", "ops"), SPELLINGS)
def test_the_answers_stay_and_the_operators_are_integer_ones(inputs, constants, body, ops) -> None:
    graph = graph_of(inputs, constants, body)
    after = prepared(graph)
    assert [node.op for node in after.nodes] == ops
    x = torch.randn((2, *graph.shapes["x"][1:]), generator=torch.manual_seed(0))
    torch.testing.assert_close(run(after, {"x": x})["y"], run(graph, {"x": x})["y"])


@pytest.mark.parametrize(
    "body",
    [
        "e = Expand(x, s) y = Mul(e, e)",  # nothing beside it has the shape
        "e = Expand(x, s) y = Relu(e)",
        "e = Expand(x, s) a = Mul(e, b) r = Relu(e) y = Add(a, r)",  # one reader of two
        "e = Expand(x, s) a = Mul(e, c) y = Add(a, b)",
    ],
)
@pytest.mark.parametrize("scheme", ["openvino", "tflite"])
def test_an_expand_that_something_needs_stays(body: str, scheme: str) -> None:
    constants = "<int64[4] s = {1, 3, 2, 2}, float[1, 3, 2, 2] b = {1,2,3,4,5,6,7,8,9,10,11,12}, float c = {2}>"
    graph = graph_of("float[1, 3, 1, 1] x", constants, body)
    after = prepared(graph, scheme)
    assert "Expand" in {node.op for node in after.nodes}
    x = torch.randn((1, 3, 1, 1), generator=torch.manual_seed(0))
    torch.testing.assert_close(run(after, {"x": x})["y"], run(graph, {"x": x})["y"])


@pytest.mark.parametrize("body", [f"{OVER_CHANNELS} s = Sqrt(w) y = Div(d, s)", "y = SpaceToDepth<blocksize = 2>(x)"])
def test_what_a_spelling_adds_is_taken_in_integers(body: str) -> None:
    """Its tensors have no range of their own: they hold the values of those around them."""
    model = graph_of("float[1, 3, 4, 4] x", CHANNELS, body).write()
    check(pretended(model, load_scheme("tflite")), TfliteOptions())


def test_schemes_with_float_operators_keep_affine_functions() -> None:
    graph = graph_of(IMAGE, NORM, "y = BatchNormalization(x, s, b, m, v)")
    assert [node.op for node in prepared(graph, "openvino").nodes] == ["BatchNormalization"]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("y = Div(x, x)", "Div"),
        ("a = Mul(x, x) b = Softplus(a) y = LRN<size = 3>(b)", "LRN"),
    ],
)
def test_what_would_be_refused_after_quantization_is_refused_before(body: str, word: str) -> None:
    graph = graph_of(IMAGE, "<float one = {1}>", body)
    with pytest.raises(EdgecError, match=f"unsupported-operator.*{word}"):
        check(pretended(graph.write(), load_scheme("tflite")), TfliteOptions())


def test_what_only_int8_can_do_is_accepted_before() -> None:
    """In float nothing of TFLite is a Softplus; a table of int8 is."""
    model = graph_of(IMAGE, "<float one = {1}>", "s = Softplus(x) t = Tanh(s) y = Mul(x, t)").write()
    check(pretended(model, load_scheme("tflite")), TfliteOptions())
    with pytest.raises(EdgecError, match="int8 only"):
        check(model, TfliteOptions())


@pytest.mark.parametrize("body", [f"{STANDARD} y = Div(d, s)", "y = LayerNormalization(x, g, o)"])
def test_layer_normalization_is_float_and_no_microcontrollers(body: str) -> None:
    """One operator in both spellings; where the board has no float it is refused by its name before quantization."""
    model = graph_of(TOKENS, LAYER, body).write()
    check(pretended(model, load_scheme("tflite")), TfliteOptions())
    with pytest.raises(EdgecError, match=r"unsupported-operator.*\(LayerNormalization\).*no microcontroller"):
        check(pretended(model, load_scheme("tflite-native")), TfliteOptions(xnnpack=False, runtime="tflite-micro"))


@pytest.mark.parametrize(
    "body",
    [
        "m = ReduceMean<axes = [1]>(x) d = Sub(x, m) p = Mul(d, d) v = ReduceMean<axes = [1]>(p) w = Add(v, e)"
        " s = Sqrt(w) y = Div(d, s)",  # over another axis than the last
        STANDARD.replace("Pow(d, two)", "Pow(d, e)") + " y = Div(d, s)",
        STANDARD.replace("Sub(x, m)", "Sub(x, o)") + " y = Div(d, s)",
        STANDARD.replace("Pow(d, two)", "Mul(d, x)") + " y = Div(d, s)",
    ],
)
def test_what_only_looks_like_a_layer_norm(body: str) -> None:
    graph = graph_of(TOKENS, LAYER, body)
    assert "LayerNormalization" not in {node.op for node in prepared(graph).nodes}


@pytest.mark.parametrize("scheme", ["tflite", "tflite-native", "openvino", "tensorrt"])
@pytest.mark.parametrize("name", ["mobilenetv3-small", "mobilenetv1"])
def test_the_pretended_network_is_the_quantized_one_but_for_its_numbers(network, name: str, scheme: str) -> None:
    from edgec.pipeline.quantize.quantizer import quantize

    calibrated, rules = network(name), load_scheme(scheme)
    if scheme == "tflite-native":  # else images decide which hard-swish is in parts
        rules = replace(rules, equalize=tuple(way for way in rules.equalize if way != "hard_swish"))
    made = quantize(calibrated.model, calibrated.calibration, rules, "fast", calibrated.batches).model
    before = pretended(calibrated.model, rules)
    known = [{n.name for n in model.graph.node if n.op_type != "Mul"} for model in (made, before)]
    assert known[0] == known[1]  # a Mul stays where equalization found a use for it
    assert np.shape(before.graph.output) == np.shape(made.graph.output)
