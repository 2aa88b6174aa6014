"""build_engine.py on stand-ins for TensorRT and CUDA: order, flags, proof, refusals. It measures no GPU."""

from __future__ import annotations

import errno
import json
import os
import py_compile
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from seen_codes import note
from stand_ins import StandIn

from edgec.targets.tensorrt import build_engine
from edgec.targets.tensorrt.compiler import SCRIPT

PRODUCTS = ["engine.json", "model.engine", "timing.cache"]


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert "Traceback" not in done.stderr, done.stderr
    value: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == (1 if "error" in value else 0)
    if "error" in value:
        note(value["error"])
    return value


def products(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name in PRODUCTS or path.suffix == ".part")


def test_it_builds_proves_measures_and_keeps_everything(artifact: Path, stand_in: StandIn) -> None:
    done = stand_in.run(artifact)
    found = answer(done)
    assert products(artifact) == PRODUCTS
    assert found["key"]["gpu"] == "stand-in GPU"
    assert found["key"]["tensorrt"] == "10.3.0+stand-in"
    assert found["golden"]["num_golden"] == found["golden"]["agreed"] == 4
    assert found["golden"]["sqnr_db"] > 10
    assert found["layers"] == {"total": 3, "int8": 1, "fp16": 1, "fp32": 0, "other": 0, "reformats": 1}
    assert len(found["latency"]["gpu_ms"]) == len(found["latency"]["host_ms"]) >= 20
    record = json.loads((artifact / "engine.json").read_text())
    assert record == {key: value for key, value in found.items() if key != "products"}
    assert "trtexec --onnx=model.onnx" in done.stderr


def test_an_engine_is_built_once_and_again_for_another_version(artifact: Path, stand_in: StandIn) -> None:
    for _ in range(2):
        answer(stand_in.run(artifact))
    assert stand_in.calls().count("build") == 1
    answer(stand_in.run(artifact, version="8.6.1"))
    assert stand_in.calls().count("build") == 2
    assert "timing cache of 21 bytes" in stand_in.calls()
    (artifact / "model.engine").write_bytes(b"damaged")
    answer(stand_in.run(artifact, version="8.6.1"))
    assert stand_in.calls().count("build") == 3


@pytest.mark.parametrize(
    ("version", "network", "flags"),
    [("8.5.2", 1, ["FP16", "INT8"]), ("10.3.0", 0, ["FP16", "INT8"]), ("11.4.0", 0, [])],
)
def test_precision_in_the_words_of_each_version(
    version: str, network: int, flags: list[str], artifact: Path, stand_in: StandIn
) -> None:
    done = stand_in.run(artifact, version=version)
    answer(done)
    calls = stand_in.calls()
    assert f"network {network}" in calls
    assert [call.removeprefix("flag ") for call in calls if call.startswith("flag")] == flags
    assert f"workspace {512 << 20}" in calls
    assert (json.dumps({"done": 1, "total": 2}) in done.stdout) == (version != "8.5.2")


def test_fp16_asks_for_no_int8(artifact: Path, stand_in: StandIn) -> None:
    change_spec(artifact, precision="fp16")
    answer(stand_in.run(artifact))
    assert [call for call in stand_in.calls() if call.startswith("flag")] == ["flag FP16"]


def test_images_travel_as_raw_float32(artifact: Path, stand_in: StandIn, tmp_path: Path) -> None:
    spec = json.loads((artifact / "engine_spec.json").read_text())
    values = np.fromfile(artifact / "golden.bin", np.float32)
    size = spec["num_golden"] * int(np.prod(spec["input_shape"]))
    values[:size].tofile(tmp_path / "in.bin")
    done = stand_in.run(artifact, "--predict", str(tmp_path / "in.bin"), str(tmp_path / "out.bin"))
    assert answer(done)["num_images"] == 4
    assert json.dumps({"done": 4, "total": 4}) in done.stdout
    outputs, expected = np.fromfile(tmp_path / "out.bin", np.float32), values[size:]
    np.testing.assert_allclose(outputs, expected, atol=0.1 * float(np.abs(expected).max()))


def change_spec(artifact: Path, **fields: Any) -> None:
    path = artifact / "engine_spec.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


REFUSALS: list[tuple[str, dict[str, str], dict[str, Any]]] = [
    ("wrong-gpu", {"compute_capability": "7.2"}, {}),
    ("wrong-gpu", {"compute_capability": "5.3"}, {"compute_capability": None}),
    ("missing-driver", {"no_gpu": "1"}, {}),
    ("wrong-tensorrt", {"version": "8.4.1"}, {}),
    ("wrong-tensorrt", {"version": "12.0.0"}, {}),
    ("wrong-tensorrt", {"version": "11.4.0"}, {"precision": "fp16"}),
    ("wrong-tensorrt", {"version": "8.5.2"}, {"hardware_compatible": True}),
    ("engine-build-failed", {"fault": "bad-onnx"}, {}),
    ("engine-build-failed", {"fault": "no-engine"}, {}),
    ("foreign-engine", {"fault": "foreign"}, {}),
    ("cuda-failed", {"fault": "no-start"}, {}),
    ("golden-mismatch", {"fault": "wrong-answers"}, {}),
    ("too-many-reformats", {}, {"max_reformats": 0}),
]


