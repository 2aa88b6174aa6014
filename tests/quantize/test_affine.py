"""The arithmetic of affine quantization: properties that hold for any range, and tables worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.pipeline.quantize.affine import QuantParams, asymmetric_params, integer_range, symmetric_params

BOUNDS = st.floats(-1e6, 1e6)
DTYPES = st.sampled_from(["int8", "uint8"])
SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def scalar(scale: float, zero_point: int, dtype: str) -> QuantParams:
    return QuantParams(np.float32(scale), np.int32(zero_point), *integer_range(dtype), dtype)


def inside(params: QuantParams, shares: list[float]) -> np.ndarray:
    """Values between the lowest and the highest representable one."""
    low, high = float(params.lowest), float(params.highest)
    return np.array([low + share * (high - low) for share in shares])


@given(BOUNDS, BOUNDS, DTYPES)
def test_zero_is_exact(a: float, b: float, dtype: str) -> None:
    params = asymmetric_params(min(a, b), max(a, b), dtype)
    assert params.dequantize(params.quantize(np.zeros(1)))[0] == 0.0
    assert params.qmin <= int(params.zero_point) <= params.qmax


@given(BOUNDS, BOUNDS, DTYPES, SHARES)
def test_error_is_at_most_half_a_step(a: float, b: float, dtype: str, shares: list[float]) -> None:
    params = asymmetric_params(min(a, b), max(a, b), dtype)
    x = inside(params, shares)
    error = np.abs(x - params.dequantize(params.quantize(x)))
    assert (error <= float(params.scale) * 0.5 + 1e-6 * np.abs(x)).all()


@given(BOUNDS, BOUNDS, DTYPES)
def test_the_range_is_covered_to_half_a_step(a: float, b: float, dtype: str) -> None:
    """The zero_point is rounded, so one end may lie up to half a step inside."""
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    params = asymmetric_params(low, high, dtype)
    slack = 0.5001 * float(params.scale) + 1e-6 * (high - low)
    assert float(params.lowest) <= low + slack
    assert float(params.highest) >= high - slack


@given(BOUNDS, BOUNDS, DTYPES, st.lists(st.floats(-2e6, 2e6), min_size=2, max_size=20))
def test_monotone(a: float, b: float, dtype: str, values: list[float]) -> None:
    params = asymmetric_params(min(a, b), max(a, b), dtype)
    stored = params.quantize(np.sort(np.array(values))).astype(int)
    assert (np.diff(stored) >= 0).all()


@given(BOUNDS, DTYPES, st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20))
def test_dequantized_values_are_fixed_points(bound: float, dtype: str, values: list[float]) -> None:
    params = asymmetric_params(min(bound, 0), max(bound, 0), dtype)
    stored = params.quantize(np.array(values))
    np.testing.assert_array_equal(params.quantize(params.dequantize(stored)), stored)


@given(st.floats(1e-3, 1e6), DTYPES)
def test_one_sided_ranges_use_every_integer(bound: float, dtype: str) -> None:
    qmin, qmax = integer_range(dtype)
    positive, negative = asymmetric_params(0, bound, dtype), asymmetric_params(-bound, 0, dtype)
    assert int(positive.zero_point) == qmin
    assert int(negative.zero_point) == qmax
    assert int(positive.quantize(np.array([bound]))[0]) == qmax
    assert int(negative.quantize(np.array([-bound]))[0]) == qmin
    assert asymmetric_params(bound / 2, bound, dtype).scale == positive.scale, "a range that misses zero is widened"


@given(st.floats(0, 1e30), st.booleans(), st.booleans())
def test_symmetric(bound: float, narrow: bool, reduced: bool) -> None:
    params = symmetric_params(bound, "int8", narrow=narrow, reduced=reduced)
    assert int(params.zero_point) == 0
    assert float(params.highest) >= bound * (1 - 1e-6)
    x = np.array([bound, -bound, bound / 3])
    stored = params.quantize(x).astype(int)
    assert stored[0] == -stored[1] or not narrow
    assert np.abs(stored).max() <= (64 if reduced else 128) - narrow


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("bounds", [(0.0, 0.0), (0.0, 1e-30), (-1e30, 1e30), (-1e-12, 1e30), (0.0, 3e38)])
def test_huge_and_empty_ranges_stay_finite(bounds: tuple[float, float], dtype: str) -> None:
    params = asymmetric_params(*bounds, dtype)
    assert np.isfinite(params.scale)
    assert params.scale > 0
    assert np.isfinite(params.dequantize(params.quantize(np.array([*bounds, 0.0])))).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_ranges_that_are_not_finite_are_refused(bad: float) -> None:
    for make in (
        lambda: asymmetric_params(bad, 1.0, "int8"),
        lambda: asymmetric_params(0.0, np.array([1.0, bad]), "int8", axis=1),
        lambda: symmetric_params(bad, "int8"),
    ):
        with pytest.raises(ValueError, match="finite"):
            make()


@pytest.mark.parametrize(
    ("dtype", "narrow", "reduced", "expected"),
    [
        ("int8", False, False, (-128, 127)),
        ("int8", True, False, (-127, 127)),
        ("int8", False, True, (-64, 63)),
        ("int8", True, True, (-63, 63)),
        ("uint8", False, False, (0, 255)),
        ("uint8", False, True, (0, 127)),
    ],
)
def test_integer_ranges(dtype: str, narrow: bool, reduced: bool, expected: tuple[int, int]) -> None:
    assert integer_range(dtype, narrow, reduced) == expected


@pytest.mark.parametrize(
    ("params", "x", "stored", "back"),
    [
        # half to even, then the zero_point, then saturation
        (scalar(0.5, 0, "int8"), [0.25, 0.75, 1.25, -0.25, -0.75], [0, 2, 2, 0, -2], [0, 1, 1, 0, -1]),
        (scalar(0.5, 0, "int8"), [63.5, 64.0, 1e9, -64.0, -64.5], [127, 127, 127, -128, -128], [63.5] * 3 + [-64] * 2),
        (scalar(0.25, 10, "uint8"), [-2.5, -2.6, 0.0, 61.25, 70], [0, 0, 10, 255, 255], [-2.5] * 2 + [0] + [61.25] * 2),
        (scalar(1 / 256, -128, "int8"), [0.0, 0.5, 0.99609375, 1.0], [-128, 0, 127, 127], [0, 0.5] + [0.99609375] * 2),
    ],
)  # fmt: skip
def test_tables_worked_by_hand(params: QuantParams, x: list[float], stored: list[int], back: list[float]) -> None:
    q = params.quantize(np.array(x))
    assert q.dtype == params.dtype
    assert q.tolist() == stored
    assert params.dequantize(q).tolist() == back


@pytest.mark.parametrize(
    ("low", "high", "dtype", "scale", "zero_point"),
    [
        (-1.0, 1.55, "uint8", 0.01, 100),
        (-1.0, 1.55, "int8", 0.01, -28),
        (0.0, 25.5, "uint8", 0.1, 0),
        (0.0, 25.5, "int8", 0.1, -128),
        (-25.5, 0.0, "uint8", 0.1, 255),
        (2.0, 25.5, "uint8", 0.1, 0),
    ],
)
def test_parameters_worked_by_hand(low: float, high: float, dtype: str, scale: float, zero_point: int) -> None:
    params = asymmetric_params(low, high, dtype)
    assert float(params.scale) == pytest.approx(scale, rel=1e-6)
    assert int(params.zero_point) == zero_point


def test_a_scale_per_channel_runs_along_its_axis() -> None:
    params = symmetric_params(np.array([127.0, 254.0]), "int8", axis=0)
    assert params.quantize(np.array([[1.0, 2.0], [2.0, 4.0]])).tolist() == [[1, 2], [1, 2]]
    along = symmetric_params(np.array([127.0, 254.0]), "int8", axis=1)
    assert along.quantize(np.array([[1.0, 2.0], [2.0, 4.0]])).tolist() == [[1, 1], [2, 2]]
    assert params.lowest.tolist() == [-128.0, -256.0]
