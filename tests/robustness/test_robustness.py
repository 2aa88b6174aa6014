"""A small, seeded part of the campaign in ``benchmarks/robustness.py``: every class, on every run of the tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
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


ENGINE = """
    import json, sys
    from pathlib import Path
    from attacks.campaign import Field, Kind, tries
    from attacks.forked import Forks, write_python

    def leaves(place):
        return lambda trial: (trial.folder / place).write_text("x") and ""

    def changes(trial):
        (trial.material / "model.toml").write_text("b")
        return ""

    folder = Path(sys.argv[1])
    (folder / "material").mkdir()
    (folder / "material" / "model.toml").write_text("a")
    field = Field(folder, folder / "material", Forks(write_python(folder)))
    places = ("here/x", "tmp/.x", "home/x", "../x", "out", "cache")
    attacks = {**{place: leaves(place) for place in places}, "changes": changes}
    print(json.dumps({name: dict(tries(Kind(attack, 1, name), field, [3]))[3] for name, attack in attacks.items()}))
"""


def test_the_engine_sees_what_is_left_and_touched(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-c", textwrap.dedent(ENGINE), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {name for name, wrong in found.items() if not wrong} == {"out", "cache"}
    assert {name for name, wrong in found.items() if wrong.startswith("left behind")} == {"here/x", "tmp/.x", "home/x"}
