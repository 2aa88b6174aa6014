"""An emulated x86 core runs this machine's own OpenVINO: its answers, and its instructions as a count for budgets."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from boards import refused
from seams import settings_of

from edgec.pipeline.cli import main
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.device import open_device
from edgec.pipeline.forms.spec import load_target
from edgec.targets import tflite
from edgec.targets.devices import userland
from edgec.targets.devices.cores import CORES, X86_64, Machine
from edgec.targets.devices.qemu import QemuDevice, open_emulated
from edgec.targets.openvino import describe, on_device
from edgec.targets.openvino.device import DeviceRunner
from edgec.targets.openvino.runner import OpenVinoRunner

pytest_plugins = ["device_fixtures"]

pytest.importorskip("openvino")
if platform.machine() != "x86_64":
    pytest.skip("the guest is this machine's Python, and it is no x86-64 program", allow_module_level=True)

NOISE = 0.002
"""Of a count: worker threads that look for work execute a few instructions more or less."""


@pytest.fixture
def haswell(userlands: Callable[[Machine], None]) -> QemuDevice:
    userlands(X86_64)
    return open_emulated("haswell")


@pytest.fixture(scope="session")
def ir(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float network as an artifact."""
    import openvino

    folder = tmp_path_factory.mktemp("ir") / "openvino"
    folder.mkdir()
    network = openvino.convert_model(tiny_onnx)
    network.reshape([1, 3, 32, 32])
    openvino.save_model(network, folder / "model.xml", compress_to_fp16=False)
    return folder


def test_instructions_repeat_and_grow_with_the_network(haswell: QemuDevice, ir: Path, tmp_path: Path) -> None:
    import openvino

    first, second = (DeviceRunner(haswell, ir).instructions() for _ in range(2))
    assert first > 50_000
    assert abs(first - second) <= max(NOISE * first, 2000)
    larger = openvino.Core().read_model(ir / "model.xml")
    larger.reshape([1, 3, 64, 64])
    (tmp_path / "larger").mkdir()
    openvino.save_model(larger, tmp_path / "larger" / "model.xml", compress_to_fp16=False)
    assert DeviceRunner(haswell, tmp_path / "larger").instructions() > 1.5 * first


def test_it_answers_as_this_machine_does(haswell: QemuDevice, ir: Path) -> None:
    """In float: kernels of another instruction set add in another order."""
    images = np.random.default_rng(5).normal(size=(2, 3, 32, 32)).astype(np.float32)
    seen: list[tuple[int, int]] = []
    runner = DeviceRunner(haswell, ir, progress=lambda *step: seen.append(step))
    (found,) = runner.predict(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, OpenVinoRunner(ir, 1).predict(images)[0], rtol=1e-4, atol=1e-4)
    assert seen == [(1, 2), (2, 2)]


def test_what_is_emulated_says_so(haswell: QemuDevice, ir: Path) -> None:
    facts = describe(haswell)
    assert facts["machine"] == "x86_64"
    assert facts["runtime"].startswith("openvino ")
    assert DeviceRunner(haswell, ir).identity()["core"] == "haswell"
    cost = DeviceRunner(haswell, ir).cost()
    assert cost.latency.status == "not-measured"
    assert "emulated" in cost.latency.note
    assert cost.instructions


def test_times_are_refused(haswell: QemuDevice, ir: Path) -> None:
    with refused("emulated-latency"):
        DeviceRunner(haswell, ir).turns([], 1.0, False)


def test_a_file_that_openvino_refuses(haswell: QemuDevice, ir: Path, tmp_path: Path) -> None:
    (tmp_path / "model.xml").write_text("<net/>")
    (tmp_path / "model.bin").write_bytes(b"")
    with refused("unusable-artifact"):
        DeviceRunner(haswell, tmp_path).instructions()


def test_an_arm_core_has_no_openvino(ir: Path, userlands: Callable[[Machine], None]) -> None:
    userlands(X86_64)
    arm = replace(open_emulated("haswell"), core=CORES["cortex-a76"])
    with refused("cannot-run-there") as caught:
        on_device(arm, ir, settings_of(load_target("cpu")), 1)
    assert "qemu:haswell" in (caught.value.hint or "")


