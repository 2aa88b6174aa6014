"""Sliding windows: what a Conv's or pool's attributes say, and whether TFLite's SAME says it too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgec.pipeline.network.models.padding import same_pads
from edgec.targets.tflite.graph import Array, Graph, Node

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """A 2-D window.

    Attributes:
        pads: top, left, bottom, right; as many at the end as the last window reaches, which under ceil_mode may be more
            than the node says.
        is_same: ``pads`` are what SAME pads at this input size: as much as gives ceil(size / stride) outputs, the odd
            one at the bottom and right.
    """

    kernel: Pair
    strides: Pair
    dilations: Pair
    pads: tuple[int, int, int, int]
    is_same: bool


def window_of(graph: Graph, node: Node) -> Window:
    """The window of a Conv, ConvTranspose, MaxPool or AveragePool at its input's size."""
    given = node.attributes.get("kernel_shape") or graph.tensors[node.inputs[1]].shape[2:]
    kernel, strides = _pair(given), _pair(node.attributes.get("strides", (1, 1)))
    dilations = _pair(node.attributes.get("dilations", (1, 1)))
    size = _pair(graph.tensors[node.inputs[0]].shape[2:])
    vertical, horizontal = (same_pads(size[i], kernel[i], strides[i], dilations[i]) for i in (0, 1))
    same = vertical[0], horizontal[0], vertical[1], horizontal[1]
    top, left, bottom, right = _pads(node, same)
    output = _pair(graph.tensors[node.output].shape[2:])
    if node.op == "ConvTranspose":
        return Window(kernel, strides, dilations, _cut(node, size, output, kernel, strides), False)
    reach = [(output[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 - size[i] for i in (0, 1)]
    rest = max(reach[0] - top, 0), max(reach[1] - left, 0)
    if not node.attributes.get("ceil_mode"):
        rest = min(rest[0], bottom), min(rest[1], right)
    pads = (top, left, *rest)
    return Window(kernel, strides, dilations, pads, pads == same)


def _cut(node: Node, size: Pair, output: Pair, kernel: Pair, strides: Pair) -> tuple[int, int, int, int]:
    """What a ConvTranspose leaves off at each side of its windows' whole reach; negative where it needs more."""
    auto = node.attributes.get("auto_pad", "NOTSET")
    total = [(size[i] - 1) * strides[i] + kernel[i] - output[i] for i in (0, 1)]
    told = node.attributes.get("pads") or (0, 0, 0, 0)
    if auto == "NOTSET":
        top, left = told[0], told[1]
    else:
        top, left = (side // 2 if auto == "SAME_UPPER" else side - side // 2 for side in total)
    return top, left, total[0] - top, total[1] - left


def counted_values(graph: Graph, node: Node, window: Window, include_pad: int | None = None) -> Array:
    """How many values an AveragePool divides by at each position, float64 ``(1, H, W, 1)``.

    Padding counts where ``count_include_pad`` says so; what ``ceil_mode`` adds behind it never does.

    Args:
        include_pad: instead of the node's own ``count_include_pad``.
    """
    size, output = (graph.tensors[name].shape[2:] for name in (node.inputs[0], node.output))
    include = node.attributes.get("count_include_pad", 0) if include_pad is None else include_pad
    told = _told_pads(node, window) if include else (0, 0, 0, 0)
    counts = []
    for axis in (0, 1):
        start = np.arange(output[axis]) * window.strides[axis] - window.pads[axis]
        low, high = -told[axis], size[axis] + told[axis + 2]
        counts.append(np.minimum(start + window.kernel[axis], high) - np.maximum(start, low))
    return np.asarray(np.outer(counts[0], counts[1])[None, :, :, None], np.float64)


def _told_pads(node: Node, window: Window) -> tuple[int, ...]:
    """The pads that the node itself names."""
    auto = node.attributes.get("auto_pad", "NOTSET")
    return tuple(node.attributes.get("pads") or (0,) * 4) if auto == "NOTSET" else window.pads


def _pads(node: Node, same: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    auto = node.attributes.get("auto_pad", "NOTSET")
    if auto == "SAME_UPPER":
        return same
    if auto == "SAME_LOWER":
        return same[2], same[3], same[0], same[1]
    top, left, bottom, right = node.attributes.get("pads") or (0, 0, 0, 0)
    return top, left, bottom, right


def _pair(values: Sequence[int]) -> Pair:
    return int(values[0]), int(values[1])
