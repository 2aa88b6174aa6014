"""Networks of older and newer operator sets in the working one, with the same answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny import tiny_network

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import source
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.network.export import OPSET
from edgec.pipeline.network.import_onnx import ImportOnnx
from edgec.pipeline.network.opset import NEWEST_OPSET, OLDEST_OPSET, opset_of, prove_equal, to_opset

RUNNABLE = 22  # by the oldest ONNX Runtime that we take


def with_node(opset: int, op: str, *constants: object, outputs: int = 1, **attributes: object) -> onnx.ModelProto:
    """One operator on an image; every output is one of the network."""
    names, initializers = ["input"], []
    for place, value in enumerate(constants):
        names.append("" if value is None else f"k{place}")
        if value is not None:
            initializers.append(numpy_helper.from_array(np.asarray(value), f"k{place}"))
    made = [f"y{i}" for i in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(op, names, made, "node", **attributes)],
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in made],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


F = np.float32
REDUCTIONS = ("Mean", "Max", "Min", "L2", "SumSquare")
CHANGED = [
    *((18, f"Reduce{kind}", (np.array([2, 3]),), {"keepdims": 0}) for kind in REDUCTIONS),
    (18, "ReduceMean", (), {}),
    (18, "ReduceMean", (np.zeros(0, np.int64),), {"noop_with_empty_axes": 1}),
    (18, "Split", (), {"outputs": 3, "num_outputs": 3, "axis": 1}),
    (20, "Split", (), {"outputs": 3, "num_outputs": 3, "axis": 2}),
    (18, "Split", (), {"outputs": 2, "num_outputs": 2, "axis": -1}),
    (19, "Split", (np.array([1, 2]),), {"outputs": 2, "axis": 1}),
    (18, "Pad", (np.array([1, 2, 0, 3]), np.array(0.5, F), np.array([2, -1])), {}),
    (21, "Pad", (np.array([0, 0, 1, 1, 0, 0, 1, 1]),), {"mode": "reflect"}),
    (18, "Resize", (None, np.array([2, 2], F)), {"axes": [2, 3], "mode": "linear"}),
    (19, "Resize", (None, None, np.array([5, 7])), {"axes": [2, 3], "mode": "linear", "antialias": 0}),
    (19, "AveragePool", (), {"kernel_shape": [2, 2], "dilations": [1, 1], "strides": [2, 2]}),
    (20, "Gelu", (), {}),
    (20, "Gelu", (), {"approximate": "tanh"}),
    (18, "Mish", (), {}),
    (21, "GroupNormalization", (np.ones(3, F), np.ones(3, F)), {"num_groups": 3}),
    (22, "HardSwish", (), {}),
    (22, "GlobalAveragePool", (), {}),
]


@pytest.mark.parametrize(("opset", "op", "constants", "attributes"), CHANGED)
def test_operators_that_changed_answer_as_before(opset, op, constants, attributes, tmp_path: Path) -> None:
    model = with_node(opset, op, *constants, **attributes)
    converted = to_opset(model, OPSET)
    assert opset_of(converted) == OPSET
    onnx.save(model, tmp_path / "before.onnx")
    onnx.save(converted, tmp_path / "after.onnx")
    prove_equal(tmp_path / "before.onnx", tmp_path / "after.onnx")


@pytest.mark.parametrize(
    ("opset", "op", "constants", "attributes"),
    [
        (19, "Pad", (np.array([0, 0, 1, 1, 0, 0, 1, 1]),), {"mode": "wrap"}),
        (18, "Resize", (None, np.array([1, 1, 0.5, 0.5], F)), {"mode": "linear", "antialias": 1}),
        (19, "AveragePool", (), {"kernel_shape": [2, 2], "dilations": [2, 2]}),
    ],
)
def test_what_has_no_older_form_is_named(opset, op, constants, attributes) -> None:
    with pytest.raises(EdgecError, match=f"opset-conversion.*'node' \\({op}\\)"):
        to_opset(with_node(opset, op, *constants, **attributes), OPSET)


@pytest.mark.parametrize("opset", [OLDEST_OPSET, 11, 12, 13, 16, 18, 20, RUNNABLE])
@pytest.mark.parametrize("batch", ["N", 1, -1])
def test_any_opset_and_batch_is_imported(opset: int, batch: str | int, tmp_path: Path) -> None:
    onnx.save(tiny_network(batch, opset=opset), tmp_path / "m.onnx")
    ImportOnnx().run(tmp_path / "out.onnx", source(tmp_path / "m.onnx"))
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    (answer,) = OrtRunner(tmp_path / "out.onnx").predict(images)
    assert answer.shape == (2, 3)
    assert opset_of(onnx.load(tmp_path / "out.onnx")) == OPSET


def test_another_answer_is_no_conversion(tmp_path: Path) -> None:
    onnx.save(with_node(17, "Relu"), tmp_path / "before.onnx")
    onnx.save(with_node(17, "Abs"), tmp_path / "after.onnx")
    with pytest.raises(EdgecError, match="changed its outputs"):
        prove_equal(tmp_path / "before.onnx", tmp_path / "after.onnx")


def test_the_newest_opset_is_the_one_of_onnx() -> None:
    assert onnx.defs.onnx_opset_version() == NEWEST_OPSET
