"""How a board wants its .tflite: the fields of ``[options]`` in its TOML."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.toml_file import STRICT
from edgec.pipeline.forms.spec import TargetSpec, read_options


@dataclass(frozen=True)
class TfliteOptions:
    """What differs between boards that read the same file format.

    Attributes:
        padding: ``same`` uses SAME where it says what the ONNX pads say; ``explicit`` always writes a PAD.
        gemm: ``fully_connected``, or a 1x1 ``convolution``: TFLite Micro rounds an int8 FULLY_CONNECTED twice
            and LiteRT's reference kernel once, so that they differ by one step now and then; their CONV_2D is the same.
        per_channel: the runtime takes one weight scale per output channel.
        input_type: ``int8`` takes the quantized input, ``uint8`` takes pixels (normalisation folded into the first
            convolution), ``float32`` takes the normalised image and puts a QUANTIZE first and a DEQUANTIZE last.
        xnnpack: the runtime delegates to XNNPACK; its limits on int8 operators then count as constraints.
        constants: of float operators, in the file; float16 ones are widened where the runtime computes in float32.
        half_arithmetic: float operators with such constants compute in float16, which XNNPACK does where the core can.
        runtime: the Python package that runs the file on the board.
        smaller_arena: compute large feature maps strip by strip where that saves a tenth of TFLite Micro's arena for at
            most a tenth more multiplications (``arena.py``); answers are the same.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    padding: Literal["same", "explicit"] = "same"
    gemm: Literal["fully_connected", "convolution"] = "fully_connected"
    per_channel: bool = True
    input_type: Literal["int8", "uint8", "float32"] = "int8"
    xnnpack: bool = True
    constants: Literal["float32", "float16"] = "float32"
    half_arithmetic: bool = False
    runtime: Literal["ai-edge-litert", "tflite-runtime", "tflite-micro"] = "ai-edge-litert"
    smaller_arena: bool = False

    @property
    def is_linked(self) -> bool:
        """The file is part of a program: every byte of it takes flash, and the sources beside it have its names."""
        return self.runtime == "tflite-micro"


def settings(target: TargetSpec) -> TfliteOptions:
    """The board's options, checked; FP16 is what the constants of the file are.

    Raises:
        EdgecError: ``bad-board`` names the field.
    """
    options = read_options(TfliteOptions, target)
    if options.smaller_arena and not options.is_linked:
        message = f"board '{target.name}': options.smaller_arena is about TFLite Micro's arena"
        raise EdgecError("bad-board", message, "leave it out, or set options.runtime = 'tflite-micro'")
    return replace(options, constants="float16") if target.precision == "fp16" else options
