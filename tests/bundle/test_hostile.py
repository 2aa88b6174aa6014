"""Bundles whose digests fit and whose content means nothing: one code each, and nothing is read elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_integrity import standalone
from test_verify import edgec, reseal

from edgec.pipeline.bundle.golden_run import VectorsProcess
from edgec.pipeline.bundle.manifest import Manifest
from edgec.pipeline.bundle.read import open_bundle
from edgec.pipeline.bundle.verify import verify
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.memory import memory_fit
from edgec.pipeline.forms.spec import Device


def code(folder: Path) -> str:
    with pytest.raises(EdgecError) as caught:
        verify(folder)
    return caught.value.code


def target(**changes: object) -> Callable[[Manifest], Manifest]:
    return lambda m: replace(m, target=replace(m.target, **changes))


@pytest.mark.parametrize("path", ["../../../../etc", "/etc", "", ".", "golden", "nothing", "model.tflite/x", "a\0b"])
def test_an_artifact_that_is_elsewhere(copy: Path, path: str) -> None:
    reseal(copy, target(artifact=path))
    assert code(copy) in ("corrupt-bundle", "contract-mismatch")


def test_a_compiler_that_nobody_knows(copy: Path) -> None:
    def change(manifest: Manifest) -> Manifest:
        origin = replace(manifest.origin, target={**manifest.origin.target, "compiler": "../tflite"})
        return replace(manifest, origin=origin)

    reseal(copy, change)
    assert code(copy) == "unknown-compiler"
    reseal(copy, target(compiler="openvino"))
    assert code(copy) == "unknown-compiler"


def test_memory_that_is_not_what_the_artifact_takes(copy: Path) -> None:
    reseal(copy, lambda m: replace(m, memory=replace(m.memory, over=("too large",))))
    assert code(copy) == "contract-mismatch"
    reseal(copy, lambda m: replace(m, memory=replace(m.memory, over=(), flash_bytes=5)))
    assert code(copy) == "contract-mismatch"


@pytest.mark.parametrize(
    "content",
    [b"", b"\x93NUMPY", b"PK\x03\x04" + bytes(99), b"\x80\x04K\x01.", b"{}"],
    ids=["empty", "cut", "zip", "pickle", "json"],
)
@pytest.mark.parametrize("name", ["pixels.npy", "outputs.target.int8.npy"])
def test_arrays(copy: Path, name: str, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "golden" / name).write_bytes(content)
    reseal(copy)
    status, _, err = edgec(capsys, "verify", copy)
    assert (status, err[:22]) == (1, "error[corrupt-bundle]:")


@pytest.mark.parametrize(
    "changes",
    [
        {"expected": "../../../x"},
        {"steps": []},
        {"steps": [0.0]},
        {"steps": [float("inf")]},
        {"vectors": []},
        {"tolerance_steps": -1},
        {"kernel_sets": ["reference"]},
    ],
    ids=str,
)
def test_golden_records(copy: Path, changes: dict[str, object]) -> None:
    path = copy / "golden" / "golden.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    reseal(copy)
    assert code(copy) == "corrupt-bundle"


def test_deep_records_and_labels_of_no_text(copy: Path) -> None:
    (copy / "golden" / "golden.json").write_text("[" * 100_000)
    reseal(copy)
    assert code(copy) == "corrupt-bundle"
    (copy / "labels.txt").write_bytes(b"\xff\xfe")
    reseal(copy)
    assert code(copy) == "contract-mismatch"


def test_an_artifact_with_flipped_bytes(copy: Path) -> None:
    """The contract is another, the runtime refuses, or the answers are others; mostly it is the same network."""
    path, stream = copy / "model.tflite", np.random.default_rng(5)
    whole, seen = path.read_bytes(), set()
    for _ in range(120):
        content = bytearray(whole)
        for _ in range(int(stream.integers(1, 4))):
            content[int(stream.integers(len(content)))] = int(stream.integers(256))
        path.write_bytes(content)
        reseal(copy)
        try:
            verify(copy, run=False)
        except EdgecError as error:
            seen.add(error.code)
    assert seen <= {"contract-mismatch", "corrupt-tflite", "corrupt-artifact-file"}
    assert len(seen) > 1


def test_a_runtime_that_dies_is_a_refusal(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of this process: the vectors run in one of their own."""
    shutil.copy(copy / "reference" / "float.onnx", copy / "x")
    (copy / "x").unlink()
    monkeypatch.setattr("edgec.pipeline.bundle.golden_run.sys.executable", "/bin/false")
    assert code(copy) == "corrupt-artifact-file"
    killer = copy.parent / "killer"
    killer.write_text("#!/bin/sh\nkill -SEGV $$\n")
    killer.chmod(0o755)
    monkeypatch.setattr("edgec.pipeline.bundle.golden_run.sys.executable", str(killer))
    with pytest.raises(EdgecError, match="signal 11"):
        verify(copy)


