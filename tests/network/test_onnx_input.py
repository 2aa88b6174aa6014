"""Layout and normalisation leave a network exactly: whatever constants say it, and whatever stands around them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import source
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.network.half_precision import widened
from edgec.pipeline.network.import_onnx import ImportOnnx
from edgec.pipeline.network.onnx_input import take_image

ANYWHERE = Path("x.onnx")
FIXTURES = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Chain:
    """Nodes that read the picture one after the other, then a padded convolution."""

    def __init__(self, sides: list[int | str], kind: int = TensorProto.FLOAT) -> None:
        self.sides, self.kind, self.nodes, self.constants, self.end = sides, kind, [], [], "image"

    def add(self, op: str, *constants: object, first: bool = False, **attributes: object) -> Chain:
        names = []
        for value in constants:
            names.append(f"k{len(self.constants)}")
            self.constants.append(numpy_helper.from_array(np.asarray(value), names[-1]))
        inputs = [*names, self.end] if first else [self.end, *names]
        self.end = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [self.end], f"n{len(self.nodes)}", **attributes))
        return self

    def model(self, channels: int, pads: int = 1, opset: int = 17) -> onnx.ModelProto:
        weights = np.random.default_rng(1).normal(size=(2, channels, 3, 3)).astype(np.float32)
        self.add("Conv", weights, pads=[pads] * 4, kernel_shape=[3, 3])
        values = (
            helper.make_tensor_value_info("image", self.kind, self.sides),
            helper.make_tensor_value_info(self.end, TensorProto.FLOAT, [None] * 4),
        )
        graph = helper.make_graph(self.nodes, "chain", values[:1], values[1:], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node if node.op_type != "Identity"]


def answers(model: onnx.ModelProto, folder: Path, image: np.ndarray) -> np.ndarray:
    onnx.save(model, folder / "model.onnx")
    return OrtRunner(folder / "model.onnx").predict(image)[0]


def same(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The network without what it begins with, after both answered alike, pixel by pixel."""
    onnx.checker.check_model(model, full_check=True)
    image, taken = take_image(model, ANYWHERE)
    onnx.checker.check_model(taken, full_check=True)
    given, now = image.feeds(np.random.default_rng(2).standard_normal((1, *image.shape)).astype(np.float32))
    expected, found = answers(model, folder, given), answers(taken, folder, now)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())
    return taken


def shapes_of(channels: int, last: bool, rank: int = 4) -> st.SearchStrategy[tuple[int, ...]]:
    """Every shape of a constant that is one number, or one for each channel."""
    wide = [(channels,), (1, channels), (1, 1, channels), (1, 1, 1, channels)] if last else []
    wide += [] if last else [(channels, 1, 1), (1, channels, 1, 1)]
    return st.sampled_from([(1,) * n for n in range(rank + 1)] + [shape for shape in wide if len(shape) <= rank])


NUMBERS = st.floats(0.5, 2.0, width=32)


@st.composite
def normalised(draw: st.DrawFn) -> tuple[Chain, int]:
    """A picture in any layout and type, one to four steps of arithmetic or batch norm, on any side of a Transpose."""
    channels = draw(st.sampled_from([1, 3, 4]))
    sides, last, byte = draw(st.tuples(st.integers(3, 7), st.integers(3, 7))), draw(st.booleans()), draw(st.booleans())
    chain = Chain(["N", *sides, channels] if last else ["N", channels, *sides], 2 if byte else 1)
    steps = ["Cast"] * byte + draw(
        st.lists(st.sampled_from(["Add", "Sub", "Mul", "Div", "BN"]), min_size=1, max_size=4)
    )
    turn = draw(st.integers(0, len(steps))) if last else -1
    for place, op in enumerate([*steps, ""]):
        if place == turn:
            chain.add("Transpose", perm=[0, 3, 1, 2])
            last = False
        if op == "Cast":
            chain.add("Cast", to=TensorProto.FLOAT)
        elif op == "BN" and not last:
            values = [draw(st.lists(NUMBERS, min_size=channels, max_size=channels)) for _ in range(4)]
            epsilon = draw(st.sampled_from([{}, {"epsilon": 0.5}]))
            chain.add("BatchNormalization", *(np.array(row, np.float32) for row in values), **epsilon)
        elif op in ("Add", "Sub", "Mul", "Div"):
            shape = draw(shapes_of(channels, last))
            size = int(np.prod(shape))
            value = np.array(draw(st.lists(NUMBERS, min_size=size, max_size=size)), np.float32).reshape(shape)
            chain.add(op, value, first=op in ("Add", "Mul") and draw(st.booleans()))
    return chain, channels


