"""What LiteRT makes of a .tflite file, counted."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from edgec.pipeline.forms.compiler import Placement
from edgec.targets.tflite.cmsis_nn import fast_kernels
from edgec.targets.tflite.delegate import delegate_coverage
from edgec.targets.tflite.flatbuffer import TfliteFile, read_tflite
from edgec.targets.tflite.micro import run_micro
from edgec.targets.tflite.options import TfliteOptions

LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


def placement(artifact: Path, settings: TfliteOptions) -> Placement:
    """Operators from the file, delegate pieces by loading it with XNNPACK, the arena by TFLite Micro if installed."""
    content = artifact.read_bytes()
    file = read_tflite(content)
    kinds = [operator.kind for operator in file.operators]
    in_float = sum(op.kind in LAYERS and file.tensors[op.inputs[0]].dtype == "float32" for op in file.operators)
    return Placement(
        len(kinds),
        kinds.count("TRANSPOSE"),
        in_float,
        num_reformats=file.inner_conversions,
        delegate_pieces=delegate_coverage(content).pieces if settings.xnnpack else None,
        arena_bytes=_arena_bytes(file, content) if settings.is_linked else None,
        fast_kernels=fast_kernels(file) if settings.is_linked else None,
    )


def layer_times(artifact: Path, settings: TfliteOptions, threads: int) -> dict[str, float]:
    """The Python interpreters of TFLite tell no times of layers."""
    return {}


def _arena_bytes(file: TfliteFile, content: bytes) -> int | None:
    if find_spec("tflite_micro") is None:
        return None
    fed = file.tensors[file.inputs[0]]
    return run_micro(content, np.zeros(fed.shape, fed.dtype)).arena_bytes
