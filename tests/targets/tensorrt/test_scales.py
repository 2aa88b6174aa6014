"""Constants per channel are kept away from Q and DQ of one scale, and the function stays the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from graphs import CHANNELS, Builder
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.network.graph import Graph
from edgec.targets.tensorrt.dialect import to_tensorrt
from edgec.targets.tensorrt.lint import lint
from edgec.targets.tensorrt.proof import same_function

INPUTS = np.random.default_rng(0).normal(size=(2, CHANNELS, 8, 8)).astype(np.float32)


def granularity(model: onnx.ModelProto) -> list[str]:
    return [finding.node for finding in lint(model) if finding.rule == "scale-granularity"]


def proved(net: Builder) -> onnx.ModelProto:
    """The rewritten model, after ONNX Runtime found both to be one function."""
    model = net.model("logits")
    ours = to_tensorrt(model)
    assert granularity(ours) == []
    same_function(ours, model, INPUTS, 80.0)
    quantizers = [node.op_type for node in ours.graph.node].count("QuantizeLinear")
    stored = sum(tensor.data_type == onnx.TensorProto.INT8 for tensor in model.graph.initializer)
    assert quantizers == sum(node.op_type == "QuantizeLinear" for node in model.graph.node) + len(net.weights) <= stored
    return ours


def hard_swish_gain() -> Builder:
    """What failed on a GPU: equalization's gain behind a hard-swish."""
    net = Builder()
    net.scale(net.add("HardSwish", [net.conv(net.pair("input"), "c")], "hs"), "Mul")
    net.conv(net.pair("Mul"), "d")
    return net


def squeeze_excite_gain() -> Builder:
    """What failed on a GPU: a gain between the pool of squeeze-excite and its first layer, and one on its gate."""
    net = Builder()
    block = net.add("HardSwish", [net.conv(net.pair("input"), "c")], "hs")
    pooled = net.scale(net.add("GlobalAveragePool", [block], "pool"), "Mul")
    gate = net.add("HardSigmoid", [net.conv(net.pair(pooled), "fc")], "gate")
    net.add("Mul", [block, net.scale(gate, "Mul", name="gated")], "se")
    net.conv(net.pair("se"), "d")
    return net


@pytest.mark.parametrize("pattern", [hard_swish_gain, squeeze_excite_gain])
def test_the_patterns_that_failed_on_a_gpu(pattern: Any) -> None:
    assert granularity(pattern().model("logits")) == ["Mul"]
    ours = proved(pattern())
    operators = [node.op_type for node in ours.graph.node]
    assert operators.count("Mul") == len(pattern().nodes_of("Mul")) + len(pattern().nodes_of("HardSwish"))


def test_squeeze_excite_takes_the_factor_back_on_its_gate() -> None:
    graph = Graph.read(proved(squeeze_excite_gain()))
    product = graph.producer["hs"]
    gate = graph.producer[next(name for name in product.inputs if graph.producer[name].op == "Mul")]
    taken = graph.constants[gate.inputs[1]]
    given_back = graph.constants["gated.c"]
    before = {name: value for name, value in squeeze_excite_gain().constants.items() if name in ("Mul.c", "gated.c")}
    np.testing.assert_allclose(taken, before["Mul.c"], rtol=1e-6)
    np.testing.assert_allclose(given_back, before["gated.c"] / before["Mul.c"], rtol=1e-6)


@pytest.mark.parametrize(
    ("before", "operators"),
    [
        ("conv", []),  # into the weights
        ("relu", []),  # through the ReLU into the weights
        ("pool", []),
        ("add-relu", ["Mul"]),  # before the ReLU
        ("quantized", ["Conv"]),  # between DQ and Q only a convolution is no scale
        ("add", ["Conv"]),
    ],
)
def test_where_a_gain_goes(before: str, operators: list[str]) -> None:
    net = Builder()
    source = net.pair("input")
    if before in ("conv", "relu", "pool"):
        source = net.conv(source, "c")
    if before in ("add", "add-relu"):
        source = net.add("Add", [source, net.pair(net.conv(source, "c"))], "sum")
    if before in ("relu", "add-relu"):
        source = net.add("Relu", [source], "r")
    if before == "pool":
        source = net.add("GlobalAveragePool", [source], "p")
    net.scale(source, "Mul")
    net.conv(net.pair("Mul"), "d")
    plain = [node.op_type for node in net.nodes if node.op_type in ("Mul", "Conv")]
    plain.remove("Mul")
    assert sorted(n.op_type for n in proved(net).graph.node if n.op_type in ("Mul", "Conv")) == sorted(
        [*plain, *operators]
    )


