"""Masks: one class for each pixel of a picture, read from indices or colours, and placed like the picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.preprocess import Preprocess

VOID = 255
"""The class of pixels that nobody judges, in every class map of edgec."""

VOID_NAMES = frozenset({"void", "ignore", "ignored", "unlabeled", "unlabelled"})

_ORIENTATION, _FIRST_TURNED = 0x0112, 5  # of EXIF: 5 to 8 swap width and height

ClassMap = npt.NDArray[np.uint8]
"""Classes ``(H, W)``, ``VOID`` where there is none."""


@dataclass(frozen=True)
class Coding:
    """How a mask file names classes. Without fields a pixel's value is its class, and 255 is void.

    Attributes:
        classes: the class of each stored value, or of each colour; other values are void where it is given.
        colors: RGB by position in ``classes``; empty where masks hold indices.
    """

    classes: tuple[int, ...] = ()
    colors: tuple[tuple[int, int, int], ...] = ()

    @property
    def is_grey(self) -> bool:
        """All its colours are levels of grey; else a greyscale mask holds indices."""
        return all(red == green == blue for red, green, blue in self.colors)


INDICES = Coding()


def read_mask(path: Path, coding: Coding) -> ClassMap:
    """One mask as it is stored, its palette only read where the coding has colours.

    Raises:
        EdgecError: ``bad-mask``: damaged, in colours that nothing explains, or one not in the palette.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG", "BMP", "TIFF", "GIF")) as file:
            if coding.colors and (file.mode not in ("1", "L") or coding.is_grey):
                values = _from_colors(np.asarray(file.convert("RGB")), coding.colors, path)
            else:
                values = _indices(np.asarray(file), path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise EdgecError("bad-mask", f"cannot read the mask '{path}': {error}", "replace or remove it") from error
    if not coding.classes:
        return values
    table = np.full(256, VOID, np.uint8)
    table[: len(coding.classes)] = coding.classes
    return np.asarray(table[values])


def placed(mask: ClassMap, preprocess: Preprocess) -> ClassMap:
    """The mask through the picture's own resize, crop and padding; nearest neighbour, void where a letterbox pads.

    Pixel centres lie where Pillow's filters put them: source ``floor((i + 0.5) * length / resized)``.
    """
    _, out_rows, out_columns = preprocess.shape
    (width, height), (left, top) = preprocess.place(mask.shape[1], mask.shape[0])
    rows, row_inside = _sources(top, out_rows, height, mask.shape[0])
    columns, column_inside = _sources(left, out_columns, width, mask.shape[1])
    inside = row_inside[:, None] & column_inside[None, :]
    return np.where(inside, mask[rows[:, None], columns[None, :]], np.uint8(VOID))


def fitted(mask: ClassMap, shape: tuple[int, int]) -> ClassMap:
    """The map at another size, by nearest neighbour."""
    if mask.shape == shape:
        return mask
    rows, columns = (_sources(0, side, side, length)[0] for side, length in zip(shape, mask.shape, strict=True))
    return np.ascontiguousarray(mask[rows[:, None], columns[None, :]])


def read_truth(root: Path, file: str, mask: str, coding: Coding, preprocess: Preprocess) -> ClassMap:
    """The mask of a picture ``(H, W)`` as the network sees it.

    Raises:
        EdgecError: ``bad-mask``, also where it has another size than its picture, EXIF orientation applied.
    """
    found = read_mask(root / mask, coding)
    width, height = _shown_size(root / file)
    if found.shape != (height, width):
        message = f"the mask '{root / mask}' is {found.shape[1]} x {found.shape[0]}, its picture {width} x {height}"
        raise EdgecError("bad-mask", message, "masks have the size of their pictures as these are shown")
    return placed(found, preprocess)


def _shown_size(picture: Path) -> tuple[int, int]:
    """(width, height) once it is turned upright; 0 where the file cannot be read, which its own reader says better."""
    from PIL import Image

    try:
        with Image.open(picture) as file:
            turned = file.getexif().get(_ORIENTATION, 1) >= _FIRST_TURNED
            return file.size[::-1] if turned else file.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 0, 0


def _sources(start: int, count: int, resized: int, length: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Of one axis: the stored pixel of each of ``count`` pixels from ``start``, and which of them lie in the mask."""
    position = np.arange(start, start + count)
    found = (2 * position + 1) * length // (2 * resized)
    return np.clip(found, 0, length - 1), (position >= 0) & (position < resized)


def _indices(values: npt.NDArray[np.generic], path: Path) -> ClassMap:
    if values.ndim != 2:
        hint = "describe the colours in palette.csv: name,red,green,blue"
        raise EdgecError("bad-mask", f"the mask '{path}' is in colours, and no palette says what they mean", hint)
    if values.dtype != np.uint8 and values.dtype != np.bool_ and int(values.max()) > VOID:
        message = f"the mask '{path}' has the value {int(values.max())}, expected 0 to {VOID}"
        raise EdgecError("bad-mask", message, "save indices of 8 bits")
    return values.astype(np.uint8)


def _from_colors(pixels: npt.NDArray[np.uint8], colors: tuple[tuple[int, int, int], ...], path: Path) -> ClassMap:
    codes = pixels.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    known = np.array(colors, np.int64) @ np.array([1 << 16, 1 << 8, 1])
    order = np.argsort(known, kind="stable")
    found = order[np.clip(np.searchsorted(known[order], codes), 0, len(known) - 1)]
    wrong = known[found] != codes
    if wrong.any():
        red, green, blue = pixels[wrong][0].tolist()
        message = f"the mask '{path}' has the colour ({red}, {green}, {blue}), which is not in the palette"
        raise EdgecError("bad-mask", message, "add the colour, or save the mask without smoothing and as PNG")
    return np.asarray(found, np.uint8)
