"""A user's own ONNX: what is taken, and how each refusal reads."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tiny import TINY_PX, tiny_network

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import source
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.network.import_onnx import ImportOnnx, onnx_files, read_onnx
from edgec.pipeline.network.onnx_input import take_image
from edgec.targets.inspect import inspect_file


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def refusal(path: Path) -> EdgecError:
    with pytest.raises(EdgecError) as caught:
        take_image(read_onnx(path), path)
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


def test_input_shape_is_read(tiny_onnx: Path) -> None:
    image, network = take_image(model := onnx.load(tiny_onnx), tiny_onnx)
    assert (image.shape, image.layout, network is model) == ((3, TINY_PX, TINY_PX), "NCHW", True)


def test_truncated_file(tiny_onnx: Path, tmp_path: Path) -> None:
    whole = tiny_onnx.read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    assert refusal(tmp_path / "cut.onnx").code == "corrupt-onnx"


def test_text_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_text("not a model")
    assert refusal(tmp_path / "x.onnx").code == "corrupt-onnx"


def test_missing_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone.onnx").code == "no-such-file"


def test_opset_out_of_range(tmp_path: Path) -> None:
    error = refusal(saved(tiny_network(opset=8), tmp_path))
    assert error.code == "unsupported-opset"
    assert f"opset 8, expected 9 to {onnx.defs.onnx_opset_version()}" in error.message


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


@pytest.mark.parametrize("operator", ["QLinearConv", "ConvInteger", "QLinearAdd"])
def test_integer_operators_are_refused(operator: str, tmp_path: Path) -> None:
    path = saved(tiny_network(), tmp_path)
    model = onnx.load(path)
    kinds = {"QLinearConv": 9, "ConvInteger": 2, "QLinearAdd": 8}
    names = [f"u{place}" for place in range(kinds[operator])]
    for name in names:
        scale = operator != "ConvInteger" and name in ("u1", "u4", "u6")
        shape = (1, 1, 1, 1) if name == {"QLinearConv": "u3", "ConvInteger": "u1"}.get(operator) else ()
        shape = (1, 1, 4, 4) if name == "u0" else shape
        values = np.ones(shape, np.float32 if scale else np.uint8)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    domain = "com.microsoft" if operator == "QLinearAdd" else ""
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    inputs = names if operator != "QLinearConv" else names[:8]
    model.graph.node.append(helper.make_node(operator, inputs, ["q"], "integers", domain=domain))
    error = refusal(saved(model, tmp_path))
    assert error.code == "already-quantized"
    assert operator in error.message


def test_an_operator_that_has_no_older_form_is_named(tmp_path: Path) -> None:
    """A Pad that wraps around cannot be written in opset 17."""
    model = tiny_network(opset=21)
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "sides"))
    node = helper.make_node("Pad", ["c1", "sides"], ["g1"], "norm", mode="wrap")
    model.graph.node[1].input[0] = "g1"
    model.graph.node.insert(1, node)
    with pytest.raises(EdgecError) as caught:
        ImportOnnx().run(tmp_path / "out.onnx", source(saved(model, tmp_path)))
    assert caught.value.code == "opset-conversion"


# Hostile or absurd files: a code, and no memory.


def changed(folder: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    model = tiny_network()
    change(model)
    return saved(model, folder)


def imported(path: Path, time_limit_s: float = 45.0) -> str:
    """The code of the refusal, or nothing."""
    try:
        ImportOnnx(time_limit_s).run(path.parent / "imported.onnx", source(path))
    except EdgecError as error:
        return error.code
    return ""


def add_before(model: onnx.ModelProto, kind: str, *constants: object, last: bool = False, **attributes: object) -> None:
    """A node between the input and the first convolution, or one behind the logits (``last``)."""
    names = []
    for index, value in enumerate(constants):
        names.append(f"constant{index}" if value is not None else "")
        if value is not None:
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), names[-1]))
    if last:
        model.graph.node[-1].output[0] = "before"
        model.graph.node.append(helper.make_node(kind, ["before", *names], ["logits"], "added", **attributes))
    else:
        model.graph.node[0].input[0] = "added"
        model.graph.node.insert(0, helper.make_node(kind, ["input", *names], ["added"], "added", **attributes))


def add_to_logits(model: onnx.ModelProto, nodes: list[onnx.NodeProto], **constants: object) -> None:
    """``nodes`` end in the tensor ``many``, whose largest value is added to the logits."""
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    model.graph.node[-1].output[0] = "before"
    model.graph.node.extend(
        [
            *nodes,
            helper.make_node("ReduceMax", ["many"], ["most"], keepdims=0),
            helper.make_node("Add", ["before", "most"], ["logits"]),
        ]
    )


def resize(model: onnx.ModelProto, factor: int) -> None:
    add_before(model, "Resize", None, np.array([1, 1, factor, factor], np.float32), mode="nearest")


def tile(model: onnx.ModelProto, times: int) -> None:
    add_before(model, "Tile", np.array([1, 1, times, times], np.int64))


def pad(model: onnx.ModelProto, pixels: int) -> None:
    add_before(model, "Pad", np.array([0, 0, pixels, pixels] * 2, np.int64))


def fill(model: onnx.ModelProto, side: int) -> None:
    add_to_logits(model, [helper.make_node("ConstantOfShape", ["shape"], ["many"])], shape=[side, side])


def expand(model: onnx.ModelProto, side: int) -> None:
    nodes = [
        helper.make_node("Cast", ["one"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Expand", ["as_float", "shape"], ["many"]),
    ]
    add_to_logits(model, nodes, shape=[side, side], one=[1])


def count(model: onnx.ModelProto, side: int) -> None:
    nodes = [
        helper.make_node("Range", ["start", "end", "step"], ["numbers"]),
        helper.make_node("Cast", ["numbers"], ["many"], to=TensorProto.FLOAT),
    ]
    add_to_logits(model, nodes, start=0, end=side * side, step=1)


@pytest.mark.parametrize("make", [resize, tile, pad, fill, expand, count])
def test_a_tensor_of_terabytes_is_refused_before_it_is_made(
    tmp_path: Path, make: Callable[[onnx.ModelProto, int], None]
) -> None:
    assert imported(changed(tmp_path, lambda model: make(model, 2))) == ""
    assert imported(changed(tmp_path, lambda model: make(model, 1 << 18))) == "tensor-too-large"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded on Linux only")
def test_a_tensor_of_computed_size_cannot_take_the_memory(tmp_path: Path) -> None:
    """Shape inference does not see it; ONNX Runtime would fold it while it loads the file."""

    def change(model: onnx.ModelProto, side: int) -> None:
        nodes = [
            helper.make_node("Mul", ["side", "two"], ["wide"]),
            helper.make_node("ConstantOfShape", ["wide"], ["many"]),
        ]
        add_to_logits(model, nodes, side=[side, side], two=[2])

    assert imported(changed(tmp_path, lambda model: change(model, 2))) == ""
    assert imported(changed(tmp_path, lambda model: change(model, 1 << 16))) == "onnx-does-not-run"


@pytest.mark.parametrize("dims", [[1] * 9, [1] * 70, [], [1 << 20, 1 << 20], [1 << 40], [(1 << 31) - 1] * 3])
def test_initializers_of_absurd_shape(tmp_path: Path, dims: list[int]) -> None:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[1]
        del tensor.dims[:]
        tensor.dims.extend(dims)

    assert imported(changed(tmp_path, change)) in ("corrupt-onnx", "tensor-too-large")


NUMBERS = st.sampled_from([-(2**62), -1, 0, 1, 2, 3, 1000, 2**31, 2**40, 2**62])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    node=st.sampled_from([0, 2]),
    name=st.sampled_from(["kernel_shape", "pads", "strides", "dilations", "group", "auto_pad", "new"]),
    value=NUMBERS | st.lists(NUMBERS, min_size=1, max_size=5) | st.sampled_from(["", "VALID", "x"]) | st.floats(),
)
def test_any_attribute_ends_in_a_code(tmp_path: Path, node: int, name: str, value: object) -> None:
    def change(model: onnx.ModelProto) -> None:
        kept = [attribute for attribute in model.graph.node[node].attribute if attribute.name != name]
        del model.graph.node[node].attribute[:]
        model.graph.node[node].attribute.extend([*kept, helper.make_attribute(name, value)])

    expected = ("", "corrupt-onnx", "onnx-does-not-run", "tensor-too-large", "opset-conversion")
    assert imported(changed(tmp_path, change)) in expected


def test_an_attribute_of_more_than_32_bits_is_named(tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].attribute.append(helper.make_attribute("strides", [1 << 40, 1 << 40]))

    error = refusal(changed(tmp_path, change))
    assert error.code == "corrupt-onnx"
    assert "'first' (Conv) with strides 1099511627776" in error.message


@pytest.mark.parametrize("batch", ["N", 1])
@pytest.mark.parametrize(
    ("kind", "extra", "attributes"),
    [
        ("Identity", [], {}),
        ("Reshape", [np.array([3], np.int64)], {}),
        ("ReduceSum", [np.array([0, 1], np.int64)], {"keepdims": 0}),
        ("Transpose", [], {"perm": [1, 0]}),
        ("Squeeze", [np.array([0], np.int64)], {}),
        ("MatMul", [np.ones((3, 2), np.float32)], {}),
    ],
)
def test_an_output_without_a_row_for_each_image_is_refused_at_once(
    tmp_path: Path, batch: str | int, kind: str, extra: list[np.ndarray], attributes: dict[str, object]
) -> None:
    model = tiny_network(batch)
    names = [f"extra{index}" for index in range(len(extra))]
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for value, name in zip(extra, names, strict=True)
    )
    model.graph.node.append(helper.make_node(kind, ["logits", *names], ["more"], **attributes))
    model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, None))
    expected = "" if kind in ("Identity", "MatMul") else "bad-output"
    assert imported(saved(onnx.shape_inference.infer_shapes(model), tmp_path)) == expected


def test_an_output_that_no_image_reaches_is_refused_where_its_rows_are_not_images(tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].input[0] = model.graph.node[0].input[1]

    assert imported(changed(tmp_path, change)) == "bad-output"


NAMED = ("the_operator", "the_domain", "the_node", "the_tensor", "the_attribute", "the_graph", "the_key", "the_side")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(NAMED), byte=st.integers(0x80, 0xFF), at=st.integers(0, 7))
def test_a_name_that_is_no_utf_8_is_refused_wherever_it_stands(tmp_path: Path, name: str, byte: int, at: int) -> None:
    node = helper.make_node("the_operator", ["the_tensor"], ["logits"], name="the_node", the_attribute=1)
    node.domain = "the_domain"
    ends = [helper.make_tensor_value_info(side, TensorProto.FLOAT, ["the_side"]) for side in ("the_tensor", "logits")]
    inner = helper.make_graph([node], "the_graph", ends[:1], ends[1:])
    model = helper.make_model(helper.make_graph([helper.make_node("If", [], [], body=inner)], "outer", [], []))
    helper.set_model_props(model, {"the_key": "value"})
    content = model.SerializeToString()
    at %= len(name)
    spoilt = name.encode()[:at] + bytes([byte]) + name.encode()[at + 1 :]
    path = tmp_path / "model.onnx"
    path.write_bytes(content.replace(name.encode(), spoilt))
    for read in (onnx_files, read_onnx, inspect_file):
        with pytest.raises(EdgecError, match="is no UTF-8") as caught:
            read(path)
        assert caught.value.code == "corrupt-onnx"


def test_what_the_runtime_does_not_run_is_refused_at_once(tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].attribute.append(helper.make_attribute("group", 2))

    assert imported(changed(tmp_path, change)) == "onnx-does-not-run"


def test_nodes_that_share_a_name_are_told_apart(tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        for node, name in zip(model.graph.node, ["n", "n", "n_2", "", "n", ""], strict=True):
            node.name = name

    assert imported(changed(tmp_path, change)) == ""
    names = [node.name for node in onnx.load(tmp_path / "imported.onnx").graph.node]
    assert len(set(names)) == len(names) - 1
    assert names[:1] + names[2:4] + names[5:] == ["n", "n_2", "", ""]


@pytest.mark.parametrize("kind", [TensorProto.INT8, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8])
def test_outputs_of_integers_are_taken(tmp_path: Path, kind: int) -> None:
    def change(model: onnx.ModelProto) -> None:
        add_before(model, "Cast", last=True, to=kind)
        model.graph.output[0].type.tensor_type.elem_type = kind

    assert imported(changed(tmp_path, change)) == ""


def test_outputs_that_are_no_numbers(tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        add_before(model, "Cast", last=True, to=TensorProto.STRING)
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING

    assert imported(changed(tmp_path, change)) == "bad-output"


def test_an_output_without_a_shape_gets_one(tmp_path: Path) -> None:
    """As onnx-graphsurgeon and graphs written by hand leave it."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.output[0].type.tensor_type.ClearField("shape")

    path = changed(tmp_path, change)
    assert imported(path) == ""
    assert [side.dim_param or side.dim_value for side in read_onnx(path).graph.output[0].type.tensor_type.shape.dim][1]


