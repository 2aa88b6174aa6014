"""One build, judged where it runs: everything that is handed over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgec.pipeline.build import Built
from edgec.pipeline.bundle.manifest import BudgetVerdict
from edgec.pipeline.bundle.semver import FIRST
from edgec.pipeline.forms.adapter import Placement
from edgec.pipeline.forms.measure import Latency
from edgec.pipeline.recipe import Recipe
from edgec.pipeline.tasks.evaluate import Accuracy, Logits


@dataclass(frozen=True)
class Release:
    """What a bundle is written from.

    Attributes:
        golden: folder of golden vectors.
        sensitivity: the ranking of the layers, where it was asked for.
        logits: ``(N, classes)`` of the test images by form of the network: float, reference, target.
        notes: what every output must say about this build.
        made: files that a device made of the artifact, an engine say.
        version: semver of the bundle.
        budgets: verdicts, where the build was judged.
    """

    recipe: Recipe
    built: Built
    placement: Placement
    golden: Path
    logits: Mapping[str, Logits]
    accuracy: Accuracy
    latency: Latency
    notes: tuple[str, ...]
    sensitivity: Path | None = None
    made: tuple[Path, ...] = ()
    version: str = FIRST
    budgets: tuple[BudgetVerdict, ...] = ()
