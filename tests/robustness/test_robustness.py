"""A small, seeded part of the campaign in ``benchmarks/robustness.py``: every class, on every run of the tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

TRIES = {
    **{"archives": 4, "bundle-bytes": 6, "hostile-bundles": 6, "signatures": 4, "boards": 2, "surroundings": 4},
    **{"onnx": 6, "weights": 3, "toml": 4, "pictures": 2, "folders": 3, "store-bytes": 2},
    **{"kill": 2, "sigint": 2, "sigterm": 2, "sighup": 2, "builders": 1},
}


def test_edgec_survives_every_class_of_attack(tmp_path: Path) -> None:
    """One process for all: what it imports is the larger part of a minute."""
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("openvino")
    tries = ",".join(f"{name}={number}" for name, number in TRIES.items())
    command = [sys.executable, str(ROOT / "benchmarks" / "robustness.py"), "--json", "--folder", str(tmp_path)]
    done = subprocess.run(
        [*command, "--tries", tries], cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    outcomes = json.loads(done.stdout)
    assert {name: len(one) for name, one in outcomes.items()} == TRIES
    assert [(name, seed, wrong) for name, one in outcomes.items() for seed, wrong in one.items() if wrong] == []
