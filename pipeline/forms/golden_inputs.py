"""What golden vectors feed a network: patterns that firmware makes itself, stored pixels, and both as tensors."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms.format import Batch, TensorContract
from edgec.pipeline.forms.integer_preprocess import Pixels, fold

Kind = Literal["fill", "gradient-x", "gradient-y", "noise", "stored"]
Values = npt.NDArray[np.generic]

NOISE_SEED = 2026


@dataclass(frozen=True)
class GoldenVector:
    """One input.

    Attributes:
        kind: ``fill`` sets every element; gradients and noise are pixels that firmware generates itself; ``stored``
            pixels are carried along.
        fill: value of every input element, for ``fill``.
        input_crc32: of the input tensor's bytes, little-endian, in the artifact's layout.
    """

    name: str
    kind: Kind
    fill: float | int | None
    input_crc32: int


def make_inputs(
    tensor: TensorContract, preprocess: Preprocess, stored: Pixels
) -> tuple[tuple[GoldenVector, ...], Values, Batch]:
    """The vectors, their tensors ``(N, ...)`` in the artifact's form, and the same as ``(N, C, H, W)`` float32.

    An integer input is what the integer preprocessing makes of the pixels; the float form is that, dequantized, so
    every kernel set sees the same numbers.
    """
    sides = tensor.spatial
    low, high = _extremes(tensor, preprocess)
    fills = {"zeros": tensor.zero_point or 0, "saturated-low": low, "saturated-high": high}
    patterns: dict[Kind, Pixels] = {
        "gradient-x": gradient(*sides, axis=1),
        "gradient-y": gradient(*sides, axis=0),
        "noise": noise(*sides),
    }
    pixels = np.concatenate([np.stack(list(patterns.values())), stored])
    filled = np.stack([np.full(sides, value, _dtype(tensor)) for value in fills.values()])
    fed = np.concatenate([filled, _preprocessed(pixels, tensor, preprocess)])
    nchw = np.ascontiguousarray(fed.transpose(0, 3, 1, 2))
    in_layout = nchw if tensor.layout == "NCHW" else fed
    names = (*fills, *patterns, *(f"image-{i + 1}" for i in range(len(stored))))
    kinds: list[Kind] = ["fill" for _ in fills]
    kinds.extend(patterns)
    kinds.extend("stored" for _ in stored)
    values = (*fills.values(), *[None] * len(pixels))
    vectors = tuple(
        GoldenVector(name, kind, value, zlib.crc32(little_endian(row)))
        for name, kind, value, row in zip(names, kinds, values, in_layout, strict=True)
    )
    return vectors, in_layout, as_batch(in_layout, tensor, preprocess)


def as_batch(fed: Values, tensor: TensorContract, preprocess: Preprocess) -> Batch:
    """Input tensors ``(N, ...)`` in the artifact's form as ``(N, C, H, W)`` float32; uint8 inputs are pixels."""
    if tensor.dtype == "uint8":
        pixels = np.asarray(fed, np.uint8)
        return preprocess.normalise(pixels if tensor.layout == "NHWC" else pixels.transpose(0, 2, 3, 1))
    nchw = fed.transpose(0, 3, 1, 2) if tensor.layout == "NHWC" else fed
    return to_real(np.ascontiguousarray(nchw), tensor)


def gradient(height: int, width: int, channels: int, axis: int) -> Pixels:
    """``(H, W, C)`` ramp 0..255 along one axis: ``i * 255 // (length - 1)``."""
    length = (height, width)[axis]
    ramp = (np.arange(length) * 255 // max(length - 1, 1)).astype(np.uint8)
    shape = (height, 1, 1) if axis == 0 else (1, width, 1)
    return np.ascontiguousarray(np.broadcast_to(ramp.reshape(shape), (height, width, channels)))


def noise(height: int, width: int, channels: int) -> Pixels:
    """``(H, W, C)`` from the linear congruential generator of Numerical Recipes, upper byte; firmware repeats it."""
    powers = np.cumprod(np.full(height * width * channels, 1664525, np.uint32), dtype=np.uint32)  # a^1 .. a^n
    sums = np.concatenate([[1], np.uint32(1) + np.cumsum(powers[:-1], dtype=np.uint32)]).astype(np.uint32)
    states = powers * np.uint32(NOISE_SEED) + sums * np.uint32(1013904223)  # all modulo 2^32
    return (states >> np.uint32(24)).astype(np.uint8).reshape(height, width, channels)


def to_tensor(values: Batch, tensor: TensorContract) -> Values:
    """Real values ``(N, C, ...)`` as the artifact holds them: its integers, its layout."""
    if tensor.layout == "NHWC":
        values = values.transpose(0, 2, 3, 1)
    if tensor.scale is None:
        return values.astype(tensor.dtype, copy=False)
    limits = np.iinfo(tensor.dtype)
    steps = np.rint(values.astype(np.float64) / tensor.scale) + (tensor.zero_point or 0)
    return np.asarray(np.clip(steps, limits.min, limits.max), tensor.dtype)


def to_real(values: Values, tensor: TensorContract) -> Batch:
    """The artifact's integers as float32, in the layout given."""
    if tensor.scale is None:
        return values.astype(np.float32, copy=False)
    return (values.astype(np.float32) - np.float32(tensor.zero_point or 0)) * np.float32(tensor.scale)


def little_endian(values: Values) -> bytes:
    """Raw bytes in C order."""
    return np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def _preprocessed(pixels: Pixels, tensor: TensorContract, preprocess: Preprocess) -> Values:
    """``(N, H, W, C)`` pixels as the input tensor's elements, channels last."""
    folded = fold(preprocess, tensor)
    if folded is None:
        return preprocess.normalise(pixels).transpose(0, 2, 3, 1)
    return folded.apply(pixels).astype(tensor.dtype)


def _extremes(tensor: TensorContract, preprocess: Preprocess) -> tuple[float | int, float | int]:
    """The smallest and largest element: the integers' limits, or what a black and a white pixel become."""
    if tensor.scale is not None:
        limits = np.iinfo(tensor.dtype)
        return int(limits.min), int(limits.max)
    black_white = np.array([0, 255], np.uint8).repeat(tensor.spatial[2]).reshape(1, 1, 2, -1)
    ends = _preprocessed(black_white, tensor, preprocess)
    return float(np.min(ends)), float(np.max(ends))


def _dtype(tensor: TensorContract) -> str:
    return tensor.dtype if tensor.scale is not None else "float32"
