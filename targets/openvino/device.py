"""An OpenVINO IR on an emulated x86 core: answers of its kernels, and instructions for one inference; no times."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgec.pipeline.core.arrays import Expected, read_arrays
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.progress import Report
from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.forms.device import Device
from edgec.pipeline.forms.format import Batch, Outputs
from edgec.pipeline.forms.measure import Cost, DeviceTurns, Latency
from edgec.targets.devices.answer import checked, remote_failed
from edgec.targets.devices.qemu import QemuDevice
from edgec.targets.openvino.format import RUNNER, IrFormat

START_TIMEOUT_S, TIMEOUT_S = 300.0, 3600.0
COUNTED_INFERENCES = 5


@dataclass(frozen=True)
class Board:
    """What a device is; None where it does not say.

    Attributes:
        model: of the processor; under emulation the host's, whose instructions are not the ones executed.
        runtime: what runs the artifact there, with its version.
        avx2: the processor has these instructions.
    """

    model: str | None
    machine: str
    python: str
    runtime: str | None
    avx2: bool = False


@dataclass(frozen=True)
class _Facts:
    board: Board


def describe(device: Device) -> Board:
    """Ask a device what it is.

    Raises:
        EdgecError: see ``Device.run``.
    """
    return checked(_Facts, device.run(RUNNER, ["facts", "--attached"], START_TIMEOUT_S), device.name).board


@dataclass(frozen=True)
class DeviceRunner:
    """The folder's IR on one thread of an emulated core, whatever processor this machine has."""

    device: QemuDevice
    artifact: Path
    precision: str = "f32"
    progress: Report | None = None

    def predict(self, batch: Batch) -> Outputs:
        """``(N, C, H, W)`` float32 preprocessed images to ``(N, ...)`` float32 outputs.

        Raises:
            EdgecError: ``unusable-artifact``, and see ``Device``.
        """
        expected = [Expected("float32", (len(batch), *o.shape[1:])) for o in IrFormat().contract(self.artifact).outputs]
        with scratch("there") as folder:
            images, outputs = folder / "inputs.npy", folder / "outputs.npz"
            np.save(images, batch)
            arguments = ["predict", *self._model(), str(images), str(outputs)]
            self.device.run(RUNNER, [*arguments, "--attached"], TIMEOUT_S, self.progress)
            return read_arrays(outputs, expected, "remote-failed")

    def identity(self) -> dict[str, str]:
        """The emulated core, the machine that emulates it, and the runtime."""
        facts = asdict(describe(self.device))
        return {"core": self.device.core.name, **{name: str(value) for name, value in facts.items()}}

    def cost(self, in_float: Path | None = None) -> Cost:
        """Instructions of one inference; the float artifact is not asked.

        Raises:
            EdgecError: see ``instructions``.
        """
        latency = Latency("not-measured", note="emulated: instructions are counted, time means nothing")
        return Cost(latency, self.instructions(), asdict(describe(self.device)))

    def instructions(self) -> int:
        """Guest instructions of one inference on one thread, the median of a few: they differ by some 0.02 %.

        Raises:
            EdgecError: ``no-instruction-count``, and see ``Device``.
        """
        arguments = ["invoke", *self._model(), "--times", str(COUNTED_INFERENCES), "--attached"]
        marks = self.device.count(RUNNER, arguments, TIMEOUT_S)[-2 * COUNTED_INFERENCES :]
        if len(marks) < 2 * COUNTED_INFERENCES:
            raise remote_failed(self.device.name, f"it marked {len(marks)} of {2 * COUNTED_INFERENCES} counts")
        return int(statistics.median(end - start for start, end in zip(marks[::2], marks[1::2], strict=True)))

    def device_name(self) -> str:
        """The emulated core."""
        return self.device.name

    def turns(self, others: Sequence[Path], turn_s: float, reverse: bool) -> DeviceTurns:
        """Not on an emulated core.

        Raises:
            EdgecError: ``emulated-latency``.
        """
        hint = "limit 'instructions' instead, or leave --on out"
        raise EdgecError("emulated-latency", f"times on '{self.device.name}' say nothing about a real core", hint)

    def fetch(self, folder: Path) -> None:
        """An IR runs as it is: there is nothing to bring home."""

    def _model(self) -> list[str]:
        names = ("model.xml", "model.bin")
        return [*(self.device.push(self.artifact / name) for name in names), "--precision", self.precision]
