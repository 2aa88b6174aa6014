"""Microcontrollers: the file in TFLite Micro, its arena measured, and what a board's RAM and flash allow."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.forms.format import Batch, Outputs
from edgec.targets.tflite.flatbuffer import read_tflite

INSTALL = "pip install 'edgec[mcu]'"
TIMEOUT_SECONDS = 300


@dataclass(frozen=True)
class MicroRun:
    """One run in TFLite Micro.

    Attributes:
        outputs: integers, ``(N, ...)`` each.
        arena_bytes: what the interpreter took of its arena.
    """

    outputs: tuple[npt.NDArray[Any], ...]
    arena_bytes: int


@dataclass(frozen=True)
class MicroRunner:
    """TFLite Micro behind the same face as the other interpreters; one process for each call."""

    artifact: Path

    def predict(self, batch: Batch) -> Outputs:
        """``(N, C, H, W)`` float32 to float32 outputs, dequantized.

        Raises:
            EdgecError: as ``run_micro``.
        """
        from edgec.targets.tflite.runner import LiteRtRunner

        local = LiteRtRunner(self.artifact, xnnpack=False)
        inputs = np.concatenate([local.encode(image[None]) for image in batch])
        return local.decode(run_micro(self.artifact.read_bytes(), inputs).outputs)


def run_micro(content: bytes, inputs: npt.NDArray[Any]) -> MicroRun:
    """Run ``(N, H, W, C)`` images of the file's own type in TFLite Micro's reference kernels.

    Raises:
        EdgecError: ``missing-runtime``; ``micro-refuses`` with TFLite Micro's own words.
    """
    if find_spec("tflite_micro") is None:
        raise EdgecError("missing-runtime", "this check needs tflite-micro, which is not installed", INSTALL)
    with scratch("micro") as folder:
        model, fed, given = (folder / name for name in ("model.tflite", "inputs.npy", "outputs.npz"))
        model.write_bytes(content)
        np.save(fed, inputs)
        arena = _generous_arena_bytes(content)
        command = [
            sys.executable,
            "-m",
            "edgec.targets.tflite.micro_worker",
            str(model),
            str(fed),
            str(given),
            str(arena),
            str(len(read_tflite(content).outputs)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
        measured = re.search(r"Arena allocation total (\d+) bytes", done.stderr)
        if done.returncode != 0 or measured is None:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            said = next((line for line in lines if "Error" in line or "Failed" in line or "find" in line), lines[-1])
            raise EdgecError(
                "micro-refuses", f"TFLite Micro cannot run the file: {said}", "see docs/tflite-operators.md"
            )
        with np.load(given) as outputs:
            return MicroRun(tuple(outputs.values()), int(measured.group(1)))


def _generous_arena_bytes(content: bytes) -> int:
    """Room for every tensor at once, so that the measurement never runs out."""
    file = read_tflite(content)
    return 4 * sum(int(np.prod(t.shape)) for t in file.tensors if not t.constant_bytes) + 4 * len(content) + (1 << 20)
