"""From an image file to the network's input: declared with the model, shipped in the bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Preprocess:
    """Resize the short side, crop the centre, normalise. ``mean`` and ``std`` are on 0..255.

    Attributes:
        color: channel order, ``"RGB"`` or ``"BGR"``.
        resize_px: length of the short side after the bilinear resize.
        crop_px: side of the centre crop; the network's input size.
        mean: per channel, subtracted.
        std: per channel, divided by.
    """

    color: str = "RGB"
    resize_px: int = 256
    crop_px: int = 224
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)

    def pixels(self, path: Path) -> npt.NDArray[np.uint8]:
        """Read one image file as resized and cropped pixels, ``(H, W, 3)`` uint8 in ``color`` order.

        Raises:
            OSError: the file is no readable image (PIL's own error; ``data`` names the file).
        """
        from PIL import Image

        with Image.open(path) as file:
            image = file.convert("RGB")
        scale = self.resize_px / min(image.size)
        if scale != 1.0:
            width, height = (max(round(side * scale), self.crop_px) for side in image.size)
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (round((side - self.crop_px) / 2) for side in image.size)
        array = np.asarray(image.crop((left, top, left + self.crop_px, top + self.crop_px)))
        return array if self.color == "RGB" else np.ascontiguousarray(array[..., ::-1])

    def normalise(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """``(N, H, W, 3)`` uint8 pixels to the network's ``(N, 3, H, W)`` float32 input."""
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return np.ascontiguousarray(((pixels.astype(np.float32) - mean) / std).transpose(0, 3, 1, 2))
