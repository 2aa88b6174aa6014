"""Normalisation and quantization of a pixel as one integer multiply, add and shift: what firmware runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms.format import TensorContract

Pixels = npt.NDArray[np.uint8]
Integers = tuple[int, ...]

ACCUMULATOR_BITS = 30  # products and sums stay inside int32
ALL_PIXELS = np.arange(256, dtype=np.uint8)


@dataclass(frozen=True)
class IntegerPreprocess:
    """``q = clamp((pixel * multiplier[c] + offset[c]) >> shift, 0, qmax - qmin) + qmin``, exact in int32.

    A negative sum clamps to 0 before the shift, so no implementation-defined shift of a negative number is needed.

    Attributes:
        differences: how many of the (pixel, channel) pairs, 256 a channel, round otherwise than the float formula does.
        max_difference_steps: by how much at most; exact ties may fall to the other side.
    """

    multiplier: Integers
    offset: Integers
    shift: int
    qmin: int
    qmax: int
    differences: int = 0
    max_difference_steps: int = 0

    def apply(self, pixels: Pixels) -> npt.NDArray[np.int32]:
        """``(..., C)`` pixels to integers of the input tensor."""
        sums = pixels.astype(np.int32) * np.array(self.multiplier, np.int32) + np.array(self.offset, np.int32)
        steps = np.maximum(sums, 0) >> self.shift
        integers: npt.NDArray[np.int32] = np.minimum(steps, self.qmax - self.qmin) + np.int32(self.qmin)
        return integers


def fold(preprocess: Preprocess, tensor: TensorContract) -> IntegerPreprocess | None:
    """The integer form for an integer input, checked on all pixel values of all channels; None for a float input.

    A uint8 input takes pixels as they are: its normalisation is part of the network.
    """
    if tensor.scale is None or tensor.zero_point is None:
        return None
    limits = np.iinfo(tensor.dtype)
    qmin, qmax = int(limits.min), int(limits.max)
    if tensor.dtype == "uint8":
        channels = len(preprocess.mean)
        return IntegerPreprocess((1,) * channels, (0,) * channels, 0, qmin, qmax)
    slope = 1.0 / (np.asarray(preprocess.std, np.float64) * tensor.scale)
    start = tensor.zero_point - qmin - np.asarray(preprocess.mean, np.float64) * slope
    largest = max(np.max(np.abs(255 * slope + start)), np.max(np.abs(start)), np.max(255 * slope)) + 1.0
    shift = int(ACCUMULATOR_BITS - np.ceil(np.log2(largest)))
    multiplier = np.rint(slope * 2**shift).astype(int)
    expected = quantized(preprocess, tensor, np.repeat(ALL_PIXELS[:, None], len(multiplier), axis=1))
    candidates = [
        IntegerPreprocess(_integers(multiplier), _integers((start + half) * 2**shift), shift, qmin, qmax)
        for half in (0.5, 0.5 - 2.0**-10, 0.5 + 2.0**-10)  # ties up, down, and as the float noise has it
    ]
    return min((_checked(candidate, expected) for candidate in candidates), key=lambda form: form.differences)


def quantized(preprocess: Preprocess, tensor: TensorContract, pixels: Pixels) -> npt.NDArray[np.int32]:
    """The float formula in float32: normalise, divide by the scale, round half to even, add the zero_point, clamp."""
    mean, std = np.asarray(preprocess.mean, np.float32), np.asarray(preprocess.std, np.float32)
    steps = np.rint((pixels.astype(np.float32) - mean) / std / np.float32(tensor.scale or 1.0))
    limits = np.iinfo(tensor.dtype)
    integers: npt.NDArray[np.int32] = np.clip(steps + (tensor.zero_point or 0), limits.min, limits.max).astype(np.int32)
    return integers


def _checked(form: IntegerPreprocess, expected: npt.NDArray[np.int32]) -> IntegerPreprocess:
    distance = np.abs(form.apply(np.repeat(ALL_PIXELS[:, None], len(form.multiplier), axis=1)) - expected)
    counted = {"differences": int(np.count_nonzero(distance)), "max_difference_steps": int(distance.max())}
    return IntegerPreprocess(**{**asdict(form), **counted})


def _integers(values: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> Integers:
    return tuple(int(value) for value in np.rint(values))
