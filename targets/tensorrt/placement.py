"""What TensorRT makes of a network: counted in the engine where one has come home, in the QDQ file before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgec.pipeline.core.json_file import read_record
from edgec.pipeline.forms.compiler import Placement
from edgec.targets.onnx_placement import onnx_placement
from edgec.targets.tensorrt.options import TensorRtSettings

RECORD = "engine.json"


@dataclass(frozen=True)
class Layers:
    """Counts; those by type are not read here."""

    reformats: int


@dataclass(frozen=True)
class EngineRecord:
    """What is read of ``engine.json``, which a device wrote."""

    layers: Layers


def placement(artifact: Path, settings: TensorRtSettings) -> Placement:
    """Nodes of ``model.onnx``; reformats of the engine, None where none was built yet.

    Raises:
        EdgecError: ``corrupt-artifact-file`` where ``engine.json`` is no record of an engine.
    """
    counted = onnx_placement(artifact / "model.onnx")
    engine = artifact / RECORD
    if not engine.is_file():
        return counted
    record = read_record(EngineRecord, engine, "corrupt-artifact-file")
    return replace(counted, num_reformats=record.layers.reformats)


def layer_times(artifact: Path, settings: TensorRtSettings, threads: int) -> dict[str, float]:
    """Not asked of engines: their layers are fusions with names of TensorRT's own."""
    return {}
