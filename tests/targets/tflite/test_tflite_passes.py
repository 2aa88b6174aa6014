"""What becomes one operator, what stays out of the file, and the guards."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from qdq_graphs import MICRO, QdqGraph, integers, run_int8, steps_from_onnx

from edgec.targets.tflite.compiler import to_tflite
from edgec.targets.tflite.delegate import delegate_coverage
from edgec.targets.tflite.flatbuffer import TfliteFile, read_tflite
from edgec.targets.tflite.options import TfliteOptions

XNNPACK = TfliteOptions()


def lowered(g: QdqGraph, output: str, options: TfliteOptions = XNNPACK) -> TfliteFile:
    return read_tflite(to_tflite(g.model(output), options))


def kinds(file: TfliteFile) -> list[str]:
    return [operator.kind for operator in file.operators]


def conv(
    g: QdqGraph, x: str, inputs: int, outputs: int, scale: float | None, zero: int = 0, seed: int = 0, **attributes
) -> str:
    k = attributes.pop("k", 1)
    weights = g.weights(
        f"w{len(g.nodes)}", integers(np.random.default_rng(seed), outputs, inputs, k, k), np.float32(0.01)
    )
    return g.op("Conv", [x, weights], scale, zero, **attributes)


def test_zero_pad_becomes_same() -> None:
    """TensorFlow's SAME, exported by torch as a Pad: the odd row and column at the bottom and right."""
    g = QdqGraph((1, 3, 8, 8))
    padded = g.op("Pad", [g.x, g.constant("p", np.array([0, 0, 0, 0, 0, 0, 1, 1]))], g.scale, g.zero_point)
    y = conv(g, padded, 3, 4, 0.2, k=3, strides=[2, 2])
    assert kinds(lowered(g, y)) == ["CONV_2D"]
    x = integers(np.random.default_rng(0), *g.shape)
    assert steps_from_onnx(g, y, x, run_int8(g.model(y), x), 0.2, 0) <= 1.0


def test_symmetric_pad_at_stride_two_pads_only_what_a_window_reaches() -> None:
    g = QdqGraph((1, 3, 8, 8))
    file = lowered(g, conv(g, g.x, 3, 4, 0.2, k=3, strides=[2, 2], pads=[1, 1, 1, 1]))
    assert kinds(file) == ["PAD", "CONV_2D"]
    assert file.tensors[file.operators[0].outputs[0]].shape == (1, 9, 9, 3)


