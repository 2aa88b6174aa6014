"""``result.json``: what a build found, in the fields that other tools rely on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgec.pipeline.build import Built
from edgec.pipeline.bundle.write import artifact_files
from edgec.pipeline.evaluate import Accuracy
from edgec.pipeline.measure import Latency
from edgec.pipeline.recipe import Recipe
from edgec.pipeline.store import Run


def make_result(recipe: Recipe, built: Built, latency: Latency, runs: list[Run], folder: Path) -> dict[str, Any]:
    """The result of one build. Accuracies in percent, times in the unit of their name.

    ``float_layers`` lists what quantization left in float and why.
    """
    report = json.loads((built.qdq.path / "report.json").read_text())
    return {
        "model": recipe.name,
        "target": recipe.target.name,
        "weights": recipe.weights,
        "bundle": str(folder),
        "artifact": built.binary.path.name,
        "size_bytes": sum(file.stat().st_size for file in artifact_files(built.binary)),
        "accuracy": accuracy_record(built),
        "latency": asdict(latency),
        "build_seconds": {run.stage: round(run.seconds, 3) for run in runs},
        "cached_stages": [run.stage for run in runs if run.cached],
        "quantizer": recipe.quantizer,
        "float_layers": report.get("float_layers", []),
        "notes": list(recipe.notes),
    }


def accuracy_record(built: Built) -> dict[str, Any]:
    """``accuracy`` of the result."""
    return asdict(Accuracy(**json.loads((built.evaluation.path / "accuracy.json").read_text())))
