"""Operators that slide a window in torch: convolutions and pools, padded as ONNX pads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgec.pipeline.network.models.padding import same_pads


def padded(x: Tensor, attributes: Mapping[str, Any], kernel: Iterable[int], value: float) -> tuple[Tensor, Any]:
    """Split ONNX pads into what torch takes symmetrically, returned per axis, and an explicit pad before it."""
    kernel = list(kernel)
    rank = len(kernel)
    strides = attributes.get("strides", [1] * rank)
    dilations = attributes.get("dilations", [1] * rank)
    pads = list(attributes.get("pads", [0] * 2 * rank))
    if attributes.get("auto_pad", "NOTSET").startswith("SAME"):
        lower = attributes["auto_pad"] == "SAME_LOWER"
        for axis in range(rank):
            before, after = same_pads(x.shape[2 + axis], kernel[axis], strides[axis], dilations[axis])
            pads[axis], pads[axis + rank] = (after, before) if lower else (before, after)
    if pads[:rank] == pads[rank:] and value == 0.0:
        return x, pads[:rank]
    if any(pads):
        x = F.pad(x, [pad for axis in reversed(range(rank)) for pad in (pads[axis], pads[axis + rank])], value=value)
    return x, [0] * rank


def conv(a: Mapping[str, Any], x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    x, padding = padded(x, a, w.shape[2:], 0.0)
    convolve = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[w.dim()]
    rank = w.dim() - 2
    strides, dilations = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
    return convolve(x, w, b, strides, padding, dilations, a.get("group", 1))


def conv_transpose(a: Mapping[str, Any], x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """What no pad cuts off, cut to the sides that pads, ``auto_pad`` or ``output_shape`` ask for."""
    rank = x.dim() - 2
    strides, dilations = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
    convolve = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}[x.dim()]
    y: Tensor = convolve(x, w, None, strides, 0, 0, a.get("group", 1), dilations)
    for axis, (first, side) in enumerate(_transposed_sides(a, x, y)):
        more = first + side - y.shape[2 + axis]
        y = F.pad(y, [0, 0] * (rank - 1 - axis) + [0, max(more, 0)]).narrow(2 + axis, first, side)
    return y if b is None else y + b.reshape(-1, *[1] * rank)


def _transposed_sides(a: Mapping[str, Any], x: Tensor, whole: Tensor) -> Iterator[tuple[int, int]]:
    """Where the result begins along each axis, and its length."""
    rank, auto = x.dim() - 2, a.get("auto_pad", "NOTSET")
    pads, strides = a.get("pads", [0] * 2 * rank), a.get("strides", [1] * rank)
    asked, more = a.get("output_shape", [])[-rank:], a.get("output_padding", [0] * rank)
    if auto.startswith("SAME") and not asked:
        sides = zip(x.shape[2:], strides, whole.shape[2:], more, strict=True)
        asked = [min(side * stride, most + extra) for side, stride, most, extra in sides]
    for axis, extra in enumerate(more):
        full = whole.shape[2 + axis] + extra
        cut = full - asked[axis] if asked else 0
        first = cut // 2 if auto == "SAME_UPPER" else cut - cut // 2
        yield (max(first, 0), asked[axis]) if asked else (pads[axis], full - pads[axis] - pads[axis + rank])


def _pool_sides(a: Mapping[str, Any], x: Tensor) -> list[tuple[int, int, int]]:
    """Along each axis what is padded in front and behind, and what lies behind that under the last window.

    Under ``ceil_mode`` no window starts behind the input. What no window sees is negative: it is cut off.
    """
    kernel = a["kernel_shape"]
    rank = len(kernel)
    strides, dilations = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
    pads, auto, found = a.get("pads", [0] * 2 * rank), a.get("auto_pad", "NOTSET"), []
    for axis, side in enumerate(x.shape[2:]):
        before, after = pads[axis], pads[axis + rank]
        if auto.startswith("SAME"):
            before, after = same_pads(side, kernel[axis], strides[axis], 1)
            before, after = (after, before) if auto == "SAME_LOWER" else (before, after)
        reach, whole = dilations[axis] * (kernel[axis] - 1) + 1, side + before + after
        steps = (whole - reach) // strides[axis]
        if a.get("ceil_mode", 0) and (whole - reach) % strides[axis] and (steps + 1) * strides[axis] < side + before:
            steps += 1
        found.append((before, after, steps * strides[axis] + reach - whole))
    return found


def _around(x: Tensor, sides: list[tuple[int, int]], value: float) -> Tensor:
    return F.pad(x, [side for pair in reversed(sides) for side in pair], value=value)


def max_pool(a: Mapping[str, Any], x: Tensor) -> Tensor:
    x = _around(x, [(before, after + more) for before, after, more in _pool_sides(a, x)], -torch.inf)
    pool = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}[x.dim()]
    rank = x.dim() - 2
    y: Tensor = pool(x, a["kernel_shape"], a.get("strides", [1] * rank), 0, a.get("dilations", [1] * rank))
    return y


def average_pool(a: Mapping[str, Any], x: Tensor) -> Tensor:
    sides, counted = _pool_sides(a, x), float(bool(a.get("count_include_pad", 0)))
    pool = {3: F.avg_pool1d, 4: F.avg_pool2d, 5: F.avg_pool3d}[x.dim()]
    ones = _around(torch.ones_like(x[:1, :1]), [(before, after) for before, after, _ in sides], counted)
    ones = _around(ones, [(0, more) for *_, more in sides], 0.0)
    x = _around(x, [(before, after + more) for before, after, more in sides], 0.0)
    strides = a.get("strides", [1] * (x.dim() - 2))
    y: Tensor = pool(x, a["kernel_shape"], strides) / pool(ones, a["kernel_shape"], strides)
    return y
