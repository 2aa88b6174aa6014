"""``python -m edgec.calib_data.generate FOLDER``: draw the stored splits, with masks and the list of classes."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgec.calib_data.splits import LABELS, STORED, write_split


def write_stored(folder: Path) -> None:
    """Fill ``folder`` with ``calibration/``, ``test/``, ``masks/`` and ``classes.txt``, as in ``calib_data/parts``."""
    for split in STORED:
        write_split(split, folder / split, folder / "masks" / split)
    (folder / "classes.txt").write_text("\n".join(LABELS) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="calib_data/parts, or another folder to compare with it")
    write_stored(parser.parse_args().folder)
