"""One build, judged where it runs: everything that is handed over."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgec.pipeline.build import Build
from edgec.pipeline.bundle.extras import Extra
from edgec.pipeline.bundle.manifest import BudgetVerdict, Weighed
from edgec.pipeline.bundle.poor import Poor, poor_of
from edgec.pipeline.bundle.semver import FIRST
from edgec.pipeline.core.json_file import read_record
from edgec.pipeline.forms.answer import read_answers
from edgec.pipeline.forms.compiler import Placement, load_compiler
from edgec.pipeline.forms.form import REFERENCE, TARGET
from edgec.pipeline.forms.format import size_bytes
from edgec.pipeline.forms.measure import Latency
from edgec.pipeline.forms.memory import MemoryFit, memory_fit
from edgec.pipeline.forms.place import read_placement
from edgec.pipeline.forms.score import read_accuracy
from edgec.pipeline.forms.spec import Precision
from edgec.pipeline.quantize.check import read_remarks
from edgec.pipeline.quantize.record import QuantizationRecord
from edgec.pipeline.recipe import Recipe, TorchSource
from edgec.pipeline.tasks.accuracy import Accuracy
from edgec.pipeline.tasks.stability import Stability
from edgec.pipeline.tasks.task import Kept


@dataclass(frozen=True)
class Release:
    """What a bundle is written from.

    Attributes:
        built: results of all stages.
        placement: what the runtime makes of the artifact.
        memory: what the artifact takes of the board's RAM and flash.
        latency: measured, or the words why not.
        integers_p50_ms: latency of the same network all in integers, where layers stayed in float to hold a drop.
        precision_verdict: why this precision ships, where several were weighed or are left to the device.
        instructions: of one inference, where an emulated core counted them.
        weighed: every precision that the choice was made from.
        candidates: precisions among which the device chooses; empty where nothing is left to it.
        holding: the artifact with all candidates in it.
        sensitivity: the ranking of the layers, where it was asked for.
        stability: under two halves of the calibration images, where it was asked for.
        made: files that a device made of the artifact, an engine say.
        version: semver of the bundle.
        budgets: verdicts, where the build was judged.
        extras: what the bundle is to hold beside what every bundle holds.
    """

    built: Build
    placement: Placement
    memory: MemoryFit
    accuracy: Accuracy
    latency: Latency
    integers_p50_ms: float | None = None
    instructions: int | None = None
    precision_verdict: str | None = None
    weighed: tuple[Weighed, ...] = ()
    candidates: tuple[Precision, ...] = ()
    holding: Path | None = None
    sensitivity: Path | None = None
    stability: Stability | None = None
    made: tuple[Path, ...] = ()
    version: str = FIRST
    budgets: tuple[BudgetVerdict, ...] = ()
    extras: tuple[Extra, ...] = ()

    @property
    def recipe(self) -> Recipe:
        """What was asked for."""
        return self.built.recipe

    @property
    def artifact(self) -> Path:
        """The file or folder that ships."""
        return self.holding or self.built.binary.path

    @property
    def answers(self) -> Mapping[str, Kept]:
        """Of the test images by form of the network: float, reference, target."""
        return {name: read_answers(artifact.path) for name, artifact in self.built.answers.items()}

    @property
    def quantization(self) -> QuantizationRecord:
        """What the quantizer did, layer by layer."""
        return read_record(QuantizationRecord, self.built.qdq.path / "report.json", "corrupt-artifact")

    @property
    def poor(self) -> Poor | None:
        """Why the result is a poor one; None where it is none."""
        form, _ = self.built.forms.get(TARGET, self.built.forms[REFERENCE])
        return poor_of(self.accuracy, self.quantization, self.recipe, form.identity)

    @property
    def num_classes(self) -> int:
        """That a classifier answers; 0 of any other network."""
        logits = self.answers["float"].get("logits")
        return logits.shape[1] if logits is not None and logits.ndim == 2 else 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What every output must say about this build, from its facts."""
        return tuple(_notes(self))


def release_of(built: Build, ranked: bool = False) -> Release:
    """Everything but what is measured anew each time.

    Raises:
        EdgecError: whatever a stage raises.
    """
    recipe, compiler = built.recipe, load_compiler(built.recipe.target.compiler)
    estimated_ms = compiler.estimate(built.binary.path, recipe.settings)
    placement = read_placement(built.placement.path)
    return Release(
        built,
        placement=placement,
        memory=_memory_fit(built, placement),
        accuracy=read_accuracy(built.accuracy.path),
        latency=Latency("not-measured", note="not asked for", estimated_ms=estimated_ms),
        sensitivity=built.ranking.path if ranked else None,
    )


def _memory_fit(built: Build, placement: Placement) -> MemoryFit:
    recipe = built.recipe
    width = recipe.source.config.width_multiplier if isinstance(recipe.source, TorchSource) else 1.0
    _, height, width_px = recipe.preprocess.shape
    flash, px = size_bytes(built.binary.path), round(math.sqrt(height * width_px))
    return memory_fit(flash, placement.arena_bytes, recipe.target.device, width, px, placement.arena_source)


def _notes(release: Release) -> Iterator[str]:
    recipe, accuracy = release.recipe, release.accuracy
    if release.memory.warning:
        yield release.memory.warning
    yield from (*recipe.notes, *recipe.target.notes, *read_remarks(release.built.accepted.path))
    if accuracy.num_images < len(recipe.test):
        yield f"judged on the first {accuracy.num_images} of {len(recipe.test)} test images: the outputs are large"
    known = recipe.test.classes
    if accuracy.metric == "top1" and recipe.labels == known and all(known) and len(known) < release.num_classes:
        yield (
            f"the network has {release.num_classes} classes without names and the data {len(known)}: "
            f"'{known[0]}' was taken for class 0, and so on by name"
        )
    if release.built.on is not None:
        yield f"the artifact was evaluated on {release.built.on}, not on the building machine"
    if release.precision_verdict:
        yield release.precision_verdict
    beside = release.latency.beside_float
    if beside and not beside.pays:
        yield beside.words()
    if release.poor:
        yield release.poor.words()
    if release.stability:
        yield release.stability.words()
    quantization = release.quantization
    if quantization.prefix:
        yield quantization.prefix.words()
    if quantization.kept:
        yield quantization.kept.words()
    if quantization.given:
        yield quantization.given.words()
    held = quantization.fallback
    if held is None:
        return
    drop = f"{held.drop_pp:.2f} pp on {held.num_images} other images, {held.max_drop_pp:g} allowed"
    if not held.num_layers:
        yield f"no layer had to go back into float: the drop is {drop}"
        return
    note = f"{held.num_layers} sensitive layers stay in float: the drop is {drop}"
    if release.integers_p50_ms is None or release.latency.p50_ms is None:
        yield f"{note}; what that costs in latency is not measured"
    else:
        yield f"{note}; p50 {release.latency.p50_ms:.3f} ms, all in integers {release.integers_p50_ms:.3f} ms"
