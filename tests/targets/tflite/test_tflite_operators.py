"""One operator at a time: TFLite's reference kernels against an independent integer model or the QDQ model itself."""

from __future__ import annotations

from dataclasses import replace

import integer_kernels as kernels
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from qdq_graphs import MICRO, QdqGraph, integers, run_int8, run_onnx, steps_from_onnx

from edgec.targets.tflite.options import TfliteOptions

XNNPACK = TfliteOptions()
EXPLICIT = TfliteOptions(padding="explicit", xnnpack=False)
quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)
scales = st.floats(0.004, 0.2).map(lambda s: float(np.float32(s)))
zero_points = st.integers(-128, 127)
pads = st.tuples(*[st.integers(0, 2)] * 4)


def f32(values):
    return np.asarray(values, np.float32).astype(np.float64)


@st.composite
def convolutions(draw, depthwise: bool):
    """A Conv with per-channel weights, its input and its drawn geometry."""
    rng = np.random.default_rng(draw(seeds))
    channels = draw(st.integers(2 if depthwise else 1, 5))
    outputs = channels * draw(st.integers(1, 3)) if depthwise else draw(st.integers(1, 6))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    side = draw(st.tuples(st.integers(7, 11), st.integers(7, 11)))
    weights = integers(rng, outputs, 1 if depthwise else channels, *kernel)
    per_channel = draw(st.booleans())
    w_scale = f32(rng.uniform(0.001, 0.02, outputs) if per_channel else rng.uniform(0.001, 0.02))
    strides, dilations = draw(st.tuples(*[st.integers(1, 3)] * 2)), draw(st.sampled_from([(1, 1), (2, 2), (1, 2)]))
    if dilations != (1, 1):
        strides = (1, 1)
    return (
        rng,
        channels,
        outputs,
        kernel,
        side,
        weights,
        w_scale,
        strides,
        dilations,
        draw(pads),
        draw(scales),
        draw(zero_points),
    )


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("options", [MICRO, EXPLICIT], ids=["same", "explicit"])
def test_convolution_is_bit_exact(depthwise, options):
    @quick
    @given(convolutions(depthwise))
    def check(drawn):
        rng, channels, outputs, _, side, weights, w_scale, strides, dilations, pad, scale, zero = drawn
        g = QdqGraph((1, channels, *side), scale, zero)
        steps = np.float32(np.float32(scale) * np.float32(w_scale))
        bias = rng.integers(-5000, 5000, outputs).astype(np.int32)
        group = channels if depthwise else 1
        inputs = [g.x, g.weights("w", weights, w_scale), g.weights("b", bias, steps)]
        out_scale = float(np.float32(f32(steps).max() * 60 * weights[0].size ** 0.5))
        y = g.op("Conv", inputs, out_scale, -7, strides=strides, dilations=dilations, pads=pad, group=group)
        x = integers(rng, 1, channels, *side)
        acc = kernels.convolution(x, zero, weights, bias, strides, pad, dilations, group)
        ratios = np.broadcast_to(f32(scale) * f32(w_scale) / f32(out_scale), outputs)
        expected = kernels.requantized(acc, ratios, -7)
        got = run_int8(g.model(y), x, options)
        np.testing.assert_array_equal(got, expected)
        assert np.abs(run_int8(g.model(y), x, XNNPACK, reference=False).astype(int) - expected).max() <= 1

    check()


@pytest.mark.parametrize("bounds", [None, (0.0, 6.0), (0.0, 1e9), (-50.0, 50.0)])
def test_activation_behind_a_convolution_is_fused(bounds):
    rng = np.random.default_rng(5)
    g = QdqGraph((1, 3, 6, 6))
    weights = integers(rng, 4, 3, 3, 3)
    y = g.op("Conv", [g.x, g.weights("w", weights, np.float32(0.01))])
    if bounds:
        y = g.op("Clip", [y, g.constant("low", np.float32(bounds[0])), g.constant("high", np.float32(bounds[1]))])
    else:
        y = g.op("Relu", [y])
    y = g.quantize(y, 0.05, -100)
    x = integers(rng, 1, 3, 6, 6)
    for options, reference in ((MICRO, True), (XNNPACK, False)):
        got = run_int8(g.model(y), x, options, reference)
        assert steps_from_onnx(g, y, x, got, 0.05, -100) <= 1.0
        assert got.min() == (-128 if bounds and bounds[0] < 0 else -100)


