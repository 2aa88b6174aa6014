"""What a ``model.toml`` says, and what follows from the network where it says nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.network.model_file import DescribedOnnx, describe_onnx


def save(folder: Path, sides: tuple[int, ...], kind: int = TensorProto.FLOAT, *steps: onnx.NodeProto) -> Path:
    """A network that gives back its picture, behind ``steps`` that end in ``picture``."""
    nodes = [*steps, helper.make_node("Relu", ["picture" if steps else "image"], ["out"])]
    values = [
        helper.make_tensor_value_info("image", kind, ["N", *sides]),
        helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", None, None, None]),
    ]
    constants = [numpy_helper.from_array(np.float32(255), "white")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


def describe(folder: Path, table: str | None) -> DescribedOnnx:
    (folder / "model.toml").write_text('onnx = "net.onnx"\n' + ("" if table is None else f"[preprocess]\n{table}\n"))
    return describe_onnx(folder / "model.toml")


NUMBERS = "mean = [1.0, 2.0, 3.0]\nstd = [4.0, 5.0, 6.0]"


def test_nothing_said(tmp_path: Path) -> None:
    """An ONNX file alone and a table without a word say the same."""
    path = save(tmp_path, (3, 112, 112))
    for found in (describe_onnx(path), describe(tmp_path, None), describe(tmp_path, "")):
        assert found.preprocess == Preprocess(resize_px=128, crop_px=112)
        (note,) = found.notes
        assert note.startswith("preprocessing assumed (ImageNet")


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("crop_px = 112", Preprocess(resize_px=256, crop_px=112)),
        (f"{NUMBERS}", Preprocess("RGB", 128, 112, (1, 2, 3), (4, 5, 6))),
        (f'color = "BGR"\nresize_px = 112\n{NUMBERS}', Preprocess("BGR", 112, 112, (1, 2, 3), (4, 5, 6))),
        ("height_px = 112\nwidth_px = 112", Preprocess(resize_px=128, crop_px=112)),
        ('resize = "stretch"', Preprocess(resize_px=112, crop_px=112, resize="stretch")),
        (
            'resize = "letterbox"\npad_color = [114, 114, 114]\ninterpolation = "bicubic"',
            Preprocess(resize_px=112, crop_px=112, resize="letterbox", pad_color=(114,) * 3, interpolation="bicubic"),
        ),
    ],
)
def test_something_said(tmp_path: Path, table: str, expected: Preprocess) -> None:
    save(tmp_path, (3, 112, 112))
    found = describe(tmp_path, table)
    assert found.preprocess == expected
    assert bool(found.notes) == ("mean" not in table)


@pytest.mark.parametrize("table", ["", "crop_px = 56\nresize_px = 64", "height_px = 56\nwidth_px = 80"])
def test_rectangles(tmp_path: Path, table: str) -> None:
    """``crop_px`` is the short side there."""
    save(tmp_path, (3, 56, 80))
    assert describe(tmp_path, table).preprocess == Preprocess(resize_px=64, crop_px=None, height_px=56, width_px=80)


def test_one_channel(tmp_path: Path) -> None:
    save(tmp_path, (1, 28, 28))
    found = describe(tmp_path, "mean = [33.3]\nstd = [78.6]\nresize_px = 28")
    assert (found.preprocess, found.notes) == (Preprocess("GRAY", 28, 28, (33.3,), (78.6,)), ())
    assumed = describe(tmp_path, "")
    assert (assumed.preprocess.mean, assumed.preprocess.std) == ((114.495,), (57.63,))
    assert "average of ImageNet" in assumed.notes[0]


def test_one_channel_described_by_three(tmp_path: Path) -> None:
    """A description written for colour says what it can, and the build says what was made of it."""
    save(tmp_path, (1, 28, 28))
    found = describe(tmp_path, NUMBERS)
    assert (found.preprocess.mean, found.preprocess.std) == ((2.0,), (5.0,))
    assert "averages of the mean and std stated" in found.notes[0]


def test_four_channels(tmp_path: Path) -> None:
    save(tmp_path, (4, 28, 28))
    found = describe(tmp_path, "").preprocess
    assert (found.color, found.mean, found.std) == ("RGBA", (*Preprocess().mean, 127.5), (*Preprocess().std, 127.5))


def test_channels_last_and_a_normalisation_inside(tmp_path: Path) -> None:
    """Bytes, divided by 255 in the network, in the order of TensorFlow: the whole of what Keras users export."""
    steps = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["real", "white"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["picture"], perm=[0, 3, 1, 2]),
    ]
    save(tmp_path, (28, 44, 3), TensorProto.UINT8, *steps)
    found = describe(tmp_path, "resize_px = 28")
    assert (found.preprocess.mean, found.preprocess.std) == ((0.0,) * 3, (255.0,) * 3)
    assert found.preprocess.shape == (3, 28, 44)
    assumed, layout, moved = found.notes
    assert "the network takes pixels of 0..255" in assumed
    assert "takes NHWC" in layout
    assert "normalisation of pixels" in moved


@pytest.mark.parametrize(
    ("sides", "table", "named"),
    [
        ((3, 8, 12), "height_px = 12\nwidth_px = 8", "height_px 12, and"),
        ((3, 8, 12), "crop_px = 12", "8 x 12 px (height x width)"),
        ((3, 8, 8), "crop_px = 9", "takes pictures of 8 px"),
        ((1, 8, 8), 'color = "RGB"', "color is RGB, and the network takes 1 channels: GRAY"),
        ((3, 8, 8), 'color = "RGBA"', "color is RGBA"),
        ((3, 8, 8), "mean = [1.0]", "mean has 1 numbers"),
        ((3, 8, 8), "pad_color = [1, 2, 3]", "pads nothing"),
        ((3, 8, 8), 'resize = "letterbox"\npad_color = [1, 2, 300]', "pad_color is"),
        ((3, 8, 8), 'interpolation = "area"', "interpolation is 'area'"),
        ((3, 8, 8), "interpolate = 1", "preprocess.interpolate"),
    ],
)
def test_refusals(tmp_path: Path, sides: tuple[int, ...], table: str, named: str) -> None:
    save(tmp_path, sides)
    with pytest.raises(EdgecError) as caught:
        describe(tmp_path, table)
    assert caught.value.code == "bad-model-file"
    assert named in caught.value.message
