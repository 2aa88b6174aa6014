"""The folder that an engine is built from: an ONNX file in TensorRT's dialect and what the device needs beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgec.pipeline.forms.format import Alone, Candidate, Contract, Runtime
from edgec.targets.onnxruntime.format import onnx_contract

SCRIPT = Path(__file__).with_name("build_engine.py")
CANDIDATES = "candidates.json"  # for ``build_engine.py --precision auto``


@dataclass(frozen=True)
class EngineFormat(Alone):
    """An engine itself runs only in the TensorRT and on the GPU that built it."""

    name: str = "tensorrt-engine"
    artifact: str = "tensorrt"
    linkable: bool = False
    device_script: Path | None = SCRIPT

    def contract(self, artifact: Path) -> Contract:
        """That of the ONNX file.

        Raises:
            EdgecError: ``corrupt-artifact-file``.
        """
        return onnx_contract(artifact / "model.onnx")

    def runtime(self) -> Runtime:
        """What ``build_engine.py`` knows."""
        return Runtime("TensorRT", ">=8.5,<12")

    def with_candidates(self, own: str, candidates: Mapping[str, Candidate], output: Path) -> None:
        """The others lie in ``candidates/PRECISION``, and a table says what each loses.

        Which of them is fast depends on the GPU. Without ``--precision`` ``build_engine.py`` builds ``own``, as from
        any other folder.
        """
        table = {}
        shutil.copytree(candidates[own].artifact, output)
        for name, candidate in candidates.items():
            inside = "." if name == own else f"candidates/{name}"
            if name != own:
                shutil.copytree(candidate.artifact, output / inside, ignore=shutil.ignore_patterns(SCRIPT.name))
            table[name] = {"folder": inside, "loss_pp": candidate.loss_pp}
        text = json.dumps(table, indent=2)
        (output / CANDIDATES).write_text(text + "\n", encoding="utf-8", newline="\n")
