"""From an image file to the network's input: declared with the model, shipped in the bundle."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.errors import nearest_hint

if TYPE_CHECKING:
    from PIL.Image import Image

CHANNELS = {"RGB": 3, "BGR": 3, "GRAY": 1, "RGBA": 4}
COLORS = tuple(CHANNELS)
RESIZES = ("short-side", "stretch", "letterbox")
REACH = {"nearest": 1, "box": 1, "bilinear": 1, "hamming": 1, "bicubic": 2, "lanczos": 3}
"""Pillow's filters, and how many pixels each sees to a side."""
MAX_CROP_PX, MAX_RESIZE_PX = 8192, 65_536
MAX_SHIFT, MIN_SCALE, MAX_SCALE = 1e6, 1e-6, 1e6
"""Beyond these the input of 0..255 is lost in float32."""
MAX_RESIZED = 1 << 25
"""Pixels of a whole resized picture; a longer one is cropped first."""

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Preprocess:
    """Resize, crop the centre or pad, normalise. ``mean`` and ``std`` are on 0..255.

    The resizes:

    - ``short-side``: the short side becomes ``resize_px``, then the centre is cropped. A picture that would not cover
      the input then is enlarged until it does, so that the crop always lies inside it.
    - ``stretch``: width and height are scaled each for itself, to the input's shape with ``resize_px`` as its short
      side; then the centre is cropped.
    - ``letterbox``: the largest size of the picture that fits into the input, its longer side exactly, the other
      rounded half up, and at least one pixel. What remains is padded, half of it rounded down at the left and top.

    Attributes:
        color: channel order, ``"RGB"``, ``"BGR"``, ``"GRAY"`` (ITU-R 601 luma, as Pillow computes it) or ``"RGBA"``.
        resize_px: length of the short side after the resize.
        crop_px: side of a square input; None where ``height_px`` and ``width_px`` are told.
        mean: per channel, subtracted.
        std: per channel, divided by.
        height_px: of an input that is no square, with ``width_px``.
        resize: ``"short-side"``, ``"stretch"`` or ``"letterbox"``.
        interpolation: one of Pillow's filters, in lower case.
        pad_color: of a letterbox, per channel in the order of ``color``; black, and opaque, where None.

    Raises:
        ValueError: a value that is out of range. ``toml_file.validate`` turns it into the error of the file that says
            so: a card, a ``model.toml`` and a bundle's manifest share these rules.
    """

    color: str = "RGB"
    resize_px: int = 256
    crop_px: int | None = 224
    mean: Numbers = (123.675, 116.28, 103.53)
    std: Numbers = (58.395, 57.12, 57.375)
    height_px: int | None = None
    width_px: int | None = None
    resize: str = "short-side"
    interpolation: str = "bilinear"
    pad_color: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name, known in (("color", COLORS), ("resize", RESIZES), ("interpolation", tuple(REACH))):
            _check_name(name, getattr(self, name), known)
        self._check_sizes()
        channels = CHANNELS[self.color]
        for name, values in (("mean", self.mean), ("std", self.std), ("pad_color", self.pad_color)):
            if values is not None and len(values) != channels:
                raise ValueError(f"{name} has {len(values)} numbers, and {self.color} has {channels}")
        if not all(-MAX_SHIFT <= value <= MAX_SHIFT for value in self.mean):
            raise ValueError(f"mean is {self.mean}, expected numbers on 0..255")
        if not all(MIN_SCALE <= value <= MAX_SCALE for value in self.std):
            raise ValueError(f"std is {self.std}, and each std has to be positive, on 0..255")
        if self.pad_color is not None and self.resize != "letterbox":
            raise ValueError(f"pad_color is told, and resize '{self.resize}' pads nothing")
        if not all(0 <= value <= 255 for value in self.pad_color or ()):
            raise ValueError(f"pad_color is {self.pad_color}, expected pixels of 0 to 255")

    def _check_sizes(self) -> None:
        sides = [("crop_px", self.crop_px), ("height_px", self.height_px), ("width_px", self.width_px)]
        told = [name for name, side in sides if side is not None]
        if told not in (["crop_px"], ["height_px", "width_px"]):
            raise ValueError(f"{', '.join(told) or 'no size'} told, expected crop_px, or height_px and width_px")
        for name, side in sides:
            if side is not None and not 1 <= side <= MAX_CROP_PX:
                raise ValueError(f"{name} is {side}, expected 1 to {MAX_CROP_PX}")
        if not 1 <= self.resize_px <= MAX_RESIZE_PX:
            raise ValueError(f"resize_px is {self.resize_px}, expected 1 to {MAX_RESIZE_PX}")
        _, height, width = self.shape
        short = min(height, width)
        if self.resize_px < short:
            name = "crop_px" if height == width else "the input's short side"
            raise ValueError(f"resize_px {self.resize_px} is smaller than {name} {short}")
        if self.resize == "letterbox" and self.resize_px != short:
            raise ValueError(f"resize_px is {self.resize_px}, and a letterbox crops nothing: leave it away")

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of the network's input."""
        return CHANNELS[self.color], self.crop_px or self.height_px or 0, self.crop_px or self.width_px or 0

    @property
    def padding(self) -> tuple[int, ...]:
        """The pixel around a letterbox, in the order of ``color``."""
        return self.pad_color or (0, 0, 0, 255)[: CHANNELS[self.color]]

    @property
    def geometry(self) -> str:
        """What happens to a picture before it is normalised, in words."""
        _, height, width = self.shape
        sides = f"{height} x {width}" + ("" if height == width else " (height x width)")
        if self.resize == "letterbox":
            return f"scaled to fit into {sides} ({self.interpolation}), the rest padded with {list(self.padding)}"
        if self.resize == "stretch":
            columns, rows = self.place(1, 1)[0]
            resized = f"stretched to {rows} x {columns} pixels ({self.interpolation})"
        else:
            resized = f"short side to {self.resize_px} pixels ({self.interpolation})"
        return f"{resized}, {sides} from the centre"

    def stated(self) -> dict[str, Any]:
        """As files keep it: the fields of the first format always, later ones where they say something."""
        first = ("color", "resize_px", "crop_px", "mean", "std")
        told = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {name: value for name, (value, default) in told.items() if name in first or value != default}

    def place(self, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Of a whole picture: (width, height) after the resize, and where in it the input begins, (left, top).

        The beginning is negative, or zero, where a letterbox pads.
        """
        _, rows, columns = self.shape
        if self.resize == "letterbox":
            size = letterboxed(width, height, columns, rows)
            return size, (-((columns - size[0]) // 2), -((rows - size[1]) // 2))
        if self.resize == "stretch":
            scale = self.resize_px / min(rows, columns)
            size = round(columns * scale), round(rows * scale)
        else:
            scale = max(self.resize_px / min(width, height), columns / width, rows / height)
            size = round(width * scale), round(height * scale)
        return size, (round((size[0] - columns) / 2), round((size[1] - rows) / 2))

    def pixels(self, path: Path) -> npt.NDArray[np.uint8]:
        """Read one image file as resized and cropped or padded pixels, ``(H, W, C)`` uint8 in ``color`` order.

        Raises:
            EdgecError: ``unreadable-image``.
        """
        from edgec.pipeline.data.images import read_rgb

        return self.pixels_of(read_rgb(path, self.mode))

    @property
    def mode(self) -> Literal["RGB", "RGBA"]:
        """How a picture is read, whatever its file holds."""
        return "RGBA" if self.color == "RGBA" else "RGB"

    def pixels_of(self, image: Image) -> npt.NDArray[np.uint8]:
        """The same of a picture that was read as ``mode``."""
        array = np.asarray(self._placed(image.convert("L") if self.color == "GRAY" else image))
        array = array[..., None] if array.ndim == 2 else array
        return np.ascontiguousarray(array[..., ::-1]) if self.color == "BGR" else array

    def _placed(self, image: Image) -> Image:
        from PIL import Image

        _, rows, columns = self.shape
        size, (left, top) = self.place(*image.size)
        kernel = Image.Resampling[self.interpolation.upper()]
        if self.resize == "letterbox":
            pad = self.padding[::-1] if self.color == "BGR" else self.padding
            canvas = Image.new(image.mode, (columns, rows), pad if len(pad) > 1 else pad[0])
            canvas.paste(image.resize(size, kernel), (-left, -top))
            return canvas
        if image.size != size and math.prod(size) > MAX_RESIZED:
            steps = image.width / size[0], image.height / size[1]
            return _window(image, steps, (left, top), (columns, rows), self.interpolation)
        if image.size != size:
            image = image.resize(size, kernel)
        return image.crop((left, top, left + columns, top + rows))

    def rgb(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """``(H, W, C)`` pixels in ``color`` order as people see them, ``(H, W, 3)``."""
        if self.color == "GRAY":
            return np.repeat(pixels, 3, axis=-1)
        return np.ascontiguousarray(pixels[..., ::-1] if self.color == "BGR" else pixels[..., :3])

    def normalise(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """``(N, H, W, C)`` uint8 pixels to the network's ``(N, C, H, W)`` float32 input."""
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        table = (np.arange(256, dtype=np.float32) - mean[:, None]) / std[:, None]  # of each value a pixel can have
        found = np.empty((len(pixels), len(mean), *pixels.shape[1:3]), np.float32)
        for channel, values in enumerate(table):
            found[:, channel] = values[pixels[..., channel]]
        return found


def letterboxed(width: int, height: int, columns: int, rows: int) -> tuple[int, int]:
    """(width, height) of the largest picture of this shape in ``columns`` x ``rows``, in integers alone."""
    if width * rows >= height * columns:
        return columns, max(1, (2 * height * columns + width) // (2 * width))
    return max(1, (2 * width * rows + height) // (2 * height)), rows


def _check_name(field: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        near = name[:20].upper() if known is COLORS else name[:20].lower()
        raise ValueError(f"{field} is '{name[:20]}', {nearest_hint(near, known)}")


def _window(
    image: Image, steps: tuple[float, float], start: tuple[int, int], sides: tuple[int, int], interpolation: str
) -> Image:
    """The rectangle at ``start`` of the resized picture, made from the part of ``image`` that it shows.

    Args:
        steps: pixels of ``image`` for one pixel of the resized picture, along and down.
        sides: of the rectangle, along and down.
    """
    from PIL import Image

    reach = REACH[interpolation]
    (x0, x1, left, right), (y0, y1, top, bottom) = (
        _shown(begin, step, side, length, reach)
        for begin, step, side, length in zip(start, steps, sides, image.size, strict=True)
    )
    part = image.crop((x0, y0, x1, y1))
    return part.resize(sides, Image.Resampling[interpolation.upper()], (left, top, right, bottom))


def _shown(start: int, step: float, side: int, length: int, reach: int) -> tuple[int, int, float, float]:
    """Of one axis: the pixels that the filter sees, from and to, and in them the ends of the rectangle."""
    low, high, support = start * step, (start + side) * step, math.ceil(max(step, 1.0) * reach) + 1
    first, last = max(0, math.floor(low) - support), min(length, math.ceil(high) + support)
    return first, last, low - first, high - first
