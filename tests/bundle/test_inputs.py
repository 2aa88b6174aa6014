"""Inputs of every kind, from the file to the device: C makes what Python makes, bundles build, verify and answer."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edgec.pipeline.bundle.c_sources import CModel, write_c_sources
from edgec.pipeline.bundle.read import open_bundle
from edgec.pipeline.bundle.semver import parse_version
from edgec.pipeline.bundle.use import ask_bundle
from edgec.pipeline.bundle.verify import verify
from edgec.pipeline.data.preprocess import CHANNELS, Preprocess, letterboxed
from edgec.pipeline.deliver import Judging, deliver
from edgec.pipeline.forms.format import Contract, TensorContract
from edgec.pipeline.forms.golden import GoldenSet
from edgec.pipeline.forms.golden_inputs import make_inputs
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.network.half_precision import HALF
from edgec.pipeline.recipe import Choices, DataFolders, make_recipe

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wconversion", "-Wshadow"]
SOURCES = ["model.c", "model_io.c", "selftest.c"]
MAIN = """
#include <stdio.h>
#include "selftest.h"
int main(void) {
    static m_input_t input[M_INPUT_SIZE];
    static m_output_t output[M_OUTPUT_SIZE];
    m_selftest_report report;
    FILE *inputs = fopen("inputs.bin", "wb");
    int i;
    unsigned width, height;
    for (i = 0; i < M_SELFTEST_NUM_VECTORS; i++) {
        m_selftest_input(i, input);
        fwrite(input, sizeof(*input), M_INPUT_SIZE, inputs);
    }
    fclose(inputs);
    printf("%d\\n", (int)m_selftest(NULL, NULL, input, output, &report));
#ifdef LETTERBOX
    while (scanf("%u %u", &width, &height) == 2) {
        const m_rectangle r = m_letterbox(width, height);
        printf("%u %u %u %u\\n", r.columns, r.rows, r.left, r.top);
    }
#endif
#ifdef GRAY
    while (scanf("%u", &width) == 1)
        printf("%u\\n", m_gray((uint8_t)(width >> 16), (uint8_t)(width >> 8), (uint8_t)width));
#endif
    (void)width; (void)height;
    return 0;
}
"""


def tensor_of(preprocess: Preprocess, dtype: str, layout: str, scale: float, zero_point: int) -> TensorContract:
    channels, height, width = preprocess.shape
    shape = (1, height, width, channels) if layout == "NHWC" else (1, channels, height, width)
    quantized = (float(np.float32(scale)), zero_point) if dtype != "float32" else (None, None)
    return TensorContract("image", dtype, shape, layout, *quantized)  # type: ignore[arg-type]


def written(folder: Path, preprocess: Preprocess, tensor: TensorContract) -> bytes:
    """C sources of an input alone, and the bytes that Python makes for all vectors."""
    channels, height, width = preprocess.shape
    stored = np.random.default_rng(3).integers(0, 256, (2, height, width, channels), np.uint8)
    vectors, fed, _ = make_inputs(tensor, preprocess, stored)
    output = TensorContract("out", "float32", (1, 1), "NC")
    golden = GoldenSet(vectors, ("reference",), "reference", (1.0,), {}, 1, "assumed")
    (folder / "golden").mkdir(parents=True)
    np.save(folder / "golden" / "pixels.npy", stored)
    np.save(folder / "golden" / "outputs.reference.float32.npy", np.zeros((len(vectors), 1), np.float32))
    (folder / "model.bin").write_bytes(bytes(16))
    contract = Contract((tensor,), (output,), {})
    model = CModel(
        "m", parse_version("1.0.0"), "t", contract, preprocess, (), golden, folder / "golden", folder / "model.bin"
    )
    write_c_sources(folder / "c", model)
    return fed.tobytes()


def compiled(folder: Path, preprocess: Preprocess, *lines: object) -> list[str]:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    (folder / "main.c").write_text(MAIN)
    defined = ["-DLETTERBOX"] * (preprocess.resize == "letterbox") + ["-DGRAY"] * (preprocess.color == "GRAY")
    command = ["gcc", "-std=c11", *WARNINGS, *defined, "-o", "program", "main.c", *SOURCES]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    asked = "\n".join(map(str, lines))
    return subprocess.run(
        ["./program"], cwd=folder, input=asked, capture_output=True, text=True, check=True
    ).stdout.split("\n")[:-1]


@st.composite
def inputs(draw: st.DrawFn) -> tuple[Preprocess, TensorContract]:
    color, resize = draw(st.sampled_from(list(CHANNELS))), draw(st.sampled_from(["short-side", "stretch", "letterbox"]))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    count = CHANNELS[color]
    mean = tuple(draw(st.lists(st.floats(-300, 300), min_size=count, max_size=count)))
    std = tuple(draw(st.lists(st.floats(0.25, 300), min_size=count, max_size=count)))
    preprocess = Preprocess(color, min(height, width), None, mean, std, height, width, resize)
    scale, zero_point = draw(st.floats(1e-3, 4)), draw(st.integers(0, 127))
    dtype, layout = draw(st.sampled_from(["int8", "uint8", "float32"])), draw(st.sampled_from(["NHWC", "NCHW"]))
    return preprocess, tensor_of(preprocess, dtype, layout, scale, zero_point)


@settings(max_examples=12, deadline=None)
@given(made=inputs())
def test_c_makes_every_input_bit_for_bit(
    made: tuple[Preprocess, TensorContract], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("c")
    expected = written(folder, *made)
    assert compiled(folder / "c", made[0]) == ["0"]
    assert (folder / "c" / "inputs.bin").read_bytes() == expected


def test_c_places_a_letterbox_as_python_does(tmp_path: Path) -> None:
    preprocess = Preprocess(
        "GRAY", 48, None, (1.0,), (2.0,), height_px=48, width_px=80, resize="letterbox", pad_color=(114,)
    )
    written(tmp_path, preprocess, tensor_of(preprocess, "int8", "NHWC", 0.5, 3))
    stream = np.random.default_rng(5)
    pictures = [*stream.integers(1, 3000, (300, 2)).tolist(), [1, 65535], [65535, 1], [65535, 65535], [80, 48], [5, 3]]
    said = compiled(tmp_path / "c", preprocess, *(f"{width} {height}" for width, height in pictures))[1:]
    for (width, height), line in zip(pictures, said, strict=True):
        size, (left, top) = preprocess.place(width, height)
        assert size == letterboxed(width, height, 80, 48)
        assert line == f"{size[0]} {size[1]} {-left} {-top}"
    assert "m_pad_color[M_INPUT_CHANNELS] = { 114 }" in (tmp_path / "c" / "model_io.c").read_text()


def test_c_makes_grey_as_pillow_does(tmp_path: Path) -> None:
    preprocess = Preprocess("GRAY", 1, 1, (1.0,), (2.0,))
    written(tmp_path, preprocess, tensor_of(preprocess, "int8", "NHWC", 0.5, 3))
    colours = np.random.default_rng(6).integers(0, 1 << 24, 2000)
    pixels = np.stack([colours >> 16 & 255, colours >> 8 & 255, colours & 255], axis=-1).astype(np.uint8)
    expected = np.asarray(Image.fromarray(pixels[None]).convert("L"))[0]
    assert compiled(tmp_path / "c", preprocess, *colours)[1:] == [str(value) for value in expected]


# From the file to the answer

SIDES = (24, 40)


def network(channels: int, kind: int, last: bool) -> onnx.ModelProto:
    """A small classifier in float32 or half precision; channels last begin with bytes that are divided by 255."""
    stream, real = np.random.default_rng(8), np.float16 if kind in HALF else np.float32
    weights = {
        "w": stream.normal(0, 0.4, (16, channels, 3, 3)),
        "b": stream.normal(0, 0.1, 16),
        "d": stream.normal(0, 0.4, (16, 1, 3, 3)),
        "g": stream.normal(0, 0.5, (5, 16)),
        "white": np.array(255.0),
        "middle": np.full(channels, 0.5),
    }
    nodes = [
        helper.make_node("Conv", ["picture", "w", "b"], ["c"], "first", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "d"], ["e"], "depthwise", pads=[1] * 4, group=16),
        helper.make_node("GlobalAveragePool", ["e"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "g"], ["logits"], "classify", transB=1),
    ]
    begin = [
        helper.make_node("Cast", ["image"], ["real"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Div", ["real", "white"], ["scaled"], "scale"),
        helper.make_node("Sub", ["scaled", "middle"], ["centred"], "centre"),
        helper.make_node("Transpose", ["centred"], ["picture"], "turn", perm=[0, 3, 1, 2]),
    ]
    nodes = [*(begin if last else [helper.make_node("Identity", ["image"], ["picture"], "begin")]), *nodes]
    sides = ["N", *SIDES, channels] if last else ["N", channels, *SIDES]
    value = helper.make_tensor_value_info("image", kind, sides)
    out = helper.make_tensor_value_info("logits", kind if kind in HALF else TensorProto.FLOAT, ["N", 5])
    constants = [numpy_helper.from_array(array.astype(real), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "net", [value], [out], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


NETWORKS = {
    "thermal": (
        network(1, TensorProto.FLOAT16, last=False),
        'resize = "letterbox"\npad_color = [114]\nmean = [100.0]\nstd = [60.0]',
    ),
    "sprite": (network(4, TensorProto.UINT8, last=True), 'resize = "stretch"\ninterpolation = "bicubic"'),
}
BUILDS = [("thermal", target) for target in ("cpu", "arm", "mcu", "jetson")] + [("sprite", "cpu"), ("sprite", "arm")]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of several shapes, with alpha."""
    folder, stream = tmp_path_factory.mktemp("pictures"), np.random.default_rng(9)
    for index in range(16):
        coarse = Image.fromarray(stream.integers(0, 256, (5, 5, 4), np.uint8))
        coarse.resize([(60, 40), (40, 60), (50, 50)][index % 3], Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return folder


@pytest.mark.parametrize(("name", "target"), BUILDS)
def test_from_the_file_to_the_answer(
    name: str, target: str, pictures: Path, store_of_bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip({"cpu": "openvino", "jetson": "onnx"}.get(target, "ai_edge_litert"))
    monkeypatch.setenv("EDGEC_CACHE", str(store_of_bundles))
    model, table = NETWORKS[name]
    onnx.save(model, tmp_path / f"{name}.onnx")
    (tmp_path / f"{name}.toml").write_text(f'onnx = "{name}.onnx"\n[preprocess]\n{table}\n')
    recipe = make_recipe(str(tmp_path / f"{name}.toml"), target, DataFolders(pictures), Choices(), 8, "fast")
    deliver(recipe, tmp_path / "bundle", Judging(timed=False, extras=("float",)))
    verify(tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    source, channels = bundle.manifest.contract.inputs[0], 1 if name == "thermal" else 4
    assert (source.spatial, source.layout) == ((*SIDES, channels), "NCHW" if target in ("cpu", "jetson") else "NHWC")
    assert (bundle.manifest.accuracy.sqnr_db or 99) > 15
    _same_as_the_file(bundle.float_onnx, bundle.preprocess, model, pictures / "0.png", tmp_path)
    if target != "jetson":
        (answered,) = ask_bundle(tmp_path / "bundle", [pictures / "0.png"])
        assert answered.reply.lines


def _same_as_the_file(
    float_onnx: Path, preprocess: Preprocess, model: onnx.ModelProto, picture: Path, folder: Path
) -> None:
    """What the bundle's float network says to the bundle's preprocessing is what the file says to plain pixels."""
    pixels = preprocess.pixels(picture)[None]
    onnx.save(model, folder / "plain.onnx")
    given = preprocess.normalise(pixels).astype(np.float16) if preprocess.color == "GRAY" else pixels
    expected = OrtRunner(folder / "plain.onnx").predict(given)[0]
    found = OrtRunner(float_onnx).predict(preprocess.normalise(pixels))[0]
    np.testing.assert_allclose(found, expected, atol=0.01 * np.abs(expected).max())
