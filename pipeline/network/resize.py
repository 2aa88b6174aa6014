"""Where Resize reads: source positions along one axis (ONNX Resize, operator set 13)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.float32]


def source_positions(attributes: Mapping[str, Any], size: int, output_size: int, scale: float) -> Positions:
    """Coordinates by ``coordinate_transformation_mode``, ``(output_size,)``, in float32 as runtimes compute them.

    Args:
        scale: as the node states it; ``output_size / size`` where it states sizes.

    Returns:
        NaN for a mode that depends on more than one axis.
    """
    mode = attributes.get("coordinate_transformation_mode", "half_pixel")
    at, step, half = np.arange(output_size, dtype=np.float32), np.float32(scale), np.float32(0.5)
    found = np.full(output_size, np.nan, np.float32)
    if mode == "align_corners":
        found = at * np.float32(size - 1) / np.float32(max(output_size - 1, 1))
    elif mode == "asymmetric":
        found = at / step
    elif mode == "half_pixel" or (mode == "pytorch_half_pixel" and output_size > 1):
        found = (at + half) / step - half
    elif mode == "pytorch_half_pixel":
        found = np.zeros(output_size, np.float32)
    return found


def linear_positions(attributes: Mapping[str, Any], size: int, output_size: int, scale: float) -> Positions:
    """Coordinates that the two neighbours of linear interpolation are read at; beyond an edge is the edge."""
    clipped: Positions = np.clip(source_positions(attributes, size, output_size, scale), 0, size - 1)
    return clipped


def nearest_positions(attributes: Mapping[str, Any], size: int, output_size: int, scale: float) -> Positions:
    """Whole coordinates by ``nearest_mode``."""
    position = source_positions(attributes, size, output_size, scale)
    rounded = {
        "floor": np.floor(position),
        "ceil": np.ceil(position),
        "round_prefer_floor": np.ceil(position - 0.5),
        "round_prefer_ceil": np.floor(position + 0.5),
    }[attributes.get("nearest_mode", "round_prefer_floor")]
    picked: Positions = np.clip(rounded, 0, size - 1)
    return picked
