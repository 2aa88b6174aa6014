"""A user's own ONNX: what is taken, and how each refusal reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny import TINY_PX, tiny_network

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.store import source
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.network.import_onnx import ImportOnnx, input_px, read_onnx


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def refusal(path: Path) -> EdgecError:
    with pytest.raises(EdgecError) as caught:
        input_px(read_onnx(path), path)
    return caught.value


@pytest.mark.parametrize("batch", ["N", 1])
@pytest.mark.parametrize("opset", [13, 17, 21])
def test_opsets_13_to_21_with_static_or_symbolic_batch(tmp_path: Path, batch: str | int, opset: int) -> None:
    path = saved(tiny_network(batch, opset=opset), tmp_path)
    ImportOnnx().run(tmp_path / "imported.onnx", source(path))
    assert onnx.load(tmp_path / "imported.onnx").opset_import[0].version == 17
    noise = OrtRunner(path).noise()
    np.testing.assert_allclose(
        OrtRunner(tmp_path / "imported.onnx").predict(noise)[0], OrtRunner(path).predict(noise)[0], rtol=1e-5
    )


def test_input_side_is_read(tiny_onnx: Path) -> None:
    assert input_px(onnx.load(tiny_onnx), tiny_onnx) == TINY_PX


def test_truncated_file(tiny_onnx: Path, tmp_path: Path) -> None:
    whole = tiny_onnx.read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    assert refusal(tmp_path / "cut.onnx").code == "corrupt-onnx"


def test_text_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_text("not a model")
    assert refusal(tmp_path / "x.onnx").code == "corrupt-onnx"


def test_missing_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone.onnx").code == "no-such-file"


@pytest.mark.parametrize("opset", [11, 22])
def test_opset_out_of_range(tmp_path: Path, opset: int) -> None:
    error = refusal(saved(tiny_network(opset=opset), tmp_path))
    assert error.code == "unsupported-opset"
    assert f"opset {opset}, expected 13 to 21" in error.message


def test_dynamic_height(tmp_path: Path) -> None:
    error = refusal(saved(tiny_network(side="H"), tmp_path))
    assert error.code == "dynamic-shape"
    assert "(N, 3, H, H)" in error.message


def test_batch_of_two(tmp_path: Path) -> None:
    assert refusal(saved(tiny_network(2), tmp_path)).code == "bad-input-shape"


def test_two_inputs(tmp_path: Path) -> None:
    model = tiny_network()
    model.graph.input.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, [1]))
    assert "2 inputs" in refusal(saved(model, tmp_path)).message


def test_flat_input(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3])
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])
    graph = helper.make_graph([helper.make_node("Relu", ["input"], ["logits"])], "flat", [value], [out])
    error = refusal(
        saved(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path)
    )
    assert error.code == "bad-input-shape"
    assert "(N, 3)" in error.message


def test_nan_weights_are_named(tmp_path: Path) -> None:
    model = tiny_network()
    broken = numpy_helper.to_array(model.graph.initializer[0]).copy()
    broken[0, 0, 0, 0] = np.nan
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(broken, "w1"))
    error = refusal(saved(model, tmp_path))
    assert error.code == "not-finite"
    assert "'w1'" in error.message


def test_quantized_input_is_refused(tmp_path: Path) -> None:
    model = tiny_network()
    for name, value in (("s", np.float32(0.1)), ("z", np.int8(0))):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    model.graph.node.insert(0, helper.make_node("QuantizeLinear", ["input", "s", "z"], ["iq"], "quantize_input"))
    error = refusal(saved(model, tmp_path))
    assert error.code == "already-quantized"
    assert "'quantize_input'" in error.message


def test_an_operator_that_has_no_older_form_is_named(tmp_path: Path) -> None:
    """GroupNormalization of opset 21 cannot be written in opset 17."""
    model = tiny_network(opset=21)
    for name in ("gamma", "beta"):
        model.graph.initializer.append(numpy_helper.from_array(np.ones(6, np.float32), name))
    node = helper.make_node("GroupNormalization", ["c1", "gamma", "beta"], ["g1"], "norm", num_groups=2)
    model.graph.node[1].input[0] = "g1"
    model.graph.node.insert(1, node)
    with pytest.raises(EdgecError) as caught:
        ImportOnnx().run(tmp_path / "out.onnx", source(saved(model, tmp_path)))
    assert caught.value.code == "opset-conversion"