@FIXTURES
@given(made=normalised(), pads=st.integers(0, 2))
def test_any_normalisation_leaves_the_network_and_no_output_changes(
    tmp_path: Path, made: tuple[Chain, int], pads: int
) -> None:
    """Padded zeros are zeros behind the normalisation: nothing is folded over a border."""
    chain, channels = made
    assert ops(same(chain.model(channels, pads), tmp_path)) == ["Conv"]


MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


def test_what_torch_users_write_inside_their_networks() -> None:
    """(x / 255 - mean) / std of pixels is the preprocessing that everybody else keeps outside."""
    chain = Chain(["N", 3, 8, 8]).add("Div", np.float32(255)).add("Sub", MEAN.reshape(1, 3, 1, 1))
    image, _ = take_image(chain.add("Div", STD.reshape(3, 1, 1)).model(3), ANYWHERE)
    raw = Preprocess(resize_px=8, crop_px=8, mean=(0.0,) * 3, std=(1.0,) * 3)
    found = image.after(raw)
    np.testing.assert_allclose([found.mean, found.std], [Preprocess().mean, Preprocess().std], rtol=1e-6)
    assert image.own_units() == (1.0, "the network takes pixels of 0..255")


@pytest.mark.parametrize(
    ("steps", "divisor"),
    [
        ([("Sub", 127.5), ("Div", 127.5)], 1.0),
        ([("Mul", 1 / 255)], 1.0),
        ([("Sub", 128.0)], 1.0),
        ([("Mul", 2.0), ("Sub", 1.0)], 255.0),
        ([("Sub", 0.45), ("Div", 0.225)], 255.0),
        ([("Add", -0.1), ("Mul", 0.9)], None),
    ],
)
def test_units_that_a_normalisation_tells(steps: list[tuple[str, float]], divisor: float | None) -> None:
    chain = Chain(["N", 3, 8, 8])
    for op, value in steps:
        chain.add(op, np.float32(value))
    image, _ = take_image(chain.model(3), ANYWHERE)
    assert (image.own_units() or (None,))[0] == divisor


def test_a_preprocessing_of_its_own_comes_first() -> None:
    """What model.toml says makes the file's input; the network's normalisation follows it."""
    image, _ = take_image(Chain(["N", 3, 8, 8]).add("Sub", MEAN.reshape(3, 1, 1)).model(3), ANYWHERE)
    found = image.after(Preprocess(resize_px=8, crop_px=8, mean=(0.0,) * 3, std=(255.0,) * 3))
    np.testing.assert_allclose(found.mean, 255 * MEAN.astype(np.float64), rtol=1e-6)
    assert found.std == (255.0,) * 3


@pytest.mark.parametrize(
    ("op", "constant", "first"),
    [
        ("Mul", np.float32(-1), False),
        ("Mul", np.array([1, 0, 1], np.float32).reshape(3, 1, 1), False),
        ("Sub", np.float32(1), True),
        ("Div", np.float32(1), True),
        ("Sub", np.ones((3, 8, 8), np.float32), False),
        ("Add", np.ones(8, np.float32), False),
        ("Add", np.ones((1, 1, 1, 1, 1), np.float32), False),
        ("Mul", np.float32(1e-30), False),
        ("Add", np.float32(1e20), False),
    ],
)
def test_what_no_preprocessing_can_do_stays(op: str, constant: np.ndarray, first: bool) -> None:
    """Signs, zeros, reciprocals, mean pictures; what stands before it is taken all the same."""
    chain = Chain(["N", 3, 8, 8]).add("Div", np.float32(255)).add(op, constant, first=first)
    if constant.ndim == 5:
        chain.add("Reshape", np.array([0, 3, 8, 8]) if constant.ndim < 5 else np.array([-1, 3, 8, 8]))
    kept = ops(take_image(chain.model(3), ANYWHERE)[1])
    assert kept[0] == op
    assert kept[-1] == "Conv"


