"""Which operators of a file have fast kernels on a Cortex-M: Arm's CMSIS-NN, as TFLite Micro uses it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import dropwhile
from typing import Literal

from edgec.pipeline.forms.compiler import FastKernels
from edgec.targets.tflite.flatbuffer import FileOperator, FileTensor, TfliteFile


@dataclass(frozen=True)
class Kernel:
    """One operator.

    Attributes:
        types: of the first input that is no constant.
        when: ``equal-shapes`` of both inputs; ``depthwise``: one image, one output channel for each input channel, no
            dilation.
        source: who says so.
    """

    operator: str
    types: tuple[str, ...]
    source: str
    when: Literal["always", "equal-shapes", "depthwise"] = "always"


KERNELS = (
    Kernel("ADD", ("int8", "int16"), "TFLM add.cc: shapes that broadcast go to the reference kernel", "equal-shapes"),
    Kernel("AVERAGE_POOL_2D", ("int8", "int16"), "TFLM pooling.cc"),
    Kernel("BATCH_MATMUL", ("int8", "int16"), "TFLM batch_matmul.cc"),
    Kernel("CONV_2D", ("int8", "int16"), "TFLM conv.cc; dilation too (NN arm_convolve_wrapper_s8.c)"),
    # TFLM depthwise_conv.cc takes arm_depthwise_conv_s16 for int16: plain loops.
    Kernel("DEPTHWISE_CONV_2D", ("int8",), "NN arm_depthwise_conv_wrapper_s8.c: else plain loops", "depthwise"),
    Kernel("FULLY_CONNECTED", ("int8", "int16"), "TFLM fully_connected.cc"),
    Kernel("MAXIMUM", ("int8",), "TFLM maximum_minimum.cc"),
    Kernel("MAX_POOL_2D", ("int8", "int16"), "TFLM pooling.cc"),
    Kernel("MINIMUM", ("int8",), "TFLM maximum_minimum.cc"),
    Kernel("MUL", ("int8", "int16"), "TFLM mul.cc: shapes that broadcast go to the reference kernel", "equal-shapes"),
    Kernel("PAD", ("int8",), "TFLM pad.cc"),
    Kernel("PADV2", ("int8",), "TFLM pad.cc"),
    Kernel("SOFTMAX", ("int8", "int16"), "TFLM softmax.cc"),
    Kernel("SVDF", ("int8",), "TFLM svdf.cc"),
    Kernel("TRANSPOSE", ("int8",), "TFLM transpose.cc: up to four dimensions"),
    Kernel("TRANSPOSE_CONV", ("int8",), "TFLM transpose_conv.cc"),
    Kernel("UNIDIRECTIONAL_SEQUENCE_LSTM", ("int8", "int16"), "TFLM unidirectional_sequence_lstm.cc"),
)
"""What TFLite Micro, built with ``OPTIMIZED_KERNEL_DIR=cmsis_nn``, hands to kernels that are more than plain loops.

Read on 2026-11-27. TFLM: tensorflow/tflite-micro, ``tensorflow/lite/micro/kernels/cmsis_nn`` (files of 2022 to 2026,
the newest of commit 0cc6f983). NN: ARM-software/CMSIS-NN, ``Source`` (2023 and November 2024).
"""
_BY_OPERATOR = {kernel.operator: kernel for kernel in KERNELS}


def plain_words(file: TfliteFile, operator: FileOperator) -> str:
    """What keeps it from a fast kernel: ``HARD_SWISH``, ``MUL of unequal shapes``; empty where nothing does."""
    kind = operator.kind
    inputs = [file.tensors[index] for index in operator.inputs if index >= 0]
    dtype = next((tensor for tensor in inputs if not tensor.constant_bytes), file.tensors[operator.outputs[0]]).dtype
    kernel = _BY_OPERATOR.get(kind)
    if kernel is None:
        return kind
    if dtype not in kernel.types:
        return f"{kind} of {dtype}"
    if kernel.when == "equal-shapes" and len({_shape(tensor) for tensor in inputs}) > 1:
        return f"{kind} of unequal shapes"
    return _depthwise(kind, operator, inputs) if kernel.when == "depthwise" else ""


def fast_kernels(file: TfliteFile) -> FastKernels:
    """Count them; an accelerator's part of a file, ``CUSTOM``, is none of the processor's."""
    operators = [operator for operator in file.operators if operator.kind != "CUSTOM"]
    plain = Counter(words for operator in operators if (words := plain_words(file, operator)))
    return FastKernels(
        "CMSIS-NN (Cortex-M)", len(operators), dict(sorted(plain.items(), key=lambda pair: (-pair[1], pair[0])))
    )


def _shape(tensor: FileTensor) -> tuple[int, ...]:
    """Leading ones count for nothing where TFLite Micro compares shapes."""
    return tuple(dropwhile(lambda size: size == 1, tensor.shape))


def _depthwise(kind: str, operator: FileOperator, inputs: list[FileTensor]) -> str:
    image, weights = inputs[:2]
    if operator.dilation != (1, 1):
        return f"{kind} with dilation"
    if weights.shape[-1] != image.shape[-1]:
        return f"{kind} with a depth multiplier"
    return f"{kind} of several images" if image.shape[0] != 1 else ""
