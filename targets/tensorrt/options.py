"""How a board wants its engine: the fields of ``[options]`` in its TOML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from edgec.pipeline.core.errors import EdgecError
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
        dla_core: which accelerator takes what it can; the GPU takes the rest. FP16 only. None leaves all on the GPU.
        least_sqnr_db: how near to the reference the golden outputs must be.
        max_reformats: layers that only change a tensor's format; more are refused. None takes any number.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    workspace_mib: int = 512
    hardware_compatible: bool = False
    version_compatible: bool = False
    dla_core: int | None = None
    least_sqnr_db: float = 10.0
    max_reformats: int | None = None

    def __post_init__(self) -> None:
        if self.workspace_mib < 1:
            raise ValueError(f"workspace_mib is {self.workspace_mib}, expected at least 1")
        if self.max_reformats is not None and self.max_reformats < 0:
            raise ValueError(f"max_reformats is {self.max_reformats}, expected at least 0")


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
    options, gpu = read_options(TensorRtOptions, target), target.device.gpu or Gpu()
    if options.dla_core is not None and not 0 <= options.dla_core < gpu.dla_cores:
        message = f"'{target.name}': options.dla_core is {options.dla_core}, the board has {gpu.dla_cores} DLA cores"
        raise EdgecError("bad-board", message, "leave dla_core away, or name a core that is there")
    if options.hardware_compatible and gpu.jetpack:
        message = f"'{target.name}': options.hardware_compatible, which NVIDIA offers for no Jetson"
        raise EdgecError("bad-board", message, "build on each board: an engine is its GPU's")
    return TensorRtSettings(target.name, target.precision, gpu, options)
