"""Activation ranges: extremes that unseen images will reach, clipped where finer steps are worth more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from edgec.pipeline.forms.scheme import Scheme
from edgec.pipeline.network.graph import Graph
from edgec.pipeline.quantize.affine import Array
from edgec.pipeline.quantize.calibrate import Calibration
from edgec.pipeline.quantize.channels import Channels
from edgec.pipeline.quantize.executor import run, tensors
from edgec.pipeline.quantize.masked import with_near_masks, without_constants
from edgec.pipeline.quantize.observers import Histogram, mse_range, range_params
from edgec.pipeline.quantize.plan import Network, Plan, is_linear

BOUNDS: Mapping[str, tuple[float, float]] = {
    "HardSigmoid": (0.0, 1.0),
    "HardSwish": (-0.375, np.inf),
    "Relu": (0.0, np.inf),
    "Sigmoid": (0.0, 1.0),
    "Softmax": (0.0, 1.0),
    "Softplus": (0.0, np.inf),
    "Tanh": (-1.0, 1.0),
}
"""What an operator cannot leave, whatever its input; those of Clip are its constants."""

BETWEEN = frozenset(
    {
        "AveragePool",
        "Concat",
        "Flatten",
        "GlobalMaxPool",
        "Identity",
        "MaxPool",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
"""What they answer lies between the least and the largest of their inputs, or a zero of the padding.

So does a mean over all positions, but its tails hardly reach there: it brought MobileNetV3-small 0.1 dB.
"""

INPUT_TAILS = np.arange(0.0, 4.25, 0.25)
PIXEL_STRIDE = 5

BATCH_SIZE = 8
SAMPLED_POSITIONS = 64
"""Per image and channel."""


def observed(graph: Graph, calibration: Calibration) -> Network:
    """The graph with what the calibration saw.

    The largest of N images exceeds the mean of their single extremes by ``b ln N`` (Gumbel 1958, "Statistics of
    Extremes"): that gives the length b of each tail.
    """
    foldings = np.log(max(calibration.num_images, 2))
    seen = {}
    for name, tensor in calibration.tensors.items():
        lowest, highest = _bounds(graph, name)
        positions = [size for size in graph.shapes.get(name, ())[2:] if size]
        seen[name] = Channels(
            tensor.channel_min,
            tensor.channel_max,
            tensor.channel_mean,
            tensor.channel_square_mean,
            (tensor.channel_min_mean - tensor.channel_min) / foldings,
            (tensor.channel_max - tensor.channel_max_mean) / foldings,
            np.full(1, lowest),
            np.full(1, highest),
            1.0 / (calibration.num_images * float(np.prod(positions))),
        )
    return with_near_masks(Network(graph, without_constants(graph, seen)))


def fit_input(network: Network, scheme: Scheme, images: Tensor) -> Network:
    """The network with the range of its input that has the least measured rounding error.

    Pixels are integers already: a step of nearly their distance can put all of them between two levels.

    Args:
        images: float32 ``(N, C, H, W)``.
    """
    name = network.graph.inputs[0]
    if name not in network.seen:
        return network
    channels, sample = network.seen[name], images[..., ::PIXEL_STRIDE, ::PIXEL_STRIDE].numpy()

    def ends(tails: float) -> tuple[float, float]:
        low, high = channels.reach(tails)
        return float(low.min()), float(high.max())

    def error(tails: float) -> float:
        params = range_params(*ends(tails), scheme.activation_dtype, scheme.activation_symmetric)
        return float(np.square(params.dequantize(params.quantize(sample)) - sample).mean())

    return replace(network, seen={**network.seen, name: channels.ending(*ends(min(INPUT_TAILS, key=error)))})


def _bounds(graph: Graph, name: str) -> tuple[float, float]:
    """(lowest, highest) value that a tensor can have by what makes it."""
    made = graph.producer.get(name)
    if name in graph.constants:
        return float(graph.constants[name].min()), float(graph.constants[name].max())
    if made is None:
        return -np.inf, np.inf
    if made.op == "Clip" and all(bound in graph.constants for bound in made.inputs[1:] if bound):
        bounds = [float(graph.constants[bound]) if bound else None for bound in (*made.inputs[1:], "", "")[:2]]
        return -np.inf if bounds[0] is None else bounds[0], np.inf if bounds[1] is None else bounds[1]
    if made.op in BETWEEN:
        parts = made.inputs if made.op == "Concat" else made.inputs[:1]
        between = [_bounds(graph, part) for part in parts]
        between += [(0.0, 0.0)] if made.op == "AveragePool" else []
        return min(low for low, _ in between), max(high for _, high in between)
    return BOUNDS.get(made.op, (-np.inf, np.inf))


@torch.no_grad()
def clip_ranges(network: Network, plan: Plan, scheme: Scheme, images: Tensor) -> Network:
    """Narrow each per-tensor range to the least squared error, a channel's error weighted by what is made of it.

    The error is that of the images and of what images to come will have beyond them: a histogram of few images knows
    nothing of a tail. A network output keeps its full range: clipped logits tie images, and no squared error shows it.
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
        weights = influence(graph, name, channels.low.size)

        def unseen(low: float, high: float, channels: Channels = channels, weights: Array = weights) -> float:
            return float((channels.clipping(np.array(low), np.array(high)) * weights).mean())

        full = float(stored.lowest), float(stored.highest)
        ends = mse_range(histograms[name], *full, stored.dtype, scheme.activation_symmetric, unseen)
        seen[name] = channels.ending(*ends)
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
    for batch in torch.split(images.to(memory_format=torch.channels_last), graph.batch or BATCH_SIZE):
        run(graph, {graph.inputs[0]: batch}, observe, constants)
    return histograms
