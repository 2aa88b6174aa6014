"""The whole pipeline on one screen: every stage, in order, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import Artifact, Stage
from edgec.pipeline.forms.answer import Answer, judged, output_shapes, read_answers
from edgec.pipeline.forms.compile import Compile
from edgec.pipeline.forms.compiler import load_compiler
from edgec.pipeline.forms.form import (
    FLOAT,
    REFERENCE,
    TARGET,
    Form,
    HereForm,
    ThereForm,
    float_form,
    here,
    reference_form,
    there,
)
from edgec.pipeline.forms.golden import Golden
from edgec.pipeline.forms.place import Place
from edgec.pipeline.forms.score import Score
from edgec.pipeline.forms.spec import first_layers, float_settings
from edgec.pipeline.network import models
from edgec.pipeline.network.export import Export
from edgec.pipeline.network.import_onnx import ImportOnnx, onnx_artifact
from edgec.pipeline.network.simplify import Simplify
from edgec.pipeline.quantize.check import Check
from edgec.pipeline.quantize.stages import Calibrate, FloatPart, GivenPart, Quantize, Rank
from edgec.pipeline.recipe import OnnxSource, Recipe
from edgec.pipeline.tasks.stability import Stability, stability
from edgec.pipeline.tasks.task import Shape, Task, metrics_of, task_of


class RunsStages(Protocol):
    """A store, or something that only pretends to run (``edgec explain``)."""

    def run(self, stage: Stage, *inputs: Artifact) -> Artifact: ...


@dataclass
class Build:
    """One recipe's stages. Each runs when its result is first asked for; equal stages on equal inputs run once.

    Latency is no stage: it is measured anew each time.

    Attributes:
        on: the device that answers for the artifact; this machine where None, if it can.
    """

    recipe: Recipe
    store: RunsStages
    on: str | None = None

    def __post_init__(self) -> None:
        self._calibration_set = self.recipe.calibration.artifact()

    @cached_property
    def fp32(self) -> Artifact:
        """Float ONNX, simplified; its outputs are proven equal."""
        origin = self.recipe.source
        if isinstance(origin, OnnxSource):
            network = onnx_artifact(origin.path)
            network = self.store.run(FloatPart(), network) if origin.is_quantized else network
            network = self.store.run(ImportOnnx(takes_image=not origin.is_quantized), network)
        else:
            builder = models.get(origin.config.model).builder
            network = self.store.run(Export(origin.config, origin.weights, builder))
        return self.store.run(Simplify(), network)

    @cached_property
    def given(self) -> tuple[Artifact, ...]:
        """The parameters that the network brought along, where it did."""
        origin = self.recipe.source
        if not (isinstance(origin, OnnxSource) and origin.is_quantized):
            return ()
        return (self.store.run(GivenPart(), onnx_artifact(origin.path)),)

    @cached_property
    def accepted(self) -> Artifact:
        """The target's compiler takes every operator: asked before anything long runs."""
        target = self.recipe.target
        return self.store.run(Check(target.compiler, self.recipe.settings, target.scheme), self.fp32, *self.given)

    @cached_property
    def statistics(self) -> Artifact:
        """Of all activations; the same for every target."""
        recipe = self.recipe
        return self.store.run(Calibrate(recipe.preprocess, recipe.calibration), self.fp32, self._calibration_set)

    @cached_property
    def ranking(self) -> Artifact:
        """Layers by their share of the noise."""
        recipe = self.recipe
        rank = Rank(recipe.target.scheme, recipe.preprocess, recipe.calibration)
        return self.store.run(rank, self.fp32, self.statistics, self._calibration_set, *self.given)

    @cached_property
    def qdq(self) -> Artifact:
        """Explicit-QDQ ONNX by the target's scheme: the single quantized source of truth."""
        recipe = self.recipe
        deciding = (recipe.limit.images.artifact(),) if recipe.limit else ()
        quantize = Quantize(
            recipe.target.scheme,
            recipe.quantizer,
            recipe.preprocess,
            recipe.calibration,
            recipe.labels,
            recipe.limit,
            self.task if recipe.limit else None,
            *first_layers(recipe.target),
            learn_minutes=recipe.learn_minutes,
        )
        return self.store.run(quantize, self.fp32, self.statistics, self._calibration_set, *deciding, *self.given)

    @cached_property
    def binary(self) -> Artifact:
        """The target's artifact."""
        return self.store.run(Compile(self.recipe.target.compiler, self.recipe.settings), self.qdq)

    @cached_property
    def placement(self) -> Artifact:
        """What the runtime makes of the artifact, in counts."""
        return self.store.run(Place(self.recipe.target.compiler, self.recipe.settings), self.binary)

    @cached_property
    def float_binary(self) -> Artifact:
        """What the target's compiler makes of the float network: the one that an integer artifact has to outrun."""
        target = self.recipe.target
        return self.store.run(Compile(target.compiler, float_settings(target)), self.fp32)

    @cached_property
    def task(self) -> Task:
        """What the network's outputs are for."""
        return task_of(self.recipe.task, self.outputs)

    @cached_property
    def outputs(self) -> tuple[Shape, ...]:
        """Of the float network; unknown while it is only pretended."""
        return output_shapes(self.fp32.path) if self.fp32.path.is_file() else ()

    @cached_property
    def forms(self) -> Mapping[str, tuple[Form, Artifact]]:
        """Whoever answers, with its file: float, reference, and the artifact where something at hand can run it."""
        found: dict[str, tuple[Form, Artifact]] = {
            FLOAT: (float_form(), self.fp32),
            REFERENCE: (reference_form(), self.qdq),
        }
        form = self._there or self._here
        return found | ({TARGET: (form, self.binary)} if form else {})

    @cached_property
    def answers(self) -> Mapping[str, Artifact]:
        """What each form says about the test images; float and reference once for all boards."""
        images = judged(self.recipe.test, self.task, self.outputs)
        asked = images.artifact()
        return {
            name: self.store.run(Answer(form, self.task, self.recipe.preprocess, self.outputs, images), network, asked)
            for name, (form, network) in self.forms.items()
        }

    @cached_property
    def accuracy(self) -> Artifact:
        """Of every form that answered."""
        images = judged(self.recipe.test, self.task, self.outputs)
        score = Score(
            self.task,
            tuple(self.answers),
            metrics_of(self.task.name),
            images,
            self.recipe.preprocess,
            self.recipe.labelled,
        )
        return self.store.run(score, *self.answers.values(), images.artifact())

    @cached_property
    def stability(self) -> Stability:
        """What it matters which images calibrate: the network quantized by each half of them.

        Raises:
            EdgecError: ``empty-data`` where there are fewer than two images.
        """
        images = judged(self.recipe.test, self.task, self.outputs)
        halves = self.recipe.calibration.halves()
        if not halves[0].samples:
            raise EdgecError("empty-data", "one image cannot calibrate two networks", "give more images to calibrate")
        kept = []
        for half in halves:
            made = Build(replace(self.recipe, calibration=half), self.store)
            form, qdq = reference_form(), made.qdq
            ask = Answer(form, self.task, self.recipe.preprocess, self.outputs, images)
            kept.append(read_answers(self.store.run(ask, qdq, images.artifact()).path))
        compared = self.task.score({FLOAT: kept[0], REFERENCE: kept[1]}, None)
        return stability(compared, (len(halves[0]), len(halves[1])))

    @cached_property
    def golden(self) -> Artifact:
        """Inputs, and what every kernel set at hand answered to them."""
        recipe, compiler, settings = self.recipe, self.recipe.target.compiler, self.recipe.settings
        kernels = load_compiler(compiler).FORMAT.kernel_sets(settings)
        golden = Golden(compiler, settings, recipe.preprocess, recipe.calibration, self._here, self._there, kernels)
        return self.store.run(golden, self.fp32, self.qdq, self.binary, self._calibration_set)

    @cached_property
    def _here(self) -> HereForm | None:
        return here(self.recipe.target.compiler, self.recipe.settings)

    @cached_property
    def _there(self) -> ThereForm | None:
        compiler, settings = self.recipe.target.compiler, self.recipe.settings
        return there(compiler, settings, self.on, self.binary.path) if self.on else None


def build(recipe: Recipe, store: RunsStages, on: str | None = None) -> Build:
    """Every stage in order.

    Raises:
        EdgecError: whatever a stage raises; the store keeps what was finished.
    """
    made = Build(recipe, store, on)
    stages = (made.fp32, made.accepted, made.statistics, made.qdq, made.binary, made.placement)
    for _ in (*stages, made.accuracy, made.golden):
        pass
    return made
