"""The folder that an engine is built from: an ONNX file in TensorRT's dialect and what the device needs beside it."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgec.pipeline.forms.format import Alone, Batch, Candidate, Contract, Outputs, Runtime, damaged
from edgec.targets.onnxruntime.format import onnx_contract

SCRIPT = Path(__file__).with_name("build_engine.py")
SCHEMA = 3  # of ``engine_spec.json``
CANDIDATES = "candidates.json"  # for ``build_engine.py --precision auto``


def read_spec(artifact: Path) -> dict[str, Any]:
    """``engine_spec.json``.

    Raises:
        EdgecError: ``corrupt-artifact-file`` where it is none, or that of another edgec.
    """
    path = artifact / "engine_spec.json"
    try:
        spec = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, str(error)) from error
    if not isinstance(spec, dict) or spec.get("schema") != SCHEMA:
        found = spec.get("schema") if isinstance(spec, dict) else spec
        raise damaged(path, f"its schema is {found!r:.20}, and this edgec reads {SCHEMA}")
    return spec


def shapes_of(spec: Mapping[str, Any]) -> tuple[tuple[int, ...], ...]:
    """Those of the outputs for one image, in the order of the ONNX file; ``spec`` is ``engine_spec.json``."""
    return tuple(tuple(shape[1:]) for shape in spec["outputs"].values())


def split(answers: Batch, shapes: Sequence[tuple[int, ...]]) -> Outputs:
    """``(N, values)``, an image's outputs one after the other, to ``(N, *shape)`` for each of ``shapes``."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts = np.split(answers, ends[:-1], axis=1)
    return tuple(part.reshape(len(answers), *shape) for part, shape in zip(parts, shapes, strict=True))


@dataclass(frozen=True)
class EngineFormat(Alone):
    """An engine itself runs only in the TensorRT and on the GPU that built it."""

    name: str = "tensorrt-engine"
    artifact: str = "tensorrt"
    linkable: bool = False
    device_script: Path | None = SCRIPT
    holds_candidates: bool = True

    def contract(self, artifact: Path) -> Contract:
        """That of the ONNX file.

        Raises:
            EdgecError: ``corrupt-artifact-file``.
        """
        return onnx_contract(artifact / "model.onnx")

    def runtime(self, settings: Any) -> Runtime:
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