SCALES = ["Mul", "Div", "Add", "Sub", "Sub-from", "BatchNormalization"]
BLOCKS = ["Relu", "HardSwish", "Sigmoid", "Clip", "squeeze", "MaxPool", "AveragePool", "GlobalAveragePool", "half"]


@settings(max_examples=60, deadline=None)
@given(
    blocks=st.lists(st.sampled_from(BLOCKS), max_size=3),
    scales=st.lists(st.sampled_from(SCALES), min_size=1, max_size=2),
    from_convolution=st.booleans(),
    moved=st.booleans(),
    seed=st.integers(0, 99),
)
def test_random_networks_with_scales_beside_quantization(
    blocks: list[str], scales: list[str], from_convolution: bool, moved: bool, seed: int
) -> None:
    net = Builder(seed)
    tensor = net.pair("input")
    if from_convolution:
        tensor = net.conv(tensor, "first")
    for index, block in enumerate(blocks):
        tensor = net.block(tensor, block, f"b{index}")
    for index, scale in enumerate(scales):
        tensor = net.scale(tensor, scale, name=f"s{index}")
    if moved:
        tensor = net.block(tensor, "MaxPool", "moved")
    net.conv(net.pair(tensor), "last")
    proved(net)


def test_scales_of_one_value_stay() -> None:
    net = Builder()
    net.constants["half"] = np.float32(0.5)
    net.add("Mul", [net.add("Sigmoid", [net.pair("input")], "s"), "half"], "m")
    net.conv(net.pair("m"), "d")
    assert "Mul" in [node.op_type for node in proved(net).graph.node]


def test_a_constant_map_is_left_to_the_lint() -> None:
    """One value per position is no channel's: nothing moves it, and the lint names it."""
    net = Builder()
    net.constants["map"] = np.random.default_rng(0).uniform(1, 2, (1, 1, 8, 8)).astype(np.float32)
    net.add("Mul", [net.add("Sigmoid", [net.pair("input")], "s"), "map"], "m")
    net.conv(net.pair("m"), "d")
    assert granularity(to_tensorrt(net.model("logits"))) == ["m"]


@pytest.mark.parametrize(("constant", "factor"), [("hs.gain", 1.01), ("Mul.s", 3.0)])
def test_another_function_is_caught(constant: str, factor: float) -> None:
    """The proof's own test: one factor 1 % off is seen without rounding, a Q's scale with it."""
    model = hard_swish_gain().model("logits")
    ours = to_tensorrt(model)
    tensor = next(tensor for tensor in ours.graph.initializer if tensor.name == constant)
    values = numpy_helper.to_array(tensor) * np.float32(factor)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(values, np.float32), constant))
    with pytest.raises(EdgecError) as caught:
        same_function(ours, model, INPUTS, 80.0)
    assert caught.value.code == "compile-mismatch"


@pytest.mark.parametrize("between", ["MaxPool", "half"])
def test_a_scale_is_seen_through_what_q_wanders_through(between: str) -> None:
    net = Builder()
    net.block(net.scale(net.conv(net.pair("input"), "c"), "Mul"), between, "b")
    net.conv(net.pair("b"), "d")
    assert granularity(net.model("logits")) == ["Mul"]
    proved(net)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("layer", ["Gemm", "Sigmoid"])
def test_vectors(transposed: bool, layer: str) -> None:
    """``(N, C)``: into a float Gemm's columns or rows, or through a convolution on ``(N, C, 1, 1)``."""
    net = Builder()
    pooled = net.add("GlobalAveragePool", [net.pair("input")], "pool")
    flat = net.add("Flatten", [pooled], "flat", axis=1)
    net.constants |= {
        "w": net.stream.normal(size=(CHANNELS, CHANNELS)).astype(np.float32),
        "two.c": net.stream.uniform(1, 2, (1, CHANNELS)).astype(np.float32),
    }
    made = net.add("Gemm", [flat, "w"], "g", transB=int(transposed)) if layer == "Gemm" else net.add(layer, [flat], "g")
    net.pair(net.add("Mul", [made, "two.c"], "m"))
    net.constants |= {"ones": np.array([2, 3])}
    net.add("Unsqueeze", [net.nodes[-1].output[0], "ones"], "out")
    proved(net)
