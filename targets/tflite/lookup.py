"""Functions of single values: what TFLite has no operator for stands in a table of 256 integers."""

from __future__ import annotations

import numpy as np

from edgec.pipeline.network.scalar_functions import ScalarFunction
from edgec.targets.tflite.graph import Node
from edgec.targets.tflite.lowering import Lowering, stored_shape
from edgec.targets.tflite.writer import B, schema

GELU_SAMPLES = np.linspace(-8, 8, 257, dtype=np.float32)


def lookup(to: Lowering, node: Node) -> None:
    """CAST, ADD and GATHER: exact on every set of kernels. The GELU that LiteRT has is one operator."""
    function: ScalarFunction = node.attributes["function"]
    if to.options.runtime != "tflite-micro" and is_gelu(function):
        options = schema.GeluOptionsT(approximate=False)
        return to.emit(B.GELU, [to.activation(node.inputs[0])], node.output, options)
    source, given = to.note(node.inputs[0]), to.note(node.output)
    assert source is not None
    assert given is not None
    real = (np.arange(-128, 128, dtype=np.float32) - source.zero_point) * np.float32(source.scale[0])
    values = np.nan_to_num(function(real), nan=0.0, posinf=np.inf, neginf=-np.inf)
    table = np.clip(np.rint(values / np.float32(given.scale[0])) + given.zero_point, -128, 127).astype(np.int8)
    shape = stored_shape(to.graph.tensors[node.inputs[0]])
    wide = to.writer.tensor(f"{node.output}/wide", shape, "int32")
    index = to.writer.tensor(f"{node.output}/index", shape, "int32")
    to.emit(B.CAST, [to.activation(node.inputs[0])], wide, schema.CastOptionsT())
    to.emit(B.ADD, [wide, to.indices(f"{node.output}/offset", [128])], index, schema.AddOptionsT(), 1)
    entries = to.constant(f"{node.output}/table", table, given)
    return to.emit(B.GATHER, [entries, index], node.output, schema.GatherOptionsT(axis=0), 2)


def is_gelu(function: ScalarFunction) -> bool:
    """``x (1 + erf(x / sqrt 2)) / 2`` (Hendrycks and Gimpel 2016, arXiv:1606.08415), however it is spelled."""
    from math import erf, sqrt

    exact = np.array([0.5 * x * (1 + erf(x / sqrt(2))) for x in GELU_SAMPLES.tolist()])
    return bool(np.allclose(function(GELU_SAMPLES), exact, atol=1e-5))
