"""From an image file to the network's input: declared with the model, shipped in the bundle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.errors import nearest_hint

if TYPE_CHECKING:
    from PIL.Image import Image

COLORS = ("RGB", "BGR")
MAX_CROP_PX, MAX_RESIZE_PX = 8192, 65_536
MAX_SHIFT, MIN_SCALE, MAX_SCALE = 1e6, 1e-6, 1e6
"""Beyond these the input of 0..255 is lost in float32."""
MAX_RESIZED = 1 << 25
"""Pixels of a whole resized picture; a longer one is cropped first."""


@dataclass(frozen=True)
class Preprocess:
    """Resize the short side, crop the centre, normalise. ``mean`` and ``std`` are on 0..255.

    A picture whose short side is less than ``resize_px`` is enlarged, so that the crop always lies inside it.

    Attributes:
        color: channel order, ``"RGB"`` or ``"BGR"``.
        resize_px: length of the short side after the bilinear resize.
        crop_px: side of the centre crop; the network's input size.
        mean: per channel, subtracted.
        std: per channel, divided by.

    Raises:
        ValueError: a value that is out of range. ``toml_file.validate`` turns it into the error of the file that says
            so: a card, a ``model.toml`` and a bundle's manifest share these rules.
    """

    color: str = "RGB"
    resize_px: int = 256
    crop_px: int = 224
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)

    def __post_init__(self) -> None:
        if self.color not in COLORS:
            raise ValueError(f"color is '{self.color[:20]}', {nearest_hint(self.color[:20].upper(), COLORS)}")
        if not 1 <= self.crop_px <= MAX_CROP_PX:
            raise ValueError(f"crop_px is {self.crop_px}, expected 1 to {MAX_CROP_PX}")
        if not 1 <= self.resize_px <= MAX_RESIZE_PX:
            raise ValueError(f"resize_px is {self.resize_px}, expected 1 to {MAX_RESIZE_PX}")
        if self.resize_px < self.crop_px:
            raise ValueError(f"resize_px {self.resize_px} is smaller than crop_px {self.crop_px}")
        if not all(-MAX_SHIFT <= value <= MAX_SHIFT for value in self.mean):
            raise ValueError(f"mean is {self.mean}, expected numbers on 0..255")
        if not all(MIN_SCALE <= value <= MAX_SCALE for value in self.std):
            raise ValueError(f"std is {self.std}, and each std has to be positive, on 0..255")

    def pixels(self, path: Path) -> npt.NDArray[np.uint8]:
        """Read one image file as resized and cropped pixels, ``(H, W, 3)`` uint8 in ``color`` order.

        Raises:
            EdgecError: ``unreadable-image``.
        """
        from PIL import Image

        from edgec.pipeline.data.images import read_rgb

        image, crop = read_rgb(path), self.crop_px
        scale = self.resize_px / min(image.size)
        width, height = (round(side * scale) for side in image.size)
        left, top = round((width - crop) / 2), round((height - crop) / 2)
        if scale != 1.0 and width * height > MAX_RESIZED:
            image = _window(image, (image.width / width, image.height / height), (left, top), crop)
        else:
            if scale != 1.0:
                image = image.resize((width, height), Image.Resampling.BILINEAR)
            image = image.crop((left, top, left + crop, top + crop))
        array = np.asarray(image)
        return array if self.color == "RGB" else np.ascontiguousarray(array[..., ::-1])

    def normalise(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """``(N, H, W, 3)`` uint8 pixels to the network's ``(N, 3, H, W)`` float32 input."""
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return np.ascontiguousarray(((pixels.astype(np.float32) - mean) / std).transpose(0, 3, 1, 2))


def _window(image: Image, steps: tuple[float, float], start: tuple[int, int], side: int) -> Image:
    """The square at ``start`` of the resized picture, made from the part of ``image`` that it shows.

    Args:
        steps: pixels of ``image`` for one pixel of the resized picture, along and down.
    """
    from PIL import Image

    (x0, x1, left, right), (y0, y1, top, bottom) = (
        _shown(begin, step, side, length) for begin, step, length in zip(start, steps, image.size, strict=True)
    )
    return image.crop((x0, y0, x1, y1)).resize((side, side), Image.Resampling.BILINEAR, (left, top, right, bottom))


def _shown(start: int, step: float, side: int, length: int) -> tuple[int, int, float, float]:
    """Of one axis: the pixels that the filter sees, from and to, and in them the ends of the square."""
    low, high, support = start * step, (start + side) * step, math.ceil(max(step, 1.0)) + 1
    first, last = max(0, math.floor(low) - support), min(length, math.ceil(high) + support)
    return first, last, low - first, high - first
