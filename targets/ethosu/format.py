"""What Vela makes as an artifact: the network, and what Vela expects of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgec.pipeline.forms.format import Alone, Contract, Runtime
from edgec.targets.ethosu.options import EthosUOptions
from edgec.targets.tflite.format import MICRO_TESTED, TfliteFormat

NETWORK = "model.tflite"


@dataclass(frozen=True)
class EthosUFormat(Alone):
    """A folder with ``model.tflite`` and ``vela.json``.

    No C sources: the folder is two files, of which firmware links one.
    """

    name: str = "ethos-u"
    artifact: str = "ethos-u"
    linkable: bool = False

    def contract(self, artifact: Path) -> Contract:
        """Inputs and outputs of the network; the NPU's part is one operator, ``CUSTOM``.

        Raises:
            EdgecError: ``corrupt-tflite``.
        """
        return TfliteFormat().contract(artifact / NETWORK)

    def runtime(self, settings: EthosUOptions) -> Runtime:
        """TFLite Micro with the driver that its sources name for this NPU."""
        return Runtime("TFLite Micro with Arm's Ethos-U driver (PyPI's versions of tflite-micro)", MICRO_TESTED)
