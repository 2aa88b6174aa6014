"""What TensorRT makes of a network: counted in the engine where one has come home, in the QDQ file before."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from edgec.pipeline.forms.compiler import Placement
from edgec.targets.onnx_placement import onnx_placement
from edgec.targets.tensorrt.options import TensorRtSettings


def placement(artifact: Path, settings: TensorRtSettings) -> Placement:
    """Nodes of ``model.onnx``; reformats of the engine, None where none was built yet."""
    counted = onnx_placement(artifact / "model.onnx")
    engine = artifact / "engine.json"
    if not engine.is_file():
        return counted
    return replace(counted, num_reformats=json.loads(engine.read_text())["layers"]["reformats"])


def layer_times(artifact: Path, settings: TensorRtSettings, threads: int) -> dict[str, float]:
    """Not asked of engines: their layers are fusions with names of TensorRT's own."""
    return {}