@quick
@given(seeds, st.integers(1, 40), st.integers(1, 12), st.booleans(), st.booleans(), scales, zero_points)
def test_gemm_is_bit_exact(seed, inputs, outputs, transposed, per_channel, scale, zero):
    rng = np.random.default_rng(seed)
    g = QdqGraph((1, inputs), scale, zero)
    weights = integers(rng, outputs, inputs)
    w_scale = f32(rng.uniform(0.001, 0.02, outputs) if per_channel and transposed else 0.01)
    bias = rng.integers(-5000, 5000, outputs).astype(np.int32)
    steps = np.float32(np.float32(scale) * np.float32(w_scale))
    stored = weights if transposed else np.ascontiguousarray(weights.T)
    names = [g.x, g.weights("w", stored, w_scale), g.weights("b", bias, steps)]
    out_scale = float(np.float32(f32(steps).max() * 60 * inputs**0.5))
    y = g.op("Gemm", names, out_scale, 9, transB=int(transposed))
    x = integers(rng, 1, inputs)
    acc = (x.astype(np.int64) - zero) @ weights.T.astype(np.int64) + bias
    ratios = np.broadcast_to(f32(scale) * f32(w_scale) / f32(out_scale), outputs)
    expected = kernels.requantized(acc, ratios, 9, kernels.multiply_once)
    np.testing.assert_array_equal(run_int8(g.model(y), x), expected)
    as_convolution = run_int8(g.model(y), x, replace(MICRO, gemm="convolution"))
    np.testing.assert_array_equal(as_convolution, kernels.requantized(acc, ratios, 9))


@quick
@given(seeds, scales, zero_points, scales, zero_points, scales, zero_points)
def test_add_and_mul_are_bit_exact(seed, s1, z1, s2, z2, s3, z3):
    rng = np.random.default_rng(seed)
    x = integers(rng, 1, 3, 4, 5)
    for op, kernel, factor in (("Add", kernels.add, 1.0), ("Mul", kernels.mul, 12.0)):
        g = QdqGraph((1, 3, 4, 5), s1, z1)
        pooled = g.op(
            "MaxPool", [g.x], s1, z1, kernel_shape=[1, 1]
        )  # the second operand: the same integers, another scale
        other = g.op("QuantizeLinear", [pooled, g.constant("s2", np.float32(s2)), g.constant("z2", np.int8(z2))])
        other = g.op("DequantizeLinear", [other, "s2", "z2"])
        out_scale = float(np.float32(s3 * factor))
        y = g.op(op, [g.x, other], out_scale, z3)
        second = kernels.requantize(x, (s1, z1), (s2, z2))
        expected = kernel(x, (s1, z1), second, (s2, z2), (out_scale, z3))
        np.testing.assert_array_equal(run_int8(g.model(y), x), expected)


@quick
@given(
    seeds,
    st.sampled_from(["Add", "Mul", "Sub", "Div"]),
    st.sampled_from([(), (1,), (3, 1, 1), (1, 3, 1, 1)]),
    scales,
    zero_points,
)
def test_constant_operand(seed, op, shape, scale, zero):
    rng = np.random.default_rng(seed)
    g = QdqGraph((1, 3, 4, 5), scale, zero)
    constant = rng.uniform(0.5, 2, shape).astype(np.float32)
    out_scale = float(np.float32(2.5 * scale))
    y = g.op(op, [g.x, g.constant("c", constant)], out_scale, zero)
    x = integers(rng, 1, 3, 4, 5)
    got = run_int8(g.model(y), x)
    slack = 1.0 + (
        0 if constant.size == 1 else 127 * scale / out_scale * (0.01 if op in ("Mul", "Div") else 0.02 / scale)
    )
    assert steps_from_onnx(g, y, x, got, out_scale, zero) <= slack


