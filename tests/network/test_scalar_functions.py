"""Functions of one value are found however they are spelled, and no larger than they are."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import parser

from edgec.pipeline.network.graph import Graph
from edgec.pipeline.network.scalar_functions import ScalarFunction, scalar_functions

NATIVE = {"Add", "Mul", "Sub", "Div", "Relu", "Sigmoid", "Tanh"}
HEADER = '<ir_version: 8, opset_import: ["" : 17]> g (float[1, 2, 3, 3] x) => (float[1, 2, 3, 3] y)'
CONSTANTS = "<float one = {1}, float half = {0.5}, float root = {0.70710678}, float[2] two = {1, 2}>"


def found(body: str) -> list[ScalarFunction]:
    model = parser.parse_model(f"{HEADER} {CONSTANTS} {{ {body} }}")
    onnx.checker.check_model(model)
    return scalar_functions(Graph.read(model), lambda node: node.op in NATIVE)


@pytest.mark.parametrize(
    ("body", "source", "size"),
    [
        ("y = Softplus(x)", "x", 1),
        ("a = Relu(x) y = Softplus(a)", "a", 1),
        ("s = Softplus(x) t = Tanh(s) y = Mul(x, t)", "x", 3),
        ("d = Mul(x, root) e = Erf(d) p = Add(e, one) m = Mul(x, p) y = Mul(m, half)", "x", 5),
        ("h = Mul(x, half) d = Mul(x, root) e = Erf(d) p = Add(e, one) y = Mul(h, p)", "x", 5),
        ("a = Relu(x) s = Softplus(a) t = Sigmoid(a) y = Mul(s, t)", "a", 3),
    ],
)
def test_one_function_and_its_source(body: str, source: str, size: int) -> None:
    (function,) = found(body)
    assert (function.source, function.output, len(function.nodes)) == (source, "y", size)


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        ("y = Relu(x)", []),
        ("s = Softplus(x) g = GlobalAveragePool(x) y = Mul(s, g)", ["s"]),
        ("s = Softplus(x) e = Exp(x) y = Add(s, e)", ["y"]),
        ("s = Softplus(x) p = MaxPool<kernel_shape = [1, 1]>(s) e = Exp(p) y = Mul(e, half)", ["s", "y"]),
    ],
)
def test_where_a_function_ends(body: str, outputs: list[str]) -> None:
    assert [function.output for function in found(body)] == outputs


def test_the_values() -> None:
    (function,) = found("s = Softplus(x) t = Tanh(s) y = Mul(x, t)")
    x = np.linspace(-4, 4, 33, dtype=np.float32)
    np.testing.assert_allclose(function(x), x * np.tanh(np.log1p(np.exp(x))), atol=1e-6)
