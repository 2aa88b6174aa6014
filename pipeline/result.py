"""``result.json``: what a build found, in the fields that other tools rely on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgec.pipeline.bundle.write import artifact_files
from edgec.pipeline.core.store import Run
from edgec.pipeline.forms.memory import memory_fit
from edgec.pipeline.recipe import Recipe, TorchSource
from edgec.pipeline.release import Release


def make_result(release: Release, runs: Sequence[Run], folder: Path) -> dict[str, Any]:
    """The result of one build. Accuracies in percent, times in the unit of their name.

    ``float_layers`` lists what quantization left in float and why.
    """
    recipe, built = release.recipe, release.built
    report = json.loads((built.qdq.path / "report.json").read_text())
    size_bytes = sum(file.stat().st_size for file in artifact_files(built.binary))
    fit = memory_fit(size_bytes, release.placement.arena_bytes, recipe.target.device, *_size_of(recipe))
    return {
        "model": recipe.name,
        "version": release.version,
        "target": recipe.target.name,
        "weights": recipe.weights,
        "bundle": str(folder),
        "artifact": built.binary.path.name,
        "size_bytes": size_bytes,
        "accuracy": asdict(release.accuracy),
        "latency": asdict(release.latency),
        "build_seconds": {run.stage: round(run.seconds, 3) for run in runs},
        "cached_stages": [run.stage for run in runs if run.cached],
        "quantizer": recipe.quantizer,
        "precision": recipe.target.precision,
        "placement": asdict(release.placement),
        "memory": asdict(fit),
        "float_layers": report.get("float_layers", []),
        "notes": list(release.notes),
    }


def _size_of(recipe: Recipe) -> tuple[float, int]:
    """(width multiplier, input side) that the network was built with."""
    width = recipe.source.config.width_multiplier if isinstance(recipe.source, TorchSource) else 1.0
    return width, recipe.preprocess.crop_px
