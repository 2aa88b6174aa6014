"""A .tflite on a device behind the same face as one on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.progress import Report
from edgec.pipeline.forms.device import Device
from edgec.pipeline.forms.format import Batch, Outputs
from edgec.pipeline.forms.measure import Cost, DeviceTurns, FirstAnswer, Latency, beside_float
from edgec.targets.devices.qemu import QemuDevice
from edgec.targets.tflite.inference import (
    BoardLatency,
    count_instructions,
    describe,
    first_answer,
    measure_latency,
    named,
    predict,
    time_turns,
)
from edgec.targets.tflite.runner import LiteRtRunner

TOO_MUCH = ("remote-failed", "remote-timeout", "remote-disk-full")
"""How a board ends that a second, larger network is too much for: killed, endless, full."""


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

    def cost(self, in_float: Path | None = None) -> Cost:
        """Latency on a board, beside that of ``in_float``; instructions on an emulated core.

        Raises:
            EdgecError: see ``measure_latency`` and ``count_instructions``.
        """
        if isinstance(self.device, QemuDevice):
            board, _ = describe(self.device)
            latency = Latency("not-measured", note="emulated: instructions are counted, time means nothing")
            return Cost(latency, count_instructions(self.device, self.artifact, xnnpack=self.xnnpack), asdict(board))
        found = self._measured(in_float)
        first = self._first(self.artifact)
        latency = replace(
            found.latency, load_ms=first.load_ms, peak_rss_bytes=first.peak_rss_bytes, no_float=found.no_float
        )
        if in_float and found.in_float:
            latency = replace(latency, beside_float=beside_float(latency, found.in_float, self._first(in_float)))
        states = {"before": asdict(found.before), "after": asdict(found.after)}
        return Cost(latency, board={**asdict(found.board), **states})

    def _measured(self, in_float: Path | None) -> BoardLatency:
        """The artifact beside float; alone, with the reason, where the board cannot have both."""
        threads, xnnpack = self.threads, self.xnnpack
        try:
            return measure_latency(self.device, self.artifact, in_float, threads=threads, xnnpack=xnnpack)
        except EdgecError as error:
            if in_float is None or error.code not in TOO_MUCH:
                raise
            alone = measure_latency(self.device, self.artifact, threads=threads, xnnpack=xnnpack)
            return replace(alone, no_float=f"with the float network beside it: {error.message}")

    def _first(self, artifact: Path) -> FirstAnswer:
        return first_answer(self.device, artifact, threads=self.threads, xnnpack=self.xnnpack)

    def device_name(self) -> str:
        """The board's model and how many cores it has.

        Raises:
            EdgecError: see ``describe``.
        """
        return named(self.device, describe(self.device)[0])

    def turns(self, others: Sequence[Path], turn_s: float, reverse: bool) -> DeviceTurns:
        """One measuring process on the board.

        Raises:
            EdgecError: see ``time_turns``.
        """
        artifacts = [self.artifact, *others]
        return time_turns(
            self.device, artifacts, threads=self.threads, xnnpack=self.xnnpack, turn_s=turn_s, reverse=reverse
        )

    def fetch(self, folder: Path) -> None:
        """A .tflite runs as it is: there is nothing to bring home."""
