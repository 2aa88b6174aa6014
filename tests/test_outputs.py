"""Networks that are no classifiers, through the command line: every output is judged, and no class is invented."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.pipeline.cli import main
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import source
from edgec.pipeline.data.dataset import open_dataset
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms.answer import ask, output_shapes
from edgec.pipeline.forms.compiler import settings_of
from edgec.pipeline.forms.golden import Golden
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.forms.spec import load_target
from edgec.pipeline.tasks.task import load_task

pytestmark = pytest.mark.usefixtures("shared_store")
PREPROCESS = "[preprocess]\nresize_px = 40\ncrop_px = 32\nmean = [127.5, 127.5, 127.5]\nstd = [127.5, 127.5, 127.5]\n"


def network(path: Path, outputs: dict[str, list[Any]], one_logit: bool = False) -> Path:
    """Convolution, ReLU and a head of its own for each output; ``outputs`` by name with their sides."""
    stream = np.random.default_rng(1)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "first", kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
    ]
    constants = {"w": stream.normal(0, 0.3, (8, 3, 3, 3)), "b": stream.normal(0, 0.1, 8)}
    for name, sides in outputs.items():
        source = "r"
        if len(sides) == 1:
            nodes.append(helper.make_node("GlobalAveragePool", ["r"], [f"{name}_p"], f"{name}_pool"))
            source = f"{name}_p"
        constants |= {f"{name}_w": stream.normal(0, 0.3, (sides[0], 8, 1, 1)), f"{name}_b": np.zeros(sides[0])}
        made = name if len(sides) == 3 else f"{name}_m"
        if len(sides) == 2:
            constants[f"{name}_shape"] = np.array([0, *sides])
        nodes.append(
            helper.make_node("Conv", [source, f"{name}_w", f"{name}_b"], [made], f"{name}_head", kernel_shape=[1, 1])
        )
        if len(sides) == 1:
            nodes.append(helper.make_node("Flatten", [made], [name], f"{name}_flat"))
        elif len(sides) == 2:
            nodes.append(helper.make_node("Reshape", [made, f"{name}_shape"], [name], f"{name}_row"))
    graph = helper.make_graph(
        nodes,
        "heads",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *sides]) for name, sides in outputs.items()],
        [numpy_helper.from_array(_stored(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path / "m.onnx")
    (path / "net.toml").write_text(f'onnx = "m.onnx"\n{PREPROCESS}')
    return path / "net.toml"


def _stored(values: np.ndarray) -> np.ndarray:
    """Shapes stay integers."""
    return values if values.dtype.kind == "i" else values.astype(np.float32)


SEGMENTS: dict[str, list[Any]] = {"maps": [4, 32, 32]}
DETECTS: dict[str, list[Any]] = {"scores": [5], "boxes": [4, 32, 32]}
ROWS: dict[str, list[Any]] = {"boxes": [4, 1024], "scores": [3, 1024]}
ROW: dict[str, list[Any]] = {"boxes": [4, 1024]}


def build(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main(["build", *map(str, arguments), "--no-measure", "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.mark.parametrize(
    ("outputs", "target"),
    [
        *((outputs, target) for outputs in (SEGMENTS, DETECTS) for target in ("cpu", "arm", "mcu")),
        *((ROWS, target) for target in ("cpu", "arm")),
    ],
)
def test_each_output_is_judged(
    outputs: dict[str, list[Any]], target: str, tmp_path: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, folder = network(tmp_path, outputs), tmp_path / "out"
    accuracy = build(capsys, model, "--target", target, "--data", tiny_images, "--output", folder)["accuracy"]
    assert (accuracy["task"], accuracy["metric"]) == ("tensors", "sqnr")
    assert (accuracy["float"], accuracy["target"], accuracy["agreement"], accuracy["drop_pp"]) == (None,) * 4
    assert [one["name"] for one in accuracy["outputs"]] == list(outputs)
    assert accuracy["sqnr_db"] == min(one["sqnr_db"] for one in accuracy["outputs"]) > 20
    assert main(["verify", str(folder)]) == 0
    for page in ("README.md", "report.html", "predictions.csv"):
        text = (folder / page).read_text()
        assert "class " not in text
        assert "top-1" not in text.lower()
    capsys.readouterr()
    picture = next(tiny_images.rglob("*.png"))
    assert main(["run", str(folder), str(picture), "--output", str(tmp_path / "raw")]) == 0
    said = capsys.readouterr().out
    assert all(f"{name}: {' x '.join(map(str, sides))}" in said for name, sides in outputs.items())
    with np.load(tmp_path / "raw" / f"{picture.stem}.npz") as raw:
        assert {name: list(raw[name].shape) for name in raw} == outputs


@pytest.mark.parametrize("outputs", [SEGMENTS, ROW, DETECTS, ROWS], ids=lambda outputs: "-".join(outputs))
def test_jetson_takes_outputs_of_any_rank(
    outputs: dict[str, list[Any]], tmp_path: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, folder = network(tmp_path, outputs), tmp_path / "out"
    accuracy = build(capsys, model, "--target", "jetson", "--data", tiny_images, "--output", folder)["accuracy"]
    assert [one["name"] for one in accuracy["outputs"]] == list(outputs)
    assert accuracy["sqnr_db"] is None  # 8 channels stay in float: exact
    assert main(["verify", str(folder)]) == 0


def test_what_is_asked_of_a_classifier_alone(
    tmp_path: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def code(*arguments: object) -> str:
        assert main(["build", *map(str, arguments), "--data", str(tiny_images), "--output", str(tmp_path / "o")]) == 1
        return capsys.readouterr().err.partition("error[")[2].partition("]")[0]

    segments = network(tmp_path, SEGMENTS)
    assert code(segments, "--target", "cpu", "--max-drop-pp", 1) == "no-drop"
    assert code(segments, "--target", "cpu", "--task", "classification") == "wrong-task"
    assert code(segments, "--target", "cpu", "--task", "clasification") == "unknown-task"


def test_a_single_logit_answers_by_its_sign(
    tmp_path: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, plain = tmp_path / "out", tmp_path / "plain"
    plain.mkdir()
    for index, picture in enumerate(sorted(tiny_images.rglob("*.png"))):
        shutil.copy(picture, plain / f"{index}.png")
    model = network(tmp_path, {"logit": [1]})
    result = build(capsys, model, "--target", "cpu", "--data", plain, "--output", folder)
    assert result["accuracy"]["task"] == "classification"
    assert main(["run", str(folder), str(next(tiny_images.rglob("*.png"))), "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert sorted(answer["classes"]) == ["class 0", "class 1"]
    assert sum(answer["probabilities"]) == pytest.approx(1.0)


@pytest.mark.parametrize("classes", [3, 5])
def test_classes_that_are_matched_by_their_order_are_told(
    classes: int, tmp_path: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The data have three folders, and the network says of none of its classes what it is."""
    model = network(tmp_path, {"logits": [classes]})
    result = build(capsys, model, "--target", "onnxruntime", "--data", tiny_images, "--output", tmp_path / "out")
    told = [note for note in result["notes"] if "'blue' was taken for class 0" in note]
    assert len(told) == (classes > 3)


