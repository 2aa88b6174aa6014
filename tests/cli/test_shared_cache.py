"""Two machines and what they share, as a user sees it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgec.pipeline.cli import main


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 0
    return capsys.readouterr().out


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEC_SHARED_CACHE", str(tmp_path / "nfs"))
    return tmp_path / "nfs"


def build(machine: Path, model: Path, images: Path, out: Path) -> subprocess.Popen[str]:
    """``edgec build`` with a store of its own."""
    command = [sys.executable, "-m", "edgec.pipeline.cli", "build", str(model), "--target", "onnxruntime"]
    options = ["--data", str(images), "--output", str(out), "--no-measure", "--quantizer", "fast", "--verbose"]
    environment = {**os.environ, "EDGEC_CACHE": str(machine)}
    return subprocess.Popen([*command, *options], env=environment, text=True, stderr=subprocess.PIPE)


def said(process: subprocess.Popen[str]) -> str:
    _, error = process.communicate()
    assert process.returncode == 0, error
    return error


def test_two_machines_at_once_and_a_third(
    tmp_path: Path, place: Path, colours_toml: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both may run a stage; all three end with the same release, and the third one runs nothing."""
    names = ("one", "two")
    both = [build(tmp_path / name, colours_toml, tiny_images, tmp_path / f"out-{name}") for name in names]
    for process in both:
        said(process)
    third = said(build(tmp_path / "three", colours_toml, tiny_images, tmp_path / "out-three"))
    ran = [line for line in third.splitlines() if " s  " in line and "found in the store" not in line]
    assert ran == [], third
    manifests = {(tmp_path / f"out-{name}" / "SHA256SUMS").read_bytes() for name in (*names, "three")}
    assert len(manifests) == 1
    assert "results at " in shown(capsys, "cache", "list", "--shared")
    assert shown(capsys, "cache", "path", "--shared").strip() == str(place)
    assert "is what was recorded" in shown(capsys, "cache", "verify", "--shared")


def test_a_damaged_object_is_named_and_repaired(
    tmp_path: Path, place: Path, colours_toml: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgec.pipeline.core.store import Store
    from edgec.pipeline.network.import_onnx import ImportOnnx, onnx_artifact

    Store(own_cache).run(ImportOnnx(), onnx_artifact(colours_toml.with_name("tiny.onnx")))
    (packed,) = place.rglob("*.tar.zst")
    packed.write_bytes(packed.read_bytes()[:-9])
    assert main(["cache", "verify", "--shared"]) == 1
    captured = capsys.readouterr()
    assert packed.name.partition(".")[0] in captured.out
    assert captured.err.startswith("error[corrupt-artifact]")
    assert "deleted 1" in shown(capsys, "cache", "verify", "--shared", "--repair")
    assert not packed.exists()


def test_trim(
    tmp_path: Path, place: Path, colours_toml: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgec.pipeline.core.store import Store
    from edgec.pipeline.network.import_onnx import ImportOnnx, onnx_artifact

    store = Store(own_cache)
    made = store.run(ImportOnnx(), onnx_artifact(colours_toml.with_name("tiny.onnx")))
    assert "deleted 0" in shown(capsys, "cache", "trim", "--max-bytes", "1GB")
    assert "deleted 0" in shown(capsys, "cache", "trim", "--shared", "--max-bytes", "1 GiB")
    assert "deleted 1 results; 0.0 kB are left" in shown(capsys, "cache", "trim", "--shared", "--max-bytes", "0")
    assert made.path.exists()
    del store
    gc.collect()  # the build in this process ends with it
    assert "deleted 1 results; 0.0 kB are left" in shown(capsys, "cache", "trim", "--max-bytes", "0")
    assert not made.path.exists()


def test_without_a_shared_cache(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("path",), ("list",), ("verify",), ("trim", "--max-bytes", "1GB")):
        assert main(["cache", *words, "--shared"]) == 1
        assert capsys.readouterr().err.startswith("error[no-shared-cache]")


def test_the_doctor_asks_it(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"{place} (answers)" in shown(capsys, "doctor", "--json")
    monkeypatch.setenv("EDGEC_SHARED_CACHE", "ftp://ours")
    assert "cannot be told to write an object once" in shown(capsys, "doctor", "--json")
