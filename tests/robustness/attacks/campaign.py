"""All classes of attacks, and how a number of tries is made of each."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from attacks import boards, handed_over, inputs, stores, surroundings
from attacks.trial import Attack, Trial


@dataclass(frozen=True)
class Kind:
    """One row of the table.

    Attributes:
        at_least: tries of a whole campaign.
    """

    attack: Attack
    at_least: int
    words: str


KINDS = {
    "kill": Kind(stores.kill, 200, "kill -9 at a random moment of a whole build; then run to the end"),
    "sigint": Kind(stores.sigint, 100, "SIGINT at a random moment of a whole build"),
    "sigterm": Kind(stores.sigterm, 100, "SIGTERM, the same"),
    "sighup": Kind(stores.sighup, 100, "SIGHUP, the same"),
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
    "builders": Kind(stores.builders, 20, "eight builders on one store, killed at random; then run to the end"),
}


@dataclass
class Tally:
    """Of one kind: tries and what went wrong, by seed."""

    tried: int = 0
    failures: dict[int, str] = field(default_factory=dict)

    @property
    def survived(self) -> int:
        return self.tried - len(self.failures)


def tries(kind: Kind, material: Path, seeds: Iterable[int], until: float = float("inf")) -> Iterator[tuple[int, str]]:
    """(seed, what went wrong) of each try, until the clock ``time.monotonic`` says ``until``."""
    for seed in seeds:
        folder = Path(tempfile.mkdtemp(prefix="attack-"))
        try:
            yield seed, kind.attack(Trial(material, folder, random.Random(seed)))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > until:
            return
