"""Rounding by covariance: never worse than nearest on its own objective, and exact where nothing is to choose."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.pipeline.network.graph import Node
from edgec.pipeline.quantize.affine import symmetric_params
from edgec.pipeline.quantize.rounding import descend, input_covariance, patches, round_layer


def output_error(rows: np.ndarray, chosen: np.ndarray, covariance: np.ndarray) -> float:
    """Mean square of what the rounding adds to the outputs, for inputs of this covariance."""
    return float(np.einsum("ok,kl,ol->", chosen - rows, covariance, chosen - rows))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12))
def test_never_worse_than_nearest(seed: int, size: int) -> None:
    stream = np.random.default_rng(seed)
    mixing = stream.normal(size=(size, size))
    covariance = mixing @ mixing.T
    rows = stream.uniform(-20, 20, (4, size))
    chosen = descend(rows, covariance, -127, 127)
    assert ((chosen == np.floor(rows)) | (chosen == np.ceil(rows))).all()
    nearest = np.rint(rows)
    assert output_error(rows, chosen, covariance) <= output_error(rows, nearest, covariance) + 1e-9


def test_two_equal_inputs_round_apart() -> None:
    """Worked by hand: 0.4 + 0.4 over the same input is 0.8. Nearest gives 0, one up and one down gives 1."""
    rows, covariance = np.array([[0.4, 0.4]]), np.ones((2, 2))
    chosen = descend(rows, covariance, -127, 127)
    assert chosen.sum() == 1
    assert output_error(rows, chosen, covariance) == pytest.approx(0.04)


def test_independent_inputs_round_to_nearest() -> None:
    rows = np.array([[0.4, 1.6, -2.3]])
    assert descend(rows, np.eye(3), -127, 127).tolist() == [[0.0, 2.0, -2.0]]


def test_saturates_at_the_grid() -> None:
    assert descend(np.array([[127.6, -130.2]]), np.eye(2), -127, 127).tolist() == [[127.0, -127.0]]


@pytest.mark.parametrize("group", [1, 2, 4])
def test_patches_times_rows_are_the_convolution(group: int) -> None:
    stream = torch.Generator().manual_seed(group)
    x = torch.randn(2, 4, 7, 7, generator=stream)
    weight = torch.randn(8, 4 // group, 3, 3, generator=stream)
    attributes = {"group": group, "pads": [1, 1, 1, 1], "strides": [2, 2]}
    node = Node("Conv", ("x", "w"), ("y",), attributes, "conv")
    expected = torch.nn.functional.conv2d(x, weight, None, 2, 1, 1, group)
    seen = patches(node, weight.numpy(), x)
    rows = weight.reshape(group, 8 // group, -1).double()
    answers = torch.einsum("gpk,gok->gop", seen, rows).reshape(8, 2, 4, 4).transpose(0, 1)
    torch.testing.assert_close(answers, expected.double(), atol=1e-4, rtol=1e-4)


def test_a_layer_keeps_its_shape_and_grid() -> None:
    stream = np.random.default_rng(0)
    weight = stream.normal(size=(6, 1, 3, 3)).astype(np.float32)
    params = symmetric_params(np.abs(weight).max(axis=(1, 2, 3)), "int8", 0, narrow=True)
    node = Node("Conv", ("x", "w"), ("y",), {"group": 6, "pads": [1] * 4}, "depthwise")
    batches = [torch.from_numpy(stream.normal(size=(3, 6, 8, 8)).astype(np.float32))]
    rounded = round_layer(node, weight, params, input_covariance(node, weight, batches))
    assert rounded.shape == weight.shape
    np.testing.assert_allclose(params.dequantize(params.quantize(rounded)), rounded, atol=1e-6)
