"""The whole pipeline on one screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edgec.pipeline.core.store import Artifact, Stage, source
from edgec.pipeline.forms.compile import Check, Compile
from edgec.pipeline.network.export import Export
from edgec.pipeline.network.import_onnx import ImportOnnx
from edgec.pipeline.network.models import definition_sha256
from edgec.pipeline.network.simplify import Simplify
from edgec.pipeline.quantize.stages import Calibrate, Quantize
from edgec.pipeline.recipe import OnnxSource, Recipe
from edgec.pipeline.tasks.evaluate import Evaluate


class RunsStages(Protocol):
    """A store, or something that only pretends to run (``edgec explain``)."""

    def run(self, stage: Stage, *inputs: Artifact) -> Artifact: ...


@dataclass(frozen=True)
class Built:
    """What the stages made: float ONNX, its calibration, QDQ folder, the target's artifact, evaluation folder."""

    fp32: Artifact
    statistics: Artifact
    qdq: Artifact
    binary: Artifact
    evaluation: Artifact


def build(recipe: Recipe, store: RunsStages) -> Built:
    """Every stage in order; equal inputs run once. Latency is not a stage: it is measured anew each time.

    Raises:
        EdgecError: whatever a stage raises; the store keeps what was finished.
    """
    target, preprocess = recipe.target, recipe.preprocess
    calibration_set, test_set = recipe.calibration.artifact(), recipe.test.artifact()

    fp32 = store.run(Simplify(), _float_network(recipe, store))
    store.run(Check(target), fp32)
    statistics = store.run(Calibrate(preprocess, recipe.calibration), fp32, calibration_set)
    quantize = Quantize(
        target.scheme,
        recipe.quantizer,
        preprocess,
        recipe.calibration,
        recipe.labels,
        recipe.limit,
    )
    deciding_set = (recipe.limit.images.artifact(),) if recipe.limit else ()
    qdq = store.run(quantize, fp32, statistics, calibration_set, *deciding_set)
    binary = store.run(Compile(target, preprocess, recipe.calibration), qdq, calibration_set)
    evaluate = Evaluate(target, preprocess, recipe.test, recipe.labelled)
    return Built(fp32, statistics, qdq, binary, store.run(evaluate, fp32, qdq, binary, test_set))


def _float_network(recipe: Recipe, store: RunsStages) -> Artifact:
    if isinstance(recipe.source, OnnxSource):
        return store.run(ImportOnnx(), source(recipe.source.path))
    return store.run(Export(recipe.source.config, recipe.source.weights, definition_sha256(recipe.source.config.model)))
