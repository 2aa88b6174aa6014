"""A .tflite on a device behind the same face as one on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgec.pipeline.progress import Report
from edgec.targets.adapter import Batch
from edgec.targets.devices.device import Device
from edgec.targets.devices.inference import predict
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

    def predict(self, batch: Batch) -> Batch:
        """``(N, 3, H, W)`` float32 preprocessed images to ``(N, ...)`` float32 outputs.

        Raises:
            EdgecError: ``missing-runtime`` (needed here to read the artifact's scales), and see ``Device``.
        """
        local = LiteRtRunner(self.artifact, xnnpack=False)
        inputs = np.concatenate([local.encode(image[None]) for image in batch])
        outputs = predict(
            self.device, self.artifact, inputs, threads=self.threads, xnnpack=self.xnnpack, progress=self.progress
        )
        return local.decode(outputs)
