"""An engine on a device, this machine's GPU included: ``build_engine.py`` runs there, files travel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.json_file import read_record
from edgec.pipeline.core.progress import reporter
from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.forms.compiler import OnDevice
from edgec.pipeline.forms.device import Device
from edgec.pipeline.forms.format import Batch, Outputs
from edgec.pipeline.forms.measure import NUM_BLOCKS, SAMPLES_FOR_P99, Cost, DeviceTurns, Latency, beside_float
from edgec.targets.devices.answer import checked, remote_failed
from edgec.targets.devices.qemu import QemuDevice
from edgec.targets.tensorrt.format import SCRIPT, read_spec, shapes_of, split
from edgec.targets.tensorrt.options import TensorRtSettings
from edgec.targets.tensorrt.placement import RECORD, EngineRecord

BUILD_TIMEOUT_S = 3600.0  # the builder times every kernel; minutes on a small board
FACTS_TIMEOUT_S = 120.0
BUDGET_S = 8.0
PRODUCTS = ("model.engine", "timing.cache", RECORD)
NO_ENGINE = (
    "engine-build-failed",
    "engine-crashed",
    "golden-mismatch",
    "too-many-reformats",
    "cuda-failed",
    "remote-disk-full",
)
"""How a device refuses the float network's engine, of which another one may well run there."""
UNLOCKED = "GPU clocks were not locked ('sudo jetson_clocks'): times vary"


@dataclass(frozen=True)
class DeviceEngine:
    """The face of a runner for an artifact folder of ``compiler.py``.

    The first call builds the engine there; the device keeps it under ``~/.cache/edgec`` for the next ones. One call
    starts TensorRT there once: give it as many images as memory allows.
    """

    device: Device
    artifact: Path

    def predict(self, batch: Batch) -> Outputs:
        """``(N, C, H, W)`` float32 preprocessed images to ``(N, ...)`` float32 for each output.

        Raises:
            EdgecError: what ``build_engine.py`` refuses (``devices.answer.REFUSALS``), and see ``Device``.
        """
        shapes = shapes_of(read_spec(self.artifact))
        with scratch("there") as folder:
            images, outputs = folder / "inputs.bin", folder / "outputs.bin"
            images.write_bytes(np.ascontiguousarray(batch, "<f4").tobytes())
            there = self.device.push(images, reporter("upload"))
            self._run(["--predict", there, f"{there}.outputs"], "on device")
            self.device.pull(f"{there}.outputs", outputs)
            if outputs.stat().st_size != 4 * len(batch) * sum(map(math.prod, shapes)):
                message = f"it answers {outputs.stat().st_size:,} bytes for {len(batch)} images with {shapes}"
                raise remote_failed(self.device.name, message)
            return split(np.fromfile(outputs, "<f4").astype(np.float32, copy=False).reshape(len(batch), -1), shapes)

    def identity(self) -> dict[str, str]:
        """GPU, driver and TensorRT, as ``build_engine.py --facts`` names them.

        Raises:
            EdgecError: as ``predict``.
        """
        return describe(self.device)

    def cost(self, in_float: Path | None = None) -> Cost:
        """Latency between two CUDA events around one inference; the host's overhead apart.

        Float is timed for half as long before, and again after: what drifts meets both alike.

        Raises:
            EdgecError: as ``predict``.
        """
        before, no_float = self._float_times(in_float) if in_float else (None, "")
        answer = self._measured(BUDGET_S)
        latency = _latency(answer.latency, answer.key, self.device.name)
        if in_float and before:
            after = DeviceEngine(self.device, in_float)._measured(BUDGET_S / 2).latency
            other = replace(after, gpu_ms=before.gpu_ms + after.gpu_ms, host_ms=before.host_ms + after.host_ms)
            found = _latency(other, answer.key, self.device.name)
            latency = replace(latency, beside_float=beside_float(latency, found))
        said, times = asdict(answer), asdict(answer.latency)
        states = {name: times[name] for name in ("before", "after")}
        board = {**said["key"], "layers": said["layers"], "golden": said["golden"], **states}
        return Cost(replace(latency, no_float=no_float), board=board)

    def _float_times(self, in_float: Path) -> tuple[_Times | None, str]:
        """Of the float network's engine; or why the device makes none."""
        try:
            return DeviceEngine(self.device, in_float)._measured(BUDGET_S / 2).latency, ""
        except EdgecError as error:
            if error.code not in NO_ENGINE:
                raise
            return None, error.message

    def _measured(self, budget_s: float) -> _Measured:
        return checked(_Measured, self._run(["--budget-s", str(budget_s)], "on device"), self.device.name)

    def device_name(self) -> str:
        """Of no use to a gate, which has no times of this device.

        Raises:
            EdgecError: ``cannot-time-there``.
        """
        raise self._one_at_a_time()

    def turns(self, others: Sequence[Path], turn_s: float, reverse: bool) -> DeviceTurns:
        """Not done yet: engines are timed one after the other there.

        Raises:
            EdgecError: ``cannot-time-there``.
        """
        raise self._one_at_a_time()

    def _one_at_a_time(self) -> EdgecError:
        message = f"'{self.device.name}': TensorRT engines are timed one after the other, never by turns"
        hint = "'edgec measure --on' gives an engine's latency; '--no-device' judges all that needs no device"
        return EdgecError("cannot-time-there", message, hint)

    def fetch(self, folder: Path) -> None:
        """Engine, timing cache and ``engine.json``, which holds every sample of the last ``cost``, into ``folder``.

        Raises:
            EdgecError: as ``predict``.
        """
        self._run(["--budget-s", "0", "--copy"], "on device")
        for name in PRODUCTS:
            self.device.pull(f"{self._folder}/{name}.copy", folder / name)
        read_record(EngineRecord, folder / RECORD, "remote-failed")

    @cached_property
    def _folder(self) -> str:
        """Of the engine, beside what was sent; nothing else of the device is touched."""
        spec = self.device.push(self.artifact / "engine_spec.json", reporter("upload"))
        return f"{PurePosixPath(spec).with_suffix('')}-engine"

    def _run(self, arguments: Sequence[str], step: str) -> dict[str, Any]:
        upload = reporter("upload")
        names = {"model": "model.onnx", "spec": "engine_spec.json", "golden": "golden.bin"}
        if (self.artifact / "model_typed.onnx").is_file():
            names["typed"] = "model_typed.onnx"
        there = {name: self.device.push(self.artifact / file, upload) for name, file in names.items()}
        given = [part for name, path in there.items() for part in (f"--{name}", path)]
        command = [*given, "--output", self._folder, "--attached", *arguments]
        return self.device.run(self.artifact / "build_engine.py", command, BUILD_TIMEOUT_S, reporter(step))


