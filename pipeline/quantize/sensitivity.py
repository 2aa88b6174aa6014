"""Where the quantization noise comes from: each layer alone, ranked by what it does to the network's output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from edgec.pipeline.forms.scheme import Scheme
from edgec.pipeline.network.graph import Graph
from edgec.pipeline.quantize.affine import Array
from edgec.pipeline.quantize.bias_correction import BATCH_SIZE, Batches, forward, in_place, last_read
from edgec.pipeline.quantize.executor import tensors
from edgec.pipeline.quantize.masked import masked
from edgec.pipeline.quantize.plan import Plan, is_linear, layer_output
from edgec.pipeline.quantize.simulate import fake_quantize, float_output, quantized_constants, simulate
from edgec.pipeline.tasks.metrics import sqnr_db, sqnr_db_of

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Layer:
    """What one node adds to the quantization: its weight, and the tensor that it stores.

    Attributes:
        name: of the node; the network's input counts as a layer of its own.
        op: ONNX operator.
        weight: constant that is quantized, or ``""``.
        tensor: activation that is quantized, or ``""``.
        readers: nodes that read it, by name.
    """

    name: str
    op: str
    weight: str
    tensor: str
    readers: tuple[str, ...]


@dataclass(frozen=True)
class Sensitivity:
    """One layer and the network's output SQNR in dB if nothing but this layer is quantized: low is bad."""

    layer: Layer
    sqnr_db: float


def layers(graph: Graph, plan: Plan, scheme: Scheme) -> list[Layer]:
    """Every quantized weight and activation once, grouped by the node that owns it, in topological order."""
    found = [Layer(name, "input", "", name, _readers(graph, name)) for name in graph.inputs if name in plan.activations]
    for node in graph.nodes:
        weight = node.inputs[1] if is_linear(graph, node) and node.inputs[1] in plan.weights else ""
        stored = layer_output(graph, scheme, node) if weight else node.output
        owned = stored in plan.activations and not any(layer.tensor == stored for layer in found)
        if weight or owned:
            tensor = stored if owned else ""
            found.append(Layer(node.name, node.op, weight, tensor, _readers(graph, tensor)))
    return found


def _readers(graph: Graph, name: str) -> tuple[str, ...]:
    return tuple(node.name for node in graph.consumers.get(name, ()))


def rank_layers(
    graph: Graph, plan: Plan, scheme: Scheme, images: Tensor, progress: Progress | None = None
) -> list[Sensitivity]:
    """Quantize one layer at a time; the most harmful first."""
    expected = float_output(graph, images).numpy()
    ranked = []
    found = layers(graph, plan, scheme)
    for index, layer in enumerate(found):
        alone = replace(
            plan,
            activations={name: plan.activations[name] for name in [layer.tensor] if name},
            weights={name: plan.weights[name] for name in [layer.weight] if name},
        )
        ranked.append(Sensitivity(layer, sqnr_db(simulate(graph, alone, images).numpy(), expected)))
        if progress is not None:
            progress(index + 1, len(found))
    return sorted(ranked, key=lambda entry: entry.sqnr_db)


@torch.no_grad()
def layer_sqnr(graph: Graph, plan: Plan, images: Tensor) -> Mapping[str, float]:
    """SQNR in dB of each quantized activation, the whole network before it quantized too, by producing node.

    Tensors with masking constants have none: what is put under a mask is no signal.
    """
    hidden = masked(graph)
    exact, integer = tensors(graph), quantized_constants(graph, plan)
    start = list(torch.split(images, graph.batch or BATCH_SIZE))
    wanted = {graph.inputs[0]: start}
    stored = {graph.inputs[0]: [fake_quantize(x, plan.activations.get(graph.inputs[0])) for x in start]}
    measured: dict[str, float] = {}
    remaining = {name: len(nodes) for name, nodes in graph.consumers.items()}
    for node in graph.nodes:
        spent = last_read(node, remaining)
        expected, actual = forward(node, exact, wanted, spent), forward(node, integer, stored, spent)
        for name, want, have in zip(node.outputs, expected, actual, strict=False):
            wanted[name] = want
            stored[name] = in_place(have, partial(fake_quantize, params=plan.activations.get(name)))
            if name in plan.activations and name not in hidden:
                measured[node.name] = sqnr_db_of(_images(stored[name], want))
        for name in spent:
            wanted.pop(name, None)
            stored.pop(name, None)
    return measured


def _images(stored: Batches, wanted: Batches) -> Iterator[tuple[Array, Array]]:
    """Row by row, which most often are the images."""
    for have, want in zip(stored, wanted, strict=True):
        yield from zip(np.atleast_1d(have.numpy()), np.atleast_1d(want.numpy()), strict=True)
