"""Ranges with the least expected noise: against hand-worked values, a simulation, and their symmetries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_network

from edgec.pipeline.forms.scheme import load_scheme
from edgec.pipeline.network.graph import Graph
from edgec.pipeline.quantize.affine import asymmetric_params
from edgec.pipeline.quantize.channels import Channels, least_noise_range, rounding_noise
from edgec.pipeline.quantize.plan import Network
from edgec.pipeline.quantize.ranges import fit_input


def channels(high: list[float], tail: list[float], rarity: float = 0.01) -> Channels:
    top, nothing = np.array(high), np.zeros(len(high))
    return Channels(nothing, top, top / 4, top**2 / 8, nothing, np.array(tail), rarity=rarity)


def test_a_range_without_tails_ends_at_the_extremes() -> None:
    assert least_noise_range([channels([1.0, 5.0], [0.0, 0.0])], 255, False) == (0.0, 5.0)


def test_rounding_noise_is_that_of_uniform_errors() -> None:
    assert rounding_noise(np.array(-1.0), np.array(1.0), 255, False) == pytest.approx((2 / 255) ** 2 / 12)
    assert rounding_noise(np.array(-0.1), np.array(1.0), 254, True) == pytest.approx((2 / 254) ** 2 / 12)


def test_clipping_is_the_mean_square_of_what_lies_beyond() -> None:
    """Exponential values above a threshold that one in a hundred exceeds."""
    values = np.random.default_rng(0).exponential(2.0, 4_000_000)
    threshold, end = np.quantile(values, 0.99), np.quantile(values, 0.99) + 3.0
    seen = Channels(np.zeros(1), np.array([threshold]), np.ones(1), np.ones(1), high_tail=np.array([2.0]), rarity=0.01)
    measured = np.square(np.maximum(values - end, 0)).mean()
    assert seen.clipping(np.zeros(1), np.array([end]))[0] == pytest.approx(measured, rel=0.05)


def test_nothing_is_clipped_at_a_hard_end() -> None:
    seen = Channels(
        np.zeros(1), np.array([5.0]), np.ones(1), np.ones(1), high_tail=np.ones(1), highest=np.array([6.0]), rarity=0.01
    )
    assert seen.clipping(np.zeros(1), np.array([6.0]))[0] < 1e-30
    assert least_noise_range([seen], 255, False)[1] <= 6.0


def test_many_rare_channels_ask_for_a_wider_range_than_frequent_ones() -> None:
    vector, feature_map = (channels([1.0] * 8, [0.2] * 8, rarity) for rarity in (1 / 100, 1 / 100 / 112**2))
    assert least_noise_range([vector], 255, False)[1] > least_noise_range([feature_map], 255, False)[1]


@given(
    st.lists(st.floats(0.01, 100.0), min_size=1, max_size=6),
    st.floats(0.0, 0.5),
    st.floats(0.01, 100.0),
    st.booleans(),
)
def test_the_range_scales_with_the_values_and_holds_what_was_seen(
    high: list[float], tail: float, factor: float, symmetric: bool
) -> None:
    seen = channels(high, [tail * value for value in high])
    low, end = least_noise_range([seen], 255, symmetric)
    assert low <= 0
    assert end >= max(high)
    scaled = least_noise_range([seen.scaled(factor)], 255, symmetric)
    np.testing.assert_allclose(scaled, (low * factor, end * factor), rtol=1e-9)


def test_pixels_do_not_fall_halfway_between_two_levels() -> None:
    """255 levels over [-1, 1] are the pixels' own distance, but 0 lies between two pixels."""
    pixels = (torch.arange(256).repeat(12)[: 3 * 1024] - 127.5) / 127.5
    images = pixels.reshape(1, 3, 32, 32)
    graph = Graph.read(tiny_network())
    low, high, tail = np.full(3, -1.0), np.full(3, 1.0), np.full(3, 0.01)
    seen = {graph.inputs[0]: Channels(low, high, low * 0, high / 3, tail, tail, rarity=1e-4)}
    fitted = fit_input(Network(graph, seen), load_scheme("openvino"), images).seen[graph.inputs[0]]

    def error(low: float, high: float) -> float:
        params = asymmetric_params(low, high, "uint8")
        return float(np.square(params.dequantize(params.quantize(images.numpy())) - images.numpy()).mean())

    assert error(float(fitted.low.min()), float(fitted.high.max())) < 0.5 * error(-1.0, 1.0)
