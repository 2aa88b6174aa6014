"""The fewest layers in float: a search that evaluates seldom and reports why each layer stayed."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from edgec.pipeline.quantize.fallback import excluded, fall_back
from edgec.pipeline.quantize.sensitivity import Layer, Sensitivity

RANKED = [Sensitivity(Layer(f"conv{i}", "Conv", f"w{i}", f"t{i}", (f"conv{i + 1}",)), 10.0 + i) for i in range(40)]


@pytest.mark.parametrize("needed", [0, 1, 2, 3, 5, 8, 13, 39, 40])
def test_finds_the_fewest_layers(needed: int) -> None:
    calls: list[int] = []

    def drop(floats: Mapping[str, str]) -> float:
        count = sum("sensitive" in reason for reason in floats.values())
        calls.append(count)
        return 0.0 if count >= needed else 5.0

    found = fall_back(RANKED, drop, 0.5)
    assert found.held
    assert dict(found.floats) == excluded(RANKED[:needed])
    assert len(calls) == len(set(calls)) <= 13


def test_says_where_the_drop_cannot_be_held() -> None:
    found = fall_back(RANKED[:3], lambda floats: 2.0, 0.5)
    assert not found.held
    assert found.drop_pp == 2.0


def test_a_stored_tensor_stays_float_on_both_sides() -> None:
    floats = excluded(RANKED[:1])
    assert list(floats) == ["conv0", "conv1"]
    assert "10.0 dB" in floats["conv0"]
    assert "'t0'" in floats["conv1"]


def test_the_network_input_is_no_node() -> None:
    entry = Sensitivity(Layer("input", "input", "", "input", ("conv0",)), 3.0)
    assert list(excluded([entry])) == ["conv0"]
