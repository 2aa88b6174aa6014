"""Calibration and quantization as stages of the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from edgec.pipeline.data import Dataset, batches
from edgec.pipeline.preprocess import Preprocess
from edgec.pipeline.progress import reporter
from edgec.pipeline.quantize.scheme import Scheme
from edgec.pipeline.store import Artifact, canonical_json

BATCH_SIZE = 16


@dataclass(frozen=True)
class Calibrate:
    """Activation statistics of the float network; the same for every target.

    Attributes:
        preprocess: how images become inputs.
        images: the calibration set; its content is an input of the stage.
    """

    preprocess: Preprocess
    images: Dataset = field(compare=False)

    version: ClassVar[int] = 2
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
class Quantize:
    """Explicit-QDQ ONNX by the target's scheme: a folder with ``model.onnx`` and ``report.json``.

    Attributes:
        scheme: integer semantics.
        level: ``fast``, ``accurate`` or ``best``.
        preprocess: how images become inputs.
        images: the calibration set, for the corrections that look at the network's own outputs.
        labels: class names by index; with the preprocessing they travel in the file's ``metadata_props``.
        floats: nodes to keep in float, each with the reason.
    """

    scheme: Scheme
    level: Literal["fast", "accurate", "best"]
    preprocess: Preprocess
    images: Dataset = field(compare=False)
    labels: tuple[str, ...] = ()
    floats: tuple[tuple[str, str], ...] = ()

    version: ClassVar[int] = 3
    output: ClassVar[str] = "quantized"
    toolchain: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnx", "torch", "pillow")

    def run(self, output: Path, *inputs: Artifact) -> None:
        """Quantize ``inputs`` = (float ONNX, calibration, calibration set).

        Raises:
            EdgecError: ``unreadable-image``, and what ``quantize`` raises.
        """
        import onnx

        from edgec.pipeline.quantize.calibrate import Calibration
        from edgec.pipeline.quantize.quantizer import quantize

        fp32, statistics, _ = inputs

        def stream() -> Iterator[npt.NDArray[np.float32]]:
            return batches(self.images, self.preprocess, BATCH_SIZE)

        quantized = quantize(
            onnx.load(fp32.path),
            Calibration.load(statistics.path),
            self.scheme,
            self.level,
            stream,
            reporter("quantize"),
            dict(self.floats),
        )
        facts = {"edgec.labels": list(self.labels), "edgec.preprocess": asdict(self.preprocess)}
        onnx.helper.set_model_props(quantized.model, {name: canonical_json(fact) for name, fact in facts.items()})
        output.mkdir()
        onnx.save(quantized.model, output / "model.onnx")
        float_layers = [{"layer": layer, "reason": reason} for layer, reason in quantized.floats.items()]
        report = {"float_layers": float_layers, "layer_sqnr_db": dict(quantized.layer_sqnr_db)}
        (output / "report.json").write_text(json.dumps(report, indent=1))
