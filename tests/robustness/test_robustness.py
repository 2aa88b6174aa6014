"""A small, seeded part of the campaign in ``benchmarks/robustness.py``: every class, on every run of the tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from attacks.campaign import KINDS
from attacks.material import make_material
from places import ROOT

TRIES = {"boards": 4, "archives": 6, "bundle-bytes": 6, "signatures": 6, "hostile-bundles": 6, "surroundings": 4}
FEW = 2  # of every class that builds


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("openvino")
    return make_material(tmp_path_factory.mktemp("robustness") / "material")


@pytest.mark.parametrize("kind", KINDS)
def test_edgec_survives(kind: str, material: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "robustness.py"), "--json", "--classes", kind]
    command += ["--tries", str(TRIES.get(kind, FEW)), "--material", str(material)]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)[kind]
    assert (found["tried"], found["failures"]) == (TRIES.get(kind, FEW), {})
