"""Setting up an emulated userland: what it refuses, and that a killed attempt leaves nothing that looks finished."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from boards import refused

from edgec.pipeline.cli import main
from edgec.pipeline.core.errors import EdgecError
from edgec.targets.devices import packages, userland
from edgec.targets.devices.cores import AARCH64, CORES, Machine
from edgec.targets.devices.userland import Userland, find, set_up

pytest_plugins = ["device_fixtures"]

NOWHERE = "http://127.0.0.1:1/debian"
needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="no apt-get")


def fake_userland(folder: Path, guest: str) -> Userland:
    """An emulator that is a shell script."""
    (folder / "root/usr/bin").mkdir(parents=True)
    (folder / "root/usr/bin/python3.11").touch()
    (folder / "qemu").mkdir()
    emulator = folder / "qemu" / AARCH64.qemu
    emulator.write_text(f"#!/bin/sh\n{guest}\n")
    emulator.chmod(0o755)
    return Userland(folder, AARCH64, {})


def test_a_host_without_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"ID": "fedora"})
    with refused("missing-apt"):
        set_up(AARCH64)


@needs_apt
def test_no_mirror_is_known() -> None:
    with refused("no-mirror"):
        packages.host_mirror("no-such-distribution")


@needs_apt
def test_offline(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "host_distribution", lambda: "debian")
    with refused("download-failed"):
        set_up(AARCH64, NOWHERE)
    assert find(AARCH64) is None
    assert not list((own_cache / "tmp").iterdir())
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with refused("download-failed") as caught:
        packages.download_wheels("ai-edge-litert", AARCH64, "3.11", own_cache / "wheels")
    assert "ai-edge-litert" in caught.value.message


def test_an_environment_without_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with refused("missing-pip"):
        packages.download_wheels("ai-edge-litert", AARCH64, "3.11", tmp_path)


@needs_apt
def test_no_emulator_to_be_had(tmp_path: Path) -> None:
    nowhere = packages.Apt(tmp_path / "apt", NOWHERE, "debian", "bookworm", "amd64")
    with refused("missing-qemu"):
        userland._unpack_emulator(AARCH64, nowhere, tmp_path / "qemu")


@pytest.mark.parametrize("guest", ["echo Exec format error >&2; exit 1", """echo '{"board": {"machine": "x86_64"}}'"""])
def test_a_guest_that_does_not_work(tmp_path: Path, guest: str) -> None:
    with refused("broken-userland"):
        userland._ask_guest(fake_userland(tmp_path, guest), CORES["cortex-a76"])


def test_counting_is_optional_and_says_why_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    static = fake_userland(tmp_path, "echo 'Unknown option plugin' >&2; exit 1")
    assert "loads no TCG plugins" in userland._build_counter(static, CORES["cortex-a76"])
    monkeypatch.setenv("PATH", "")
    assert "no C compiler" in userland._build_counter(static, CORES["cortex-a76"])
    assert not (tmp_path / "counter.so").exists()


KILLED = """
import os, signal
from edgec.targets.devices import packages, userland
from edgec.targets.devices.cores import AARCH64
packages.host_distribution = lambda: "debian"
packages.Apt.download = lambda self, names: []
def die(debs, root):
    root.mkdir(parents=True)
    os.kill(os.getpid(), signal.SIGKILL)
userland._unpack_root = die
userland.set_up(AARCH64, "mirror")
"""


def test_killed_in_the_middle(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED], check=False).returncode == -signal.SIGKILL
    assert list((own_cache / "tmp").iterdir())
    assert find(AARCH64) is None

    def offline(*_: object) -> list[Path]:
        raise EdgecError("download-failed", "offline", "go online")

    monkeypatch.setattr(packages, "host_distribution", lambda: "debian")
    monkeypatch.setattr(packages.Apt, "download", offline)
    with refused("download-failed"):
        set_up(AARCH64, "mirror")
    assert not list((own_cache / "tmp").iterdir())


def test_what_is_there_is_not_set_up_again(aarch64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(userland, "_make", None)
    assert set_up(AARCH64) == find(AARCH64)


def test_command_line(aarch64: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device", "setup", "qemu", "--cpu", "a53"]) == 0
    said = capsys.readouterr().out
    assert "qemu:cortex-a53 is ready" in said
    assert "ai-edge-litert" in said
    assert main(["device", "show", "qemu:cortex-a53"]) == 0
    assert "aarch64" in capsys.readouterr().out
    assert main(["device", "setup", "qemu", "--cpu", "m4"]) == 1
    assert "error[bad-device]" in capsys.readouterr().err


def test_every_core_has_its_files(aarch64: None, userlands: Callable[[Machine], None]) -> None:
    found = find(AARCH64)
    assert found is not None
    for core in (core for core in CORES.values() if core.machine is AARCH64):
        cpuinfo = (found.folder / "cores" / core.name / "proc/cpuinfo").read_text()
        assert f"CPU part\t: {core.part:#05x}" in cpuinfo
    assert not any(path.is_absolute() for path in map(Path.readlink, found.folder.glob("cores/*/usr")))
