"""From a float model and its calibration to a QDQ model: the three levels, readable in one place."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
import torch
from torch import Tensor

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.scheme import Level, Scheme
from edgec.pipeline.network.graph import Graph
from edgec.pipeline.quantize.absorption import absorb_high_biases
from edgec.pipeline.quantize.affine import Array
from edgec.pipeline.quantize.as_given import plan_as_given
from edgec.pipeline.quantize.calibrate import Batches, Calibration
from edgec.pipeline.quantize.equalize import scaled_by, stream_factors
from edgec.pipeline.quantize.executor import one_thread
from edgec.pipeline.quantize.learning import Learning
from edgec.pipeline.quantize.levels import Quantizing, best_level
from edgec.pipeline.quantize.masked import refuse_outliers
from edgec.pipeline.quantize.plan import Network, make_plan
from edgec.pipeline.quantize.prepare import prepare
from edgec.pipeline.quantize.qdq import insert_qdq
from edgec.pipeline.quantize.ranges import fit_input, observed
from edgec.pipeline.quantize.record import GivenRecord, LevelRecord, PrefixRecord
from edgec.pipeline.quantize.rescaling import remove_unused_rescaling
from edgec.pipeline.quantize.sensitivity import Sensitivity, layer_sqnr, rank_layers
from edgec.pipeline.quantize.take_apart import Given

Progress = Callable[[int, int], None]

REPORT_IMAGES = 16
CORRECTION_IMAGES = 96
"""At most so many images correct biases, and fewer where their activations would not fit into the memory for them."""

FEWEST_IMAGES = 16
BYTES_PER_VALUE = 4
CORRECTION_BYTES = 3 * 2**28
"""Of activations, float and quantized, that bias correction holds at a time."""
LESSON_BYTES = 2**28
"""Of images to learn by."""


@dataclass(frozen=True, eq=False)
class QuantizedModel:
    """A quantized network and how it came about.

    Attributes:
        model: QDQ ONNX.
        floats: nodes left in float, by name, and why.
        layer_sqnr_db: signal to quantization noise of each quantized layer's output, network quantized up to there.
        seconds: wall time.
        kept: the level whose network this is; None for ``fast``, below which there is none.
        taken: what became of the network's own parameters; None where it had none.
        prefix: of first layers in 16 bits; None where there are none.
    """

    model: onnx.ModelProto
    floats: Mapping[str, str]
    layer_sqnr_db: Mapping[str, float]
    seconds: float
    kept: LevelRecord | None = None
    taken: GivenRecord | None = None
    prefix: PrefixRecord | None = None


@one_thread()
def quantize(
    model: onnx.ModelProto,
    calibration: Calibration,
    scheme: Scheme,
    level: Level,
    batches_factory: Batches,
    progress: Progress | None = None,
    floats: Mapping[str, str] | None = None,
    given: Given | None = None,
    learning: Learning | None = None,
) -> QuantizedModel:
    """Quantize a float model. The result depends on nothing but the arguments.

    Args:
        model: float ONNX; operators that the scheme does not name stay in float.
        calibration: statistics of exactly this model.
        level: ``fast`` = equalization, ranges and bias correction; ``accurate`` tries clipped ranges as well, ``best``
            also rounds each weight by what it does to its layer's output. A higher level is kept where it is better.
        batches_factory: the calibration images again.
        floats: nodes to keep in float, by name, and why.
        given: what the network brought along; nothing but its gaps is chosen here then, and ``level`` is not asked.
        learning: how long ``best`` learns; None for not at all.

    Raises:
        EdgecError: ``calibration-mismatch``, ``constant-outlier``, ``empty-calibration``.
    """
    start, floats = time.perf_counter(), floats or {}
    source = Graph.read(model)
    missing = [name for name in source.inputs if name not in calibration.tensors]
    if missing:
        message = f"the calibration has no tensor '{missing[0]}'"
        raise EdgecError("calibration-mismatch", message, "calibrate this model")
    if given is not None:
        network, plan, taken = plan_as_given(source, calibration, scheme, given, floats)
        sqnr = layer_sqnr(network.graph, plan, load_images(batches_factory, REPORT_IMAGES))
        spent = time.perf_counter() - start
        return QuantizedModel(insert_qdq(network.graph, plan), plan.floats, sqnr, spent, taken=taken)
    network = equalized(source, calibration, scheme)
    limit = num_correction_images(network.graph)
    decide_and_judge = limit if level == "fast" else limit + limit // 2
    wanted = max(decide_and_judge, num_lessons(network.graph)) if level == "best" and learning else decide_and_judge
    loaded = load_images(batches_factory, wanted)
    images, more = loaded[:decide_and_judge], loaded[decide_and_judge:]
    network = fit_input(network, scheme, images[:limit])
    refuse_outliers(source, network, scheme, make_plan(network, scheme, floats))
    made, kept = best_level(Quantizing(scheme, floats, progress, learning), network, level, images, limit, more)
    graph, plan = made.network.graph, made.plan
    sqnr = layer_sqnr(graph, plan, images[:REPORT_IMAGES])
    return QuantizedModel(insert_qdq(graph, plan), plan.floats, sqnr, time.perf_counter() - start, kept)


@one_thread()
def sensitivities(
    model: onnx.ModelProto,
    calibration: Calibration,
    scheme: Scheme,
    batches_factory: Batches,
    progress: Progress | None = None,
    given: Given | None = None,
) -> list[Sensitivity]:
    """Rank the layers of a float model by the noise that each alone brings to the output, the worst first.

    Args:
        given: what the network brought along.

    Raises:
        EdgecError: ``empty-calibration``.
    """
    images = load_images(batches_factory, REPORT_IMAGES)
    if given is not None:
        network, plan, _ = plan_as_given(Graph.read(model), calibration, scheme, given, {})
        return rank_layers(network.graph, plan, scheme, images, progress)
    network = fit_input(equalized(Graph.read(model), calibration, scheme), scheme, images)
    return rank_layers(network.graph, make_plan(network, scheme), scheme, images, progress)


def equalized(graph: Graph, calibration: Calibration, scheme: Scheme) -> Network:
    """The float network in the form that is quantized.

    Where a hard-swish may be one operator or in parts, it is in parts if a factor for each channel passes it.
    """
    start, chooses = observed(graph, calibration), scheme.hard_swish == "native" and "hard_swish" in scheme.equalize
    asked = replace(scheme, hard_swish="split") if chooses else scheme
    network = prepare(start, asked)
    factors = stream_factors(network, asked)
    network = prepare(start, scheme, factors) if chooses else network
    network = absorb_high_biases(scaled_by(network, scheme, factors))
    return replace(network, graph=remove_unused_rescaling(network.graph))


def num_correction_images(graph: Graph) -> int:
    """As many images as their activations leave room for."""
    per_image = 2 * BYTES_PER_VALUE * max(graph.peak_values, 1)
    return int(np.clip(CORRECTION_BYTES // per_image, FEWEST_IMAGES, CORRECTION_IMAGES))


def num_lessons(graph: Graph) -> int:
    """As many images to learn by as the memory for them holds."""
    sides = (side or 1 for side in graph.shapes[graph.inputs[0]][1:])
    return max(LESSON_BYTES // (BYTES_PER_VALUE * math.prod(sides)), 1)


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
