"""``python -m edgec.calib_data.generate FOLDER``: draw the stored splits with masks and contact sheet, or scenes."""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from edgec.calib_data.scenes import STORED as SCENES
from edgec.calib_data.scenes import write_scenes
from edgec.calib_data.splits import LABELS, STORED, write_split


def write_stored(folder: Path) -> None:
    """Fill ``folder`` with ``calibration/``, ``test/``, ``masks/`` and ``classes.txt``, as in ``calib_data/parts``."""
    for split in STORED:
        write_split(split, folder / split, folder / "masks" / split)
    (folder / "classes.txt").write_text("\n".join(LABELS) + "\n", encoding="utf-8")


def contact_sheet(images: Path, columns: int = 8, rows_per_class: int = 2, cell_px: int = 112) -> Image.Image:
    """The first pictures of every class of a split's folder, classes in order from left to right."""
    rows = len(LABELS) // columns * rows_per_class
    sheet = Image.new("RGB", (columns * cell_px, rows * cell_px))
    for number, label in enumerate(LABELS):
        band, column = divmod(number, columns)
        for row, path in enumerate(sorted((images / label).iterdir())[:rows_per_class]):
            with Image.open(path) as picture:
                cell = picture.resize((cell_px, cell_px), Image.Resampling.LANCZOS)
            sheet.paste(cell, (column * cell_px, (band * rows_per_class + row) * cell_px))
    return sheet


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="calib_data/parts, or another folder to compare with it")
    parser.add_argument("--sheet", type=Path, metavar="FILE.jpg", help="contact sheet of the calibration set")
    parser.add_argument("--scenes", action="store_true", help="scenes of several parts instead, for segmentation")
    arguments = parser.parse_args()
    if arguments.scenes:
        for scenes in SCENES:
            write_scenes(arguments.folder, scenes)
    else:
        write_stored(arguments.folder)
    if arguments.sheet is not None:
        contact_sheet(arguments.folder / "calibration").save(arguments.sheet, quality=80)
