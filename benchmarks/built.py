"""What a build says of itself, for the benchmarks that build."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def built_accuracy(model: str, target: str, work: Path, *options: object) -> dict[str, Any]:
    """``result.json``'s accuracy of one build, which goes into ``work`` with its store."""
    command = [sys.executable, "-m", "edgec.pipeline.cli", "build", model, "--target", target, "--json", "--no-measure"]
    command += [*map(str, options), "--output", str(work / f"{model}-{target}")]
    environment = {**os.environ, "EDGEC_CACHE": str(work / "store")}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)["accuracy"]
    return found


def shipped(found: dict[str, Any]) -> tuple[float, str]:
    """The headline of the artifact, or of the reference where the artifact did not answer, and what to say of that."""
    return (found["reference"], " (reference)") if found["target"] is None else (found["target"], "")
