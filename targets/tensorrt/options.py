"""How a board wants its engine: the fields of ``[options]`` in its TOML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from edgec.pipeline.core.toml_file import STRICT
from edgec.pipeline.forms.spec import Gpu, Precision, TargetSpec, read_options


@dataclass(frozen=True)
class TensorRtOptions:
    """What differs between boards that build from the same ONNX.

    Attributes:
        workspace_mib: memory that the builder may offer to a kernel.
        hardware_compatible: the engine runs on every GPU from Ampere on, and more slowly (TensorRT 8.6); NVIDIA offers
            it for no Jetson.
        version_compatible: the engine runs on later TensorRT as well, one of 10 on 11 say, and more slowly (8.6).
        least_sqnr_db: how near to the reference the golden outputs must be.
        max_reformats: layers that only change a tensor's format; more are refused. None takes any number.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    workspace_mib: int = 512
    hardware_compatible: bool = False
    version_compatible: bool = False
    least_sqnr_db: float = 10.0
    max_reformats: int | None = None


@dataclass(frozen=True)
class TensorRtSettings:
    """All that building and running an engine reads of a board."""

    board: str
    precision: Precision
    gpu: Gpu
    options: TensorRtOptions


def settings(target: TargetSpec) -> TensorRtSettings:
    """The board's options, checked, and its GPU; one of which nothing is known where the board names none.

    Raises:
        EdgecError: ``bad-board`` names the field.
    """
    options = read_options(TensorRtOptions, target)
    return TensorRtSettings(target.name, target.precision, target.device.gpu or Gpu(), options)