@quick
@given(
    seeds, st.tuples(st.integers(5, 9), st.integers(5, 9)), st.integers(1, 3), st.integers(1, 3), pads, zero_points,
    st.integers(0, 1),
)  # fmt: skip
def test_max_pool_is_exact(seed, side, kernel, stride, pad, zero, ceil):
    pad = tuple(min(p, kernel - 1) for p in pad)
    ends = [(-(-(side[i] + pad[i] + pad[i + 2] - kernel) // stride) * stride, side[i] + pad[i]) for i in (0, 1)]
    assume(not ceil or all(start < end for start, end in ends))
    rng = np.random.default_rng(seed)
    g = QdqGraph((1, 3, *side), 0.05, zero)
    y = g.op("MaxPool", [g.x], 0.05, zero, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pad, ceil_mode=ceil)
    x = integers(rng, 1, 3, *side)
    for options, reference in ((MICRO, True), (EXPLICIT, True), (XNNPACK, False)):
        assert steps_from_onnx(g, y, x, run_int8(g.model(y), x, options, reference), 0.05, zero) < 1e-3


@quick
@given(
    seeds, st.tuples(st.integers(5, 9), st.integers(5, 9)), st.integers(1, 4), st.integers(1, 3), pads, st.booleans()
)
def test_average_pool(seed, side, kernel, stride, pad, same):
    pad = tuple(min(p, kernel - 1) for p in pad)
    rng = np.random.default_rng(seed)
    g = QdqGraph((1, 3, *side))
    stride = min(stride, kernel)  # ONNX Runtime computes negative SAME pads otherwise
    where = {"auto_pad": "SAME_UPPER"} if same else {"pads": pad, "count_include_pad": 1}
    y = g.op("AveragePool", [g.x], g.scale, g.zero_point, kernel_shape=[kernel] * 2, strides=[stride] * 2, **where)
    x = integers(rng, 1, 3, *side)
    for options in (MICRO, XNNPACK):
        got = run_int8(g.model(y), x, options, options is MICRO)
        assert steps_from_onnx(g, y, x, got, g.scale, g.zero_point) <= 1.0


@quick
@given(seeds, scales, zero_points, st.booleans())
def test_global_average_pool_and_flatten_are_one_mean(seed, scale, zero, flat):
    rng = np.random.default_rng(seed)
    g = QdqGraph((1, 5, 4, 7), scale, zero)
    y = g.op("GlobalAveragePool", [g.x], scale / 2, zero)
    y = g.op("Flatten", [y], scale / 2, zero) if flat else y
    x = integers(rng, 1, 5, 4, 7)
    got = run_int8(g.model(y), x)
    assert got.ndim == (2 if flat else 4)
    assert steps_from_onnx(g, y, x, got, float(np.float32(scale / 2)), zero) <= 1.0


RESIZES = [
    ("linear", "align_corners", {}, (11, 6)),
    ("linear", "half_pixel", {}, (10, 14)),
    ("linear", "pytorch_half_pixel", {}, (3, 2)),
    ("linear", "asymmetric", {}, (10, 7)),
    ("nearest", "asymmetric", {"nearest_mode": "floor"}, (10, 14)),
    ("nearest", "half_pixel", {"nearest_mode": "round_prefer_floor"}, (10, 14)),
    ("nearest", "half_pixel", {"nearest_mode": "round_prefer_ceil"}, (13, 9)),
    ("nearest", "align_corners", {"nearest_mode": "round_prefer_ceil"}, (9, 13)),
]


@pytest.mark.parametrize(("mode", "corners", "more", "size"), RESIZES)
def test_resize(mode, corners, more, size):
    rng = np.random.default_rng(1)
    g = QdqGraph((1, 3, 5, 7))
    sizes = g.constant("sizes", np.array([1, 3, *size]))
    inputs = [g.x, "", "", sizes]
    y = g.op("Resize", inputs, g.scale, g.zero_point, mode=mode, coordinate_transformation_mode=corners, **more)
    x = integers(rng, 1, 3, 5, 7)
    for options in (MICRO, XNNPACK):
        got = run_int8(g.model(y), x, options, options is MICRO)
        assert steps_from_onnx(g, y, x, got, g.scale, g.zero_point) <= (1.0 if mode == "linear" else 1e-3)


@pytest.mark.parametrize("value", [None, 1.0])
def test_pad(value):
    rng = np.random.default_rng(1)
    g = QdqGraph((1, 3, 5, 7))
    inputs = [g.x, g.constant("pads", np.array([0, 1, 2, 0, 0, 0, 1, 3]))]
    inputs += [g.constant("value", np.float32(value))] if value else []
    y = g.op("Pad", inputs, g.scale, g.zero_point)
    x = integers(rng, 1, 3, 5, 7)
    assert steps_from_onnx(g, y, x, run_int8(g.model(y), x), g.scale, g.zero_point) < 1e-3


def test_concat_of_unequal_scales():
    """The convolution writes into the Concat's scale; the input, which cannot, passes a QUANTIZE."""
    rng = np.random.default_rng(1)
    g = QdqGraph((1, 3, 5, 5))
    conv = g.op("Conv", [g.x, g.weights("w", integers(rng, 4, 3, 1, 1), 0.003)], 0.07, 0)
    y = g.op("Concat", [conv, g.x], 0.09, -4, axis=1)
    x = integers(rng, 1, 3, 5, 5)
    assert steps_from_onnx(g, y, x, run_int8(g.model(y), x), 0.09, -4) <= 1.0


@pytest.mark.parametrize("zero_point", [-128, -128 + 17])
def test_relu_alone(zero_point):
    rng = np.random.default_rng(1)
    g = QdqGraph((1, 3, 5, 5))
    y = g.op("Relu", [g.x], 0.03, zero_point)
    x = integers(rng, 1, 3, 5, 5)
    assert steps_from_onnx(g, y, x, run_int8(g.model(y), x), 0.03, zero_point) <= 1.0


@pytest.mark.parametrize("op", ["Sigmoid", "Softmax"])
def test_probabilities(op):
    rng = np.random.default_rng(1)
    g = QdqGraph((1, 9, 4, 4) if op == "Sigmoid" else (1, 9))
    y = g.op(op, [g.x], 1 / 256, -128, **({"axis": 1} if op == "Softmax" else {}))
    x = integers(rng, *g.shape)
    assert steps_from_onnx(g, y, x, run_int8(g.model(y), x), 1 / 256, -128) <= 1.0


@quick
@given(seeds, st.floats(0.01, 0.08), st.integers(-60, 60), st.booleans())
def test_native_hard_swish(seed, scale, zero, residual):
    rng = np.random.default_rng(seed)
    g = QdqGraph((1, 3, 6, 6), scale, zero)
    out_scale = float(np.float32(scale * 0.8))
    y = g.op("HardSwish", [g.x], out_scale, -100)
    if residual:
        y = g.op("Add", [y, g.x], out_scale * 1.5, zero)
    x = integers(rng, 1, 3, 6, 6)
    final = out_scale * (1.5 if residual else 1.0)
    got = run_int8(g.model(y), x)
    assert steps_from_onnx(g, y, x, got, float(np.float32(final)), zero if residual else -100) <= 3.0


@quick
@given(seeds, st.floats(0.02, 0.3), zero_points)
def test_hard_sigmoid_alone_is_a_depthwise_convolution(seed, scale, zero):
    rng = np.random.default_rng(seed)
    g = QdqGraph((1, 3, 6, 6), float(np.float32(scale)), zero)
    y = g.op("HardSigmoid", [g.x], 1 / 255, -128, alpha=1 / 6, beta=0.5)
    x = integers(rng, 1, 3, 6, 6)
    assert steps_from_onnx(g, y, x, run_int8(g.model(y), x), 1 / 255, -128) <= 1.0


def test_arg_max_and_transpose():
    rng = np.random.default_rng(1)
    x = integers(rng, 1, 3, 5, 6)
    g = QdqGraph((1, 3, 5, 6))
    best = g.op("ArgMax", [g.x], axis=1, keepdims=0)
    from onnx import TensorProto

    np.testing.assert_array_equal(run_int8(g.model(best, dtype=TensorProto.INT64), x), x.argmax(1))
    g = QdqGraph((1, 3, 5, 6))
    y = g.op("Transpose", [g.x], g.scale, g.zero_point, perm=[0, 3, 1, 2])
    from qdq_graphs import to_nhwc

    np.testing.assert_array_equal(to_nhwc(run_int8(g.model(y), x)), x.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("spatial", [(1, 1), (2, 3)])
def test_flatten_before_gemm_keeps_the_weights_order(spatial):
    rng = np.random.default_rng(1)
    g = QdqGraph((1, 4, *spatial))
    flat = g.op("Flatten", [g.x], g.scale, g.zero_point)
    size = 4 * spatial[0] * spatial[1]
    y = g.op("Gemm", [flat, g.weights("w", integers(rng, 5, size), 0.01)], 0.5, 0, transB=1)
    x = integers(rng, 1, 4, *spatial)
    assert steps_from_onnx(g, y, x, run_int8(g.model(y), x), 0.5, 0) <= 1.0


@quick
@given(convolutions(depthwise=True))
def test_float_convolution(drawn):
    rng, channels, outputs, _, side, weights, w_scale, strides, dilations, pad, scale, _ = drawn
    assume(outputs >= channels)
    g = QdqGraph((1, channels, *side), scale, 0, quantized=False)
    y = g.op(
        "Conv",
        [g.x, g.weights("w", weights, w_scale)],
        1.0,
        strides=strides,
        dilations=dilations,
        pads=pad,
        group=channels,
    )
    y = g.op("HardSwish", [y], 1.0)
    y = g.op("HardSigmoid", [y], 1.0, alpha=0.25, beta=0.4)
    x = rng.normal(size=(1, channels, *side)).astype(np.float32)
    for options in (MICRO, XNNPACK):
        np.testing.assert_allclose(
            run_int8(g.model(y), x, options, options is MICRO), run_onnx(g.model(y), x), atol=1e-5
        )
