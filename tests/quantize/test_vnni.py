"""The saturating emulation against pairs worked by hand, a plain int16 loop, and ONNX Runtime where none saturates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import parser

from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.quantize.vnni import SaturatingRunner, saturation_loss

UNSIGNED = st.integers(0, 255)
SIGNED = st.integers(-128, 127)


def saturated(inputs: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``vpmaddubsw`` and an exact sum over the pairs, as the instruction is specified."""
    products = inputs[:, None, :].astype(np.int64) * weight[None].astype(np.int64)
    return np.clip(products[..., 0::2] + products[..., 1::2], -32768, 32767).sum(axis=2)


def loss(inputs: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return saturation_loss(torch.from_numpy(inputs.astype(np.float32)), torch.from_numpy(weight.astype(np.float32)))


@pytest.mark.parametrize(
    ("inputs", "weight", "expected"),
    [
        ([255, 255], [127, 127], 64770 - 32767),
        ([255, 255], [-127, -127], -64770 + 32768),
        ([255, 255], [127, -127], 0),
        ([129, 128], [127, 127], 32639 - 32639),
        ([130, 129], [127, 127], 32893 - 32767),
        ([255, 255, 255, 255], [127, 127, -127, -127], 64770 - 32767 - 64770 + 32768),
        ([255, 0, 255, 0], [127, 127, 127, 127], 0),
    ],
)
def test_pairs_worked_by_hand(inputs: list[int], weight: list[int], expected: int) -> None:
    assert loss(np.array([inputs]), np.array([weight])).item() == expected


@given(data=st.data(), pairs=st.integers(1, 5), outputs=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_loss_is_exact_minus_saturated(data: st.DataObject, pairs: int, outputs: int) -> None:
    inputs = np.array([data.draw(st.lists(UNSIGNED, min_size=2 * pairs, max_size=2 * pairs)) for _ in range(3)])
    weight = np.array([data.draw(st.lists(SIGNED, min_size=2 * pairs, max_size=2 * pairs)) for _ in range(outputs)])
    np.testing.assert_array_equal(loss(inputs, weight), inputs @ weight.T - saturated(inputs, weight))


@given(inputs=st.lists(UNSIGNED, min_size=8, max_size=8), weight=st.lists(st.integers(-64, 64), min_size=8, max_size=8))
@settings(max_examples=60, deadline=None)
def test_seven_bit_weights_never_saturate(inputs: list[int], weight: list[int]) -> None:
    assert loss(np.array([inputs]), np.array([weight])).item() == 0


def quantized_conv(directory: Path, weight: np.ndarray, dtype: str, zero_point: int, attributes: str) -> Path:
    """One convolution in QDQ form: input scale 1/8, weight scale 1/16, output in float."""
    model = parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        conv (float[N, {weight.shape[1]}, 5, 5] input) => (float[N, {weight.shape[0]}, H, W] logits)
        <float scale = {{0.125}}, {dtype} zero = {{{zero_point}}}, float weight_scale = {{0.0625}}, int8 weight_zero = {{0}}>
        {{
            q = QuantizeLinear(input, scale, zero)
            x = DequantizeLinear(q, scale, zero)
            w = DequantizeLinear(weight, weight_scale, weight_zero)
            logits = Conv <{attributes}> (x, w)
        }}
    """)  # fmt: skip  # noqa: E501
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight.astype(np.int8), "weight"))
    path = directory / "conv.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(("dtype", "zero_point"), [("uint8", 0), ("uint8", 100), ("int8", -128), ("int8", 0)])
def test_a_pointwise_convolution_saturates_as_worked_by_hand(tmp_path: Path, dtype: str, zero_point: int) -> None:
    """Both channels at the highest integer, both weights 127: 255 * 254 becomes 32767."""
    path = quantized_conv(tmp_path, np.full((1, 2, 1, 1), 127), dtype, zero_point, "kernel_shape = [1, 1]")
    images = np.full((1, 2, 5, 5), 1000.0, np.float32)
    lowest = 0 if dtype == "uint8" else -128
    real = 255 + lowest - zero_point
    expected = (2 * 127 * real - (64770 - 32767)) * 0.125 * 0.0625
    np.testing.assert_allclose(SaturatingRunner(path).predict(images)[0], np.full((1, 1, 5, 5), expected))


@pytest.mark.parametrize(
    "attributes",
    [
        "kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]",
        "kernel_shape = [3, 3], pads = [0, 0, 1, 1]",
        'kernel_shape = [3, 3], auto_pad = "SAME_UPPER", strides = [2, 2]',
        "kernel_shape = [3, 3], dilations = [2, 2]",
    ],
)
def test_convolutions_saturate_at_each_position(tmp_path: Path, attributes: str) -> None:
    """Against a loop over output positions and channel pairs, three input channels: the third is alone."""
    stream = np.random.default_rng(1)
    weight = stream.integers(90, 128, (4, 3, 3, 3)) * stream.choice([-1, 1], (4, 3, 3, 3))
    path = quantized_conv(tmp_path, weight, "uint8", 20, attributes)
    images = stream.integers(-20, 236, (2, 3, 5, 5)).astype(np.float32) / 8
    (exact,) = OrtRunner(path, as_written=True).predict(images)
    lost = (exact - SaturatingRunner(path, batch_size=1).predict(images)[0]) * 128
    stored = np.pad(images * 8 + 20, ((0, 0), (0, 0), (2, 2), (2, 2)), constant_values=20)
    expected = np.zeros_like(exact)
    dilation = 2 if "dilations" in attributes else 1
    stride = 2 if "strides" in attributes else 1
    start = 2 if "dilations" in attributes or "[0, 0" in attributes else 1
    for n, o, i, j in np.ndindex(*exact.shape):
        for k, m in np.ndindex(3, 3):
            row, column = start + i * stride + k * dilation, start + j * stride + m * dilation
            pair = stored[n, :2, row, column] @ weight[o, :2, k, m]
            expected[n, o, i, j] += pair - np.clip(pair, -32768, 32767)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(lost, expected, atol=0.1)


@pytest.mark.parametrize("group", ["kernel_shape = [3, 3], group = 2"])
def test_depthwise_convolutions_stay_exact(tmp_path: Path, group: str) -> None:
    path = quantized_conv(tmp_path, np.full((2, 1, 3, 3), 127), "uint8", 0, group)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2
    onnx.save(model, path)
    images = np.full((1, 2, 5, 5), 1000.0, np.float32)
    (exact,) = OrtRunner(path, as_written=True).predict(images)
    np.testing.assert_allclose(SaturatingRunner(path).predict(images)[0], exact, rtol=1e-6)
