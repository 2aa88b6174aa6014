"""Rules of the pools."""

from __future__ import annotations

from typing import Any

from edgec.targets.tflite.graph import Node
from edgec.targets.tflite.lowering import Lowering
from edgec.targets.tflite.padding import edges_around, lowest_around, padding_code, zeros_around
from edgec.targets.tflite.window import Window, window_of
from edgec.targets.tflite.writer import B, schema


def max_pool(to: Lowering, node: Node) -> None:
    """MAX_POOL_2D; padding must never win, so that zeros pad only where zero is the lowest value."""
    window, source = window_of(to.graph, node), node.inputs[0]
    padding, note = padding_code(to, window), to.note(node.inputs[0])
    if padding is not None:
        index = to.activation(source)
    elif note and note.zero_point == -128:
        index = zeros_around(to, source, window)
    elif to.options.xnnpack:
        index = edges_around(to, source, window)
    else:
        index = lowest_around(to, source, window)
    options = _pool_options(window, schema.Padding.VALID if padding is None else padding)
    to.emit(B.MAX_POOL_2D, [index], node.output, options)


def average_pool(to: Lowering, node: Node) -> None:
    """AVERAGE_POOL_2D, whose SAME leaves padding out of the count; a window that counts it averages over a PAD."""
    window, source = window_of(to.graph, node), node.inputs[0]
    padding, index = schema.Padding.VALID, to.activation(source)
    if any(window.pads) and node.attributes.get("count_include_pad", 0):
        index = zeros_around(to, source, window)
    elif any(window.pads):
        padding = schema.Padding.SAME
    to.emit(B.AVERAGE_POOL_2D, [index], node.output, _pool_options(window, padding))


def _pool_options(window: Window, padding: int) -> Any:
    return schema.Pool2DOptionsT(
        padding=padding,
        strideH=window.strides[0],
        strideW=window.strides[1],
        filterHeight=window.kernel[0],
        filterWidth=window.kernel[1],
    )


def mean(to: Lowering, node: Node) -> None:
    """MEAN over height and width."""
    axes = to.indices(f"{node.output}/axes", [1, 2])
    options = schema.ReducerOptionsT(keepDims=bool(node.attributes.get("keepdims", True)))
    to.emit(B.MEAN, [to.activation(node.inputs[0]), axes], node.output, options)
