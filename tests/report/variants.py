"""Builds of hand-made answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgec.pipeline.report.findings import Findings
from edgec.pipeline.tasks.classification import Predictions

Variant = Callable[..., Findings]
LABELS = ("bolt", "nut", "stud")


def predictions(labels: list[int], float_said: list[int], said: list[int]) -> Predictions:
    """What three forms named, reference and artifact alike."""
    return Predictions(
        tuple(f"{i}.png" for i in range(len(labels))),
        np.array(labels),
        {"float": np.array(float_said), "reference": np.array(said), "target": np.array(said)},
        {},
    )