@pytest.mark.parametrize(("code", "settings", "spec"), REFUSALS, ids=lambda value: str(value))
def test_refusals_leave_nothing_behind(
    code: str, settings: dict[str, str], spec: dict[str, Any], artifact: Path, stand_in: StandIn
) -> None:
    change_spec(artifact, **spec)
    assert answer(stand_in.run(artifact, **settings))["error"] == code
    assert products(artifact) == []


@pytest.mark.parametrize("name", ["model.onnx", "golden.bin"])
def test_changed_and_missing_files(name: str, artifact: Path, stand_in: StandIn) -> None:
    content = bytearray((artifact / name).read_bytes())
    content[len(content) // 2] ^= 1
    (artifact / name).write_bytes(content)
    found = answer(stand_in.run(artifact, "--check"))
    assert found["error"] == "tampered-file"
    assert name in found["message"]
    (artifact / name).unlink()
    assert answer(stand_in.run(artifact, "--check"))["error"] == "missing-file"
    assert stand_in.calls() == []


def test_without_driver_and_without_tensorrt(artifact: Path, stand_in: StandIn) -> None:
    environment = stand_in.environment()
    for name, code in (("PYTHONPATH", "missing-tensorrt"), ("LD_LIBRARY_PATH", "missing-driver")):
        left = {key: value for key, value in environment.items() if key != name}
        command = stand_in.command(artifact, "--check")
        done = subprocess.run(command, env=left, capture_output=True, text=True, check=False)
        if code == "missing-driver" and answer(done).get("error") != code:
            pytest.skip("this machine has an NVIDIA driver")
        assert answer(done)["error"] == code


def test_a_full_disk_keeps_what_was_there(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: object) -> dict[str, Any]:
        raise OSError(errno.ENOSPC, "No space left on device", str(artifact / "model.engine.part"))

    monkeypatch.setattr(build_engine, "work", full)
    assert build_engine.main([]) == 1
    assert json.loads(capsys.readouterr().out)["error"] == "remote-disk-full"
    for name in PRODUCTS:
        (artifact / name).write_text("old")
    with pytest.raises(TypeError):
        build_engine.write_all(str(artifact), (b"new", b"new", None))  # type: ignore[arg-type]
    assert {(artifact / name).read_text() for name in PRODUCTS} == {"old"}


def test_killed_while_building_and_tried_again(artifact: Path, stand_in: StandIn) -> None:
    process = subprocess.Popen(stand_in.command(artifact), env=stand_in.environment(fault="hang"))
    deadline = time.monotonic() + 30
    while "build" not in stand_in.calls() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert products(artifact) == []
    answer(stand_in.run(artifact))
    assert products(artifact) == PRODUCTS


def test_python_38_takes_the_file(tmp_path: Path) -> None:
    """With Python 3.8 itself where it is installed; its grammar through ``feature_version`` everywhere."""
    import ast

    ast.parse(SCRIPT.read_text(), feature_version=(3, 8))
    py_compile.compile(str(SCRIPT), str(tmp_path / "out.pyc"), doraise=True)
    candidates = [*Path.home().glob(".pyenv/versions/3.8.*/bin/python"), shutil.which("python3.8")]
    for old in filter(None, candidates):
        done = subprocess.run([str(old), str(SCRIPT), "--help"], capture_output=True, text=True, check=False)
        if done.returncode != 127:  # a version manager's word for "not installed"
            assert "build_engine.py --check" in done.stdout
            return
    pytest.skip("no Python 3.8 here: only its grammar was checked")


HERE = """
import sys
import numpy as np
from pathlib import Path
from seams import settings_of
from edgec.targets.tensorrt import open_runner, probe

found, target = probe(settings_of("jetson")), settings_of("jetson")
runner = open_runner(Path(sys.argv[1]), target, 1)
(outputs,) = runner.predict(np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32))
runner.single(np.zeros((1, 3, 32, 32), np.float32))()
print(found.can_run, found.facts, outputs.shape, outputs.dtype, sep="|")
"""


def test_a_gpu_in_this_machine_runs_the_engine_in_process(artifact: Path, stand_in: StandIn, tmp_path: Path) -> None:
    environment = stand_in.environment() | {"EDGEC_CACHE": str(tmp_path / "cache")}
    environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], *sys.path])
    command = [sys.executable, "-c", HERE, str(artifact)]
    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        facts = "TensorRT 10.3.0+stand-in, stand-in GPU (8.7), CUDA 12.6"
        assert done.stdout.strip() == f"True|{facts}|(3, 3)|float32"
    assert stand_in.calls().count("build") == 1
