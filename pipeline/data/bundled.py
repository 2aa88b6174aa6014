"""The images that ship with edgec, for a network of one task."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from edgec.pipeline.data.dataset import Dataset, open_dataset, open_splits


def bundled_data(task: str | None) -> tuple[Dataset, Dataset]:
    """To calibrate and to test: scenes with masks for a network that segments, pictures of single parts for others.

    Where they lie is what ``calib_data/splits.py`` and ``scenes.py`` say, which draw them, and load SciPy for that.
    """
    stored = Path(str(resources.files("edgec.calib_data")))
    if task == "segmentation":
        return open_splits(stored / "scenes")
    return open_dataset(stored / "parts" / "calibration"), open_dataset(stored / "parts" / "test")
