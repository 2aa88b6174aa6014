"""Activation ranges: extremes that unseen images will reach, clipped where finer steps are worth more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from edgec.pipeline.quantize.affine import Array
from edgec.pipeline.quantize.calibrate import Calibration
from edgec.pipeline.quantize.executor import run, tensors
from edgec.pipeline.quantize.graph import Graph
from edgec.pipeline.quantize.observers import Histogram, mse_range
from edgec.pipeline.quantize.plan import Channels, Network, Plan, is_linear
from edgec.pipeline.quantize.scheme import Scheme

UNSEEN_FACTOR = 4.0
"""Ranges are meant to hold for this many times as many images as were seen."""

BOUNDS: Mapping[str, tuple[float, float]] = {
    "HardSigmoid": (0.0, 1.0),
    "HardSwish": (-0.375, np.inf),
    "Relu": (0.0, np.inf),
    "Sigmoid": (0.0, 1.0),
    "Softmax": (0.0, 1.0),
}
"""What an operator cannot leave, whatever its input; those of Clip are its constants."""

BATCH_SIZE = 8
SAMPLED_POSITIONS = 64
"""Per image and channel."""


def observed(graph: Graph, calibration: Calibration) -> Network:
    """The graph with what the calibration saw, its extremes carried on to unseen images."""
    beyond = np.log(UNSEEN_FACTOR) / np.log(max(calibration.num_images, 2))
    seen = {}
    for name, tensor in calibration.tensors.items():
        lowest, highest = _bounds(graph, name)
        low = return_level(tensor.channel_min, tensor.channel_min_mean, beyond)
        high = return_level(tensor.channel_max, tensor.channel_max_mean, beyond)
        seen[name] = Channels(
            np.maximum(low, lowest), np.minimum(high, highest), tensor.channel_mean, tensor.channel_square_mean
        )
    return Network(graph, seen)


def return_level(extreme: Array, mean_extreme: Array, beyond: float) -> Array:
    """The extreme to expect among more images, from that of N images and the mean of the single images' extremes.

    Extremes of independent images follow Gumbel's law: the largest of N exceeds their mean by ``b ln N``, that of
    ``K N`` by ``b ln K`` more (Gumbel 1958, "Statistics of Extremes"). ``beyond`` is ``ln K / ln N``.
    """
    return extreme + (extreme - mean_extreme) * beyond


def _bounds(graph: Graph, name: str) -> tuple[float, float]:
    made = graph.producer.get(name)
    if made is None:
        return -np.inf, np.inf
    if made.op == "Clip" and len(made.inputs) == 3 and all(bound in graph.constants for bound in made.inputs[1:]):
        return float(graph.constants[made.inputs[1]]), float(graph.constants[made.inputs[2]])
    return BOUNDS.get(made.op, (-np.inf, np.inf))


@torch.no_grad()
def clip_ranges(network: Network, plan: Plan, scheme: Scheme, images: Tensor) -> Network:
    """Narrow each per-tensor range to the least squared error, a channel's error weighted by what is made of it.

    A network output keeps its full range: clipped logits tie images, and no squared error shows it.
    """
    graph = network.graph
    fixed = {operator for operator, _, _ in scheme.fixed_output} | {"Clip"}
    names = [
        name
        for name, params in plan.activations.items()
        if params.axis is None and name not in graph.outputs and name not in graph.inputs
        if graph.producer[name].op not in fixed and name in network.seen
    ]
    histograms = _histograms(graph, names, images)
    seen = dict(network.seen)
    for name in names:
        stored, channels = plan.activations[name], seen[name]
        bounds = float(np.min(channels.low)), float(np.max(channels.high))
        low, high = mse_range(
            histograms[name], min(bounds[0], 0.0), max(bounds[1], 0.0), stored.dtype, scheme.activation_symmetric
        )
        seen[name] = replace(channels, low=np.maximum(channels.low, low), high=np.minimum(channels.high, high))
    return Network(graph, seen)


def influence(graph: Graph, name: str, num_channels: int) -> Array:
    """Relative gain of noise power of each channel in the layers that read it: squared norms of weights, ``(C,)``."""
    total = np.zeros(num_channels)
    for node in graph.consumers.get(name, ()):
        if not is_linear(graph, node) or node.op not in ("Conv", "Gemm"):
            continue
        weight = graph.constants[node.inputs[1]].astype(np.float64)
        squares = (weight**2).reshape(*weight.shape[:2], -1).sum(axis=2)
        groups = int(node.attributes.get("group", 1))
        total += squares.reshape(groups, -1, squares.shape[1]).sum(axis=1).reshape(-1)
    return total / total.max() if total.any() else np.ones(num_channels)


def _histograms(graph: Graph, names: list[str], images: Tensor) -> dict[str, Histogram]:
    """Of the float network's activations, each value weighted by its channel's influence."""
    wanted = set(names)
    histograms: dict[str, Histogram] = {}

    def observe(name: str, value: Tensor) -> Tensor:
        if name in wanted:
            flat = value.flatten(2) if value.dim() > 2 else value.unsqueeze(2)
            sample = flat[:, :, :: max(1, flat.shape[2] // SAMPLED_POSITIONS)].numpy()
            weights = np.broadcast_to(influence(graph, name, sample.shape[1])[None, :, None], sample.shape)
            histograms[name] = histograms.get(name, Histogram.empty()).add(sample, weights)
        return value

    constants = tensors(graph)
    for batch in images.to(memory_format=torch.channels_last).split(BATCH_SIZE):
        run(graph, {graph.inputs[0]: batch}, observe, constants)
    return histograms
