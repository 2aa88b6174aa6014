"""A .tflite on a device behind the same face as one on this machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgec.pipeline.core.progress import Report
from edgec.pipeline.forms.device import Device
from edgec.pipeline.forms.format import Batch, Outputs
from edgec.pipeline.forms.measure import Cost, Latency
from edgec.targets.devices.qemu import QemuDevice
from edgec.targets.tflite.inference import count_instructions, describe, measure_latency, predict
from edgec.targets.tflite.runner import LiteRtRunner


@dataclass(frozen=True)
class DeviceRunner:
    """Encodes images and decodes answers here, so that only integers travel and both machines round alike.

    One call starts the runtime over there once: give it as many images as memory allows, not one batch at a time.
    """

    device: Device
    artifact: Path
    threads: int = 1
    xnnpack: bool = True
    progress: Report | None = None

    def predict(self, batch: Batch) -> Outputs:
        """``(N, C, H, W)`` float32 preprocessed images to ``(N, ...)`` float32 outputs.

        Raises:
            EdgecError: ``missing-runtime`` (needed here to read the artifact's scales), and see ``Device``.
        """
        local = LiteRtRunner(self.artifact, xnnpack=False)
        inputs = np.concatenate([local.encode(image[None]) for image in batch])
        outputs = predict(
            self.device, self.artifact, inputs, threads=self.threads, xnnpack=self.xnnpack, progress=self.progress
        )
        return local.decode(outputs)

    def identity(self) -> dict[str, str]:
        """The board as it describes itself.

        Raises:
            EdgecError: see ``describe``.
        """
        board, _ = describe(self.device)
        return {name: str(value) for name, value in asdict(board).items()}

    def cost(self) -> Cost:
        """Latency on a board; instructions on an emulated core.

        Raises:
            EdgecError: see ``measure_latency`` and ``count_instructions``.
        """
        if isinstance(self.device, QemuDevice):
            board, _ = describe(self.device)
            latency = Latency("not-measured", note="emulated: instructions are counted, time means nothing")
            return Cost(latency, count_instructions(self.device, self.artifact, xnnpack=self.xnnpack), asdict(board))
        found = measure_latency(self.device, self.artifact, threads=self.threads, xnnpack=self.xnnpack)
        states = {"before": asdict(found.before), "after": asdict(found.after)}
        return Cost(found.latency, board={**asdict(found.board), **states})

    def fetch(self, folder: Path) -> None:
        """A .tflite runs as it is: there is nothing to bring home."""
