"""Hard-swish written out: one operator again, the same answers, and nothing that only looks like it."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from onnx import parser

from edgec.pipeline.forms.scheme import load_scheme
from edgec.pipeline.network.graph import Graph
from edgec.pipeline.quantize.calibrate import unseen
from edgec.pipeline.quantize.executor import run
from edgec.pipeline.quantize.hard_swish_spelling import hard_swish_as_one
from edgec.pipeline.quantize.prepare import prepare
from edgec.pipeline.quantize.ranges import observed

CONSTANTS = (
    "<float zero = {0}, float one = {1}, float two = {2}, float three = {3}, float[1] six = {6}, "
    "float[1] sixth = {0.16666667}, float[1, 1, 1, 1] deep = {0.16666667}, float rough = {0.166}, float half = {0.5}, "
    "float four = {4}>"
)
SHAPES = ("1, 3, 4, 4", "1, 6", "1, 5, 3")

GATES = {
    "HardSigmoid": "g = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x)",
    "HardSigmoid of a multiple": "m = Mul(two, x) g = HardSigmoid<alpha = 0.08333333, beta = 0.5>(m)",
    "clip / 6": "s = Add(x, three) c = Clip(s, zero, six) g = Div(c, six)",
    "clip * 1/6": "s = Add(three, x) c = Clip(s, zero, six) g = Mul(sixth, c)",
    "clip of the sixth": "m = Div(x, six) s = Add(m, half) g = Clip(s, zero, one)",
}
SIX_TIMES = "s = Add(x, three) c = Clip(s, zero, six)"
WRITTEN = [f"{gate} y = Mul({a}, {b})" for gate, (a, b) in product(GATES.values(), ("xg", "gx"))] + [
    f"{SIX_TIMES} p = Mul(x, c) y = Div(p, six)",
    f"{SIX_TIMES} p = Mul(c, x) y = Mul(p, sixth)",
    f"{SIX_TIMES} d = Div(x, six) y = Mul(d, c)",
    f"{SIX_TIMES} d = Mul(x, sixth) y = Mul(c, d)",
    f"{SIX_TIMES} h = Div(c, two) t = Div(x, three) y = Mul(t, h)",
]
OTHERS = [
    "g = HardSigmoid(x) y = Mul(x, g)",  # alpha of 0.2 is ONNX's default
    "g = HardSigmoid<alpha = 0.16666667, beta = 0.6>(x) y = Mul(x, g)",
    f"{SIX_TIMES} y = Mul(x, c)",  # six times as much
    f"{SIX_TIMES} p = Mul(x, c) y = Mul(p, rough)",
    "s = Add(x, three) c = Clip(s, one, six) p = Mul(x, c) y = Div(p, six)",
    "s = Sub(x, three) c = Clip(s, zero, six) p = Mul(x, c) y = Div(p, six)",
    "s = Add(x, three) c = Clip(s, zero, four) p = Mul(x, c) y = Div(p, six)",
    "z = Relu(x) g = HardSigmoid<alpha = 0.16666667, beta = 0.5>(z) y = Mul(x, g)",  # a gate of something else
    "m = Add(x, one) g = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x) y = Mul(m, g)",
    "g = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x) y = Div(x, g)",
]


def graph_of(body: str, shape: str = SHAPES[0]) -> Graph:
    head = f'<ir_version: 8, opset_import: ["": 17]> g (float[{shape}] x) => (float y)'
    model = parser.parse_model(f"{head} {CONSTANTS} {{ {body} }}")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return Graph.read(model)


def answers(graph: Graph) -> torch.Tensor:
    shape = tuple(side or 1 for side in graph.shapes["x"])
    x = 4 * torch.randn(shape, generator=torch.manual_seed(0))
    found: torch.Tensor = run(graph, {"x": x})["y"]
    return found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("body", WRITTEN)
def test_one_operator_again(body: str, shape: str) -> None:
    graph = graph_of(body, shape)
    after = hard_swish_as_one(graph)
    assert [node.op for node in after.nodes] == ["HardSwish"]
    assert after.nodes[0].inputs == ("x",)
    torch.testing.assert_close(answers(after), answers(graph), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("body", OTHERS)
def test_what_only_looks_like_it(body: str) -> None:
    graph = graph_of(body)
    assert [node.op for node in hard_swish_as_one(graph).nodes] == [node.op for node in graph.nodes]


@pytest.mark.parametrize("scheme", ["tflite", "tflite-native"])
def test_what_something_else_reads_stays(scheme: str) -> None:
    """The gate is an output of its own part; the operator does not need it."""
    graph = graph_of(f"{GATES['HardSigmoid']} p = Mul(x, g) y = Add(p, g)")
    after = hard_swish_as_one(graph)
    assert sorted(node.op for node in after.nodes) == ["Add", "HardSigmoid", "HardSwish"]
    made = prepare(observed(graph, unseen(graph)), load_scheme(scheme)).graph
    torch.testing.assert_close(answers(made), answers(graph), rtol=1e-4, atol=1e-4)


def test_two_in_a_row() -> None:
    first = GATES["clip / 6"] + " z = Mul(x, g)"
    graph = graph_of(f"{first} h = HardSigmoid<alpha = 0.16666667, beta = 0.5>(z) y = Mul(h, z)")
    after = hard_swish_as_one(graph)
    assert [node.op for node in after.nodes] == ["HardSwish", "HardSwish"]
    torch.testing.assert_close(answers(after), answers(graph), rtol=1e-4, atol=1e-4)


def test_a_number_of_more_dimensions_changes_the_shape() -> None:
    """What it gives has other dimensions than x, so that it is no number times x."""
    graph = graph_of("s = Add(x, three) c = Clip(s, zero, six) p = Mul(x, c) y = Mul(p, deep)", "1, 6")
    assert "HardSwish" not in {node.op for node in hard_swish_as_one(graph).nodes}
