"""Full sequential bias correction: each layer gives up its mean error, measured on the quantized prefix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgec.pipeline.quantize.executor import compute, tensors
from edgec.pipeline.quantize.graph import Graph, Node
from edgec.pipeline.quantize.plan import Plan, is_depthwise, is_linear
from edgec.pipeline.quantize.simulate import fake_quantize, quantized_constants

Progress = Callable[[int, int], None]


@torch.no_grad()
def correct_biases(graph: Graph, plan: Plan, images: Tensor, progress: Progress | None = None) -> Graph:
    """Return the graph with corrected float biases.

    Nagel et al. 2019 (arXiv:1906.04721, section 4.2, the empirical form): ``E[y] - E[y_quantized]`` per output channel,
    measured layer by layer so that each correction sees the ones before it.

    Args:
        images: float32 ``(N, C, H, W)``; all of them are held in memory, float and quantized.
    """
    exact, integer = tensors(graph), quantized_constants(graph, plan)
    reference: dict[str, Tensor] = {graph.inputs[0]: images}
    quantized: dict[str, Tensor] = {graph.inputs[0]: fake_quantize(images, plan.activations.get(graph.inputs[0]))}
    biases: dict[str, Any] = {}
    remaining = {name: len(nodes) for name, nodes in graph.consumers.items()}
    for index, node in enumerate(graph.nodes):
        expected = list(compute(node, exact | _inputs(node, reference)))
        actual = list(compute(node, integer | _inputs(node, quantized)))
        if correctable(graph, plan, node):
            error = _channel_mean(expected[0]) - _channel_mean(actual[0])
            biases[node.inputs[2]] = graph.constants[node.inputs[2]] + error.numpy().astype(np.float32)
            actual[0] = actual[0] + error.reshape(-1, *[1] * (actual[0].dim() - 2))
        for name, want, have in zip(node.outputs, expected, actual, strict=False):
            reference[name], quantized[name] = want, fake_quantize(have, plan.activations.get(name))
        for name in dict.fromkeys(node.inputs):
            remaining[name] = remaining.get(name, 1) - 1
            if remaining[name] <= 0:
                reference.pop(name, None)
                quantized.pop(name, None)
        if progress is not None:
            progress(index + 1, len(graph.nodes))
    return graph.with_constants(biases)


def correctable(graph: Graph, plan: Plan, node: Node) -> bool:
    """A quantized linear node with a bias. A gate of a split hard-swish is none: its input saturates on purpose."""
    if is_depthwise(graph, node) and graph.constants[node.inputs[1]].shape[2:] == (1, 1):
        return False
    return is_linear(graph, node) and node.inputs[1] in plan.weights and len(node.inputs) > 2 and node.op != "MatMul"


def _inputs(node: Node, values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: values[name] for name in node.inputs if name in values}


def _channel_mean(y: Tensor) -> Tensor:
    return y.mean(dim=[axis for axis in range(y.dim()) if axis != 1])
