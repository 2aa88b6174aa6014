"""Padding of windows: VALID, SAME, or operators in front."""

from __future__ import annotations

import numpy as np

from edgec.targets.tflite.graph import Node
from edgec.targets.tflite.lowering import Lowering
from edgec.targets.tflite.options import TfliteOptions
from edgec.targets.tflite.window import Window
from edgec.targets.tflite.writer import B, schema


def padding_code(options: TfliteOptions, window: Window) -> int | None:
    """VALID or SAME where one of them says what the pads say and the board takes it."""
    if not any(window.pads):
        return int(schema.Padding.VALID)
    if window.is_same and options.padding == "same":
        return int(schema.Padding.SAME)
    return None


def padded(to: Lowering, node: Node, window: Window) -> tuple[int, int]:
    """Padding code and input index; an explicit PAD with zeros where neither VALID nor SAME will do."""
    source = node.inputs[0]
    padding = padding_code(to.options, window)
    if padding is not None:
        return padding, to.activation(source)
    return schema.Padding.VALID, zeros_around(to, source, window)


def zeros_around(to: Lowering, source: str, window: Window) -> int:
    top, left, bottom, right = window.pads
    n, c, h, w = to.shape(source)
    padded = to.scratch(source, "padded", (n, h + top + bottom, w + left + right, c))
    amounts = to.indices(f"{source}/pads", [[0, 0], [top, bottom], [left, right], [0, 0]])
    to.emit(B.PAD, [to.activation(source), amounts], padded, schema.PadOptionsT())
    return padded


def edges_around(to: Lowering, source: str, window: Window) -> int:
    """Repeat the first and last row and column: the maximum over a window that holds them already stays the same.

    XNNPACK has no PADV2, which would pad with the lowest value, but SLICE and CONCATENATION.
    """
    n, c, h, w = to.shape(source)
    shape, index = [n, h, w, c], to.activation(source)
    for axis, before, after in ((1, window.pads[0], window.pads[2]), (2, window.pads[1], window.pads[3])):
        first = [_slice(to, source, index, shape, axis, 0)] * before
        last = [_slice(to, source, index, shape, axis, shape[axis] - 1)] * after if after else []
        if before + after == 0:
            continue
        shape[axis] += before + after
        joined = to.scratch(source, f"edges{axis}", tuple(shape))
        to.emit(B.CONCATENATION, [*first, index, *last], joined, schema.ConcatenationOptionsT(axis=axis))
        index = joined
    return index


def _slice(to: Lowering, name: str, index: int, shape: list[int], axis: int, at: int) -> int:
    """One row or column, as a tensor of rank 4."""
    size = [1 if i == axis else side for i, side in enumerate(shape)]
    begin = [at if i == axis else 0 for i in range(4)]
    taken = to.scratch(name, f"slice{axis}_{at}", size)
    inputs = [index, to.indices(f"{name}/begin", begin), to.indices(f"{name}/size", size)]
    to.emit(B.SLICE, inputs, taken, schema.SliceOptionsT())
    return taken


def lowest_around(to: Lowering, source: str, window: Window) -> int:
    """PADV2 with the lowest value."""
    top, left, bottom, right = window.pads
    n, c, h, w = to.shape(source)
    note = to.note(source)
    lowest = note.limits[0] if note else np.finfo(np.float32).min
    filling = np.array([lowest], note.dtype if note else np.float32)
    padded = to.scratch(source, "padded", (n, h + top + bottom, w + left + right, c))
    amounts = to.indices(f"{source}/pads", [[0, 0], [top, bottom], [left, right], [0, 0]])
    inputs = [to.activation(source), amounts, to.constant(f"{source}/lowest", filling, note)]
    to.emit(B.PADV2, inputs, padded, schema.PadV2OptionsT())
    return padded
