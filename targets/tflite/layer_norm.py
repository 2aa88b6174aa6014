"""Layer normalization (Ba et al. 2016, arXiv:1607.06450): no operator of TFLite; int8 has no room for its variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgec.targets.tflite.graph import Node
from edgec.targets.tflite.integer import real_values
from edgec.targets.tflite.lowering import Lowering, stored_shape
from edgec.targets.tflite.writer import B, schema


def layer_norm(to: Lowering, node: Node) -> None:
    """MEAN, SUB, MUL, MEAN, ADD, RSQRT, MUL, MUL, ADD in float; in an int8 file between DEQUANTIZE and QUANTIZE."""
    source = to.graph.tensors[node.inputs[0]]
    shape = stored_shape(source)
    axis = int(node.attributes.get("axis", -1)) % len(shape)
    reduced = (*shape[:axis], *[1] * (len(shape) - axis))
    axes = to.indices(f"{node.output}/axes", range(axis, len(shape)))
    keep = schema.ReducerOptionsT(keepDims=True)

    def step(code: int, inputs: Sequence[int], suffix: str, sides: Sequence[int], options: Any = None) -> int:
        made = to.writer.tensor(f"{node.output}/{suffix}", sides, "float32")
        to.emit(code, inputs, made, options, 1)
        return made

    def constant(suffix: str, values: Any) -> int:
        return to.constant(f"{node.output}/{suffix}", np.asarray(values, np.float32))

    given = to.activation(node.inputs[0])
    if to.note(node.inputs[0]):
        given = step(B.DEQUANTIZE, [given], "real", shape, schema.DequantizeOptionsT())
    mean = step(B.MEAN, [given, axes], "mean", reduced, keep)
    centred = step(B.SUB, [given, mean], "centred", shape, schema.SubOptionsT())
    square = step(B.MUL, [centred, centred], "square", shape, schema.MulOptionsT())
    variance = step(B.MEAN, [square, axes], "variance", reduced, keep)
    epsilon = constant("epsilon", [float(node.attributes.get("epsilon", 1e-5))])
    lifted = step(B.ADD, [variance, epsilon], "lifted", reduced, schema.AddOptionsT())
    inverse = step(B.RSQRT, [lifted], "inverse", reduced)
    normal = step(B.MUL, [centred, inverse], "normal", shape, schema.MulOptionsT())
    gain, *offset = [real_values(to.graph.tensors[name]) for name in node.inputs[1:] if name]
    bias = constant("offset", offset[0] if offset else [0.0])
    scaled = step(B.MUL, [normal, constant("gain", gain)], "scaled", shape, schema.MulOptionsT())
    if to.note(node.output):
        moved = step(B.ADD, [scaled, bias], "moved", shape, schema.AddOptionsT())
        return to.emit(B.QUANTIZE, [moved], node.output, schema.QuantizeOptionsT())
    return to.emit(B.ADD, [scaled, bias], node.output, schema.AddOptionsT())
