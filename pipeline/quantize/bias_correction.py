"""Full sequential bias correction: each layer gives up its mean error, measured on the quantized prefix."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

import torch
from torch import Tensor

from edgec.pipeline.network.graph import Graph, Node
from edgec.pipeline.quantize.affine import Array
from edgec.pipeline.quantize.executor import compute, on_each_core, tensors
from edgec.pipeline.quantize.plan import Plan, is_gate, is_linear
from edgec.pipeline.quantize.simulate import fake_quantize, quantized_constants

Progress = Callable[[int, int], None]
Batches = list[Tensor]

ChooseWeight = Callable[[Node, Batches, Batches], Array]

BATCH_SIZE = 8
"""Small enough that a feature map stays near the processor's caches."""


GONE = torch.empty(0)
"""In place of a batch that nobody reads any more."""


@torch.no_grad()
def correct_biases(
    graph: Graph,
    plan: Plan,
    images: Tensor,
    progress: Progress | None = None,
    choose_weight: ChooseWeight | None = None,
) -> Graph:
    """Return the graph with corrected float biases.

    The empirical form of Nagel et al. 2019 (arXiv:1906.04721, section 4.2), layer by layer so that each correction sees
    the ones before it, with two changes. Only positions count at which the following activation passes a change on:
    most gates of squeeze-excite are saturated, and the mean error there says nothing about the others. And a mean that
    does not stand out of its own standard error is shrunk towards 0 (James and Stein 1961, positive part).

    Args:
        images: float32 ``(N, C, H, W)``; all of them are held in memory, float and quantized.
        choose_weight: given a layer and its input in float and quantized, its weight on the integer grid; rounding to
            nearest without it. The graph that is returned holds the chosen weights.
    """
    exact, integer = tensors(graph), quantized_constants(graph, plan)
    start = list(torch.split(images.to(memory_format=torch.channels_last), graph.batch or BATCH_SIZE))
    reference = {graph.inputs[0]: start}
    quantized = {graph.inputs[0]: [fake_quantize(x, plan.activations.get(graph.inputs[0])) for x in start]}
    changed: dict[str, Array] = {}
    remaining = {name: len(nodes) for name, nodes in graph.consumers.items()}
    for index, node in enumerate(graph.nodes):
        if choose_weight is not None and correctable(graph, plan, node):
            data, name = node.inputs[0], node.inputs[1]
            changed[name] = choose_weight(node, reference[data], quantized[data])
            integer[name] = torch.from_numpy(changed[name])
        spent = last_read(node, remaining)
        expected, actual = forward(node, exact, reference, spent), forward(node, integer, quantized, spent)
        if correctable(graph, plan, node):
            error = mean_error(expected[0], actual[0], *live_window(graph, node))
            changed[node.inputs[2]] = graph.constants[node.inputs[2]] + error.numpy()
            in_place(actual[0], partial(torch.add, _spread(error, actual[0][0].dim())))
        for name, want, have in zip(node.outputs, expected, actual, strict=False):
            reference[name] = want
            quantized[name] = in_place(have, partial(fake_quantize, params=plan.activations.get(name)))
        for name in spent:
            reference.pop(name, None)
            quantized.pop(name, None)
        if progress is not None:
            progress(index + 1, len(graph.nodes))
    return graph.with_constants(changed)


def correctable(graph: Graph, plan: Plan, node: Node) -> bool:
    """A quantized linear node with a bias. A gate of a split hard-swish is none: its input saturates on purpose."""
    weighted = is_linear(graph, node) and node.inputs[1] in plan.weights and len(node.inputs) > 2
    return weighted and node.op != "MatMul" and not is_gate(graph, node)


