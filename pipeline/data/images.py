"""Image files of every kind that people have, as 8-bit RGB: what cannot be read truly is refused by name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgec.pipeline.core.errors import EdgecError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What a file may hold, whatever it is called. Others would start programs (EPS) or need libraries."""

WHITE = 65_535
TELLS_RANGE = 16_383
"""A 16-bit picture with a brighter value has the range 0..65535; else its values may be of 10, 12 or 14 bits."""

_ORIENTATION = 0x0112
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    struct.error,
    zlib.error,
)
"""What PIL raises for a damaged file, by format."""


Mode = Literal["RGB", "RGBA"]


def read_rgb(path: Path, mode: Mode = "RGB") -> Image:
    """The first frame of a file, upright, as mode ``RGB`` or ``RGBA``.

    EXIF orientation is applied. In ``RGB`` alpha is dropped: a transparent pixel has the colour that is stored under
    it; in ``RGBA`` a picture without alpha is opaque. Palettes, CMYK, one bit and 8-bit greyscale become RGB as PIL
    converts them. Greyscale of 16 bits is scaled by 1/257.

    Raises:
        EdgecError: ``unreadable-image`` names the file: damaged, of another format, larger than PIL's limit, or with
            values whose range it does not tell.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as file:
            return _upright(file, _to_rgb(file, path, mode))
    except Image.DecompressionBombError as error:
        hint = "scale it down, or remove this file"
        raise EdgecError("unreadable-image", f"the image '{path}' is too large: {error}", hint) from error
    except _DAMAGE as error:
        raise EdgecError(
            "unreadable-image",
            f"cannot read the image '{path}': {error or type(error).__name__}",
            "replace or remove this file",
        ) from error


def _to_rgb(file: Image, path: Path, mode: Mode) -> Image:
    """PIL keeps the upper byte of a colour picture of 16 bits, and greyscale of more than 8 bits as it is stored."""
    if file.mode.startswith(("I", "F")):
        return _from_wide(file, path).convert(mode)
    is_wide = file.format in ("PNG", "TIFF") and ";16" in str(getattr(file, "tile", ""))
    image = (file.convert("RGBA") if "transparency" in file.info else file).convert(mode)
    if is_wide:
        _check_range(int(np.asarray(image)[..., :3].max()) * 257, path)
    return image


def _from_wide(file: Image, path: Path) -> Image:
    from PIL import Image

    values = np.asarray(file)
    low, high = values.min(), values.max()
    if file.mode == "F" or not 0 <= low <= high <= WHITE:
        message = f"the image '{path}' has pixels of {low} to {high} in mode {file.mode}, expected 0 to {WHITE}"
        raise EdgecError("unreadable-image", message, "save it with 8 or 16 bits")
    if file.format != "PPM":  # which states its range, and PIL scales by it
        _check_range(int(high), path)
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


def _check_range(high: int, path: Path) -> None:
    if 0 < high <= TELLS_RANGE:
        message = f"the image '{path}' has 16 bits, but no value above {high}: 10, 12 or 14 bits, or a dark picture?"
        raise EdgecError("unreadable-image", message, f"scale its values to 0..{WHITE}, or save it with 8 bits")


def _upright(file: Image, image: Image) -> Image:
    """``image`` turned as the EXIF block of its file says; a block that cannot be read says nothing."""
    from PIL.Image import Transpose

    turns = (
        Transpose.FLIP_LEFT_RIGHT,
        Transpose.ROTATE_180,
        Transpose.FLIP_TOP_BOTTOM,
        Transpose.TRANSPOSE,
        Transpose.ROTATE_270,
        Transpose.TRANSVERSE,
        Transpose.ROTATE_90,
    )
    try:
        orientation = file.getexif().get(_ORIENTATION, 1)
    except _DAMAGE:
        return image
    return image.transpose(turns[orientation - 2]) if orientation in range(2, 9) else image
