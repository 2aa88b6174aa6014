"""Every constraint refuses by name, and stands in the documentation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from places import ROOT
from qdq_graphs import QdqGraph, integers

from edgec.pipeline.core.errors import EdgecError
from edgec.targets.tflite.compiler import check, to_tflite
from edgec.targets.tflite.constraints import CONSTRAINTS, document
from edgec.targets.tflite.options import TfliteOptions
from edgec.targets.tflite.rules import RULES


def graph(*shape: int, quantized: bool = True, wide: bool = False) -> QdqGraph:
    integers = {"zero_point": 0, "dtype": np.int16} if wide else {}
    return QdqGraph(shape or (1, 4, 6, 6), quantized=quantized, **integers)


def weights(g: QdqGraph, *shape: int) -> str:
    return g.weights("w", integers(np.random.default_rng(0), *shape), np.float32(0.01))


def rank_is_at_most_six(g: QdqGraph) -> str:
    return g.op("Reshape", [g.x, g.constant("s", np.array([1, 2, 2, 2, 3, 2, 3]))], 0.05, 3)


def images_have_rank_four(g: QdqGraph) -> str:
    volume = g.op("Reshape", [g.x, g.constant("s", np.array([1, 2, 2, 6, 6]))], 0.05, 3)
    return g.op("GlobalAveragePool", [volume], 0.05, 3)


def vectors_or_rows(g: QdqGraph) -> str:
    volume = g.op("Reshape", [g.x, g.constant("s", np.array([1, 2, 2, 6, 6]))], 0.05, 3)
    return g.op("MatMul", [volume, weights(g, 6, 5)], 0.1, 0)


def products_of_computed(g: QdqGraph) -> str:
    return g.op("MatMul", [weights(g, 4, 6, 6), g.x], 0.1, 0)


def norm_in_float(g: QdqGraph) -> str:
    return g.op("LayerNormalization", [g.x, g.op("MaxPool", [g.x], 0.05, 3, kernel_shape=[6, 1])], 0.05, 3)


def picks_by_constants(g: QdqGraph) -> str:
    return g.op("Gather", [g.x, g.op("ArgMax", [g.x], axis=1, keepdims=0)], 0.05, 3, axis=1)


def int8_throughout(g: QdqGraph) -> str:
    return g.op("Conv", [g.op("HardSwish", [g.x]), weights(g, 4, 4, 1, 1)], 0.1, 0)


def constant_weights(g: QdqGraph) -> str:
    flat = g.op("Reshape", [g.x, g.constant("s", np.array([12, 12]))], 0.05, 3)
    return g.op("Gemm", [flat, flat], 0.1, 0, transB=1)


def symmetric_weights(g: QdqGraph) -> str:
    data = g.constant("w.i", integers(np.random.default_rng(0), 4, 4, 1, 1))
    scale, zero = g.constant("w.s", np.float32(0.01)), g.constant("w.z", np.int8(5))
    g.nodes.append(helper.make_node("DequantizeLinear", [data, scale, zero], ["w"]))
    return g.op("Conv", [g.x, "w"], 0.1, 0)


def weight_granularity(g: QdqGraph) -> str:
    per_channel = g.weights("w", integers(np.random.default_rng(0), 4, 4, 1, 1), np.full(4, 0.01))
    return g.op("Conv", [g.x, per_channel], 0.1, 0)


def plain_transposed_convolution(g: QdqGraph) -> str:
    return g.op("ConvTranspose", [g.x, weights(g, 4, 2, 2, 2)], 0.1, 0, group=2, kernel_shape=[2, 2])


def pool_is_dense(g: QdqGraph) -> str:
    return g.op("MaxPool", [g.x], 0.05, 3, kernel_shape=[2, 2], dilations=[2, 2])


def plain_gemm(g: QdqGraph) -> str:
    flat = g.op("Flatten", [g.op("GlobalAveragePool", [g.x], 0.05, 3)], 0.05, 3)
    return g.op("Gemm", [flat, weights(g, 5, 4)], 0.1, 0, transB=1, alpha=0.5)


def operands_broadcast_by_channel(g: QdqGraph) -> str:
    row = g.op("Flatten", [g.op("GlobalAveragePool", [g.x], 0.05, 3)], 0.05, 3)
    column = g.op("Conv", [g.x, weights(g, 4, 4, 6, 6)], 0.1, 0)
    return g.op("Add", [column, row], 0.1, 0)


def bounds_are_constants(g: QdqGraph) -> str:
    return g.op("Clip", [g.x], 0.05, 3)


def tables_hold_integers(g: QdqGraph) -> str:
    return g.op("Softplus", ["input"])


def constant_slopes(g: QdqGraph) -> str:
    return g.op("PRelu", [g.x, g.constant("slopes", np.linspace(0, 1, 6, dtype=np.float32))], 0.05, 3)


def forward_slice(g: QdqGraph) -> str:
    values = {"b": [5, 5], "e": [0, 0], "a": [2, 3], "s": [-1, -1]}
    names = [g.constant(name, np.array(value)) for name, value in values.items()]
    return g.op("Slice", [g.x, *names], 0.05, 3)


def euclidean_norm(g: QdqGraph) -> str:
    return g.op("LpNormalization", [g.x], 1 / 128, 0, axis=1, p=1)


def cast_of_indices(g: QdqGraph) -> str:
    return g.op("Cast", [g.x], to=TensorProto.INT32)


def hard_sigmoid_saturates(g: QdqGraph) -> str:
    return g.op("HardSigmoid", [g.x], 0.05, 0)


def softmax_over_channels(g: QdqGraph) -> str:
    return g.op("Softmax", [g.x], 1 / 256, -128, axis=2)


def arg_max_takes_the_first(g: QdqGraph) -> str:
    return g.op("ArgMax", [g.x], axis=1, keepdims=0, select_last_index=1)


def concat_of_computed(g: QdqGraph) -> str:
    constant = g.weights("c", integers(np.random.default_rng(0), 1, 4, 6, 6), np.float32(0.05))
    return g.op("Concat", [g.x, constant], 0.05, 3, axis=1)


def constant_pad(g: QdqGraph) -> str:
    return g.op("Pad", [g.x, g.constant("p", np.array([0, 0, 1, 1, 0, 0, 1, 1]))], 0.05, 3, mode="reflect")


def resize_reads_the_same_pixels(g: QdqGraph) -> str:
    sizes = g.constant("sizes", np.array([1, 4, 12, 12]))
    return g.op("Resize", [g.x, "", "", sizes], 0.05, 3, mode="cubic")


def eight_bits_or_float(g: QdqGraph) -> str:
    return g.op("HardSwish", [g.x], 0.05)


BREAKERS: tuple[Callable[[QdqGraph], str], ...] = (
    rank_is_at_most_six, images_have_rank_four, vectors_or_rows, products_of_computed, picks_by_constants,
    norm_in_float, int8_throughout, constant_weights,
    symmetric_weights, weight_granularity, pool_is_dense, plain_transposed_convolution, plain_gemm,
    operands_broadcast_by_channel, bounds_are_constants, hard_sigmoid_saturates, softmax_over_channels,
    arg_max_takes_the_first, concat_of_computed, constant_pad, resize_reads_the_same_pixels, tables_hold_integers,
    constant_slopes, forward_slice, euclidean_norm, cast_of_indices, eight_bits_or_float,
)  # fmt: skip
INTEGER_OUTPUT = {arg_max_takes_the_first: TensorProto.INT64, cast_of_indices: TensorProto.INT32}


@pytest.mark.parametrize("breaker", BREAKERS, ids=lambda b: b.__name__)
def test_each_constraint_names_the_node_and_the_rule(breaker) -> None:
    g = graph(quantized=breaker is not tables_hold_integers, wide=breaker is eight_bits_or_float)
    output = breaker(g)
    dtype = INTEGER_OUTPUT.get(breaker, TensorProto.FLOAT)
    with pytest.raises(EdgecError) as refused:
        check(g.model(output, dtype=dtype), TfliteOptions(per_channel=breaker is not weight_granularity))
    rule = next(rule for rule in CONSTRAINTS if rule.holds.__name__ == breaker.__name__)
    assert refused.value.code == "unsupported-operator"
    assert rule.text in refused.value.message
    assert "node '" in refused.value.message


def test_every_constraint_has_a_breaker_and_a_sentence() -> None:
    assert {breaker.__name__ for breaker in BREAKERS} == {rule.holds.__name__ for rule in CONSTRAINTS}
    assert all(rule.text.endswith(".") for rule in CONSTRAINTS)


def test_documentation_is_written_from_the_constraints() -> None:
    assert (ROOT / "docs" / "tflite-operators.md").read_text() == document(frozenset(RULES))


def test_no_microcontroller_is_asked_for_float() -> None:
    g = graph()
    model = g.model(g.op("LayerNormalization", [g.x, g.constant("gain", np.ones(6, np.float32))], 0.05, 3))
    check(model, TfliteOptions())
    with pytest.raises(EdgecError, match=r"unsupported-operator.*LayerNormalization"):
        check(model, TfliteOptions(xnnpack=False, runtime="tflite-micro"))


def test_unknown_operator_is_named() -> None:
    g = graph()
    output = g.op("LRN", [g.x], 0.05, 3, size=3)
    with pytest.raises(EdgecError, match=r"unsupported-operator.*\(LRN\)"):
        check(g.model(output), TfliteOptions())


def test_several_outputs_are_refused() -> None:
    g = graph()
    g.nodes.append(helper.make_node("MaxPool", [g.x], ["a", "b"], name="indexed", kernel_shape=[2, 2]))
    with pytest.raises(EdgecError, match="several outputs"):
        check(g.model("a"), TfliteOptions())


def test_an_output_that_is_a_constant_is_named() -> None:
    """Anchors beside the boxes, say."""
    g = graph()
    model = g.model(g.op("Relu", [g.x], 0.05, 3), g.constant("anchors", np.ones((1, 4), np.float32)))
    with pytest.raises(EdgecError, match=r"bad-output.*'anchors' is the same for every picture"):
        check(model, TfliteOptions())


def test_a_float_model_is_checked_before_it_is_quantized() -> None:
    g = graph(quantized=False)
    check(g.model(g.op("HardSwish", [g.x], 1.0)), TfliteOptions())
    with pytest.raises(EdgecError, match="unsupported-operator"):
        check(g.model(softmax_over_channels(g)), TfliteOptions())


def test_dynamic_spatial_shape() -> None:
    g = graph()
    model = g.model(g.op("HardSwish", [g.x], 0.05, 3))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"
    with pytest.raises(EdgecError) as refused:
        check(model, TfliteOptions())
    assert refused.value.code == "dynamic-shape"


@pytest.mark.parametrize(
    ("scale", "zero"), [(np.float32(-1), np.int8(0)), (np.float32(1), np.int16(5)), (np.ones(4, "f"), np.zeros(4, "b"))]
)
def test_quantization_that_tflite_cannot_say(scale, zero) -> None:
    g = graph()
    names = [g.x, g.constant("s", scale), g.constant("z", zero)]
    y = g.op("DequantizeLinear", [g.op("QuantizeLinear", names), "s", "z"])
    with pytest.raises(EdgecError) as refused:
        check(g.model(g.op("HardSwish", [y], 0.05, 3)), TfliteOptions())
    assert refused.value.code == "bad-quantization"


@pytest.mark.parametrize(
    ("mean", "std", "pads"),
    [((1, 2, 3), (1, 2, 3), 0), ((127.5,) * 3, (127.5,) * 3, 1), ((300,) * 3, (1,) * 3, 0)],
)
def test_normalisation_that_would_round_is_not_folded(mean, std, pads) -> None:
    from edgec.pipeline.data.preprocess import Preprocess

    g = graph(1, 3, 8, 8)
    y = g.op("Conv", [g.x, weights(g, 4, 3, 3, 3)], 0.2, 0, pads=[pads] * 4)
    with pytest.raises(EdgecError) as refused:
        to_tflite(g.model(y), TfliteOptions(input_type="uint8"), (), Preprocess(mean=mean, std=std))
    assert refused.value.code == "inexact-normalisation"


def test_reading_keeps_the_model_as_it_was() -> None:
    g = graph()
    model = g.model(g.op("HardSwish", [g.x], 0.05, 3))
    before = model.SerializeToString(deterministic=True)
    check(model, TfliteOptions())
    assert model.SerializeToString(deterministic=True) == before
    assert isinstance(model, onnx.ModelProto)
