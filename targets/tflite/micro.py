"""Microcontrollers: the file in TFLite Micro, its arena measured, and what a board's RAM and flash allow."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgec.pipeline.errors import EdgecError
from edgec.targets.spec import Device
from edgec.targets.tflite.flatbuffer import read_tflite

INSTALL = "pip install tflite-micro pyyaml"
TIMEOUT_SECONDS = 300
# Kernels with SIMD (CMSIS-NN) take scratch buffers from the arena that the reference kernels do not need; pointers have
# half the size of this machine's: a tenth more is a choice, not a measurement.
ARENA_MARGIN = 0.10
INPUT_PX = (224, 192, 160, 128, 96, 64, 48, 32)
WIDTHS = (1.0, 0.75, 0.5, 0.35, 0.25)


@dataclass(frozen=True)
class MicroRun:
    """One run in TFLite Micro.

    Attributes:
        outputs: integers, ``(N, ...)``.
        arena_bytes: what the interpreter took of its arena.
    """

    outputs: npt.NDArray[Any]
    arena_bytes: int

    @property
    def arena_with_margin_bytes(self) -> int:
        """What firmware should reserve: the measured arena and its margin, a multiple of 16."""
        return -(-round(self.arena_bytes * (1 + ARENA_MARGIN)) // 16) * 16


@dataclass(frozen=True)
class MemoryFit:
    """A file against a board.

    Attributes:
        over: each limit that is passed, in words; empty where the file fits.
        would_fit: options that would fit, estimated from how memory scales; empty where none is needed.
    """

    arena_bytes: int
    flash_bytes: int
    over: tuple[str, ...]
    would_fit: tuple[str, ...]


def run_micro(content: bytes, inputs: npt.NDArray[np.int8]) -> MicroRun:
    """Run ``(N, H, W, C)`` int8 images in TFLite Micro's reference kernels.

    Raises:
        EdgecError: ``missing-runtime``; ``micro-refuses`` with TFLite Micro's own words.
    """
    if find_spec("tflite_micro") is None:
        raise EdgecError("missing-runtime", "this check needs tflite-micro, which is not installed", INSTALL)
    with tempfile.TemporaryDirectory() as folder:
        model, fed, given = (Path(folder) / name for name in ("model.tflite", "inputs.npy", "outputs.npy"))
        model.write_bytes(content)
        np.save(fed, inputs)
        arena = _generous_arena_bytes(content)
        command = [
            sys.executable,
            "-m",
            "edgec.targets.tflite.micro_worker",
            str(model),
            str(fed),
            str(given),
            str(arena),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
        measured = re.search(r"Arena allocation total (\d+) bytes", done.stderr)
        if done.returncode != 0 or measured is None:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            said = next((line for line in lines if "Error" in line or "Failed" in line or "find" in line), lines[-1])
            raise EdgecError(
                "micro-refuses", f"TFLite Micro cannot run the file: {said}", "see docs/tflite-operators.md"
            )
        return MicroRun(np.load(given), int(measured.group(1)))


def memory_fit(content: bytes, arena_bytes: int, device: Device, width_multiplier: float, input_px: int) -> MemoryFit:
    """Hold the arena against the board's RAM and the file against its flash.

    Args:
        arena_bytes: with its margin.
        width_multiplier: of the network as built; what would fit is estimated from it.
        input_px: of the network as built.
    """
    over = []
    if device.ram_bytes is not None and arena_bytes > device.ram_bytes:
        over.append(f"the arena takes {arena_bytes:,} bytes of {device.ram_bytes:,} bytes RAM")
    if device.flash_bytes is not None and len(content) > device.flash_bytes:
        over.append(f"the model takes {len(content):,} bytes of {device.flash_bytes:,} bytes flash")
    options = _would_fit(arena_bytes, len(content), device, width_multiplier, input_px) if over else ()
    return MemoryFit(arena_bytes, len(content), tuple(over), options)


def _would_fit(arena: int, flash: int, device: Device, width: float, px: int) -> tuple[str, ...]:
    """The largest smaller input, the largest smaller width, and the largest pair that should fit.

    Feature maps scale with width * px**2 and weights with width**2 (Howard et al., 1704.04861, equations 5 and 6).
    """
    ram_limit = device.ram_bytes if device.ram_bytes is not None else arena
    flash_limit = device.flash_bytes if device.flash_bytes is not None else flash

    def fits(new_width: float, new_px: int) -> bool:
        ratio = new_width / width
        return arena * ratio * (new_px / px) ** 2 <= ram_limit and flash * ratio**2 <= flash_limit

    sizes = [p for p in INPUT_PX if p < px]
    widths = [w for w in WIDTHS if w < width]
    by_px = next((f"--input-px {p}" for p in sizes if fits(width, p)), None)
    by_width = next((f"--width-multiplier {w}" for w in widths if fits(w, px)), None)
    both = next((f"--width-multiplier {w} --input-px {p}" for w in widths for p in sizes if fits(w, p)), None)
    found = [option for option in (by_px, by_width) if option]
    return tuple(found or ([both] if both else []))


def _generous_arena_bytes(content: bytes) -> int:
    """Room for every tensor at once, so that the measurement never runs out."""
    file = read_tflite(content)
    return 4 * sum(int(np.prod(t.shape)) for t in file.tensors if not t.constant_bytes) + 4 * len(content) + (1 << 20)
