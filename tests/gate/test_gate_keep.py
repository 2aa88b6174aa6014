"""``edgec check --record``: verdicts and a latency with its interval enter the bundle that was judged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from noise import source

from edgec.pipeline.bundle.integrity import read_checked_manifest
from edgec.pipeline.cli import main
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.measure import cpu_model
from edgec.pipeline.gate import check as check_module
from edgec.pipeline.gate.budgets import load_budgets
from edgec.pipeline.gate.check import Conditions, check
from edgec.pipeline.gate.keep import keep


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "copy"))


@pytest.fixture
def budgets(tmp_path: Path) -> Path:
    path = tmp_path / "budgets.toml"
    path.write_text(
        f'[[budget]]\nmodel = "tiny"\ntarget = "onnxruntime"\ndevice = "{cpu_model()}"\nowner = "me"\nreason = "test"\n'
        "[budget.limits]\nsize_bytes = 10\np50_ms = 3.0\narena_bytes = 5\n"
    )
    return path


@pytest.fixture(autouse=True)
def two_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_module, "Sampler", lambda *arguments, **named: source(2.0))


def test_verdicts_and_latency_enter_the_bundle(copy: Path, budgets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_checked_manifest(copy)
    assert before.latency.p50_interval_ms is None
    assert main(["check", str(copy), "--budgets", str(budgets), "--record"]) == 3
    after = read_checked_manifest(copy)  # all digests fit
    verdicts = {line.name: (line.verdict, line.limit) for line in after.budgets}
    assert verdicts == {"size_bytes": ("fail", 10), "arena_bytes": ("inconclusive", 5), "p50_ms": ("pass", 3.0)}
    assert after.latency.num_processes >= 3
    assert after.latency.p50_interval_ms is not None
    low, high = after.latency.p50_interval_ms
    assert low < (after.latency.p50_ms or 0.0) < high
    assert after.latency.p50_ms == pytest.approx(2.0, rel=0.01)
    kept = json.loads((copy / "latency.json").read_text())
    assert (kept["p50_interval_ms"], len(kept["medians_ms"])) == ([low, high], after.latency.num_processes)
    for name in ("report.html", "README.md"):
        assert "over the limit" in (copy / name).read_text()
    same = {entry.path: entry.sha256 for entry in before.files if entry.role == "artifact"}
    assert same == {entry.path: entry.sha256 for entry in after.files if entry.role == "artifact"}
    assert main(["verify", str(copy)]) == 0
    capsys.readouterr()
    assert main(["diff", str(copy), str(copy)]) == 0


def test_nothing_is_written_without_being_asked(copy: Path, budgets: Path) -> None:
    before = (copy / "manifest.json").read_bytes()
    main(["check", str(copy), "--budgets", str(budgets)])
    assert (copy / "manifest.json").read_bytes() == before


def test_signed_bundles_take_no_verdicts(copy: Path, budgets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = check([copy], load_budgets(budgets), Conditions())
    (copy / "manifest.json.sig").write_bytes(bytes(64))
    assert main(["check", str(copy), "--budgets", str(budgets), "--record"]) == 1
    assert capsys.readouterr().err.startswith("error[signed-bundle]")
    with pytest.raises(EdgecError) as caught:
        keep(copy, report)
    assert caught.value.code == "signed-bundle"