def test_a_refusal_leaves_no_process_behind(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runtime and artifact are loaded while the rest is checked."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(real(*args, **options))
        return started[-1]

    real = subprocess.Popen
    monkeypatch.setattr("edgec.pipeline.bundle.golden_run.subprocess.Popen", start)
    (copy / "labels.txt").write_text("other\n")
    reseal(copy)
    assert code(copy) == "contract-mismatch"
    assert [process.returncode for process in started] == [-signal.SIGKILL]


def test_a_process_whose_asker_is_gone_ends_without_an_answer(copy: Path, tmp_path: Path) -> None:
    bundle = open_bundle(copy)
    process = VectorsProcess(bundle, None, tmp_path)
    process._process.communicate(b"", timeout=60)
    assert process._process.returncode == 0
    assert not (tmp_path / "reply.json").exists()


class TestStandalone:
    @pytest.mark.parametrize("name", ["manifest.json", "SHA256SUMS", "result.json", "manifest.json.pub"])
    def test_pipes_are_not_waited_for(self, copy: Path, name: str) -> None:
        verifier = copy / "verify.py"
        (copy / name).unlink(missing_ok=True)
        os.mkfifo(copy / name)
        assert verifier.exists()
        assert standalone(copy).stdout.startswith("REFUSED:")
        assert code(copy) in ("corrupt-bundle", "no-bundle", "bad-signature")


@pytest.mark.usefixtures("shared_store")
class TestLimits:
    def test_every_reader_says_that_it_does_not_fit(
        self,
        mcu_bundle: Path,
        tmp_path: Path,
        tiny_images: Path,
        colours_toml: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        board = tmp_path / "small.toml"
        board.write_text('extends = "mcu"\n[device]\ndescription = "small"\nram_bytes = 1000\nflash_bytes = 500\n')
        given = ("--target", board, "--data", tiny_images, "--output", tmp_path / "out", "--no-measure")
        status, out, _ = edgec(capsys, "build", colours_toml, *given)
        assert status == 3
        texts = [
            out,
            *((tmp_path / "out" / name).read_text() for name in ("README.md", "report.html", "manifest.json")),
        ]
        status, verified, _ = edgec(capsys, "verify", tmp_path / "out", "--no-run")
        assert status == 0
        for text in (*texts, verified):
            assert "over the board's limit" in text.replace("&#39;", "'")
        for text in ((mcu_bundle / name).read_text() for name in ("README.md", "report.html")):
            assert "RAM: " in text
            assert "flash: the model takes" in text

    def test_sentences(self) -> None:
        assert memory_fit(1000, None, Device(), 1.0, 224).sentences == ()
        board = Device(ram_bytes=2000, flash_bytes=4000)
        ram, flash = memory_fit(1000, 1000, board, 1.0, 224).sentences
        assert "reserve 1,104 bytes of the board's 2,000" in ram
        assert flash == "flash: the model takes 1,000 bytes of the board's 4,000"
        assert "was not measured" in memory_fit(1000, None, board, 1.0, 224).sentences[0]

    def test_a_latency_of_another_machine_says_so(self, mcu_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
        _, out, _ = edgec(capsys, "measure", mcu_bundle, "--threads", 1)
        assert "latency (measured, on this machine, which is no 'mcu'" in " ".join(out.split())
        found = json.loads(edgec(capsys, "measure", mcu_bundle, "--threads", 1, "--json")[1])
        assert (found["on_target"], "which is no 'mcu'" in found["note"]) == (False, True)
