"""How a board wants its engine: the fields of ``[options]`` in its TOML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from edgec.pipeline.core.toml_file import STRICT, validate
from edgec.pipeline.forms.spec import BOARDS, Gpu, TargetSpec


@dataclass(frozen=True)
class TensorRtOptions:
    """What differs between boards that build from the same ONNX.

    Attributes:
        workspace_mib: memory that the builder may offer to a kernel.
        hardware_compatible: the engine runs on every GPU from Ampere on, and more slowly (TensorRT 8.6).
        least_sqnr_db: how near to the reference the golden outputs must be.
        max_reformats: layers that only change a tensor's format; more are refused. None takes any number.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    workspace_mib: int = 512
    hardware_compatible: bool = False
    least_sqnr_db: float = 10.0
    max_reformats: int | None = None


def options_of(target: TargetSpec) -> TensorRtOptions:
    """The board's options, checked.

    Raises:
        EdgecError: ``bad-board`` names the field.
    """
    return validate(TensorRtOptions, dict(target.options), BOARDS / f"{target.name}.toml", "bad-board")


def gpu_of(target: TargetSpec) -> Gpu:
    """The board's GPU; one of which nothing is known where the board names none."""
    return target.device.gpu or Gpu()
