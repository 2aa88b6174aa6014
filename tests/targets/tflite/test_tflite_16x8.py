"""TFLite's 16x8 operators: reference kernels against an independent integer model, or the QDQ file within a step."""

from __future__ import annotations

from dataclasses import replace

import integer_kernels as kernels
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from qdq_graphs import MICRO, QdqGraph, integers, run_int8, run_onnx, steps_from_onnx, to_nchw, to_nhwc

from edgec.pipeline.core.errors import EdgecError
from edgec.targets.tflite.compiler import to_tflite
from edgec.targets.tflite.flatbuffer import read_tflite
from edgec.targets.tflite.micro import run_micro
from edgec.targets.tflite.reader import read_graph

CONVOLVED = replace(MICRO, gemm="convolution")
quick = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**32 - 1)
scales = st.floats(2e-5, 1e-3).map(lambda scale: float(np.float32(scale)))


def wide(shape: tuple[int, ...], scale: float = 1e-3) -> QdqGraph:
    return QdqGraph(shape, scale, 0, dtype=np.int16)


def wide_integers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-32768, 32768, shape).astype(np.int16)


def product_of_int64(acc: np.ndarray, multiplier: float) -> np.ndarray:
    """``acc * multiplier`` as 16x8 kernels have it: a factor of 15 bits, rounded once, half up."""
    factor, shift = kernels.fixed_point(multiplier)
    factor = (factor + (1 << 15)) >> 16 if factor < 0x7FFF0000 else 0x7FFF
    right = 15 - shift
    return (acc.astype(np.int64) * factor + (1 << (right - 1))) >> right


def requantized(acc: np.ndarray, multipliers: np.ndarray) -> np.ndarray:
    out = np.stack([product_of_int64(acc[:, c], float(m)) for c, m in enumerate(multipliers)], axis=1)
    return saturated(out)


@st.composite
def convolutions(draw):
    rng = np.random.default_rng(draw(seeds))
    depthwise, channels = draw(st.booleans()), draw(st.integers(2, 5))
    outputs = channels * draw(st.integers(1, 2)) if depthwise else draw(st.integers(1, 6))
    kernel = draw(st.tuples(*[st.integers(1, 4)] * 2))
    weights = integers(rng, outputs, 1 if depthwise else channels, *kernel)
    strides, pads = draw(st.tuples(*[st.integers(1, 3)] * 2)), draw(st.tuples(*[st.integers(0, 2)] * 4))
    return rng, channels if depthwise else 1, channels, weights, strides, pads, draw(scales)


@quick
@given(convolutions())
def test_convolution_is_bit_exact(drawn) -> None:
    rng, group, channels, weights, strides, pads, scale = drawn
    g, outputs = wide((1, channels, 8, 9), scale), len(weights)
    w_scale = rng.uniform(0.001, 0.02, outputs).astype(np.float32)
    steps, bias = np.float32(scale) * w_scale, rng.integers(-(10**6), 10**6, outputs).astype(np.int32)
    out_scale = float(np.float32(steps.max() * 60 * weights[0].size ** 0.5))
    inputs = [g.x, g.weights("w", weights, w_scale), g.weights("b", bias, steps)]
    y = g.op("Conv", inputs, out_scale, strides=strides, pads=pads, group=group)
    x = wide_integers(rng, 1, channels, 8, 9)
    acc = kernels.convolution(x, 0, weights, bias, strides, pads, (1, 1), group)
    ratios = np.float64(np.float32(scale)) * np.float64(w_scale) / np.float64(np.float32(out_scale))
    got = run_int8(g.model(y), x)
    np.testing.assert_array_equal(got, requantized(acc, ratios))
    assert steps_from_onnx(g, y, x, got, out_scale, 0) <= 1.0


