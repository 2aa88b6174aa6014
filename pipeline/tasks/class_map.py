"""Class maps as pictures: colours, overlays, and input, truth, float, INT8 and their difference side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgec.pipeline.data.mask_layouts import voc_color
from edgec.pipeline.data.masks import VOID, fitted

Picture = npt.NDArray[np.uint8]
"""``(H, W, 3)`` RGB."""

OPACITY = 0.6
PANEL_PX = 160
EQUAL, DIFFERENT = 40, (255, 64, 64)


def colored(classes: npt.NDArray[Any]) -> Picture:
    """Every class in its colour of Pascal VOC's palette, void in white."""
    table = np.array([voc_color(index) for index in range(VOID + 1)], np.uint8)
    table[VOID] = 255
    return np.asarray(table[np.minimum(classes, VOID)])


def overlay(picture: Picture, classes: npt.NDArray[Any]) -> Picture:
    """The map over the picture; class 0, the background by convention, leaves it as it is."""
    fit = fitted(np.asarray(classes, np.uint8), picture.shape[:2])
    mixed = (1 - OPACITY) * picture + OPACITY * colored(fit)
    return np.where((fit == 0)[..., None], picture, np.rint(mixed).astype(np.uint8))


def difference(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> Picture:
    """Red where two maps answer unlike each other, dark grey elsewhere."""
    return np.where((one != other)[..., None], np.array(DIFFERENT), EQUAL).astype(np.uint8)


def strip(panels: Sequence[Picture]) -> Picture:
    """Panels of ``PANEL_PX`` side by side, by nearest neighbour: no colour is made up."""
    small = [fitted_picture(panel, PANEL_PX) for panel in panels]
    return np.ascontiguousarray(np.concatenate(small, axis=1))


def fitted_picture(picture: Picture, height: int) -> Picture:
    """The picture at a height, its sides in proportion."""
    shape = height, max(1, round(picture.shape[1] * height / picture.shape[0]))
    return np.stack([fitted(picture[..., channel], shape) for channel in range(3)], axis=-1)
