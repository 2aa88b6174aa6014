"""Arm binaries: the emulated userland alone, and behind ssh as a board. Outputs equal this machine's bit for bit."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from boards import WAITS, Board, Network, make_network, refused, script

from edgec.pipeline.forms.device import open_device
from edgec.targets.devices.cores import ARMV7, CORES, Machine
from edgec.targets.devices.qemu import QemuDevice, open_emulated
from edgec.targets.tflite.device import DeviceRunner
from edgec.targets.tflite.inference import count_instructions, describe, measure_latency, predict
from edgec.targets.tflite.runner import LiteRtRunner

pytest_plugins = ["device_fixtures"]

CORES_64 = ("cortex-a76", "cortex-a72", "cortex-a53")


@pytest.fixture(scope="session")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """MobileNetV3-small with random weights: hard-swish, squeeze-excite, 5x5 depthwise, residuals."""
    import onnx
    import torch

    from edgec.pipeline.network.export import export_onnx
    from edgec.pipeline.network.models.initialise import settle_batch_norm
    from edgec.pipeline.network.models.spec import NetworkConfig, build_network

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("mobilenet")
    net = build_network(NetworkConfig("mobilenetv3-small", input_px=64, num_classes=10))
    settle_batch_norm(net, 64)
    export_onnx(net, 64, folder / "m.onnx")
    model = onnx.load(folder / "m.onnx")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return make_network(model, 64, folder)


@pytest.mark.parametrize("core", CORES_64)
def test_outputs_equal_this_machines_bit_for_bit(core: str, mobilenet: Network, aarch64: None) -> None:
    seen: list[tuple[int, int]] = []
    device = open_device(f"qemu:{core}")
    (outputs,) = predict(device, mobilenet.path, mobilenet.inputs, progress=lambda *step: seen.append(step))
    assert outputs.dtype == np.int8
    assert np.ptp(outputs.astype(int)) > 20  # a constant would prove nothing
    np.testing.assert_array_equal(outputs, mobilenet.outputs)
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_instructions_repeat_exactly_and_tell_cores_apart(network: Network, aarch64: None) -> None:
    counts = [count_instructions(open_device(f"qemu:{core}"), network.path) for core in ("cortex-a76", "cortex-a53")]
    assert count_instructions(open_device("qemu:a76"), network.path) == counts[0]
    assert 100_000 < counts[0] < counts[1] < 2_000_000  # only the A76 has dot products


def test_a_device_answers_like_the_runner_of_this_machine(network: Network, aarch64: None) -> None:
    images = np.random.default_rng(5).normal(size=(2, 3, 32, 32)).astype(np.float32)
    (outputs,) = DeviceRunner(open_device("qemu:cortex-a72"), network.path).predict(images)
    assert outputs.dtype == np.float32
    np.testing.assert_array_equal(outputs, LiteRtRunner(network.path).predict(images)[0])


def test_what_is_emulated_says_so(aarch64: None) -> None:
    board, _ = describe(open_device("qemu:cortex-a53"))
    assert (board.model, board.machine) == ("cortex-a53, emulated by QEMU", "aarch64")
    assert board.runtime is not None
    assert board.runtime.startswith("ai-edge-litert")


def test_emulated_time_is_not_a_latency(network: Network, aarch64: None) -> None:
    with refused("emulated-latency"):
        measure_latency(open_device("qemu:cortex-a76"), network.path)


def test_an_emulated_run_that_takes_too_long_is_stopped(tmp_path: Path, aarch64: None) -> None:
    with refused("remote-timeout"):
        open_device("qemu:cortex-a76").run(script(tmp_path, WAITS), [], 3)


def test_a_file_that_is_not_there(tmp_path: Path, aarch64: None) -> None:
    with refused("remote-failed"):
        open_device("qemu:cortex-a76").pull(str(tmp_path / "nothing"), tmp_path / "here")


def test_refusals_of_the_runner(tmp_path: Path, network: Network, aarch64: None) -> None:
    device = open_device("qemu:cortex-a76")
    with refused("wrong-input") as caught:
        predict(device, network.path, network.inputs[:, 1:])
    assert "expected int8 [32, 32, 3], got int8 [31, 32, 3]" in caught.value.message
    (tmp_path / "broken.tflite").write_bytes(network.path.read_bytes()[:1000])
    with refused("unusable-artifact"):
        predict(device, tmp_path / "broken.tflite", network.inputs)


def test_armv7_runs_the_same_file(network: Network, userlands: Callable[[Machine], None]) -> None:
    """32-bit Arm has its own kernels (no XNNPACK for int8 in tflite-runtime): close, not equal."""
    userlands(ARMV7)
    device = open_device("qemu:armv7")
    difference = predict(device, network.path, network.inputs)[0].astype(int) - network.outputs
    assert np.abs(difference).max() <= 1
    assert count_instructions(device, network.path) > 100_000


def test_what_was_not_set_up(monkeypatch: pytest.MonkeyPatch, aarch64: None, own_cache: Path) -> None:
    ready = open_emulated("cortex-a76")
    monkeypatch.setenv("EDGEC_CACHE", str(own_cache))
    for name in CORES:
        with refused("device-not-set-up"):
            open_device(f"qemu:{name}")
    monkeypatch.setattr("shutil.which", lambda *_: None)
    with refused("device-not-set-up"):
        describe(replace(ready, userland=replace(ready.userland, folder=own_cache)))


def test_no_counter(network: Network, aarch64: None) -> None:
    device = open_emulated("cortex-a76")
    without = QemuDevice(device.core, replace(device.userland, counter_missing="no C compiler (gcc)"))
    with refused("no-instruction-count") as caught:
        count_instructions(without, network.path)
    assert "no C compiler" in caught.value.message


# ---- an Arm board behind ssh


@pytest.fixture
def arm_board(board: Board, aarch64: None) -> Board:
    """A board whose python3 is the emulated Cortex-A53's."""
    emulated = open_emulated("cortex-a53")
    environment = [f"{name}={value}" for name, value in emulated.userland.environment.items()]
    command = shlex.join(["env", "-i", *environment, *emulated.userland.command(emulated.core)])
    board.install("arm-python3", f'exec {command} "$@"')
    return board


def test_an_arm_board_behind_ssh(arm_board: Board, network: Network) -> None:
    device = arm_board.device("arm-python3")
    (outputs,) = predict(device, network.path, network.inputs)
    np.testing.assert_array_equal(outputs, network.outputs)
    names = set(arm_board.uploads())
    measured = measure_latency(device, network.path, budget_s=0.2)
    assert measured.board.machine == "aarch64"
    assert str(measured.latency.device).startswith("cortex-a53, emulated by QEMU, ")
    assert measured.latency.status == "measured"
    assert 20 <= measured.latency.num_samples <= 1000
    assert measured.latency.p50_ms is not None
    assert names == set(arm_board.uploads())  # runner, model and images; outputs were brought home
    with refused("no-instruction-count"):
        count_instructions(device, network.path)


def test_shipped_runner_needs_no_more_than_python_3_8() -> None:
    import ast

    from edgec.targets.tflite.inference import RUNNER

    tree = ast.parse(RUNNER.read_text(), feature_version=(3, 8))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert modules.isdisjoint({"edgec", "tomllib", "graphlib"})
    done = subprocess.run(["python3", "-S", "-I", str(RUNNER), "facts"], capture_output=True, text=True, check=True)
    assert '"runtime": null' in done.stdout
