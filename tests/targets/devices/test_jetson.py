"""``--on ssh://`` for TensorRT: a real sshd on loopback, stand-ins for TensorRT and CUDA behind it; no GPU."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from boards import Board, refused
from seams import settings_of

from edgec.pipeline.cli import main
from edgec.pipeline.forms.spec import load_target
from edgec.targets.devices.answer import REFUSALS, Transcript
from edgec.targets.tensorrt import describe, on_device

pytest_plugins = ["device_fixtures"]

STAND_IN = Path(__file__).parents[1] / "tensorrt" / "stand_in"


@pytest.fixture
def jetson(board: Board, tmp_path: Path) -> Iterator[Board]:
    """The board's python3, with the stand-ins in its way."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the stand-in for libcuda.so.1 with")
    library = tmp_path / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", str(library), str(STAND_IN / "cuda.c")], check=True)
    set_up(board, tmp_path)
    yield board
    board.install("python3", f'exec {shlex.quote(sys.executable)} "$@"')


def set_up(board: Board, libraries: Path, **settings: str) -> None:
    own = {"LD_LIBRARY_PATH": libraries, "PYTHONPATH": STAND_IN, "STAND_IN_LOG": libraries / "calls.log", **settings}
    words = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in own.items())
    board.install("python3", f'{words} exec {shlex.quote(sys.executable)} "$@"')


