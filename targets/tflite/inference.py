"""What is asked of a device: outputs, latency, instructions, and what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.arrays import Expected, read_arrays
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.progress import Report
from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.forms.device import Device
from edgec.pipeline.forms.measure import NUM_BLOCKS, SAMPLES_FOR_P99, DeviceTurns, FirstAnswer, Latency, Turns
from edgec.targets.devices.answer import checked, remote_failed
from edgec.targets.devices.qemu import QemuDevice
from edgec.targets.tflite.flatbuffer import read_tflite
from edgec.targets.tflite.format import RUNNER

START_TIMEOUT_S, FIRST_TIMEOUT_S = 120.0, 300.0
COUNTED_INFERENCES = 3
SINCE_BOOT = " since boot"
THROTTLING = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
    16: f"under-voltage{SINCE_BOOT}",
    17: f"frequency capped{SINCE_BOOT}",
    18: f"throttled{SINCE_BOOT}",
    19: f"soft temperature limit{SINCE_BOOT}",
}
"""Bits of ``vcgencmd get_throttled`` (Raspberry Pi documentation, "vcgencmd")."""


@dataclass(frozen=True)
class Board:
    """What a device is; None where it does not say.

    Attributes:
        model: of the device tree, or of the processor.
        num_cores: that a process may use.
        runtime: what runs the artifact there, with its version.
    """

    model: str | None
    machine: str
    num_cores: int
    kernel: str
    governor: str | None
    python: str
    runtime: str | None


@dataclass(frozen=True)
class BoardState:
    """What changes while it works; None where it does not say.

    Attributes:
        temperature_c: of the hottest sensor.
        throttled: what holds the clock down, now or since boot; empty where nothing does.
    """

    clock_mhz: float | None
    temperature_c: float | None
    throttled: tuple[str, ...] | None


@dataclass(frozen=True)
class BoardLatency:
    """A latency and the conditions it was measured under.

    Attributes:
        in_float: of the float network, timed in turns with it; None where there was none, or ``no_float`` says why.
    """

    latency: Latency
    in_float: Latency | None
    no_float: str
    board: Board
    before: BoardState
    after: BoardState


def describe(device: Device) -> tuple[Board, BoardState]:
    """Ask a device what it is.

    Raises:
        EdgecError: see ``Device.run``.
    """
    facts = checked(_Facts, device.run(RUNNER, ["facts", "--attached"], START_TIMEOUT_S), device.name)
    return facts.board, facts.state.known


def predict(
    device: Device,
    artifact: Path,
    inputs: npt.NDArray[Any],
    *,
    threads: int = 1,
    xnnpack: bool = True,
    timeout_s: float = 3600.0,
    progress: Report | None = None,
) -> tuple[npt.NDArray[Any], ...]:
    """Run a .tflite over ``inputs`` there: ``(N, ...)`` in the artifact's own layout and type to its raw outputs.

    Raises:
        EdgecError: ``wrong-input``, ``unusable-artifact``, and see ``Device``.
    """
    with scratch("there") as folder:
        images, outputs = folder / "inputs.npy", folder / "outputs.npz"
        np.save(images, inputs)
        places = [device.push(artifact, progress), device.push(images, progress)]
        answer = device.run(RUNNER, ["predict", *places, *_options(threads, xnnpack)], timeout_s, progress)
        there = checked(_Predicted, answer, device.name).outputs
        if not there.startswith(places[1]):  # beside the images that we sent; nothing else of the device is touched
            raise remote_failed(device.name, f"it says that the outputs lie in '{there}'")
        device.pull(there, outputs)
        return read_arrays(outputs, _outputs_of(artifact, len(inputs)), "remote-failed")


def _outputs_of(artifact: Path, num_images: int) -> list[Expected]:
    file = read_tflite(artifact.read_bytes())
    tensors = [file.tensors[index] for index in file.outputs]
    return [Expected(tensor.dtype, (num_images, *tensor.shape[1:])) for tensor in tensors]


def measure_latency(
    device: Device,
    artifact: Path,
    in_float: Path | None = None,
    *,
    threads: int = 1,
    xnnpack: bool = True,
    budget_s: float = 8.0,
) -> BoardLatency:
    """Time single inferences there, after a warm-up, for about ``budget_s`` seconds, and as long those ``in_float``.

    Raises:
        EdgecError: ``emulated-latency``, and see ``Device``.
    """
    _refuse_emulated(device)
    arguments = ["latency", device.push(artifact), *_options(threads, xnnpack), "--budget-s", str(budget_s)]
    beside = ["--beside", device.push(in_float)] if in_float else []
    answer = device.run(RUNNER, [*arguments, *beside], START_TIMEOUT_S + 5 * budget_s * (2 if in_float else 1))
    times = checked(_Times, answer, device.name)
    latency = replace(_latency(times, device.name), threads=threads, device=named(device, times.board))
    other = _of_samples(times.in_float, device.name) if times.in_float else None
    return BoardLatency(latency, other, times.no_float, times.board, times.before.known, times.after.known)


def named(device: Device, board: Board) -> str:
    """How budgets and latencies name a board."""
    return f"{board.model or device.name}, {board.num_cores} cores"


def time_turns(
    device: Device,
    artifacts: Sequence[Path],
    *,
    threads: int = 1,
    xnnpack: bool = True,
    turn_s: float = 2.0,
    reverse: bool = False,
) -> DeviceTurns:
    """Several .tflite files by turns in one new process there.

    Args:
        artifacts: one that stands there twice is loaded twice.
        reverse: load the last one first.

    Raises:
        EdgecError: ``emulated-latency``, and see ``Device``.
    """
    _refuse_emulated(device)
    places = {path: device.push(path) for path in dict.fromkeys(artifacts)}
    options = [*_options(threads, xnnpack), "--turn-s", str(turn_s), *(["--reverse"] if reverse else [])]
    limit_s = START_TIMEOUT_S + 20 * turn_s
    answer = device.run(RUNNER, ["turns", *(places[path] for path in artifacts), *options], limit_s)
    found = checked(_Turns, answer, device.name)
    blocks = found.turns.blocks_ms
    if len(blocks) != len(artifacts) or len(set(map(len, blocks))) != 1 or not all(map(_are_times, blocks)):
        raise remote_failed(device.name, "what it measured are no times of all artifacts")
    board, state = found.board, found.after.known
    runtime, _, version = (board.runtime or "").partition(" ")
    return DeviceTurns(
        found.turns,
        named(device, board),
        board.machine,
        board.kernel,
        board.governor,
        board.python,
        tuple(word for word in state.throttled or () if not word.endswith(SINCE_BOOT)),
        state.clock_mhz,
        state.temperature_c,
        {runtime: version} if runtime else {},
    )


def _are_times(blocks: Sequence[Sequence[float]]) -> bool:
    """Two blocks a turn, each with as many samples; positive and finite."""
    whole = bool(blocks) and len(blocks) % 2 == 0 and all(blocks) and len({len(block) for block in blocks}) == 1
    return whole and all(np.isfinite(ms) and ms > 0 for block in blocks for ms in block)


def _refuse_emulated(device: Device) -> None:
    if isinstance(device, QemuDevice):
        hint = "count instructions instead, or measure on a board: --on ssh://user@host"
        raise EdgecError("emulated-latency", f"times on '{device.name}' say nothing about a real core", hint)


def first_answer(device: Device, artifact: Path, *, threads: int = 1, xnnpack: bool = True) -> FirstAnswer:
    """Time and memory of the first answer there, in a process of its own; unknown of a board without a Python runtime.

    Raises:
        EdgecError: see ``Device``.
    """
    try:
        answer = device.run(RUNNER, ["first", device.push(artifact), *_options(threads, xnnpack)], FIRST_TIMEOUT_S)
    except EdgecError as error:
        if error.code != "missing-remote-runtime":
            raise
        return FirstAnswer()
    return checked(FirstAnswer, answer, device.name)


def count_instructions(device: Device, artifact: Path, *, xnnpack: bool = True, timeout_s: float = 600.0) -> int:
    """Guest instructions of one inference with one thread: repeats to the instruction, and is not a latency.

    The last of a few inferences; it includes the few thousand instructions of the interpreter's call.

    Raises:
        EdgecError: ``no-instruction-count``, and see ``Device.run``.
    """
    if not isinstance(device, QemuDevice):
        hint = "use an emulated core: --on qemu:cortex-a76"
        raise EdgecError("no-instruction-count", f"instructions are not counted on '{device.name}'", hint)
    options = [*_options(1, xnnpack), "--times", str(COUNTED_INFERENCES)]
    marks = device.count(RUNNER, ["invoke", device.push(artifact), *options], timeout_s)
    return marks[-1] - marks[-2]


def _options(threads: int, xnnpack: bool) -> Sequence[str]:
    return ["--attached", "--threads", str(threads), *([] if xnnpack else ["--no-xnnpack"])]


@dataclass(frozen=True)
class _State:
    """``BoardState`` in a script's words; ``throttled`` is the firmware's word."""

    clock_mhz: float | None
    temperature_c: float | None
    throttled: int | None

    @property
    def known(self) -> BoardState:
        word = self.throttled
        flags = None if word is None else tuple(name for bit, name in THROTTLING.items() if word >> bit & 1)
        return BoardState(self.clock_mhz, self.temperature_c, flags)


@dataclass(frozen=True)
class _Facts:
    board: Board
    state: _State


@dataclass(frozen=True)
class _Predicted:
    outputs: str


@dataclass(frozen=True)
class _Samples:
    samples_ms: tuple[float, ...]
    num_warmup: int


@dataclass(frozen=True)
class _Turns:
    """What ``board_runner.py turns`` answers."""

    board: Board
    after: _State
    turns: Turns


@dataclass(frozen=True)
class _Times:
    """Every sample, or the little that ``benchmark_model`` tells."""

    board: Board
    before: _State
    after: _State
    samples_ms: tuple[float, ...] = ()
    num_warmup: int = 0
    num_samples: int = 0
    p50_ms: float | None = None
    mean_ms: float | None = None
    in_float: _Samples | None = None
    no_float: str = ""


def _latency(times: _Times, device: str) -> Latency:
    if times.mean_ms is not None:
        note = f"benchmark_model on the board: mean {times.mean_ms:.3f} ms"
        return Latency("measured", p50_ms=times.p50_ms, num_samples=times.num_samples, note=note)
    return _of_samples(_Samples(times.samples_ms, times.num_warmup), device)


def _of_samples(found: _Samples, device: str) -> Latency:
    samples = np.array(found.samples_ms)
    if not samples.size or not np.all(np.isfinite(samples) & (samples > 0)):
        raise remote_failed(device, f"it measured {samples[:3].tolist()} ms")
    p50, p90, p99 = (float(value) for value in np.percentile(samples, (50, 90, 99)))
    return Latency(
        "measured",
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99 if len(samples) >= SAMPLES_FOR_P99 else None,
        num_samples=len(samples),
        num_blocks=NUM_BLOCKS,
        num_warmup=found.num_warmup,
        medians_ms=tuple(float(np.median(block)) for block in np.array_split(samples, NUM_BLOCKS) if block.size),
    )
