"""RAM and flash of a board against what a network takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.pipeline.forms.memory import arena_with_margin, memory_fit
from edgec.pipeline.forms.spec import Device

BOARD = Device(ram_bytes=512 * 1024, flash_bytes=2 * 1024 * 1024)


@given(st.integers(1, 10**9))
def test_the_margin_is_a_tenth_and_aligned(arena: int) -> None:
    reserved = arena_with_margin(arena)
    assert reserved % 16 == 0
    assert 1.1 * arena - 1 <= reserved < 1.1 * arena + 17


def test_within_the_limits() -> None:
    assert memory_fit(1000, 400_000, BOARD, 1.0, 224).over == ()
    assert memory_fit(9_000_000, 10**9, Device(), 1.0, 224).over == ()


@pytest.mark.parametrize(
    ("flash", "arena", "over", "would_fit"),
    [
        (1000, 636_352, ["RAM"], ("--input-px 192", "--width-multiplier 0.5")),
        (3_000_000, 400_000, ["flash"], ("--width-multiplier 0.75",)),
        (30_000_000, 5_454_000, ["RAM", "flash"], ("--width-multiplier 0.25 --input-px 128",)),
    ],
)
def test_over_the_limits_by_hand(flash: int, arena: int, over: list[str], would_fit: tuple[str, ...]) -> None:
    fit = memory_fit(flash, arena, BOARD, 1.0, 224)
    assert [text.rsplit(" ", 1)[1] for text in fit.over] == over
    assert fit.would_fit == would_fit


def test_nothing_would_fit() -> None:
    assert memory_fit(1000, 10**9, BOARD, 1.0, 32).would_fit == ()


def test_an_unmeasured_arena_is_not_judged() -> None:
    fit = memory_fit(1000, None, BOARD, 1.0, 224)
    assert fit.over == ()
    assert fit.arena_with_margin_bytes is None
