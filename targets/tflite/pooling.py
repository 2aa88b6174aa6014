"""Rules of the pools."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgec.targets.tflite.graph import Array, Node, Tensor
from edgec.targets.tflite.integer import quantized_constant
from edgec.targets.tflite.layout import stored_axis
from edgec.targets.tflite.lowering import Lowering
from edgec.targets.tflite.padding import edges_around, lowest_around, padding_code, zeros_around
from edgec.targets.tflite.window import Window, counted_values, window_of
from edgec.targets.tflite.writer import B, schema


def max_pool(to: Lowering, node: Node) -> None:
    """MAX_POOL_2D; padding must never win, so that zeros pad only where zero is the lowest value."""
    window, source = window_of(to.graph, node), node.inputs[0]
    padding, note = padding_code(to.options, window), to.note(node.inputs[0])
    if padding is not None:
        index = to.activation(source)
    elif note and note.zero_point == note.limits[0]:
        index = zeros_around(to, source, window)
    elif to.options.xnnpack:
        index = edges_around(to, source, window)
    else:
        index = lowest_around(to, source, window)
    options = _pool_options(window, schema.Padding.VALID if padding is None else padding)
    to.emit(B.MAX_POOL_2D, [index], node.output, options)


def average_pool(to: Lowering, node: Node) -> None:
    """AVERAGE_POOL_2D, whose SAME leaves padding out of the count; otherwise it averages over a PAD.

    Where windows count fewer values than they hold, a MUL by a constant for each position makes up for the zeros.
    """
    window, source = window_of(to.graph, node), node.inputs[0]
    padding, index = schema.Padding.VALID, to.activation(source)
    counted = counted_values(to.graph, node, window)
    gains = window.kernel[0] * window.kernel[1] / counted
    if any(window.pads) and window.is_same and np.array_equal(counted, counted_values(to.graph, node, window, 0)):
        padding = schema.Padding.SAME
    elif any(window.pads):
        index = zeros_around(to, source, window)
        if np.any(gains != 1):
            return _average_of_some(to, node, index, window, gains)
    return to.emit(B.AVERAGE_POOL_2D, [index], node.output, _pool_options(window, padding))


def _average_of_some(to: Lowering, node: Node, index: int, window: Window, gains: Array) -> None:
    note = to.note(node.output)
    dtype = note.dtype if note else "int8"
    constant = quantized_constant(Tensor("gains", gains.shape, None, gains.astype(np.float32)), dtype)
    data, scale = (constant.values, constant.quantization) if note else (gains.astype(np.float32), None)
    pooled = to.scratch(node.output, "pooled")
    to.emit(B.AVERAGE_POOL_2D, [index], pooled, _pool_options(window, schema.Padding.VALID))
    gain = to.constant(f"{node.output}/gains", data, scale)
    to.emit(B.MUL, [pooled, gain], node.output, schema.MulOptionsT())


def _pool_options(window: Window, padding: int) -> Any:
    return schema.Pool2DOptionsT(
        padding=padding,
        strideH=window.strides[0],
        strideW=window.strides[1],
        filterHeight=window.kernel[0],
        filterWidth=window.kernel[1],
    )


def largest(to: Lowering, node: Node) -> None:
    """REDUCE_MAX over the axes that the model names."""
    _reduced(B.REDUCE_MAX, to, node)


def mean(to: Lowering, node: Node) -> None:
    """MEAN over height and width, or over the axes that the model names."""
    _reduced(B.MEAN, to, node)


def _reduced(code: int, to: Lowering, node: Node) -> None:
    source = to.graph.tensors[node.inputs[0]]
    named = sorted(stored_axis(source, axis) for axis in node.attributes.get("axes", (2, 3)))
    axes = to.indices(f"{node.output}/axes", named)
    options = schema.ReducerOptionsT(keepDims=bool(node.attributes.get("keepdims", True)))
    to.emit(code, [to.activation(node.inputs[0]), axes], node.output, options)
