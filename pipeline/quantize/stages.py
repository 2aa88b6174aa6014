"""Calibration and quantization as stages of the store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.progress import reporter
from edgec.pipeline.core.stage import Artifact
from edgec.pipeline.data.dataset import Dataset, batches
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms.scheme import Level, Scheme
from edgec.pipeline.quantize.record import FloatLayer, HeldDrop, QuantizationRecord
from edgec.pipeline.tasks.metrics import finite
from edgec.pipeline.tasks.task import Task

if TYPE_CHECKING:
    from onnx import ModelProto

    from edgec.pipeline.network.graph import Graph
    from edgec.pipeline.quantize.calibrate import Batches, Calibration
    from edgec.pipeline.quantize.quantizer import QuantizedModel
    from edgec.pipeline.quantize.sensitivity import Sensitivity
    from edgec.pipeline.quantize.take_apart import Given

BATCH_SIZE = 16


@dataclass(frozen=True)
class FloatPart:
    """A QDQ network without its Q/DQ: each weight at the values that its integers stand for.

    Layout and normalisation in front of the first pair are taken here: without the pair no one sees where they ended.
    """

    output: ClassVar[str] = "model.onnx"
    toolchain: ClassVar[tuple[str, ...]] = ("onnx",)

    def run(self, output: Path, *inputs: Artifact) -> None:
        """Of ``inputs[0]``, a QDQ ONNX file.

        Raises:
            EdgecError: ``already-quantized``, and what ``read_onnx`` and ``take_image`` raise.
        """
        import onnx

        onnx.save(_apart(inputs[0])[0].write(), output)


@dataclass(frozen=True)
class GivenPart:
    """The parameters of a QDQ network's own pairs."""

    output: ClassVar[str] = "given.json"
    toolchain: ClassVar[tuple[str, ...]] = ("onnx",)

    def run(self, output: Path, *inputs: Artifact) -> None:
        """Of ``inputs[0]``, a QDQ ONNX file.

        Raises:
            EdgecError: ``already-quantized``, and what ``read_onnx`` and ``take_image`` raise.
        """
        _apart(inputs[0])[1].save(output)


def _apart(file: Artifact) -> tuple[Graph, Given]:
    from edgec.pipeline.network.graph import Graph
    from edgec.pipeline.network.import_onnx import read_onnx
    from edgec.pipeline.network.onnx_input import take_image
    from edgec.pipeline.network.tensor_names import name_tensors_apart
    from edgec.pipeline.quantize.take_apart import take_apart

    model = read_onnx(file.path)
    name_tensors_apart(model)
    _, taken = take_image(model, file.path)
    return take_apart(Graph.read(taken), file.path)


@dataclass(frozen=True)
class Calibrate:
    """Activation statistics of the float network; the same for every target.

    Attributes:
        preprocess: how images become inputs.
        images: the calibration set; its content is an input of the stage.
    """

    preprocess: Preprocess
    images: Dataset = field(compare=False)

    output: ClassVar[str] = "calibration.npz"
    toolchain: ClassVar[tuple[str, ...]] = ("onnxruntime", "pillow")

    def run(self, output: Path, *inputs: Artifact) -> None:
        """Stream the images through ``inputs[0]``, a float ONNX file.

        Raises:
            EdgecError: ``unreadable-image``, ``activation-not-finite``.
        """
        from edgec.pipeline.quantize.calibrate import collect

        def stream() -> Iterator[npt.NDArray[np.float32]]:
            return batches(self.images, self.preprocess, BATCH_SIZE)

        report = reporter("calibrate")
        collect(inputs[0].path, stream, lambda done, _: report(done, len(self.images))).save(output)


@dataclass(frozen=True)
class Rank:
    """Which layers quantize worst: ``ranking.json``, each with the network's output SQNR in dB, the worst first.

    Attributes:
        scheme: integer semantics.
        preprocess: how images become inputs.
        images: the calibration set; its content is an input of the stage.
    """

    scheme: Scheme
    preprocess: Preprocess
    images: Dataset = field(compare=False)

    output: ClassVar[str] = "ranking.json"
    toolchain: ClassVar[tuple[str, ...]] = ("onnx", "torch", "pillow")

    def run(self, output: Path, *inputs: Artifact) -> None:
        """Rank the layers of ``inputs`` = (float ONNX, calibration, calibration set), and what the network was given.

        Raises:
            EdgecError: ``unreadable-image``.
        """
        import onnx

        from edgec.pipeline.quantize.calibrate import Calibration
        from edgec.pipeline.quantize.quantizer import sensitivities

        def stream() -> Iterator[npt.NDArray[np.float32]]:
            return batches(self.images, self.preprocess, BATCH_SIZE)

        statistics = Calibration.load(inputs[1].path)
        model, progress = onnx.load(inputs[0].path), reporter("sensitivity")
        ranked = sensitivities(model, statistics, self.scheme, stream, progress, given_among(inputs))
        output.write_text(json.dumps([asdict(entry) for entry in ranked], indent=1), encoding="utf-8")


def given_among(inputs: Sequence[Artifact]) -> Given | None:
    """The parameters that a network brought along, where they are among a stage's inputs."""
    from edgec.pipeline.quantize.take_apart import Given

    found = [artifact.path for artifact in inputs if artifact.path.name == GivenPart.output]
    return Given.load(found[0]) if found else None


def read_ranking(path: Path) -> tuple[Sensitivity, ...]:
    """What ``Rank`` wrote."""
    from pydantic import TypeAdapter

    from edgec.pipeline.quantize.sensitivity import Sensitivity

    return TypeAdapter(tuple[Sensitivity, ...]).validate_json(path.read_bytes())