@pytest.mark.parametrize("opset", [17, 18])
def test_functions_of_the_file_are_put_in_their_places(opset: int, tmp_path: Path) -> None:
    """As torch writes modules, and older torch every operator: a function in a function."""
    swish = [helper.make_node("Sigmoid", ["a"], ["s"]), helper.make_node("Mul", ["a", "s"], ["b"])]
    outer = [helper.make_node("Swish", ["x"], ["t"], domain="mine"), helper.make_node("Relu", ["t"], ["y"])]
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("mine", 1)]

    model = tiny_network(opset=opset)
    model.functions.append(helper.make_function("mine", "Swish", ["a"], ["b"], swish, domains[:1]))
    model.functions.append(helper.make_function("mine", "Block", ["x"], ["y"], outer, domains))
    model.opset_import.append(domains[1])
    add_before(model, "Block", last=True)
    model.graph.node[-1].domain = "mine"
    path = saved(model, tmp_path)
    ImportOnnx().run(tmp_path / "imported.onnx", source(path))
    made = onnx.load(tmp_path / "imported.onnx")
    assert [node.op_type for node in made.graph.node][-3:] == ["Sigmoid", "Mul", "Relu"]
    noise = OrtRunner(path).noise()
    np.testing.assert_allclose(
        OrtRunner(tmp_path / "imported.onnx").predict(noise)[0], OrtRunner(path).predict(noise)[0], atol=1e-5
    )


