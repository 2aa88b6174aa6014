"""TFLite's int8 arithmetic in numpy, written from its quantization specification: an oracle for the lowering.

https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec and, for the fixed-point
multiplication, Jacob et al., 1712.05877, section 2.2. Layout here is ONNX's, (N, C, H, W).
"""

from __future__ import annotations

import math

import numpy as np


def fixed_point(multiplier: float) -> tuple[int, int]:
    """``multiplier = q * 2**(shift - 31)`` with q in [2**30, 2**31)."""
    fraction, shift = math.frexp(multiplier)
    q = round(fraction * 2**31)
    return (q // 2, shift + 1) if q == 2**31 else (q, shift)


def multiply(acc: np.ndarray, multiplier: float) -> np.ndarray:
    """``acc * multiplier`` rounded twice: the doubling high product, then the shift, both to nearest."""
    q, shift = fixed_point(multiplier)
    acc = acc.astype(np.int64) << max(shift, 0)
    product = acc * q
    high = np.where(product >= 0, product + (1 << 30), product + 1 - (1 << 30))
    high = np.where(high >= 0, high >> 31, -((-high) >> 31))
    right = max(-shift, 0)
    remainder, mask = high & ((1 << right) - 1), (1 << right) - 1
    return (high >> right) + (remainder > (mask >> 1) + (high < 0))


def multiply_once(acc: np.ndarray, multiplier: float) -> np.ndarray:
    """``acc * multiplier`` rounded once, half up: LiteRT's fully connected kernel."""
    q, shift = fixed_point(multiplier)
    right = 31 - shift
    return (acc.astype(np.int64) * q + (1 << (right - 1))) >> right


def requantized(acc: np.ndarray, multipliers: np.ndarray, zero_point: int, times=multiply) -> np.ndarray:
    """int32 ``(N, C, ...)`` to int8, one multiplier for each channel."""
    out = np.stack([times(acc[:, c], float(m)) for c, m in enumerate(multipliers)], axis=1)
    return np.clip(out + zero_point, -128, 127).astype(np.int8)


def convolution(x, x_zero, weights, bias, strides, pads, dilations, group) -> np.ndarray:
    """int32 accumulators of a grouped convolution; pads are top, left, bottom, right and hold the zero point."""
    top, left, bottom, right = pads
    padded = np.pad(x.astype(np.int64) - x_zero, ((0, 0), (0, 0), (top, bottom), (left, right)))
    out_channels, in_group, kh, kw = weights.shape
    rows = (padded.shape[2] - (kh - 1) * dilations[0] - 1) // strides[0] + 1
    cols = (padded.shape[3] - (kw - 1) * dilations[1] - 1) // strides[1] + 1
    acc = np.zeros((x.shape[0], out_channels, rows, cols), np.int64)
    per_group = out_channels // group
    for o in range(out_channels):
        first = o // per_group * in_group
        for i in range(kh):
            for j in range(kw):
                r, c = i * dilations[0], j * dilations[1]
                window = padded[
                    :,
                    first : first + in_group,
                    r : r + rows * strides[0] : strides[0],
                    c : c + cols * strides[1] : strides[1],
                ]
                acc[:, o] += np.einsum("nihw,i->nhw", window[:, :, :rows, :cols], weights[o, :, i, j].astype(np.int64))
    return acc + bias.astype(np.int64)[None, :, None, None]


def add(a, a_note, b, b_note, out_note) -> np.ndarray:
    """Both operands on a common scale of 2 * max, 20 bits up."""
    twice = 2 * max(a_note[0], b_note[0])
    total = sum(
        multiply((x.astype(np.int64) - zero) << 20, float(np.float64(scale) / twice))
        for x, (scale, zero) in ((a, a_note), (b, b_note))
    )
    out = multiply(total, float(twice / ((1 << 20) * np.float64(out_note[0])))) + out_note[1]
    return np.clip(out, -128, 127).astype(np.int8)


def mul(a, a_note, b, b_note, out_note) -> np.ndarray:
    product = (a.astype(np.int64) - a_note[1]) * (b.astype(np.int64) - b_note[1])
    scale = float(np.float64(a_note[0]) * np.float64(b_note[0]) / np.float64(out_note[0]))
    return np.clip(multiply(product, scale) + out_note[1], -128, 127).astype(np.int8)


def requantize(x, x_note, out_note) -> np.ndarray:
    ratio = float(np.float64(x_note[0]) / np.float64(out_note[0]))
    return np.clip(multiply(x.astype(np.int64) - x_note[1], ratio) + out_note[1], -128, 127).astype(np.int8)