def test_an_x86_core_takes_no_file_for_arm(haswell: QemuDevice, tmp_path: Path) -> None:
    """Its count would be that of x86 kernels."""
    board = settings_of(load_target("rpi5"))
    for call in (lambda: tflite.on_device(haswell, tmp_path, board, 1), lambda: tflite.describe(haswell)):
        with refused("cannot-run-there") as caught:
            call()
        assert "qemu:cortex-a76" in (caught.value.hint or "")


def test_a_board_behind_ssh_takes_no_ir(ir: Path) -> None:
    with refused("cannot-run-there"):
        on_device(open_device("ssh://nobody@localhost"), ir, settings_of(load_target("cpu")), 1)


def test_another_machine_has_no_such_guest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path))
    monkeypatch.setattr(userland.platform, "machine", lambda: "aarch64")
    with refused("bad-device"):
        userland.set_up(X86_64)
    assert userland.find(X86_64) is None


@pytest.mark.parametrize(("has", "code"), [({}, "missing-runtime"), ({"avx2": False}, "missing-qemu")])
def test_what_a_guest_must_have(
    has: dict[str, bool], code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """OpenVINO here, and AVX2 there: QEMU before 7.2 has none, and would count SSE kernels."""
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path))
    guest = {"machine": "x86_64", "runtime": "openvino 1", "python": "3", **has}
    monkeypatch.setattr(userland, "_ask_guest", lambda asked, core: replace(asked, board=guest))
    if code == "missing-runtime":
        monkeypatch.setattr(userland.importlib.util, "find_spec", lambda name: None)
    with refused(code):
        userland.set_up(X86_64)
    assert userland.find(X86_64) is None


def test_a_guest_that_never_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def endless(command: list[str], timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path))
    monkeypatch.setattr(userland.subprocess, "run", endless)
    with refused("broken-userland") as caught:
        userland.set_up(X86_64)
    assert "no answer within 300 s" in caught.value.message


def test_a_count_with_too_few_marks(haswell: QemuDevice, ir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QemuDevice, "count", lambda *_: [1, 2, 3])
    with refused("remote-failed") as caught:
        DeviceRunner(haswell, ir).instructions()
    assert "marked 3 of 10" in caught.value.message


def test_it_is_shown_with_its_runtime(haswell: QemuDevice, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device", "show", "qemu:haswell"]) == 0
    assert "openvino" in capsys.readouterr().out


def test_a_budget_limits_instructions(
    haswell: QemuDevice, colours_toml: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole of it as a CI does: a limit half a percent above, then one below."""
    shutil.copy(colours_toml.with_name("tiny.onnx"), tmp_path)
    shutil.copy(colours_toml, tmp_path / "tiny.toml")
    bundle, budgets = tmp_path / "bundle", tmp_path / "budgets.toml"
    build = ["build", str(tmp_path / "tiny.toml"), "--data", str(tiny_images), "--target", "cpu", "--no-measure", "-q"]
    assert main([*build, "--output", str(bundle)]) == 0
    capsys.readouterr()
    assert main(["measure", str(bundle), "--on", "qemu:haswell", "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)["instructions"]
    for limit, status in ((counted * 1005 // 1000 + 2000, 0), (counted * 9 // 10, 3)):
        budgets.write_text(
            '[[budget]]\nmodel = "tiny"\ntarget = "cpu"\ndevice = "any"\nowner = "me"\nreason = "test"\n'
            f"[budget.limits]\ninstructions = {limit}\n"
        )
        assert main(["check", str(bundle), "--budgets", str(budgets), "--json"]) == status
        (line,) = json.loads(capsys.readouterr().out)["lines"]
        assert line["limit"] == "instructions"
        assert abs(line["value"] - counted) <= max(NOISE * counted, 2000)


def test_no_counter(haswell: QemuDevice, ir: Path) -> None:
    without = replace(haswell, userland=replace(haswell.userland, counter_missing="no C compiler (gcc)"))
    with pytest.raises(EdgecError) as caught:
        DeviceRunner(without, ir).instructions()
    assert caught.value.code == "no-instruction-count"
