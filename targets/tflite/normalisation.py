"""uint8 input: the network takes pixels; the normalisation moves into the first convolution, where that is exact."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edgec.pipeline.core.errors import EdgecError
from edgec.targets.tflite.graph import Graph, Quantization, Tensor
from edgec.targets.tflite.integer import real_bias, real_values
from edgec.targets.tflite.window import window_of

if TYPE_CHECKING:
    from edgec.pipeline.data.preprocess import Preprocess


def fold_normalisation(graph: Graph, preprocess: Preprocess | None) -> Graph:
    """Make pixel p the input's integer p - 128, without any rounding of its own.

    With one ``std`` for all channels, x = (p - mean) / std is an int8 tensor of scale 1 / std. Its zero_point is the
    mean rounded; what the rounding leaves, constant in each channel, goes into the convolution's bias. At a padded
    border that constant would be missing: a mean that is no integer needs a first convolution without padding.

    Raises:
        EdgecError: ``inexact-normalisation`` says which condition fails.
    """
    name = graph.inputs[0]
    if graph.tensors[name].quantization is None:
        return graph
    conv = graph.only_reader(name)
    if preprocess is None or conv is None or conv.op != "Conv" or len(graph.inputs) != 1:
        raise _inexact("the input is not read by one convolution alone, with a known preprocessing")
    if len(set(preprocess.std)) != 1:
        raise _inexact(f"std differs between channels: {preprocess.std}")
    zero = round(float(np.mean(preprocess.mean)))
    rest = np.asarray(preprocess.mean, np.float64) - zero
    if not 0 <= zero <= 255:
        raise _inexact(f"mean {preprocess.mean} is no pixel value")
    if np.any(rest != 0) and any(window_of(graph, conv).pads):
        raise _inexact(
            f"mean {preprocess.mean} is not the same integer in every channel and the first convolution pads"
        )
    weights = real_values(graph.tensors[conv.inputs[1]])
    missing = np.einsum("oihw,i->o", weights, rest / preprocess.std[0])
    bias = Tensor(f"{conv.output}/bias", weights.shape[:1], None, real_bias(graph, conv) - missing)
    note = Quantization((float(np.float32(1 / preprocess.std[0])),), zero - 128)
    changed = {name: replace(graph.tensors[name], quantization=note), bias.name: bias}
    nodes = [replace(n, inputs=(*conv.inputs[:2], bias.name)) if n is conv else n for n in graph.nodes]
    return graph.with_nodes(nodes, changed)


def _inexact(why: str) -> EdgecError:
    hint = "set input_type = 'int8' or 'float32' in the board's [options]"
    return EdgecError("inexact-normalisation", f"input_type = 'uint8': {why}", hint)