@quick
@given(seeds, st.integers(1, 40), st.integers(1, 12), scales)
def test_gemm_is_within_a_step_and_bit_exact_as_a_convolution(
    seed: int, inputs: int, outputs: int, scale: float
) -> None:
    rng, g = np.random.default_rng(seed), wide((1, inputs), scale)
    weights, w_scale = integers(rng, outputs, inputs), rng.uniform(0.001, 0.02, outputs).astype(np.float32)
    steps, bias = np.float32(scale) * w_scale, rng.integers(-(10**6), 10**6, outputs).astype(np.int32)
    out_scale = float(np.float32(steps.max() * 60 * inputs**0.5))
    y = g.op("Gemm", [g.x, g.weights("w", weights, w_scale), g.weights("b", bias, steps)], out_scale, transB=1)
    x = wide_integers(rng, 1, inputs)
    acc = x.astype(np.int64) @ weights.T.astype(np.int64) + bias
    ratios = np.float64(np.float32(scale)) * np.float64(w_scale) / np.float64(np.float32(out_scale))
    np.testing.assert_array_equal(run_int8(g.model(y), x, CONVOLVED), requantized(acc, ratios))
    assert steps_from_onnx(g, y, x, run_int8(g.model(y), x), out_scale, 0) <= 1.0


@quick
@given(seeds, st.sampled_from(["Add", "Mul", "Sub"]), scales, scales, scales)
@example(402, "Mul", 0.0006525756325572729, 0.0006525756325572729, 0.0006525756325572729)
def test_two_operands_are_bit_exact(seed: int, op: str, s1: float, s2: float, s3: float) -> None:
    """The second one is the first at another scale, which is a QUANTIZE."""
    rng, g = np.random.default_rng(seed), wide((1, 3, 4, 5), s1)
    pair = [g.x, g.constant("s2", np.float32(s2)), g.constant("z2", np.int16(0))]
    other = g.op("DequantizeLinear", [g.op("QuantizeLinear", pair), "s2", "z2"])
    out = float(np.float32(s3 * (20 if op == "Mul" else 2)))
    y, x = g.op(op, [g.x, other], out), wide_integers(rng, 1, 3, 4, 5)
    second = saturated(kernels.multiply(x, s1 / s2))
    if op == "Mul":
        single = np.float32(s1) * np.float32(s2) / np.float32(out)  # TFLite's mul.cc multiplies the scales in float
        expected = kernels.multiply(x.astype(np.int64) * second, float(single))
    else:
        expected = total(x, s1, second, s2, out, -1 if op == "Sub" else 1)
    np.testing.assert_array_equal(run_int8(g.model(y), x), saturated(expected))


def total(x: np.ndarray, s1: float, second: np.ndarray, s2: float, out: float, sign: int) -> np.ndarray:
    """Both operands on a common scale of 2 * max, 15 bits up."""
    twice = 2 * max(s1, s2)
    raised = [kernels.multiply(v.astype(np.int64) << 15, s / twice) for v, s in ((x, s1), (second, s2))]
    return kernels.multiply(raised[0] + sign * raised[1], twice / ((1 << 15) * out))


def saturated(integers: np.ndarray) -> np.ndarray:
    return np.clip(integers, -32768, 32767).astype(np.int16)


@quick
@given(seeds, st.sampled_from(["Add", "Mul", "Sub"]), st.floats(0.1, 8), st.booleans(), scales)
def test_a_constant_operand_is_within_a_step(seed: int, op: str, value: float, stored: bool, scale: float) -> None:
    """A value of the file itself, or one that is stored in int8 already."""
    rng, g = np.random.default_rng(seed), wide((1, 3, 4, 5), scale)
    constant = g.constant("c", np.float32(value))
    if stored:
        constant = g.weights("stored", np.array([127], np.int8), np.float32(value / 127))
    out_scale = float(np.float32(scale * max(value, 1) if op == "Mul" else scale + value / 32767))
    y, x = g.op(op, [g.x, constant], out_scale), wide_integers(rng, 1, 3, 4, 5)
    assert steps_from_onnx(g, y, x, run_int8(g.model(y), x), out_scale, 0) <= 1.0


POOLS = {
    "AveragePool": {"kernel_shape": [2, 3], "strides": [2, 2]},
    "MaxPool": {"kernel_shape": [3, 2], "strides": [1, 2], "pads": [1, 1, 1, 0]},
    "GlobalAveragePool": {},
    "GlobalMaxPool": {},
}