def test_one_channel_that_becomes_three_stays(tmp_path: Path) -> None:
    """A grey picture normalised as three colours."""
    chain = Chain(["N", 1, 8, 8]).add("Div", np.float32(255)).add("Sub", MEAN.reshape(1, 3, 1, 1))
    assert ops(same(chain.model(3), tmp_path)) == ["Sub", "Conv"]


def test_two_signs_are_none(tmp_path: Path) -> None:
    chain = Chain(["N", 3, 8, 8]).add("Mul", np.float32(-1)).add("Sub", np.float32(1), first=True)
    assert ops(same(chain.model(3), tmp_path)) == ["Conv"]


def test_a_picture_with_two_readers_is_left_alone() -> None:
    model = Chain(["N", 3, 8, 8]).add("Div", np.float32(255)).model(3)
    model.graph.node.insert(0, helper.make_node("ReduceMean", ["image"], ["brightness"]))
    model.graph.output.append(helper.make_tensor_value_info("brightness", TensorProto.FLOAT, None))
    assert take_image(model, ANYWHERE)[1] is model


def test_bytes_are_not_computed_with() -> None:
    """255 + 1 is 0 in a byte: arithmetic before the Cast is no normalisation, and the file is refused."""
    chain = Chain(["N", 3, 8, 8], TensorProto.UINT8).add("Add", np.uint8(1)).add("Cast", to=TensorProto.FLOAT)
    with pytest.raises(EdgecError) as caught:
        take_image(chain.model(3), ANYWHERE)
    assert caught.value.code == "bad-input-shape"
    assert "(N, 3, 8, 8), uint8" in caught.value.message


@pytest.mark.parametrize(
    ("sides", "steps", "shape"),
    [
        (["N", 6, 9, 3], [("Transpose", [], {"perm": [0, 3, 1, 2]})], (3, 6, 9)),
        ([1, 6, 9, 4], [("Transpose", [], {"perm": [0, 3, 1, 2]})], (4, 6, 9)),
        (["N", 3, 3, 3], [("Transpose", [], {"perm": [0, 3, 1, 2]})], (3, 3, 3)),
        (["N", 6, 9, 1], [("Reshape", [np.array([-1, 1, 6, 9])], {})], (1, 6, 9)),
        (["N", 6, 9, 1], [("Transpose", [], {"perm": [0, 3, 1, 2]})], (1, 6, 9)),
        (["N", 6, 9], [("Unsqueeze", [np.array([1])], {})], (1, 6, 9)),
        (["N", 6, 9], [("Unsqueeze", [np.array([-1])], {}), ("Reshape", [np.array([-1, 1, 6, 9])], {})], (1, 6, 9)),
        (
            ["N", 6, 9],
            [("Reshape", [np.array([-1, 6, 9, 1])], {}), ("Transpose", [], {"perm": [0, 3, 1, 2]})],
            (1, 6, 9),
        ),
        (["N", 3, 6, 9], [], (3, 6, 9)),
        (["N", 1, 9, 1], [], (1, 9, 1)),
    ],
)
def test_layouts(tmp_path: Path, sides: list[int | str], steps: list[tuple], shape: tuple[int, ...]) -> None:
    chain = Chain(sides)
    for op, constants, attributes in steps:
        chain.add(op, *constants, **attributes)
    taken = same(chain.model(shape[0]), tmp_path)
    assert ops(taken) == ["Conv"]
    dims = taken.graph.input[0].type.tensor_type.shape.dim
    assert tuple(dim.dim_value for dim in dims[1:]) == shape
    assert dims[0] == helper.make_tensor_value_info("x", 1, sides[:1]).type.tensor_type.shape.dim[0]
    assert taken.graph.input[0].name == "image"


