"""onnxsim on the float network, before any Q/DQ: constant folding, batch norm and padding into convolutions."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from edgec.pipeline.core.disk import FULL
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.store import Artifact
from edgec.pipeline.forms.ort import OrtRunner

DISK_FULL = 28  # exit status of the process that simplifies


@dataclass(frozen=True)
class Simplify:
    """Simplify in a process of its own, because onnxsim can crash or run without end on a stranger's model.

    Attributes:
        time_limit_s: after this the step is refused, not skipped.
        tolerance: largest difference of any output, relative to the largest output, on seeded noise.
    """

    time_limit_s: float = 300.0
    tolerance: float = 1e-4

    output: ClassVar[str] = "model.onnx"
    toolchain: ClassVar[tuple[str, ...]] = ("onnxsim", "onnx")

    def run(self, output: Path, *inputs: Artifact) -> None:
        """Simplify ``inputs[0]`` and prove that its outputs are unchanged.

        Raises:
            EdgecError: ``simplify-timeout``, ``simplify-failed``, ``simplify-changed-outputs``.
        """
        (model,) = inputs
        command = [sys.executable, "-m", "edgec.pipeline.network.simplify", str(model.path), str(output)]
        environment = {**os.environ, "TMPDIR": str(output.parent)}  # whatever it leaves there goes with us
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=self.time_limit_s, check=False, env=environment
            )
        except subprocess.TimeoutExpired:
            raise EdgecError(
                "simplify-timeout",
                f"onnxsim did not finish within {self.time_limit_s:.0f} s",
                "simplify the model yourself first",
            ) from None
        if done.returncode == DISK_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(output))
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise EdgecError("simplify-failed", f"onnxsim stopped: {reason}", "check the model with onnx.checker")
        difference = outputs_difference(model.path, output)
        if not difference <= self.tolerance:
            raise EdgecError(
                "simplify-changed-outputs",
                f"simplification changed the outputs by {difference:.2g}, expected at most {self.tolerance:.2g}",
                "report the model to onnxsim; edgec does not continue on a changed network",
            )


def outputs_difference(before: Path, after: Path) -> float:
    """Largest output difference on seeded noise, relative to the largest output of ``before``."""
    old, new = OrtRunner(before), OrtRunner(after)
    pairs = zip(old.predict(old.noise()), new.predict(old.noise()), strict=True)
    return max(float(np.max(np.abs(a - b)) / max(float(np.max(np.abs(a))), 1e-6)) for a, b in pairs)


def _simplify(source: Path, output: Path) -> None:
    import onnx
    import onnxsim

    simplified, _ = onnxsim.simplify(onnx.load(source))
    onnx.save(simplified, output)


if __name__ == "__main__":
    try:
        _simplify(Path(sys.argv[1]), Path(sys.argv[2]))
    except OSError as error:
        if error.errno in FULL:
            sys.exit(DISK_FULL)
        raise