@quick
@given(seeds, st.sampled_from(sorted(POOLS)), st.integers(3, 9), st.integers(4, 9), scales)
def test_pools_are_within_a_step(seed: int, op: str, height: int, width: int, scale: float) -> None:
    rng, g = np.random.default_rng(seed), wide((1, 3, height, width), scale)
    out_scale = scale / 2 if op == "GlobalAveragePool" else scale
    y, x = g.op(op, [g.x], out_scale, **POOLS[op]), wide_integers(rng, 1, 3, height, width)
    got = run_int8(g.model(y), x)
    assert steps_from_onnx(g, y, x, got, out_scale, 0) <= (0.0 if "Max" in op else 1.0)


@quick
@given(seeds, scales, st.floats(0.01, 0.2), st.integers(-128, 127))
def test_the_border_to_int8_is_one_quantize(seed: int, scale: float, out_scale: float, zero: int) -> None:
    rng, g = np.random.default_rng(seed), wide((1, 3, 4, 5), scale)
    step = float(np.float32(out_scale))
    y, x = g.quantize(g.x, step, zero, np.int8), wide_integers(rng, 1, 3, 4, 5)
    file = read_tflite(to_tflite(g.model(y), MICRO))
    assert [operator.kind for operator in file.operators] == ["QUANTIZE"]
    assert [file.tensors[index].dtype for index in (*file.inputs, *file.outputs)] == ["int16", "int8"]
    got = run_int8(g.model(y), x)
    np.testing.assert_array_equal(got, kernels.requantize(x, (np.float32(scale), 0), (np.float32(step), zero)))
    assert steps_from_onnx(g, y, x, got, step, zero) <= 1.0


