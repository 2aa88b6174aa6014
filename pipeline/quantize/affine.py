"""Affine quantization, ``x ~ scale * (q - zero_point)``: parameters from a range, and the arithmetic itself.

Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
arXiv:1712.05877, equation 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SMALLEST_SCALE = 1e-9
"""Keeps int32 biases of a dead channel finite: below it, bias / (input_scale * weight_scale) leaves 32 bits."""


@dataclass(frozen=True, eq=False)
class QuantParams:
    """Scale and zero_point of one tensor, scalars, or vectors along ``axis``.

    Attributes:
        scale: float32, shape ``()`` or ``(C,)``.
        zero_point: int32, same shape.
        qmin: lowest stored integer; above the dtype's own where the range is narrow.
        qmax: highest stored integer.
        dtype: of the stored integers, ``"int8"``, ``"uint8"``, ``"int16"`` or ``"int32"``.
        axis: of the vectors; ``None`` for per-tensor.
    """

    scale: Array
    zero_point: Array
    qmin: int
    qmax: int
    dtype: str
    axis: int | None = None

    def shaped(self, rank: int) -> tuple[Array, Array]:
        """Scale (float64) and zero_point shaped to broadcast against a tensor of the given rank."""
        if self.axis is None:
            return self.scale.astype(np.float64), self.zero_point.astype(np.int64)
        shape = [1] * rank
        shape[self.axis] = -1
        return self.scale.astype(np.float64).reshape(shape), self.zero_point.astype(np.int64).reshape(shape)

    def quantize(self, x: Array) -> Array:
        """Round half to even, add the zero_point, saturate. ONNX QuantizeLinear."""
        scale, zero_point = self.shaped(x.ndim)
        quantized: Array = np.clip(np.rint(x / scale) + zero_point, self.qmin, self.qmax).astype(self.dtype)
        return quantized

    def dequantize(self, q: Array) -> Array:
        scale, zero_point = self.shaped(q.ndim)
        return ((q.astype(np.int64) - zero_point) * scale).astype(np.float32)

    @property
    def lowest(self) -> Array:
        """The smallest representable value, shaped like ``scale``."""
        return (self.qmin - self.zero_point) * self.scale.astype(np.float64)

    @property
    def highest(self) -> Array:
        """The largest representable value, shaped like ``scale``."""
        return (self.qmax - self.zero_point) * self.scale.astype(np.float64)


def same_grid(one: QuantParams, other: QuantParams) -> bool:
    """Both represent the same values; uint8 and int8 differ by 128 in every integer and in nothing else."""
    same = np.array_equal(one.scale, other.scale)
    same = same and np.array_equal(one.zero_point - one.qmin, other.zero_point - other.qmin)
    return same and one.axis == other.axis and one.qmax - one.qmin == other.qmax - other.qmin


def integer_range(dtype: str, narrow: bool = False, reduced: bool = False) -> tuple[int, int]:
    """``(qmin, qmax)`` of a type; ``narrow`` drops the lowest value, ``reduced`` keeps 7 bits of eight."""
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    if reduced:
        low, high = (0, 127) if dtype == "uint8" else (-64, 63)
    return (low + 1 if narrow else low), high


def asymmetric_params(low: Array | float, high: Array | float, dtype: str, axis: int | None = None) -> QuantParams:
    """Cover ``[min(low, 0), max(high, 0)]`` with every integer of the type; real 0 is exactly representable.

    Raises:
        ValueError: a bound is NaN or infinite.
    """
    qmin, qmax = integer_range(dtype)
    low, high = np.minimum(_finite(low), 0.0), np.maximum(_finite(high), 0.0)
    scale = np.maximum((high - low) / (qmax - qmin), SMALLEST_SCALE).astype(np.float32)
    zero_point = np.clip(np.rint(qmin - low / scale.astype(np.float64)), qmin, qmax).astype(np.int32)
    return QuantParams(scale, zero_point, qmin, qmax, dtype, axis)


def symmetric_params(
    bound: Array | float, dtype: str, axis: int | None = None, narrow: bool = False, reduced: bool = False
) -> QuantParams:
    """Cover ``[-bound, bound]`` with zero_point 0.

    Raises:
        ValueError: a bound is NaN or infinite.
    """
    qmin, qmax = integer_range(dtype, narrow, reduced)
    scale = np.maximum(np.abs(_finite(bound)) / qmax, SMALLEST_SCALE).astype(np.float32)
    return QuantParams(scale, np.zeros_like(scale, dtype=np.int32), qmin, qmax, dtype, axis)


def _finite(bound: Array | float) -> Array:
    values = np.asarray(bound, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("a quantization range must be finite")
    return values