def test_max_pool_pads_without_leaving_xnnpack() -> None:
    """No PADV2 where XNNPACK runs: repeated edges, or zeros where zero is the lowest value."""
    for zero, expected in ((3, ["SLICE", "CONCATENATION"] * 2), (-128, ["PAD"])):
        g = QdqGraph((1, 3, 8, 8), 0.05, zero)
        pooled = g.op("MaxPool", [g.x], 0.05, zero, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        file = lowered(g, pooled)
        assert kinds(file) == [*expected, "MAX_POOL_2D"]
        assert delegate_coverage(to_tflite(g.model(pooled), XNNPACK)).pieces == 1
        assert "PADV2" in kinds(lowered(g, pooled, MICRO)) or zero == -128


def squeeze_excite(g: QdqGraph, x: str) -> str:
    s = g.op("GlobalAveragePool", [x], 0.02, -10)
    s = g.op("Relu", [conv(g, s, 8, 4, None)], 0.02, -128)
    s = g.op("HardSigmoid", [conv(g, s, 4, 8, 0.05, 2, seed=1)], 1 / 255, -128, alpha=1 / 6, beta=0.5)
    return g.op("Mul", [x, s], 0.03, -10)


def test_squeeze_excite_with_a_native_hard_swish() -> None:
    g = QdqGraph((1, 3, 6, 6))
    x = g.op("HardSwish", [conv(g, g.x, 3, 8, 0.04, 1)], 0.03, -110)
    y = conv(g, squeeze_excite(g, x), 8, 8, 0.05, 0, seed=3)
    assert Counter(kinds(lowered(g, y, MICRO))) == {"CONV_2D": 4, "HARD_SWISH": 1, "MUL": 1, "MEAN": 1}
    images = integers(np.random.default_rng(2), 1, 3, 6, 6)
    assert steps_from_onnx(g, y, images, run_int8(g.model(y), images), 0.05, 0) <= 4.0


def test_equalized_hard_swish_of_the_quantizer() -> None:
    """A depthwise 1x1 convolution clipped to [0, 6] and a Mul, as ``pipeline.quantize`` writes it."""
    g = QdqGraph((1, 3, 6, 6), 0.05, 3)
    weights = g.weights("w", np.full((3, 1, 1, 1), 127, np.int8), np.array([1, 0.5, 0.25], np.float32) / 127)
    bias = np.rint(3 / (np.float32(0.05) * np.array([1, 0.5, 0.25]) / 127)).astype(np.int32)
    steps = (np.float32(0.05) * np.array([1, 0.5, 0.25], np.float32) / 127).astype(np.float32)
    gate = g.op("Conv", [g.x, weights, g.weights("b", bias, steps)], None, group=3)
    gate = g.op("Clip", [gate, g.constant("zero", np.float32(0)), g.constant("six", np.float32(6))], 6 / 255, -128)
    y = g.op("Mul", [g.x, gate], 0.2, -100)
    assert kinds(lowered(g, y)) == ["DEPTHWISE_CONV_2D", "MUL"]
    x = integers(np.random.default_rng(1), *g.shape)
    assert steps_from_onnx(g, y, x, run_int8(g.model(y), x), 0.2, -100) <= 1.0


def test_a_gate_that_is_not_equalized_is_an_addition() -> None:
    """The depthwise convolution of weight 1 and bias 3 that the quantizer writes for every hard-swish."""
    g = QdqGraph((1, 3, 6, 6), 0.05, 3)
    weights = g.weights("w", np.full((3, 1, 1, 1), 127, np.int8), np.full(3, 1 / 127))
    bias = g.weights("b", np.full(3, round(3 / (0.05 / 127)), np.int32), np.full(3, 0.05 / 127))
    gate = g.op("Conv", [g.x, weights, bias], None, group=3)
    gate = g.op("Clip", [gate, g.constant("zero", np.float32(0)), g.constant("six", np.float32(6))], 6 / 255, -128)
    y = g.op("Mul", [g.x, gate], 0.2, -100)
    assert kinds(lowered(g, y)) == ["ADD", "MUL"]
    x = integers(np.random.default_rng(1), *g.shape)
    assert steps_from_onnx(g, y, x, run_int8(g.model(y), x), 0.2, -100) <= 1.0


def test_only_a_relu_leaves_a_quantize_inside() -> None:
    g = QdqGraph((1, 3, 6, 6))
    y = conv(g, g.op("Relu", [conv(g, g.x, 3, 4, 0.1)], 0.05, -128), 4, 4, 0.2)
    assert lowered(g, y).inner_conversions == 0  # fused
    g = QdqGraph((1, 3, 6, 6))
    x = conv(g, g.x, 3, 4, 0.1)
    y = g.op("Add", [x, conv(g, g.op("Relu", [x], 0.05, -128), 4, 4, 0.2)], 0.3, 0)
    assert lowered(g, y).inner_conversions == 1  # a pre-activation
    for input_type in ("float32", "int8"):
        assert lowered(g, y, TfliteOptions(input_type=input_type)).inner_conversions == 1


def test_a_dead_tensor_does_not_break_the_delegate() -> None:
    """input_scale * weight_scale / output_scale >= 256: XNNPACK refuses the convolution unless its range is widened."""
    g = QdqGraph((1, 3, 6, 6), 0.05, 0)
    y = conv(g, conv(g, g.x, 3, 4, 1e-6), 4, 4, 1e-6)
    assert delegate_coverage(to_tflite(g.model(y), XNNPACK)).pieces == 1
    g = QdqGraph((1, 3, 6, 6), 0.05, 0)
    dead = g.weights("dead", integers(np.random.default_rng(0), 3, 3, 1, 1), np.float32(1e-9))
    y = g.op("Add", [g.op("Conv", [g.x, dead], 1e-8, 0), g.x], 0.06, 0)
    assert delegate_coverage(to_tflite(g.model(y), XNNPACK)).pieces == 1


def test_bias_of_an_all_zero_channel_does_not_saturate() -> None:
    """Its tiny weight scale would need a bias beyond int32; the channel gets a larger scale instead."""
    g = QdqGraph((1, 3, 4, 4), 0.05, 0)
    scales = np.array([0.01, 1e-12], np.float32)
    weights = np.stack([np.full((3, 1, 1), 50), np.zeros((3, 1, 1))]).astype(np.int8)
    bias = g.constant("bias", np.array([0.5, 2.0], np.float32))
    y = g.op("Conv", [g.x, g.weights("w", weights, scales), bias], 0.05, 0)
    x = integers(np.random.default_rng(1), *g.shape)
    got = run_int8(g.model(y), x)
    assert np.all(got[:, 1] == round(2.0 / 0.05))
    assert steps_from_onnx(g, y, x, got, 0.05, 0) <= 1.0


def test_hard_sigmoid_offset_over_near_zero_weights_does_not_overflow() -> None:
    g = QdqGraph((1, 3, 4, 4), 1e-4, 0)
    weights = g.weights("w", integers(np.random.default_rng(0), 2, 3, 1, 1), np.array([0.01, 1e-8], np.float32))
    y = g.op("HardSigmoid", [g.op("Conv", [g.x, weights], 0.05, 0)], 1 / 255, -128, alpha=1 / 6, beta=0.5)
    x = integers(np.random.default_rng(1), *g.shape)
    got = run_int8(g.model(y), x)
    assert np.abs(got[:, 1].astype(int) + 128 - round(0.5 * 255)).max() <= 1


@pytest.mark.parametrize("perm", [(0, 2, 3, 1), (0, 1, 3, 2)])
def test_a_transpose_appears_only_where_the_stored_order_is_not_the_asked_one(perm) -> None:
    g = QdqGraph((1, 3, 4, 5))
    y = g.op("Transpose", [conv(g, g.x, 3, 4, 0.2)], 0.2, 0, perm=list(perm))
    assert ("TRANSPOSE" in kinds(lowered(g, y))) == (perm != (0, 2, 3, 1))


@pytest.mark.parametrize("residual", [False, True])
def test_a_linear_layer_over_pixels_moves_none_of_them(residual: bool) -> None:
    """ConvNeXt's block: to (N, H, W, C), a matrix product, back, and an Add of what was there before."""
    g = QdqGraph((1, 3, 4, 5))
    before = conv(g, g.x, 3, 6, 0.2)
    turned = g.op("Transpose", [before], 0.2, 0, perm=[0, 2, 3, 1])
    weights = g.weights("linear", integers(np.random.default_rng(2), 6, 6), np.float32(0.01))
    y = g.op("Transpose", [g.op("MatMul", [turned, weights], 0.1, 0)], 0.1, 0, perm=[0, 3, 1, 2])
    y = g.op("Add", [y, before], 0.3, 0) if residual else conv(g, y, 6, 2, 0.3)
    y = g.op("GlobalAveragePool", [y], 0.3, 0)
    assert "TRANSPOSE" not in kinds(lowered(g, y))
    x = integers(np.random.default_rng(0), *g.shape)
    assert steps_from_onnx(g, y, x, run_int8(g.model(y), x), 0.3, 0) <= 1.0


def test_one_pixel_is_enlarged_by_the_operator_that_xnnpack_has() -> None:
    """Image pooling: the nearest of one pixel is what bilinear makes too."""
    g = QdqGraph((1, 3, 4, 5))
    pooled = g.op("GlobalAveragePool", [g.x], g.scale, g.zero_point)
    sizes = g.constant("sizes", np.array([1, 3, 4, 5]))
    where = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    y = g.op("Resize", [pooled, "", "", sizes], g.scale, g.zero_point, **where)
    file = lowered(g, y)
    assert "RESIZE_BILINEAR" in kinds(file)
    x = integers(np.random.default_rng(0), *g.shape)
    assert steps_from_onnx(g, y, x, run_int8(g.model(y), x), g.scale, g.zero_point) <= 1.0
