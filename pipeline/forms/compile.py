"""QDQ ONNX to the target's own artifact."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.store import Artifact
from edgec.pipeline.data.dataset import Dataset, batches
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms.adapter import load_adapter
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.forms.spec import TargetSpec
from edgec.pipeline.tasks.metrics import sqnr_db

NUM_PROBES = 8  # images on which a fresh artifact must agree with the reference
LEAST_SQNR_DB = 5.0  # integer kernels round differently; below this the artifact computes something else


@dataclass(frozen=True)
class Check:
    """Ask the target's compiler whether it takes the float network, before anything long runs."""

    target: TargetSpec

    version: ClassVar[int] = 1
    output: ClassVar[str] = "checked.json"

    @property
    def toolchain(self) -> tuple[str, ...]:
        """The compiler's own."""
        return load_adapter(self.target.compiler).TOOLCHAIN

    def run(self, output: Path, *inputs: Artifact) -> None:
        """Check ``inputs[0]``.

        Raises:
            EdgecError: ``unsupported-operator`` names the node.
        """
        import onnx

        load_adapter(self.target.compiler).check(onnx.load(inputs[0].path), self.target)
        output.write_text(json.dumps({"target": self.target.name, "accepted": True}))


@dataclass(frozen=True)
class Compile:
    """Compile, load the artifact where this machine can, and compare it with the reference on a few images.

    Attributes:
        target: its compiler and options.
        preprocess: how images become inputs.
        images: calibration images for the comparison; their content is an input of the stage.
    """

    target: TargetSpec
    preprocess: Preprocess
    images: Dataset = field(compare=False)

    version: ClassVar[int] = 1

    @property
    def output(self) -> str:
        """Named by the compiler."""
        return load_adapter(self.target.compiler).ARTIFACT

    @property
    def toolchain(self) -> tuple[str, ...]:
        """The compiler's own."""
        return load_adapter(self.target.compiler).TOOLCHAIN

    def run(self, output: Path, *inputs: Artifact) -> None:
        """Compile ``inputs[0]`` (a folder with ``model.onnx``).

        Raises:
            EdgecError: what the compiler raises; ``compile-mismatch``.
        """
        adapter = load_adapter(self.target.compiler)
        qdq = inputs[0].path / "model.onnx"
        adapter.compile_model(qdq, output, self.target)
        if adapter.probe(self.target).can_run:
            self._compare(qdq, output)

    def _compare(self, qdq: Path, artifact: Path) -> None:
        images = next(batches(self.images.take(NUM_PROBES), self.preprocess, NUM_PROBES))
        expected = OrtRunner(qdq, as_written=True).predict(images)
        runner = load_adapter(self.target.compiler).open_runner(artifact, self.target, os.cpu_count() or 1)
        agreement_db = sqnr_db(runner.predict(images), expected)
        if agreement_db < LEAST_SQNR_DB:
            raise EdgecError(
                "compile-mismatch",
                f"the artifact for '{self.target.name}' answers unlike the QDQ reference: {agreement_db:.1f} dB on "
                f"{len(images)} images, expected at least {LEAST_SQNR_DB:.0f}",
                "compare tensor by tensor with 'edgec sensitivity', and report the model",
            )
