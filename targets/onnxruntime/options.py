"""How a board wants ONNX Runtime: there is nothing to choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from edgec.pipeline.core.toml_file import STRICT
from edgec.pipeline.forms.spec import TargetSpec, read_options


@dataclass(frozen=True)
class OnnxRuntimeOptions:
    """No fields: any name under ``[options]`` is refused."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT


def settings(target: TargetSpec) -> OnnxRuntimeOptions:
    """The board's options, checked.

    Raises:
        EdgecError: ``bad-board`` names the field.
    """
    return read_options(OnnxRuntimeOptions, target)