def on_device(device: Device, artifact: Path, settings: TensorRtSettings, threads: int) -> OnDevice:
    """The folder on a Jetson or a GPU server.

    Raises:
        EdgecError: ``cannot-run-there`` for emulated cores.
    """
    _must_have_a_gpu(device)
    return DeviceEngine(device, artifact)


def describe(device: Device) -> dict[str, str]:
    """Driver, GPU and TensorRT of ``device``.

    Raises:
        EdgecError: ``cannot-run-there`` for emulated cores, ``missing-driver``, ``missing-remote-runtime``, and see
            ``Device.run``.
    """
    _must_have_a_gpu(device)
    return asdict(checked(_Gpu, device.run(SCRIPT, ["--facts", "--attached"], FACTS_TIMEOUT_S), device.name))


def _must_have_a_gpu(device: Device) -> None:
    if isinstance(device, QemuDevice):
        hint = "use a Jetson or a GPU server: --on ssh://user@host"
        raise EdgecError("cannot-run-there", f"'{device.name}' emulates no GPU", hint)


@dataclass(frozen=True)
class _Gpu:
    gpu: str
    compute_capability: str
    driver: str
    tensorrt: str


@dataclass(frozen=True)
class _State:
    """Of the board, in its own tools' words; None where it does not say."""

    clock_mhz: float | None
    clocks_locked: bool | None
    power_mode: str | None
    tegrastats: str | None
    nvidia_smi: str | None


@dataclass(frozen=True)
class _Times:
    gpu_ms: tuple[float, ...]
    host_ms: tuple[float, ...]
    num_warmup: int
    before: _State
    after: _State


@dataclass(frozen=True)
class _Measured:
    key: _Gpu
    layers: dict[str, int]
    golden: dict[str, float]
    latency: _Times


def _latency(times: _Times, key: _Gpu, device: str) -> Latency:
    samples = np.array(times.gpu_ms)
    if not len(samples) == len(times.host_ms) > 0 or not np.all(np.isfinite(samples) & (samples > 0)):
        raise remote_failed(device, f"it measured {samples[:3].tolist()} ms")
    p50, p90, p99 = (float(value) for value in np.percentile(samples, (50, 90, 99)))
    notes = [f"GPU time; enqueue to end on the host: p50 {np.median(times.host_ms):.3f} ms"]
    if times.before.clocks_locked is False:
        notes.append(UNLOCKED)
    if times.before.power_mode:
        notes.append(f"power mode {times.before.power_mode}")
    return Latency(
        "measured",
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99 if len(samples) >= SAMPLES_FOR_P99 else None,
        num_samples=len(samples),
        num_blocks=NUM_BLOCKS,
        num_warmup=times.num_warmup,
        medians_ms=tuple(float(np.median(block)) for block in np.array_split(samples, NUM_BLOCKS) if block.size),
        device=f"{key.gpu} ({key.compute_capability}), TensorRT {key.tensorrt}, {key.driver}",
        note="; ".join(notes),
    )