def live_window(graph: Graph, node: Node) -> tuple[Tensor, Tensor]:
    """Bounds of a linear node's output between which the activation behind it has a slope; infinite without one."""
    low, high = torch.tensor(-torch.inf), torch.tensor(torch.inf)
    for reader in graph.consumers.get(node.output, ()):
        if reader.op == "Relu":
            low = torch.tensor(0.0)
        elif reader.op == "HardSwish":
            low = torch.tensor(-3.0)
        elif reader.op == "HardSigmoid":
            slope, offset = reader.attributes.get("alpha", 0.2), reader.attributes.get("beta", 0.5)
            low, high = torch.tensor(-offset / slope), torch.tensor((1 - offset) / slope)
        elif reader.op == "Clip":
            bounds = [graph.constants[name] for name in reader.inputs[1:] if name in graph.constants]
            low, high = (torch.tensor(float(bound)) for bound in bounds) if len(bounds) == 2 else (low, high)
        elif is_gate(graph, reader):
            weight, bias = (graph.constants[name].reshape(-1) for name in reader.inputs[1:3])
            low = torch.from_numpy(-bias / weight)
    return low, high


def mean_error(expected: Batches, actual: Batches, low: Tensor, high: Tensor) -> Tensor:
    """Shrunk mean of ``expected - actual`` per channel over positions where either lies between the bounds.

    Images are the independent samples of the standard error, not positions.
    """

    def of_images(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        want, have = pair
        error = want - have
        live = _live(want, have, _spread(low, want.dim()), _spread(high, want.dim()))
        if live is None:
            return _per_image(error), torch.full(error.shape[:2], float(want[0, 0].numel()))
        return _per_image(error.mul_(live)), _per_image(live.to(want.dtype))

    found = on_each_core(of_images, list(zip(expected, actual, strict=True)))
    error, count = (torch.cat(parts) for parts in zip(*found, strict=True))
    total = count.sum(dim=0).clamp_min(1e-9)
    mean = error.sum(dim=0) / total
    variance = (error - mean * count).pow(2).sum(dim=0) / total.pow(2)
    return mean * (1 - variance / mean.pow(2).clamp_min(1e-30)).clamp_min(0)


def last_read(node: Node, remaining: dict[str, int]) -> tuple[str, ...]:
    """Inputs that no node behind this one reads; ``remaining`` counts the readers of each tensor down."""
    for name in dict.fromkeys(node.inputs):
        remaining[name] = remaining.get(name, 1) - 1
    return tuple(name for name in dict.fromkeys(node.inputs) if remaining[name] <= 0)


def forward(
    node: Node, constants: dict[str, Tensor], values: dict[str, Batches], spent: Collection[str] = ()
) -> list[Batches]:
    """All outputs of a node, each as a list of batches. Each core takes a batch of its own, so that the bits of none
    depend on how many there are.

    Args:
        spent: inputs that nobody reads any more: each batch of theirs is let go as soon as its output is there.
    """
    data = [name for name in node.inputs if name in values]
    fixed = {name: constants[name] for name in node.inputs if name in constants}

    def one(place: int) -> tuple[Tensor, ...]:
        made = tuple(compute(node, fixed | {name: values[name][place] for name in data}))
        for name in data:
            if name in spent:
                values[name][place] = GONE
        return made

    batches = on_each_core(one, range(len(values[data[0]]) if data else 1))
    return [list(output) for output in zip(*batches, strict=True)]


def in_place(batches: Batches, change: Callable[[Tensor], Tensor]) -> Batches:
    """The list itself, each batch changed where it lies: of large maps a few are held twice, one for each core."""

    def one(place: int) -> None:
        batches[place] = change(batches[place])

    on_each_core(one, range(len(batches)))
    return batches


def _live(want: Tensor, have: Tensor, floor: Tensor, ceiling: Tensor) -> Tensor | None:
    """Where either lies between the bounds; None for everywhere. A map is large: each pass over it that can be, is left
    away."""
    if not ceiling.isposinf().all():
        return ((want > floor) & (want < ceiling)) | ((have > floor) & (have < ceiling))
    return None if floor.isneginf().all() else torch.maximum(want, have) > floor


def _per_image(y: Tensor) -> Tensor:
    return y.sum(dim=tuple(range(2, y.dim()))) if y.dim() > 2 else y


def _spread(values: Tensor, rank: int) -> Tensor:
    return values.reshape(-1, *[1] * (rank - 2))