def test_layers_that_are_exact(tmp_path: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A layer whose integers are the float values has no noise: no number says that, and JSON has no infinity."""
    pytest.importorskip("ai_edge_litert")
    model = network(tmp_path, {"zeros": [3]})
    found = onnx.load(tmp_path / "m.onnx")
    weights = next(constant for constant in found.graph.initializer if constant.name == "zeros_w")
    weights.CopyFrom(numpy_helper.from_array(0 * numpy_helper.to_array(weights), weights.name))
    onnx.save(found, tmp_path / "m.onnx")
    folder = tmp_path / "out"
    build(capsys, model, "--target", "arm", "--data", tiny_images, "--output", folder, "--sensitivity")
    for name in ("quantization.json", "sensitivity.json"):
        text = (folder / name).read_text()
        assert "null" in text
        assert "Infinity" not in text
    assert main(["sensitivity", str(model), "--data", str(tiny_images), "--scheme", "tflite", "--json"]) == 0
    assert None in [entry["sqnr_db"] for entry in json.loads(capsys.readouterr().out)]


def test_answers_that_are_true_or_false(tmp_path: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are compared as numbers; C before C23 has no type for them, so the bundle has no C sources."""
    model, folder = network(tmp_path, {"maps": [4, 32, 32]}), tmp_path / "out"
    found = onnx.load(tmp_path / "m.onnx")
    found.graph.node[-1].output[0] = "before"
    found.graph.node.append(helper.make_node("Cast", ["before"], ["maps"], "cast", to=TensorProto.BOOL))
    found.graph.output[0].type.tensor_type.elem_type = TensorProto.BOOL
    onnx.save(found, tmp_path / "m.onnx")
    build(capsys, model, "--target", "onnxruntime", "--data", tiny_images, "--output", folder)
    assert not (folder / "c").exists()
    assert main(["verify", str(folder)]) == 0


def test_answers_that_are_no_numbers(tmp_path: Path, tiny_images: Path) -> None:
    """NaN against anything has no SQNR, which must not read as exact."""
    model = logarithm(tmp_path / "log.onnx")
    images = open_dataset(tiny_images)
    preprocess = Preprocess(resize_px=40, crop_px=32, mean=(255.0, 255.0, 255.0))
    for task in ("classification", "tensors"):
        with pytest.raises(EdgecError) as caught:
            ask(OrtRunner(model), images, preprocess, load_task(task), output_shapes(model), 4)
        assert caught.value.code == "activation-not-finite"
        assert f"'log' is NaN or infinite on '{images.samples[0].file}'" in caught.value.message


def test_golden_answers_that_are_no_numbers(tmp_path: Path, tiny_images: Path) -> None:
    """The inputs are made up: they may reach what no image does."""
    model = logarithm(tmp_path / "model.onnx")
    settings = settings_of(load_target("onnxruntime"))
    golden = Golden("onnxruntime", settings, Preprocess(resize_px=40, crop_px=32), open_dataset(tiny_images))
    inputs = (source(model), source(tmp_path), source(model), source(tiny_images))
    with pytest.raises(EdgecError) as caught:
        golden.run(tmp_path / "golden", *inputs)
    assert (caught.value.code, "'zeros'" in caught.value.message) == ("activation-not-finite", True)


def test_an_output_without_a_row_for_each_image(tmp_path: Path, tiny_images: Path) -> None:
    """Three numbers an image, one after the other, would count as three images."""
    model = onnx.load(logarithm(tmp_path / "log.onnx"))
    model.graph.node[-1].CopyFrom(helper.make_node("Reshape", ["f", "sides"], ["log"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([3]), "sides"))
    model.graph.output[0].type.tensor_type.shape.dim.pop(0)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, tmp_path / "flat.onnx")
    preprocess, runner = Preprocess(resize_px=40, crop_px=32), OrtRunner(tmp_path / "flat.onnx")
    with pytest.raises(EdgecError) as caught:
        ask(
            runner,
            open_dataset(tiny_images),
            preprocess,
            load_task("tensors"),
            output_shapes(tmp_path / "flat.onnx"),
            4,
        )
    assert (caught.value.code, "12 rows for 4 images" in caught.value.message) == ("bad-output", True)


def logarithm(path: Path) -> Path:
    """-inf at zero, NaN below it."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Log", ["f"], ["log"]),
    ]
    ends = (
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("log", TensorProto.FLOAT, ["N", 3])],
    )
    graph = helper.make_graph(nodes, "log", *ends)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