def edgec(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    status = main([*map(str, arguments), "--json"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    value: dict[str, Any] = json.loads(captured.out)
    return value


def test_build_evaluate_and_measure_on_a_jetson(
    jetson: Board, tmp_path: Path, tiny_onnx: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on = f"{jetson.device().name}{jetson.bin / 'python3'}"
    bundle = tmp_path / "bundle"
    arguments = (tiny_onnx, "--target", "jetson", "--data", tiny_images, "--output", bundle, "--on", on)
    result = edgec(capsys, "build", *arguments)
    assert result["latency"]["status"] == "measured"
    assert "stand-in GPU (8.7), TensorRT 10.3.0+stand-in" in result["latency"]["device"]
    assert "GPU time" in result["latency"]["note"]
    assert (tmp_path / "calls.log").read_text().split().count("build") == 2  # float's engine beside its own
    assert result["latency"]["beside_float"]["speedup"] > 0
    assert result["accuracy"]["target"] is not None
    assert {"model.engine", "timing.cache", "engine.json"} <= {path.name for path in (bundle / "tensorrt").iterdir()}
    manifest = json.loads((bundle / "manifest.json").read_text())
    engine = next(entry for entry in manifest["files"] if entry["path"] == "tensorrt/model.engine")
    assert (engine["role"], engine["reproducible"]) == ("engine", False)
    assert "tensorrt/model.engine" in (bundle / "SHA256SUMS").read_text()
    assert manifest["accuracy"]["target"] == result["accuracy"]["target"]
    assert manifest["latency"]["device"] == result["latency"]["device"]
    assert manifest["size_bytes"] == result["size_bytes"] < manifest["size_bytes"] + engine["bytes"]
    golden = json.loads((bundle / "golden" / "golden.json").read_text())
    assert (golden["kernel_sets"], golden["expected"]) == (["reference", "device"], "device")
    verified = edgec(capsys, "verify", bundle)
    assert "answered as 'reference' did" in verified["checked"][-1]
    assert "not run" in verified["skipped"][0]
    verified = edgec(capsys, "verify", bundle, "--on", on)
    assert ("answered as 'device' did" in verified["checked"][-1], verified["skipped"]) == (True, [])
    again = edgec(capsys, "reproduce", bundle, "--model", tiny_onnx, "--data", tiny_images, "--on", on)
    assert (again["differences"], again["archive_sha256"]) == ([], None)
    assert "tensorrt/model.engine" in again["by_meaning"]
    assert "predictions.csv" in again["not_compared"]
    assert "golden/inputs.float32.bin" not in again["not_compared"]
    assert "latency" in json.loads((bundle / "tensorrt" / "engine.json").read_text())
    assert edgec(capsys, "evaluate", bundle, "--data", tiny_images, "--on", on)["target_agreement"] == 100.0
    cost = edgec(capsys, "measure", bundle, "--on", on)
    assert cost["board"]["layers"]["reformats"] == 1
    assert (tmp_path / "calls.log").read_text().split().count("build") == 2  # kept there between the commands
    result = edgec(capsys, "build", *arguments, "--precision", "auto")
    assert result["precision_verdict"].startswith("ship ")
    assert result["precision_verdict"] in result["notes"]


@pytest.mark.parametrize(
    ("code", "settings"),
    [
        ("engine-build-failed", {"STAND_IN_FAULT": "no-engine"}),
        ("wrong-gpu", {"STAND_IN_COMPUTE_CAPABILITY": "7.2"}),
        ("missing-driver", {"LD_LIBRARY_PATH": ""}),
    ],
)
def test_what_the_device_refuses_is_an_error_here(
    code: str, settings: dict[str, str], jetson: Board, tmp_path: Path, jetson_artifact: Path
) -> None:
    set_up(jetson, tmp_path, **settings)
    with refused(code):
        on_device(jetson.device(), jetson_artifact, settings_of("jetson"), 1).cost()
    set_up(jetson, tmp_path)
    assert on_device(jetson.device(), jetson_artifact, settings_of("jetson"), 1).cost().latency.status == "measured"


def test_a_device_that_reboots_while_it_builds(
    jetson: Board, tmp_path: Path, tiny_onnx: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything there dies at once; the bundle of before stays, and the next try sends nothing again."""
    on = f"{jetson.device().name}{jetson.bin / 'python3'}"
    bundle = tmp_path / "bundle"
    shutil.rmtree(jetson.home / ".cache", ignore_errors=True)  # engines of other tests
    arguments = ("build", tiny_onnx, "--target", "jetson", "--data", tiny_images, "--output", bundle)
    edgec(capsys, *arguments)
    before = contents(bundle)
    set_up(jetson, tmp_path, STAND_IN_FAULT="hang")
    reboot = threading.Thread(target=reboot_during_build, args=(jetson, tmp_path / "calls.log"))
    reboot.start()
    status = main([*map(str, arguments), "--on", on])
    reboot.join()
    assert status == 1
    assert "connection-lost" in capsys.readouterr().err
    assert contents(bundle) == before
    assert not list((jetson.home / ".cache").rglob("model.engine"))
    sent = {name: path.stat().st_mtime_ns for name, path in jetson.uploads().items() if path.suffix == ".onnx"}
    assert sent
    set_up(jetson, tmp_path)
    assert edgec(capsys, *arguments, "--on", on)["latency"]["status"] == "measured"
    assert {name: jetson.uploads()[name].stat().st_mtime_ns for name in sent} == sent


def reboot_during_build(board: Board, calls: Path) -> None:
    deadline = time.monotonic() + 60
    while not (calls.exists() and "build" in calls.read_text().split()):
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)
    processes = [*board.sessions(), *board.commands()]
    for stop in (psutil.Process.suspend, psutil.Process.kill):  # frozen first, so that none sees another die
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                stop(process)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_device_whose_disk_fills_up_while_it_builds(jetson: Board, tmp_path: Path, jetson_artifact: Path) -> None:
    """A real full disk: the uploads fit, the engine does not."""
    folder = jetson.home / ".cache"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    artifact = sum(path.stat().st_size for path in jetson_artifact.iterdir())
    room = artifact + (jetson_artifact / "model.onnx").stat().st_size // 2
    mount = ["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with refused("remote-disk-full"):
            on_device(jetson.device(), jetson_artifact, settings_of("jetson"), 1).cost()
        assert not list(folder.rglob("model.engine"))
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    assert on_device(jetson.device(), jetson_artifact, settings_of("jetson"), 1).cost().latency.status == "measured"


@pytest.fixture(scope="session")
def jetson_artifact(tmp_path_factory: pytest.TempPathFactory, tiny_onnx: Path) -> Path:
    """A float network for FP16: what goes to the device, without quantization."""
    from edgec.pipeline.forms.spec import with_precision
    from edgec.targets.tensorrt import compile_model

    folder = tmp_path_factory.mktemp("fp16") / "tensorrt"
    compile_model(tiny_onnx, folder, settings_of(with_precision(load_target("jetson"), "fp16")))
    return folder


def test_emulated_cores_have_no_gpu(jetson_artifact: Path) -> None:
    from edgec.targets.devices.cores import AARCH64, CORES
    from edgec.targets.devices.qemu import QemuDevice
    from edgec.targets.devices.userland import Userland

    device = QemuDevice(CORES["cortex-a76"], Userland(Path(), AARCH64, {}))
    with refused("cannot-run-there"):
        on_device(device, jetson_artifact, settings_of("jetson"), 1)
    with refused("cannot-run-there"):
        describe(device)


def test_a_jetson_says_what_it_is(jetson: Board, capsys: pytest.CaptureFixture[str]) -> None:
    """GPU and TensorRT, not the TFLite runtime that it has not got."""
    spec = f"{jetson.device().name}{jetson.bin}/python3"
    assert main(["device", "show", spec, "--target", "jetson", "--json"]) == 0
    assert {"gpu", "driver", "tensorrt"} <= json.loads(capsys.readouterr().out).keys()


@pytest.mark.parametrize("code", sorted(REFUSALS))
def test_every_refusal_of_a_script_has_a_hint(code: str) -> None:
    transcript = Transcript("ssh://board")
    transcript.feed(json.dumps({"error": code, "message": "why"}).encode())
    with refused(code) as caught:
        transcript.answer(1)
    assert "ssh://board: why" in caught.value.message
