"""Which runtimes read an artifact, by its format."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True)
class Runtime:
    """``versions`` is a PEP 440 specifier."""

    name: str
    versions: str


def runtime_of(artifact: Path) -> Runtime:
    """The runtime of a .tflite file, an OpenVINO IR, an ONNX file or, failing these, a folder for an engine."""
    if artifact.suffix == ".tflite":
        return Runtime("TensorFlow Lite, LiteRT or TFLite Micro", ">=2.5.0")  # as the file's min_runtime_version says
    if (artifact / "model.xml").is_file():
        year_and_release = ".".join(metadata.version("openvino").split(".")[:2])
        return Runtime("OpenVINO", f">={year_and_release}")  # an IR is read by its writer's release and later ones
    if artifact.suffix == ".onnx":
        return Runtime("ONNX Runtime", ">=1.12")  # the first with operator set 17
    return Runtime("TensorRT", ">=8.5,<12")  # what build_engine.py knows; an engine runs in the one that built it
