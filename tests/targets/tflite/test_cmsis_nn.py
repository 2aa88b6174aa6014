"""Which operators CMSIS-NN takes: known answers, from what TFLite Micro's and Arm's sources do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qdq_graphs import QdqGraph, integers
from seams import settings_of

from edgec.pipeline.bundle.integrity import read_checked_manifest
from edgec.pipeline.bundle.templates import markdown
from edgec.pipeline.forms.compiler import FastKernels
from edgec.pipeline.report.page import render_report
from edgec.targets.inspect import inspect_file
from edgec.targets.tflite.cmsis_nn import KERNELS, fast_kernels, plain_words
from edgec.targets.tflite.compiler import to_tflite
from edgec.targets.tflite.flatbuffer import FileOperator, FileTensor, TfliteFile, read_tflite

Shape = tuple[int, ...]
IMAGE: Shape = (1, 8, 8, 16)


def file_of(kind: str, dtype: str, shapes: list[Shape], constants: int, dilation: tuple[int, int]) -> TfliteFile:
    """One operator over inputs of these shapes, of which the last ``constants`` are constants of int8."""
    first = len(shapes) - constants
    tensors = [
        FileTensor(str(i), shape, dtype if i < first else "int8", (), 0, int(np.prod(shape)) if i >= first else 0)
        for i, shape in enumerate(shapes)
    ]
    output = FileTensor("out", shapes[0], dtype, (), 0, 0)
    operator = FileOperator(kind, (*range(len(shapes)), -1), (len(shapes),), 0, dilation)
    return TfliteFile((*tensors, output), (operator,), tuple(range(first)), (len(shapes),), {})


FAST = [
    ("CONV_2D", "int8", [IMAGE, (4, 3, 3, 16)], 1, (1, 1)),
    ("CONV_2D", "int16", [IMAGE, (4, 3, 3, 16)], 1, (1, 1)),
    ("DEPTHWISE_CONV_2D", "int8", [IMAGE, (1, 3, 3, 16)], 1, (1, 1)),
    ("DEPTHWISE_CONV_2D", "int8", [IMAGE, (1, 5, 5, 16)], 1, (1, 1)),
    ("FULLY_CONNECTED", "int16", [(1, 16), (4, 16)], 1, (1, 1)),
    ("ADD", "int8", [IMAGE, IMAGE], 0, (1, 1)),
    ("ADD", "int16", [(1, 1, 8), (8,)], 0, (1, 1)),  # TFLite Micro compares shapes with leading ones
    ("MUL", "int8", [IMAGE, IMAGE], 1, (1, 1)),
    ("MAX_POOL_2D", "int16", [IMAGE], 0, (1, 1)),
    ("SOFTMAX", "int8", [(1, 10)], 0, (1, 1)),
    ("PAD", "int8", [IMAGE, (4, 2)], 1, (1, 1)),
    ("MAXIMUM", "int8", [IMAGE, (1, 1, 1, 16)], 0, (1, 1)),  # its kernel broadcasts
    ("TRANSPOSE_CONV", "int8", [(4,), (8, 2, 2, 16), IMAGE], 0, (1, 1)),
]
PLAIN = [
    ("DEPTHWISE_CONV_2D", "int8", [IMAGE, (1, 3, 3, 16)], 1, (2, 2), "DEPTHWISE_CONV_2D with dilation"),
    ("DEPTHWISE_CONV_2D", "int8", [IMAGE, (1, 3, 3, 32)], 1, (1, 1), "DEPTHWISE_CONV_2D with a depth multiplier"),
    ("DEPTHWISE_CONV_2D", "int8", [(2, 8, 8, 16), (1, 3, 3, 16)], 1, (1, 1), "DEPTHWISE_CONV_2D of several images"),
    ("DEPTHWISE_CONV_2D", "int16", [IMAGE, (1, 3, 3, 16)], 1, (1, 1), "DEPTHWISE_CONV_2D of int16"),
    ("CONV_2D", "float32", [IMAGE, (4, 3, 3, 16)], 0, (1, 1), "CONV_2D of float32"),
    ("ADD", "int8", [IMAGE, (1, 1, 1, 16)], 0, (1, 1), "ADD of unequal shapes"),
    ("MUL", "int8", [IMAGE, (1, 1, 1, 16)], 1, (1, 1), "MUL of unequal shapes"),
    ("TRANSPOSE_CONV", "int16", [(8, 2, 2, 16), IMAGE], 0, (1, 1), "TRANSPOSE_CONV of int16"),
    ("PAD", "int16", [IMAGE, (4, 2)], 1, (1, 1), "PAD of int16"),
    ("HARD_SWISH", "int8", [IMAGE], 0, (1, 1), "HARD_SWISH"),
    ("MEAN", "int8", [IMAGE, (2,)], 1, (1, 1), "MEAN"),
    ("CONCATENATION", "int8", [IMAGE, IMAGE], 0, (1, 1), "CONCATENATION"),
]


@pytest.mark.parametrize(
    ("kind", "dtype", "shapes", "constants", "dilation", "words"), [*((*case, "") for case in FAST), *PLAIN]
)
def test_known_answers(
    kind: str, dtype: str, shapes: list[Shape], constants: int, dilation: tuple[int, int], words: str
) -> None:
    file = file_of(kind, dtype, shapes, constants, dilation)
    assert plain_words(file, file.operators[0]) == words


def test_counted() -> None:
    """What an accelerator takes is not the processor's; words have the most frequent first, whatever a file's order."""
    tensors = tuple(FileTensor(str(i), IMAGE, "int8", (), 0, 0) for i in range(3))
    kinds = ("HARD_SWISH", "ADD", "MEAN", "HARD_SWISH", "CUSTOM")
    operators = tuple(FileOperator(kind, (0, 1), (2,), 0) for kind in kinds)
    found = fast_kernels(TfliteFile(tensors, operators, (0, 1), (2,), {}))
    assert found == FastKernels("CMSIS-NN (Cortex-M)", 4, {"HARD_SWISH": 2, "MEAN": 1})
    assert (
        FastKernels(found.library, 4, {"MEAN": 1, "HARD_SWISH": 2}).words
        == found.words
        == ("1 of 4 operators have fast kernels in CMSIS-NN (Cortex-M); plain loops run 2 x HARD_SWISH, 1 x MEAN")
    )
    assert FastKernels("CMSIS-NN", 3, {}).words == "3 of 3 operators have fast kernels in CMSIS-NN"


def test_dilation_is_read_from_the_file() -> None:
    rng = np.random.default_rng(0)
    words = []
    for dilation in (1, 2):
        g = QdqGraph((1, 8, 12, 12))
        w = g.weights("w", integers(rng, 8, 1, 3, 3), np.float32(0.01))
        y = g.op("Conv", [g.x, w], 0.1, 0, group=8, dilations=[dilation] * 2, pads=[dilation] * 4)
        file = read_tflite(to_tflite(g.model(y), settings_of("mcu")))
        (operator,) = [one for one in file.operators if one.kind == "DEPTHWISE_CONV_2D"]
        words.append((operator.dilation, plain_words(file, operator)))
    assert words == [((1, 1), ""), ((2, 2), "DEPTHWISE_CONV_2D with dilation")]


def test_the_table_names_operators_of_the_format_and_sources() -> None:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    names = [kernel.operator for kernel in KERNELS]
    assert names == sorted(set(names))
    assert all(hasattr(schema.BuiltinOperator, name) for name in names)
    assert all(kernel.source and kernel.types for kernel in KERNELS)


def test_every_page_says_it(mcu_bundle: Path, jetson_bundle: Path) -> None:
    manifest = read_checked_manifest(mcu_bundle)
    said = manifest.fast_kernels
    assert said is not None
    assert said.num_operators == sum(manifest.contract.operators.values())
    assert f"- {markdown(said.words)}\n" in (mcu_bundle / "README.md").read_text()
    assert said.words in render_report([(mcu_bundle, manifest)])
    found = inspect_file(mcu_bundle / "model.tflite")
    assert found.fast_kernels == said
    assert sum(bool(row.plain) for row in found.operators) == sum(said.plain.values())
    assert read_checked_manifest(jetson_bundle).fast_kernels is None
