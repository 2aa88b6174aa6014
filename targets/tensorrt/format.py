"""The folder that an engine is built from: an ONNX file in TensorRT's dialect and what the device needs beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgec.pipeline.forms.format import Alone, Contract, Runtime
from edgec.targets.onnxruntime.format import onnx_contract

SCRIPT = Path(__file__).with_name("build_engine.py")


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
