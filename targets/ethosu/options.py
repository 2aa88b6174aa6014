"""What a board with an Ethos-U wants: the fields of ``[options]`` in its TOML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgec.pipeline.forms.spec import TargetSpec, read_options
from edgec.targets.tflite.options import TfliteOptions

Accelerator = Literal[
    "ethos-u55-32",
    "ethos-u55-64",
    "ethos-u55-128",
    "ethos-u55-256",
    "ethos-u65-256",
    "ethos-u65-512",
    "ethos-u85-128",
    "ethos-u85-256",
    "ethos-u85-512",
    "ethos-u85-1024",
    "ethos-u85-2048",
]


@dataclass(frozen=True)
class EthosUOptions(TfliteOptions):
    """Those of the .tflite that Vela reads, and what Vela has to know of the board.

    Attributes:
        accelerator: the NPU, and its multiply-accumulates per cycle.
        system_config: clock and bandwidths, as a section of Vela's ``vela.ini`` names them; they decide the schedule.
        smaller_arena: never; Vela itself computes feature maps in stripes.
        memory_mode: where weights and feature maps lie, likewise.
    """

    xnnpack: bool = False
    runtime: Literal["ai-edge-litert", "tflite-runtime", "tflite-micro"] = "tflite-micro"
    smaller_arena: Literal[False] = False
    accelerator: Accelerator = "ethos-u55-128"
    system_config: str = "Ethos_U55_High_End_Embedded"
    memory_mode: str = "Shared_Sram"


def settings(target: TargetSpec) -> EthosUOptions:
    """The board's options, checked; what Vela's own file does not name is refused by Vela.

    Raises:
        EdgecError: ``bad-board`` names the field.
    """
    return read_options(EthosUOptions, target)