@dataclass(frozen=True)
class DropLimit:
    """What quantization may cost.

    Attributes:
        max_drop_pp: points of top-1 on the images; of agreement where they have no labels.
        images: neither calibrating nor testing; their content is an input of the stage.
    """

    max_drop_pp: float
    images: Dataset = field(compare=False)


@dataclass(frozen=True)
class Quantize:
    """Explicit-QDQ ONNX by the target's scheme: a folder with ``model.onnx`` and ``report.json``.

    Attributes:
        scheme: integer semantics.
        level: ``fast``, ``accurate`` or ``best``; ``as-given`` where the network brought parameters along.
        preprocess: how images become inputs.
        images: the calibration set, for the corrections that look at the network's own outputs.
        labels: class names by index; with the preprocessing they travel in the file's ``metadata_props``.
        limit: of the drop; layers go back into float until it holds.
        task: whose answers the limit judges; None without a limit.
        first_scheme: of the first layers, where these are in finer integers; None else.
        ram_bytes: what the board has for tensors, which limits them; None where it states none.
        learn_minutes: of ``best``; None of the other levels.
    """

    scheme: Scheme
    level: Level
    preprocess: Preprocess
    images: Dataset = field(compare=False)
    labels: tuple[str, ...] = ()
    limit: DropLimit | None = None
    task: Task | None = None
    first_scheme: Scheme | None = None
    ram_bytes: int | None = None
    learn_minutes: float | None = None

    output: ClassVar[str] = "quantized"
    toolchain: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnx", "torch", "pillow")

    def run(self, output: Path, *inputs: Artifact) -> None:
        """Quantize ``inputs`` = (float ONNX, calibration, calibration set, ...).

        The deciding set and what the network was given follow, where there is one.

        Raises:
            EdgecError: ``drop-not-held``, ``unreadable-image``, and what ``quantize`` raises.
        """
        import onnx

        from edgec.pipeline.quantize.calibrate import Calibration

        model, calibration = onnx.load(inputs[0].path), Calibration.load(inputs[1].path)
        output.mkdir()
        given, held = given_among(inputs), None
        if self.limit is None or self.task is None:
            quantized = self._quantized(model, calibration, given, {})
        else:
            quantized, held = self._within(self.limit, self.task, inputs[0].path, model, calibration, given, output)
        facts = {"edgec.labels": list(self.labels), "edgec.preprocess": self.preprocess.stated()}
        onnx.helper.set_model_props(quantized.model, {name: _compact(fact) for name, fact in facts.items()})
        onnx.save(quantized.model, output / "model.onnx")
        record = QuantizationRecord(
            float_layers=tuple(FloatLayer(layer, reason) for layer, reason in quantized.floats.items()),
            layer_sqnr_db={layer: finite(found) for layer, found in quantized.layer_sqnr_db.items()},
            fallback=held,
            kept=quantized.kept,
            given=quantized.taken,
            prefix=quantized.prefix,
        )
        (output / "report.json").write_text(json.dumps(asdict(record), indent=1))

    def _stream(self) -> Iterator[npt.NDArray[np.float32]]:
        return batches(self.images, self.preprocess, BATCH_SIZE)

    def _quantized(
        self, model: ModelProto, calibration: Calibration, given: Given | None, floats: Mapping[str, str]
    ) -> QuantizedModel:
        from edgec.pipeline.quantize.learning import Learning
        from edgec.pipeline.quantize.prefix import quantize_behind_prefix
        from edgec.pipeline.quantize.quantizer import quantize
        from edgec.pipeline.quantize.sixteen_bits import quantize_first_in_16_bits

        progress = reporter("quantize")
        learning = Learning(self.learn_minutes, reporter("learn")) if self.learn_minutes else None

        def make(network: ModelProto, level: Level, images: Batches, scheme: Scheme = self.scheme) -> QuantizedModel:
            return quantize(network, calibration, scheme, level, images, progress, floats, given, learning)

        if not self.scheme.prefix or given is not None:
            return make(model, self.level, self._stream)
        if self.first_scheme is None:
            return quantize_behind_prefix(model, self.level, self._stream, make, self.scheme)
        first = partial(make, scheme=self.first_scheme)
        return quantize_first_in_16_bits(model, self.level, self._stream, first, make, self.ram_bytes)

    def _within(
        self,
        limit: DropLimit,
        task: Task,
        fp32: Path,
        model: ModelProto,
        calibration: Calibration,
        given: Given | None,
        folder: Path,
    ) -> tuple[QuantizedModel, HeldDrop]:
        """The network with the fewest sensitive layers in float that hold the drop, and what was decided."""
        from edgec.pipeline.forms.answer import output_shapes
        from edgec.pipeline.quantize.fallback import Judge, hold_drop
        from edgec.pipeline.quantize.quantizer import sensitivities

        ranked = []
        if not self.scheme.quantize_output:  # else no single layer can stay in float
            progress = reporter("sensitivity")
            ranked = sensitivities(model, calibration, self.scheme, self._stream, progress, given)
        outputs = output_shapes(fp32)
        judge = Judge(fp32, folder / "model.onnx", limit.images, self.preprocess, task, outputs)
        quantized, found = hold_drop(
            partial(self._quantized, model, calibration, given), ranked, judge, limit.max_drop_pp
        )
        return quantized, HeldDrop(limit.max_drop_pp, found.drop_pp, len(limit.images), found.num_layers)


def _compact(fact: object) -> str:
    """JSON with sorted keys and no spaces, as it stands in files."""
    return json.dumps(fact, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
