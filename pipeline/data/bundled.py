"""The images that ship with edgec, for a network of one task."""

from __future__ import annotations

from edgec.pipeline.data.dataset import Dataset, open_dataset, open_splits


def bundled_data(task: str | None) -> tuple[Dataset, Dataset]:
    """To calibrate and to test: scenes with masks for a network that segments, pictures of single parts for others."""
    from edgec.calib_data.scenes import scenes_dir
    from edgec.calib_data.splits import parts_dir

    if task == "segmentation":
        return open_splits(scenes_dir())
    return open_dataset(parts_dir("calibration")), open_dataset(parts_dir("test"))
