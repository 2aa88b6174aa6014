"""A roof by hand: the ridge, both sides of it, and boards without rates."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch import nn

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.spec import load_target, names
from edgec.pipeline.network.layers import layers_of
from edgec.pipeline.network.models.shapes import steps
from edgec.pipeline.network.roofline import Roofline, roofline_of

ROOF = Roofline("board", "int8", gmacs_s=1000.0, bandwidth_gb_s=10.0, element_bytes=1)


def test_below_and_above_the_ridge() -> None:
    assert ROOF.ridge == 100
    assert (ROOF.reachable_gmacs_s(50), ROOF.reachable_gmacs_s(100), ROOF.reachable_gmacs_s(400)) == (500, 1000, 1000)
    assert replace(ROOF, element_bytes=2).ridge == 200


def test_time_is_the_longer_of_arithmetic_and_traffic() -> None:
    thin, thick = layers_of(steps(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 256, 5, padding=2)), 100))
    assert ROOF.limit(thin) == "memory"
    assert ROOF.microseconds(thin) == pytest.approx((24 + 30_000 + 80_000) / 10e9 * 1e6)
    assert ROOF.limit(thick) == "compute"
    assert ROOF.microseconds(thick) == pytest.approx(10_000 * 256 * 8 * 25 / 1000e9 * 1e6)


@pytest.mark.parametrize("board", names())
def test_every_board_has_a_roof_or_is_refused_by_name(board: str) -> None:
    target = load_target(board)
    gpu = target.device.gpu
    rates = (gpu.int8_tops if target.precision == "int8" else gpu.fp16_tflops, gpu.bandwidth_gb_s) if gpu else (None,)
    if all(rates):
        roof = roofline_of(target)
        assert (roof.board, 2 * roof.gmacs_s / 1000, roof.bandwidth_gb_s) == (board, *rates)
        return
    with pytest.raises(EdgecError) as caught:
        roofline_of(target)
    assert caught.value.code == "no-board-rates"
    assert board in caught.value.message
    assert "jetson-orin-nano" in caught.value.hint


def test_a_board_in_fp16_moves_two_bytes() -> None:
    roof = roofline_of(load_target("jetson-nano"))
    assert (roof.precision, roof.element_bytes, roof.gmacs_s) == ("fp16", 2, 236.0)
