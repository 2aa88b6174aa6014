"""From a float model and its calibration to a QDQ model: the three levels, readable in one place."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import onnx
import torch
from torch import Tensor

from edgec.pipeline.errors import EdgecError
from edgec.pipeline.quantize.affine import Array
from edgec.pipeline.quantize.bias_correction import correct_biases
from edgec.pipeline.quantize.calibrate import Batches, Calibration
from edgec.pipeline.quantize.equalize import equalize
from edgec.pipeline.quantize.graph import Graph
from edgec.pipeline.quantize.plan import make_plan
from edgec.pipeline.quantize.prepare import prepare
from edgec.pipeline.quantize.qdq import insert_qdq
from edgec.pipeline.quantize.ranges import clip_ranges, observed
from edgec.pipeline.quantize.rescaling import remove_unused_rescaling
from edgec.pipeline.quantize.scheme import Scheme

Level = Literal["fast", "accurate", "best"]
Progress = Callable[[int, int], None]

CORRECTION_IMAGES = 64
"""Images held in memory for bias correction; the mean error of a channel settles long before."""


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


def quantize(
    model: onnx.ModelProto,
    calibration: Calibration,
    scheme: Scheme,
    level: Level,
    batches_factory: Batches,
    progress: Progress | None = None,
) -> QuantizedModel:
    """Quantize a float model. The result depends on nothing but the arguments.

    Args:
        model: float ONNX; operators that the scheme does not name stay in float.
        calibration: statistics of exactly this model.
        level: ``fast`` = ranges and bias correction, ``accurate`` = + equalization search, ``best`` = + learned
            rounding.
        batches_factory: the calibration images again.

    Raises:
        EdgecError: ``calibration-mismatch``, ``empty-calibration``.
    """
    start = time.perf_counter()
    source = Graph.read(model)
    missing = [name for name in source.inputs if name not in calibration.tensors]
    if missing:
        message = f"the calibration has no tensor '{missing[0]}'"
        raise EdgecError("calibration-mismatch", message, "calibrate this model")
    network = equalize(prepare(observed(source, calibration), scheme), scheme)
    network = replace(network, graph=remove_unused_rescaling(network.graph))
    images = load_images(batches_factory, CORRECTION_IMAGES)
    if level != "fast":
        network = clip_ranges(network, make_plan(network, scheme), scheme, images)
    graph = correct_biases(network.graph, make_plan(network, scheme), images, progress)
    plan = make_plan(replace(network, graph=graph), scheme)
    return QuantizedModel(insert_qdq(graph, plan), plan.floats, {}, time.perf_counter() - start)


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