@pytest.mark.parametrize("steps", [["Pad"], ["Mul", "Pad"], ["Pad", "Relu"], ["Clip"]])
def test_channels_last_that_are_turned_later(steps: list[str], tmp_path: Path) -> None:
    """As Keras writes a ZeroPadding2D in front: the layout is taken, the rest stays."""
    constants = {"Pad": [np.array([0, 1, 2, 0, 0, 1, 2, 0])], "Mul": [np.array([2, 3, 4], np.float32)], "Relu": []}
    chain = Chain(["N", 6, 9, 3])
    for op in steps:
        chain.add(op, *constants.get(op, [np.float32(-1), np.float32(2)]))
    taken = same(chain.add("Transpose", perm=[0, 3, 1, 2]).model(3), tmp_path)
    assert tuple(dim.dim_value for dim in taken.graph.input[0].type.tensor_type.shape.dim[1:]) == (3, 6, 9)
    assert [op for op in ops(taken) if op != "Transpose"] == [*(op for op in steps if op != "Mul"), "Conv"]


def test_two_readers_of_channels_last(tmp_path: Path) -> None:
    chain = Chain(["N", 6, 9, 3]).add("Transpose", perm=[0, 3, 1, 2]).add("Relu")
    chain.nodes.append(helper.make_node("Transpose", ["image"], ["again"], "again", perm=[0, 3, 1, 2]))
    chain.nodes.append(helper.make_node("Add", [chain.end, "again"], ["both"], "both"))
    chain.end = "both"
    same(chain.model(3), tmp_path)


@pytest.mark.parametrize(
    "sides", [["N", 2, 8, 8], ["N", 5, 8, 8], ["N", 8, 8, 3], [2, 3, 8, 8], ["N", 3, 8193, 8], ["N", 3], ["N", 8, 8]]
)
def test_inputs_that_are_no_pictures(sides: list[int | str]) -> None:
    """Two or five channels, channels last without a Transpose, two pictures at once, vectors."""
    chain = Chain(sides).add("Relu")
    value = helper.make_tensor_value_info("t0", TensorProto.FLOAT, None)
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, sides)
    model = helper.make_model(helper.make_graph(chain.nodes, "g", [given], [value]))
    with pytest.raises(EdgecError) as caught:
        take_image(model, ANYWHERE)
    assert caught.value.code == "bad-input-shape"
    assert str(sides[-1]) in caught.value.message


def test_several_inputs_are_named() -> None:
    model = Chain(["N", 3, 8, 8]).model(3)
    model.graph.input.append(helper.make_tensor_value_info("depth", TensorProto.FLOAT, ["N", 1, 8, 8]))
    with pytest.raises(EdgecError, match="2 inputs: 'image', 'depth'"):
        take_image(model, ANYWHERE)


def half(chain: Chain, channels: int, kind: int, opset: int = 17) -> onnx.ModelProto:
    """The network in half precision but for its input and output."""
    model = chain.model(channels, opset=opset)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        tensor.CopyFrom(helper.make_tensor(tensor.name, kind, array.shape, array.ravel()))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to":
                attribute.i = kind
    model.graph.node.append(helper.make_node("Cast", [chain.end], ["out"], to=TensorProto.FLOAT))
    model.graph.output[0].name = "out"
    return model


def test_half_precision_is_widened_without_a_cast_left(tmp_path: Path) -> None:
    chain = Chain(["N", 3, 8, 8]).add("Cast", to=TensorProto.FLOAT)
    model = half(chain, 3, TensorProto.FLOAT16)
    onnx.checker.check_model(model, full_check=True)
    wide = widened(model)
    onnx.checker.check_model(wide, full_check=True)
    assert ops(wide) == ["Conv"]
    noise = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    expected, found = answers(model, tmp_path, noise), answers(wide, tmp_path, noise)
    np.testing.assert_allclose(found, expected, atol=5e-3 * np.abs(expected).max())
    for before, after in zip(model.graph.initializer, wide.graph.initializer, strict=True):
        assert np.array_equal(numpy_helper.to_array(before).astype(np.float32), numpy_helper.to_array(after))


