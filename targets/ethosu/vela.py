"""Arm's Vela as a program: a .tflite in, one whose supported operators are a single ``ethos-u`` operator out."""

from __future__ import annotations

import csv
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.scratch import scratch
from edgec.targets.ethosu.options import EthosUOptions

INSTALL = "pip install 'edgec[ethos-u]'"
INI = "Arm/vela.ini"
TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class Summary:
    """What Vela expects of the NPU. Nothing here was measured.

    Attributes:
        inference_ms: of one inference, NPU part alone.
        cycles: of the NPU, waiting for memory included.
        sram_bytes: feature maps, and buffers for weights where the memory mode has them there.
        dram_bytes, flash_bytes: what lies in memory off the chip.
    """

    vela: str
    accelerator: str
    system_config: str
    memory_mode: str
    clock_mhz: float
    inference_ms: float
    cycles: int
    sram_bytes: int
    dram_bytes: int
    flash_bytes: int

    def words(self) -> str:
        """Where the figures come from, for people."""
        return (
            f"time, SRAM and flash are estimated by Vela {self.vela} for {self.accelerator} "
            f"({self.system_config}, {self.memory_mode}); nothing was measured"
        )


def run_vela(content: bytes, settings: EthosUOptions) -> tuple[bytes, Summary]:
    """Compile the bytes of a full-integer .tflite; equal bytes give equal bytes.

    Raises:
        EdgecError: ``missing-vela``; ``vela-refuses`` with its own words.
    """
    require_vela()
    with scratch("vela") as folder:
        (folder / "model.tflite").write_bytes(content)
        command = [sys.executable, "-m", "ethosu.vela", str(folder / "model.tflite"), "--output-dir", str(folder)]
        command += ["--accelerator-config", settings.accelerator, "--config", INI]
        command += ["--system-config", settings.system_config, "--memory-mode", settings.memory_mode]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise _refused(f"it did not end within {TIMEOUT_S:.0f} s") from error
        compiled, tables = folder / "model_vela.tflite", sorted(folder.glob("model_summary_*.csv"))
        if done.returncode != 0 or not compiled.is_file() or not tables:
            raise _refused(" ".join((done.stderr or done.stdout).strip().splitlines()[-3:]) or "it says nothing")
        with tables[0].open(encoding="utf-8", newline="") as file:
            row = next(csv.DictReader(file))
        return compiled.read_bytes(), _summary(row)


def _summary(row: dict[str, str]) -> Summary:
    def kib(*names: str) -> int:
        return round(1024 * sum(float(row[name]) for name in names))

    return Summary(
        vela=version("ethos-u-vela"),
        accelerator=row["accelerator_configuration"],
        system_config=row["system_config"],
        memory_mode=row["memory_mode"],
        clock_mhz=float(row["core_clock"]) / 1e6,
        inference_ms=1000 * float(row["inference_time"]),
        cycles=int(float(row["cycles_total"])),
        sram_bytes=kib("sram_memory_used"),
        dram_bytes=kib("dram_memory_used"),
        flash_bytes=kib("on_chip_flash_memory_used", "off_chip_flash_memory_used"),
    )


def require_vela() -> None:
    """Refuse where Vela is not installed.

    Raises:
        EdgecError: ``missing-vela``.
    """
    if find_spec("ethosu") is None:
        raise EdgecError("missing-vela", "Ethos-U needs Arm's Vela, which is not installed", INSTALL)


def _refused(why: str) -> EdgecError:
    hint = "see [options] of the board: accelerator, system_config and memory_mode have to fit each other"
    return EdgecError("vela-refuses", f"Vela does not compile this network: {why}", hint)


def summary_file(artifact: Path) -> Path:
    """Beside the compiled network, in the artifact's folder."""
    return artifact / "vela.json"
