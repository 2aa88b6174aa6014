"""How a board wants its IR executed: the fields of ``[options]`` in its TOML."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from edgec.pipeline.core.toml_file import STRICT
from edgec.pipeline.forms.spec import TargetSpec, read_options


@dataclass(frozen=True)
class OpenVinoOptions:
    """What differs between CPUs that read the same IR.

    Attributes:
        inference_precision: what float operators run in. ``f32`` by default: the plugin's own choice is bf16 where the
            CPU has it, and then the same artifact answers differently from machine to machine.
        constants: of float operators, in the file; f16 ones are widened where the CPU computes in f32.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    inference_precision: Literal["f32", "bf16", "f16"] = "f32"
    constants: Literal["f32", "f16"] = "f32"


def settings(target: TargetSpec) -> OpenVinoOptions:
    """The board's options, checked; FP16 is what the constants of the file are.

    Raises:
        EdgecError: ``bad-board`` names the field.
    """
    options = read_options(OpenVinoOptions, target)
    return replace(options, constants="f16") if target.precision == "fp16" else options
