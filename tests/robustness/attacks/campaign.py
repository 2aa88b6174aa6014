"""All classes of attacks, and how a number of tries is made of each."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from attacks import boards, handed_over, inputs, stores, surroundings
from attacks.forked import Forks
from attacks.trial import Attack, Trial


@dataclass(frozen=True)
class Kind:
    """One row of the table.

    Attributes:
        at_least: tries of a whole campaign.
        fresh_every: one try of so many runs edgec in new interpreters.
    """

    attack: Attack
    at_least: int
    words: str
    fresh_every: int = 50


KINDS = {
    "kill": Kind(stores.kill, 200, "kill -9 at a random moment of a whole build; then run to the end", 5),
    "sigint": Kind(stores.sigint, 100, "SIGINT at a random moment of a whole build", 5),
    "sigterm": Kind(stores.sigterm, 100, "SIGTERM, the same", 5),
    "sighup": Kind(stores.sighup, 100, "SIGHUP, the same", 5),
    "onnx": Kind(inputs.onnx_file, 3000, "mutated ONNX files, inspected and built"),
    "weights": Kind(inputs.weights_file, 1500, "mutated checkpoints, built"),
    "toml": Kind(inputs.toml_file, 1500, "mutated model and board files, built"),
    "pictures": Kind(inputs.picture, 500, "mutated pictures, run and built"),
    "folders": Kind(inputs.folder_of_pictures, 500, "labels.csv, classes.txt and folders, built"),
    "archives": Kind(handed_over.archive, 1000, "mutated archives, unpacked over a good bundle"),
    "bundle-bytes": Kind(handed_over.bundle_bytes, 2000, "changed files of a bundle, verified by edgec and verify.py"),
    "hostile-bundles": Kind(handed_over.hostile_bundle, 300, "bundles whose digests fit and whose content does not"),
    "signatures": Kind(handed_over.signature, 100, "changed signatures and keys, by edgec and verify.py"),
    "store-bytes": Kind(stores.store_bytes, 300, "a byte of a store's file changed, then built"),
    "surroundings": Kind(surroundings.odd_place, 60, "full, read-only and foreign folders, odd paths and locales"),
    "boards": Kind(boards.hostile_board, 100, "hostile boards behind ssh, broken keys and configuration"),
    "builders": Kind(stores.builders, 20, "eight builders on one store, killed at random; then run to the end", 10),
}


@dataclass(frozen=True)
class Field:
    """Where tries are made.

    Attributes:
        folder: for their own folders.
        material: see ``material.py``.
    """

    folder: Path
    material: Path
    forks: Forks


def tries(kind: Kind, field: Field, seeds: Iterable[int]) -> Iterator[tuple[int, str]]:
    """(seed, what went wrong) of each."""
    for seed in seeds:
        around = Path(tempfile.mkdtemp(prefix="attack-", dir=field.folder))
        fresh = seed % kind.fresh_every == kind.fresh_every - 1
        trial = Trial(field.material, around / "try", random.Random(seed), field.forks, fresh=fresh)
        trial.prepare()
        before = _outside(trial)
        try:
            wrong = kind.attack(trial) or trial.residue()
            changed = sorted(name for name, _ in before ^ _outside(trial))
            yield seed, wrong or (f"touched outside: {changed[:3]}" if changed else "")
        finally:
            shutil.rmtree(around, ignore_errors=True)


def _outside(trial: Trial) -> set[tuple[str, tuple[int, ...]]]:
    """Names around the trial's folder and in the material, each with what any change of it changes."""
    paths = [*trial.folder.parent.iterdir(), *trial.material.rglob("*")]
    states = {path: path.lstat() for path in paths if path != trial.folder}
    return {(str(path), (state.st_ino, state.st_size, state.st_ctime_ns)) for path, state in states.items()}