def test_the_domain_of_onnx_by_its_long_name(tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].domain = "ai.onnx"
        for node in model.graph.node:
            node.domain = "ai.onnx"

    assert imported(changed(tmp_path, change)) == ""


def test_an_operator_of_another_domain_is_named(tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        add_before(model, "QuickGelu", last=True)
        node = next(node for node in model.graph.node if node.op_type == "QuickGelu")
        node.domain, node.name = "com.microsoft", "gate"
        model.graph.output[0].type.tensor_type.ClearField("shape")

    refused = refusal(changed(tmp_path, change))
    assert refused.code == "unsupported-operator"
    assert "'gate' (com.microsoft.QuickGelu)" in refused.message


@pytest.mark.parametrize(
    ("name", "words"),
    [("constant", "a constant of the file"), ("input", "the input itself"), ("output", "named twice")],
)
def test_outputs_that_nothing_computes(name: str, words: str, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        weight = model.graph.initializer[0]
        constant = helper.make_tensor_value_info(weight.name, TensorProto.FLOAT, weight.dims)
        added = {"constant": constant, "input": model.graph.input[0], "output": model.graph.output[0]}
        model.graph.output.append(added[name])

    refused = refusal(changed(tmp_path, change))
    assert refused.code == "bad-output"
    assert words in refused.message


def test_a_loop_without_end_is_ended(tmp_path: Path) -> None:
    """One that would count to 2^62."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("x", TensorProto.FLOAT, None)],
        [value("on", TensorProto.BOOL, []), value("y", TensorProto.FLOAT, None)],
    )

    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.array(1 << 62), "times"))
        model.graph.node[-1].output[0] = "before"
        model.graph.node.append(helper.make_node("Loop", ["times", "", "before"], ["logits"], "loop", body=body))

    assert imported(changed(tmp_path, change), time_limit_s=6.0) == "onnx-does-not-run"


def test_damaged_files_end_in_a_code(tmp_path: Path) -> None:
    whole, stream = tiny_network().SerializeToString(), random.Random(8)
    path = tmp_path / "model.onnx"
    for number in range(24):  # the campaign in benchmarks/robustness.py makes thousands
        damaged = bytearray(whole[: stream.randrange(len(whole))] if number % 4 == 0 else whole)
        for _ in range(stream.choice((1, 3)) if damaged and number % 4 else 0):
            damaged[stream.randrange(len(damaged))] = stream.randrange(256)
        path.write_bytes(damaged)
        assert re.fullmatch(r"[a-z0-9-]*", imported(path))


# Data outside the file.


def with_external_data(folder: Path, location: str) -> Path:
    onnx.save(tiny_network(), folder / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = location
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


def test_external_data_is_part_of_the_model(tmp_path: Path) -> None:
    path = with_external_data(tmp_path, "w.bin")
    assert onnx_files(path) == (path, tmp_path / "w.bin")
    assert imported(path) == ""
    assert onnx_files(saved(tiny_network(), tmp_path)) == (path,)


@pytest.mark.parametrize("location", ["../w.bin", "/etc/passwd", "a/../../w.bin", "..", "w\0.bin", "link"])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "w.bin").write_bytes(b"x" * 4096)
    (tmp_path / "d" / "link").symlink_to(tmp_path / "w.bin")
    path = with_external_data(tmp_path / "d", location)
    for ask in (onnx_files, read_onnx):
        with pytest.raises(EdgecError) as caught:
            ask(path)
        assert caught.value.code == "unsafe-path"


def test_external_data_that_is_not_there(tmp_path: Path) -> None:
    path = with_external_data(tmp_path, "w.bin")
    (tmp_path / "w.bin").unlink()
    error = refusal(path)
    assert error.code == "no-such-file"
    assert "'w.bin'" in error.message


@pytest.mark.parametrize("name", ["strides", "kernel_shape", "dilations"])
@pytest.mark.parametrize("values", [[0, 0], [0, 1], [-1, 2], [1], [], [1, 1, 1]])
def test_a_dilated_same_convolution_of_absurd_sides_ends_in_a_code(
    tmp_path: Path, name: str, values: list[int]
) -> None:
    """Its pads are computed here, before ONNX Runtime has seen it."""
    sides = {"strides": [1, 1], "kernel_shape": [3, 3], "dilations": [2, 2], name: values}

    def change(model: onnx.ModelProto) -> None:
        del model.graph.node[0].attribute[:]
        model.graph.node[0].attribute.extend(
            [helper.make_attribute(key, value) for key, value in sides.items() if value]
        )
        model.graph.node[0].attribute.append(helper.make_attribute("auto_pad", "SAME_UPPER"))

    assert imported(changed(tmp_path, change)) in ("", "corrupt-onnx", "onnx-does-not-run", "tensor-too-large")


def with_functions(folder: Path, calls: dict[str, list[str]]) -> Path:
    """A ReLU that stands at the bottom of functions which call each other: ``{function: what it calls in turn}``."""
    model = tiny_network()
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    for name, called in calls.items():
        nodes = [
            helper.make_node(kind, [f"t{at}" if at else "x"], [f"t{at + 1}"], domain="own" if kind in calls else "")
            for at, kind in enumerate(called)
        ]
        nodes.append(helper.make_node("Identity", [f"t{len(called)}"], ["y"]))
        model.functions.append(helper.make_function("own", name, ["x"], ["y"], nodes, opsets))
    model.graph.node[1].op_type, model.graph.node[1].domain = next(iter(calls)), "own"
    model.opset_import.append(helper.make_opsetid("own", 1))
    return saved(model, folder)


@pytest.mark.parametrize("depth", [1, 3, 60])
def test_functions_within_functions_are_put_in_their_places(tmp_path: Path, depth: int) -> None:
    path = with_functions(tmp_path, {f"f{i}": [f"f{i + 1}"] for i in range(depth)} | {f"f{depth}": ["Relu"]})
    assert imported(path) == ""
    assert inspect_file(path).counts["Conv"] == 2


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        ({f"f{i}": [f"f{i + 1}"] * 2 for i in range(40)} | {"f40": ["Relu"]}, "nodes once its functions"),
        ({f"f{i}": [f"f{i + 1}"] for i in range(3000)} | {"f3000": ["Relu"]}, "nests too deep"),
        ({"f0": ["f1"], "f1": ["f0"]}, "calls itself"),
        ({"f0": ["f0"]}, "calls itself"),
    ],
)
def test_functions_that_multiply_are_counted_before_anything_expands_them(
    tmp_path: Path, calls: dict[str, list[str]], words: str
) -> None:
    """Forty functions that call the next one twice are a file of kilobytes and 10^12 nodes."""
    path = with_functions(tmp_path, calls)
    for read in (onnx_files, read_onnx, inspect_file):
        with pytest.raises(EdgecError, match=words) as caught:
            read(path)
        assert caught.value.code == "corrupt-onnx"