@pytest.mark.parametrize(("kind", "opset"), [(TensorProto.FLOAT16, 17), (TensorProto.BFLOAT16, 22)])
def test_half_precision_through_and_through_is_imported(tmp_path: Path, kind: int, opset: int) -> None:
    """Inputs and outputs of half precision too, as ``model.half()`` exports them, behind a Constant of its own."""
    chain = Chain(["N", 1, 8, 8])
    model = half(chain.add("Relu"), 1, kind, opset)
    del model.graph.node[-1]
    model.graph.output[0].name = chain.end
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = kind
    two = helper.make_node("Constant", [], ["two"], value=helper.make_tensor("two", kind, [], [2.0]))
    model.graph.node[0].CopyFrom(helper.make_node("Mul", ["image", "two"], [model.graph.node[0].output[0]]))
    model.graph.node.insert(0, two)
    onnx.save(model, tmp_path / "half.onnx")
    ImportOnnx().run(tmp_path / "out.onnx", source(tmp_path / "half.onnx"))
    taken = onnx.load(tmp_path / "out.onnx")
    kinds = {tensor.data_type for tensor in taken.graph.initializer}
    kinds |= {value.type.tensor_type.elem_type for value in (*taken.graph.input, *taken.graph.output)}
    assert kinds == {TensorProto.FLOAT}
    assert "Mul" not in ops(taken)


def test_float32_is_not_touched() -> None:
    model = Chain(["N", 3, 8, 8]).model(3)
    assert widened(model) is model


@pytest.mark.parametrize("opset", [9, 13, 17, 21])
def test_the_import_proves_layout_and_normalisation(tmp_path: Path, opset: int) -> None:
    """The stage itself compares both networks on the same pictures, whatever else it converts."""
    chain = Chain(["N", 8, 12, 3], TensorProto.UINT8).add("Cast", to=TensorProto.FLOAT)
    chain.add("Div", np.float32(255)).add("Transpose", perm=[0, 3, 1, 2]).add("Sub", MEAN.reshape(3, 1, 1))
    onnx.save(chain.model(3, opset=opset), tmp_path / "in.onnx")
    ImportOnnx().run(tmp_path / "out.onnx", source(tmp_path / "in.onnx"))
    assert ops(onnx.load(tmp_path / "out.onnx")) == ["Conv"]
    assert not (tmp_path / "before.onnx").exists()


STEPS = {
    "cast": lambda chain: chain.add("Cast", to=TensorProto.FLOAT),
    "pad": lambda chain: chain.add("Pad", np.array([0, 1, 1, 0, 0, 1, 1, 0])),
    "large": lambda chain: chain.add("Mul", np.float32(1e9)),
    "nothing": lambda chain: chain.add("Mul", np.zeros(3, np.float32)),
    "half": lambda chain: chain.add("Mul", np.float32(0.5)),
    "clip": lambda chain: chain.add("Clip", np.float32(0), np.float32(1)),
}


@FIXTURES
@given(
    kind=st.sampled_from([TensorProto.FLOAT, TensorProto.UINT8]),
    before=st.lists(st.sampled_from(sorted(STEPS)), max_size=4),
    behind=st.lists(st.sampled_from(sorted(STEPS)), max_size=2),
)
def test_channels_last_behind_anything_are_taken_or_refused(kind: int, before: list[str], behind: list[str]) -> None:
    """A normalisation that nobody can state, and bytes that nothing casts, once led round in a circle."""
    chain = Chain(["N", 8, 10, 3], kind)
    for step in before:
        STEPS[step](chain)
    chain.add("Transpose", perm=[0, 3, 1, 2])
    for step in behind:
        if step not in ("pad", "nothing"):
            STEPS[step](chain)
    try:
        image, network = take_image(chain.model(3), ANYWHERE)
    except EdgecError as refused:
        found = refused.code, kind
    else:
        found = image.shape, network.graph.input[0].type.tensor_type.elem_type
    assert found in (("bad-input-shape", TensorProto.UINT8), ((3, 8, 10), TensorProto.FLOAT))
