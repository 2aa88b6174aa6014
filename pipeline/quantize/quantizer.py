"""From a float model and its calibration to a QDQ model: the three levels, readable in one place."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import onnx
import torch
from torch import Tensor

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.scheme import Level, Scheme
from edgec.pipeline.network.graph import Graph, Node
from edgec.pipeline.quantize.absorption import absorb_high_biases
from edgec.pipeline.quantize.affine import Array
from edgec.pipeline.quantize.bias_correction import correct_biases
from edgec.pipeline.quantize.calibrate import Batches, Calibration
from edgec.pipeline.quantize.equalize import equalize
from edgec.pipeline.quantize.executor import one_thread
from edgec.pipeline.quantize.plan import Network, Plan, make_plan
from edgec.pipeline.quantize.prepare import prepare
from edgec.pipeline.quantize.qdq import insert_qdq
from edgec.pipeline.quantize.ranges import clip_ranges, fit_input, observed
from edgec.pipeline.quantize.rescaling import remove_unused_rescaling
from edgec.pipeline.quantize.rounding import input_covariance, round_layer, roundable
from edgec.pipeline.quantize.sensitivity import Sensitivity, layer_sqnr, rank_layers
from edgec.pipeline.quantize.simulate import reference, simulate

Progress = Callable[[int, int], None]

CLEARLY_BETTER = 0.1 * np.log(10)
"""One decibel."""

REPORT_IMAGES = 16
CORRECTION_IMAGES = 96
"""At most so many images correct biases, and fewer where their activations would not fit into the memory for them."""

FEWEST_IMAGES = 16
BYTES_PER_VALUE = 4
CORRECTION_BYTES = 3 * 2**28
"""Of activations, float and quantized, that bias correction holds at a time."""


@dataclass(frozen=True, eq=False)
class QuantizedModel:
    """A quantized network and how it came about.

    Attributes:
        model: QDQ ONNX.
        floats: nodes left in float, by name, and why.
        layer_sqnr_db: signal to quantization noise of each quantized layer's output, network quantized up to there.
        seconds: wall time.
    """

    model: onnx.ModelProto
    floats: Mapping[str, str]
    layer_sqnr_db: Mapping[str, float]
    seconds: float


@one_thread()
def quantize(
    model: onnx.ModelProto,
    calibration: Calibration,
    scheme: Scheme,
    level: Level,
    batches_factory: Batches,
    progress: Progress | None = None,
    floats: Mapping[str, str] | None = None,
) -> QuantizedModel:
    """Quantize a float model. The result depends on nothing but the arguments.

    Args:
        model: float ONNX; operators that the scheme does not name stay in float.
        calibration: statistics of exactly this model.
        level: ``fast`` = equalization, ranges and bias correction; ``accurate`` tries clipped ranges as well, ``best``
            also rounds each weight by what it does to its layer's output.
        batches_factory: the calibration images again.
        floats: nodes to keep in float, by name, and why.

    Raises:
        EdgecError: ``calibration-mismatch``, ``empty-calibration``.
    """
    start, floats = time.perf_counter(), floats or {}
    source = Graph.read(model)
    missing = [name for name in source.inputs if name not in calibration.tensors]
    if missing:
        message = f"the calibration has no tensor '{missing[0]}'"
        raise EdgecError("calibration-mismatch", message, "calibrate this model")
    network = equalized(source, calibration, scheme)
    images = load_images(batches_factory, num_correction_images(network.graph))
    network = fit_input(network, scheme, images)
    if level != "fast":
        network = best_ranges(network, scheme, images, floats)
    plan = make_plan(network, scheme, floats)
    choose = partial(_rounded, network.graph, plan, len(images)) if level == "best" else None
    graph = correct_biases(network.graph, plan, images, progress, choose)
    plan = make_plan(replace(network, graph=graph), scheme, floats)
    sqnr = layer_sqnr(graph, plan, images[:REPORT_IMAGES])
    return QuantizedModel(insert_qdq(graph, plan), plan.floats, sqnr, time.perf_counter() - start)


@one_thread()
def sensitivities(
    model: onnx.ModelProto,
    calibration: Calibration,
    scheme: Scheme,
    batches_factory: Batches,
    progress: Progress | None = None,
) -> list[Sensitivity]:
    """Rank the layers of a float model by the noise that each alone brings to the output, the worst first.

    Raises:
        EdgecError: ``empty-calibration``.
    """
    images = load_images(batches_factory, REPORT_IMAGES)
    network = fit_input(equalized(Graph.read(model), calibration, scheme), scheme, images)
    return rank_layers(network.graph, make_plan(network, scheme), scheme, images, progress)


def equalized(graph: Graph, calibration: Calibration, scheme: Scheme) -> Network:
    """The float network in the form that is quantized."""
    network = absorb_high_biases(equalize(prepare(observed(graph, calibration), scheme), scheme))
    return replace(network, graph=remove_unused_rescaling(network.graph))


def best_ranges(network: Network, scheme: Scheme, images: Tensor, floats: Mapping[str, str]) -> Network:
    """The network with full ranges, or with clipped ones where they clearly serve other images better.

    Two thirds of the images fit the ranges and biases, the rest judge by the mean over images of the output's SQNR.
    Clipping has to win clearly: rare activations carry the answer of some images, and few judges may hold none of them.
    """
    judged = torch.arange(len(images)) % 3 == 2
    fitting, judging = images[~judged], images[judged]
    if not len(judging):
        return network
    expected = reference(network.graph, judging)
    clipped = clip_ranges(network, make_plan(network, scheme, floats), scheme, fitting)

    def score(candidate: Network) -> float:
        graph = correct_biases(candidate.graph, make_plan(candidate, scheme, floats), fitting)
        plan = make_plan(replace(candidate, graph=graph), scheme, floats)
        noise = (simulate(graph, plan, judging) - expected).pow(2).sum(dim=1)
        return float(-noise.clamp_min(1e-30).log().mean())

    return clipped if score(clipped) > score(network) + CLEARLY_BETTER else network


def _rounded(
    graph: Graph, plan: Plan, num_images: int, node: Node, exact: list[Tensor], quantized: list[Tensor]
) -> Array:
    """A layer's weight on its grid: rounded by its input's covariance where that can be trusted, else to nearest."""
    weight, params = graph.constants[node.inputs[1]], plan.weights[node.inputs[1]]
    if not roundable(node, weight, num_images):
        return params.dequantize(params.quantize(weight))
    return round_layer(node, weight, params, input_covariance(node, weight, quantized))


def num_correction_images(graph: Graph) -> int:
    """As many images as their activations leave room for."""
    per_image = 2 * BYTES_PER_VALUE * max(graph.peak_values, 1)
    return int(np.clip(CORRECTION_BYTES // per_image, FEWEST_IMAGES, CORRECTION_IMAGES))


def load_images(batches_factory: Batches, limit: int) -> Tensor:
    """Up to ``limit`` images in one tensor.

    Raises:
        EdgecError: ``empty-calibration``.
    """
    batches: list[Array] = []
    for batch in batches_factory():
        batches.append(batch)
        if sum(map(len, batches)) >= limit:
            break
    if not batches:
        raise EdgecError("empty-calibration", "the calibration set has no images", "name a data set with --data")
    return torch.from_numpy(np.concatenate(batches)[:limit])
