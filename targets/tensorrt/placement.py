"""What TensorRT makes of a network: counted in the engine where one has come home, in the QDQ file before."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.pipeline.forms.adapter import Placement
from edgec.targets.onnx_placement import onnx_placement

if TYPE_CHECKING:
    from edgec.pipeline.forms.spec import TargetSpec


def placement(artifact: Path, target: TargetSpec) -> Placement:
    """Nodes of ``model.onnx``; reformats of the engine, None where none was built yet."""
    counted = onnx_placement(artifact / "model.onnx")
    engine = artifact / "engine.json"
    if not engine.is_file():
        return counted
    return replace(counted, num_reformats=json.loads(engine.read_text())["layers"]["reformats"])


def layer_times(artifact: Path, target: TargetSpec, threads: int) -> dict[str, float]:
    """Not asked of engines: their layers are fusions with names of TensorRT's own."""
    return {}
