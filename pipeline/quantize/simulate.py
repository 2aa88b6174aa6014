"""Fake quantization of a plan in torch: the float graph with every stored tensor rounded to its grid."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edgec.pipeline.network.graph import Graph
from edgec.pipeline.quantize.affine import QuantParams
from edgec.pipeline.quantize.executor import Values, run, tensors
from edgec.pipeline.quantize.plan import Plan

BATCH_SIZE = 16


def simulate(graph: Graph, plan: Plan, images: Tensor) -> Tensor:
    """First output of the quantized network, ``(N, classes)``."""
    return every_output(graph, images, plan)[0]


def float_output(graph: Graph, images: Tensor) -> Tensor:
    """First output of the float network, ``(N, classes)``."""
    return every_output(graph, images)[0]


def every_output(graph: Graph, images: Tensor, plan: Plan | None = None) -> tuple[Tensor, ...]:
    """All outputs, ``(N, ...)`` each, of the network quantized by a plan, or in float without one."""
    constants = tensors(graph) if plan is None else quantized_constants(graph, plan)

    def store(name: str, value: Tensor) -> Tensor:
        return fake_quantize(value, plan.activations.get(name)) if plan is not None else value

    with torch.no_grad():
        parts = torch.split(images, graph.batch or BATCH_SIZE)
        batches = [run(graph, {graph.inputs[0]: part}, store, constants) for part in parts]
    return tuple(torch.cat([batch[name] for batch in batches]) for name in graph.outputs)


def quantized_constants(graph: Graph, plan: Plan) -> Values:
    """The graph's constants with the planned weights on their integer grid."""
    constants = tensors(graph)
    for name, params in plan.weights.items():
        array = graph.constants[name]
        constants[name] = torch.from_numpy(np.asarray(params.dequantize(params.quantize(array))))
    return constants


def fake_quantize(x: Tensor, params: QuantParams | None) -> Tensor:
    """Round to the grid and saturate."""
    if params is None:
        return x
    scale, zero_point = params.shaped(x.dim())
    if params.axis is None:
        step, low, high = float(scale), params.qmin - int(zero_point), params.qmax - int(zero_point)
        return x.mul(1 / step).round_().clamp_(low, high).mul_(step)
    steps = torch.from_numpy(scale.astype(np.float32))
    lows, highs = (torch.from_numpy((bound - zero_point).astype(np.float32)) for bound in (params.qmin, params.qmax))
    return x.div(steps).round_().clamp_(lows, highs).mul_(steps)
