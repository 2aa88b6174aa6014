"""A folder that leaves the choice of precision to the board: ``build_engine.py --precision auto``.

Which precision pays depends on the GPU: INT8 loses on depthwise convolutions on many. Accuracy does not, so it travels
with the files.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgec.targets.tensorrt.compiler import write_json
from edgec.targets.tensorrt.format import SCRIPT

TABLE = "candidates.json"


@dataclass(frozen=True)
class Candidate:
    """One precision of the same network.

    Attributes:
        folder: what ``compile_model`` made of it.
        loss_pp: points of top-1, or of agreement, that its reference loses against the float network.
    """

    folder: Path
    loss_pp: float


def with_candidates(own: str, candidates: Mapping[str, Candidate], output: Path) -> None:
    """Write the artifact of precision ``own`` with all the others in it.

    Without ``--precision`` ``build_engine.py`` builds ``own``, as it does from any other folder.
    """
    table = {}
    shutil.copytree(candidates[own].folder, output)
    for name, candidate in candidates.items():
        inside = "." if name == own else f"candidates/{name}"
        if name != own:
            shutil.copytree(candidate.folder, output / inside, ignore=shutil.ignore_patterns(SCRIPT.name))
        table[name] = {"folder": inside, "loss_pp": candidate.loss_pp}
    write_json(output / TABLE, table)


def candidates_in(artifact: Path) -> tuple[str, ...]:
    """The precisions that a folder holds; none but its own where nothing was left to the board."""
    table = artifact / TABLE
    return tuple(json.loads(table.read_text())) if table.is_file() else ()