def every_operator() -> tuple[QdqGraph, str]:
    """What first layers are made of, one after the other: nothing of it has a kernel of its own in this file."""
    rng, g = np.random.default_rng(1), wide((1, 3, 10, 10), 1e-4)

    def conv(source: str, channels: tuple[int, int], side: int, group: int = 1, scale: float = 1e-4) -> str:
        name, shape = f"w{len(g.nodes)}", (channels[1], channels[0] // group, side, side)
        inputs = [source, g.weights(name, integers(rng, *shape), np.float32(0.002))]
        return g.op("Conv", inputs, scale, pads=[side // 2] * 4, group=group)

    def clip(source: str, low: float, high: float, scale: float) -> str:
        bounds = [g.constant(f"{bound}{len(g.nodes)}", np.float32(bound)) for bound in (low, high)]
        return g.op("Clip", [source, *bounds], scale)

    x = conv(g.x, (3, 8), 3)
    gate = clip(g.op("Add", [x, g.constant("three", np.float32(3))]), 0, 6, 6 / 32767)
    x = g.op("Mul", [x, gate], 4e-4)
    x = g.op("Relu", [conv(x, (8, 8), 3, 8)], 2e-4)
    pooled = g.op("GlobalAveragePool", [x], 1e-4)
    squeezed = g.op("HardSigmoid", [conv(pooled, (8, 8), 1)], 1 / 32767, alpha=1 / 6, beta=0.5)
    excited = g.op("Mul", [x, squeezed], 2e-4)
    x = g.op("Add", [excited, conv(excited, (8, 8), 1)], 3e-4)
    x = g.op("Concat", [x, g.op("MaxPool", [x], 3e-4, kernel_shape=[3, 3], pads=[1] * 4)], 3e-4, axis=1)
    x = g.op("AveragePool", [g.op("LeakyRelu", [x], 3e-4, alpha=0.1)], 3e-4, kernel_shape=[2, 2], strides=[2, 2])
    x = g.op("Pad", [x, g.constant("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1]))], 3e-4)
    apart, whole = (g.constant(f"shape{len(s)}", np.array(s)) for s in ((1, 2, 8, 7, 7), (1, 16, 7, 7)))
    turned = g.op("Transpose", [g.op("Reshape", [x, apart], 3e-4)], 3e-4, perm=[0, 2, 1, 3, 4])
    x = g.op("Reshape", [turned, whole], 3e-4)
    ends = [g.constant(f"end{end}", np.array([end])) for end in (2, 14, 1)]
    x = g.op("Slice", [x, *ends], 3e-4)
    x = g.op("Mul", [x, g.op("Sigmoid", [x], 1 / 32768)], 3e-4)
    x = g.op("Tanh", [x], 1 / 32768)
    return g, g.quantize(g.op("Sub", [x, g.constant("little", np.float32(0.01))], 2e-5), 0.0005, -3, np.int8)


def test_tflite_micro_answers_as_the_reference_kernels() -> None:
    """FULLY_CONNECTED alone rounds otherwise there; boards of TFLite Micro have convolutions in its place."""
    g, y = every_operator()
    x = wide_integers(np.random.default_rng(2), 1, 3, 10, 10) // 8
    micro = to_nchw(run_micro(to_tflite(g.model(y), CONVOLVED), to_nhwc(x)).outputs[0])
    np.testing.assert_array_equal(micro, run_int8(g.model(y), x, CONVOLVED))
    assert len(np.unique(micro)) > 20
    assert steps_from_onnx(g, y, x, micro, 0.0005, -3) <= 1.0


def test_biases_have_64_bits_and_activations_16() -> None:
    g, y = every_operator()
    file = read_tflite(to_tflite(g.model(y), CONVOLVED))
    for operator in file.operators:
        if "CONV" in operator.kind:
            assert [file.tensors[index].dtype for index in operator.inputs] == ["int16", "int8", "int64"]
    assert file.operators[-1].kind == "QUANTIZE"
    assert [file.tensors[index].dtype for index in (*file.inputs, *file.outputs)] == ["int16", "int8"]


def test_an_addition_that_would_end_the_process_gets_a_wider_range() -> None:
    """TFLite takes 2 * input_scale / output_scale below 2**15."""
    g = wide((1, 3, 4, 4), 10.0)
    y = g.op("Add", [g.x, g.constant("one", np.float32(1))], 1e-4)
    content = to_tflite(g.model(y), MICRO)
    file = read_tflite(content)
    assert 2 * 10.0 / file.tensors[file.outputs[0]].scales[0] < 2**15
    x = wide_integers(np.random.default_rng(3), 1, 3, 4, 4)
    run_int8(g.model(y), x)


def test_pixels_have_8_bits() -> None:
    g = wide((1, 3, 4, 4))
    y = g.op("Relu", [g.x], 1e-3)
    with pytest.raises(EdgecError) as refusal:
        to_tflite(g.model(y), replace(MICRO, input_type="uint8"))
    assert refusal.value.code == "unsupported-precision"
    file = read_tflite(to_tflite(g.model(y), replace(MICRO, input_type="float32")))
    assert [file.tensors[index].dtype for index in (*file.inputs, *file.outputs)] == ["float32", "float32"]


def test_int16_has_a_zero_point_of_0() -> None:
    model = wide((1, 3, 4, 4))
    model.op("Relu", [model.x], 1e-3)
    file = model.model("relu2")
    for tensor in file.graph.initializer:
        if tensor.name == "input.zero_point":
            tensor.CopyFrom(numpy_helper.from_array(np.array(5, np.int16), tensor.name))
    with pytest.raises(EdgecError) as refusal:
        read_graph(file)
    assert refusal.value.code == "bad-quantization"


def test_onnx_runtime_executes_16_bits_as_written() -> None:
    """The reference: round half to even, saturate."""
    g = wide((1, 1, 1, 4), 0.5)
    node = helper.make_node("Identity", [g.x], ["y"])
    g.nodes.append(node)
    given = np.array([0.25, 0.75, 1e6, -1e6], np.float32).reshape(1, 1, 1, 4)
    np.testing.assert_array_equal(run_onnx(g.model("y"), given).ravel(), [0.0, 1.0, 16383.5, -16384.0])
