"""A segmentation network through the command line: build, verify, run, evaluate, diff, check and report."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edgec.pipeline.cli import main

PX = 32
COLORS = np.array([[40, 40, 40], [200, 30, 30], [30, 200, 30], [30, 30, 200]], np.uint8)
CLASSES = ("floor", "red", "green", "blue")
TOML = f"""onnx = "m.onnx"
task = "segmentation"
labels = {list(CLASSES)}
[preprocess]
resize_px = {PX}
crop_px = {PX}
mean = [127.5, 127.5, 127.5]
std = [127.5, 127.5, 127.5]
"""


def network(folder: Path, argmax: bool) -> Path:
    """The class of each pixel by its colour, after a convolution that changes little; perhaps ArgMax behind it."""
    stream = np.random.default_rng(1)
    first = stream.normal(0, 0.02, (3, 3, 3, 3)).astype(np.float32)
    first[range(3), range(3), 1, 1] = 1
    centres = COLORS.astype(np.float32) / 127.5 - 1
    constants = {
        "w": first,
        "b": np.full(3, 2, np.float32),  # above zero, as ReLU follows
        "h": (4 * centres)[:, :, None, None],
        "hb": (-2 * (centres**2).sum(axis=1) - 8 * centres.sum(axis=1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "first", kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "h", "hb"], ["maps"], "head", kernel_shape=[1, 1]),
    ]
    out = helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["N", 4, PX, PX])
    if argmax:
        nodes.append(helper.make_node("ArgMax", ["maps"], ["classes"], "answer", axis=1, keepdims=0))
        out = helper.make_tensor_value_info("classes", TensorProto.INT64, ["N", PX, PX])
    graph = helper.make_graph(
        nodes,
        "segments",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, PX, PX])],
        [out],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    folder.mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "m.onnx")
    (folder / "net.toml").write_text(TOML)
    return folder / "net.toml"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures of rectangles on a floor, a void line around each in the mask; half of them calibrate."""
    root, stream = tmp_path_factory.mktemp("scenes"), np.random.default_rng(0)
    for part in ("train", "val"):
        for folder in ("images", "masks"):
            (root / folder / part).mkdir(parents=True)
        for i in range(12):
            mask = np.zeros((PX, PX), np.uint8)
            void = np.zeros((PX, PX), bool)
            for _ in range(3):
                (top, left), (height, width) = stream.integers(0, 24, 2), stream.integers(6, 12, 2)
                void[max(0, top - 1) : top + height + 1, max(0, left - 1) : left + width + 1] = True
                mask[top : top + height, left : left + width] = stream.integers(1, 4)
                void[top + 1 : top + height - 1, left + 1 : left + width - 1] = False
            noise = stream.normal(0, 20, (PX, PX, 3))
            pixels = np.clip(COLORS[mask] + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "images" / part / f"{i}.png")
            Image.fromarray(np.where(void, 255, mask).astype(np.uint8)).save(root / "masks" / part / f"{i}.png")
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return root


def asked(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(("target", "argmax"), [("cpu", True), ("arm", False), ("mcu", True)])
def test_from_request_to_report(
    target: str, argmax: bool, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, folder = network(tmp_path / "model", argmax), tmp_path / "out"
    arguments = ("build", model, "--target", target, "--data", scenes, "--output", folder, "--no-measure")
    accuracy = asked(capsys, *arguments)["accuracy"]
    assert (accuracy["task"], accuracy["metric"], accuracy["num_images"]) == ("segmentation", "miou", 12)
    assert 80 < accuracy["float"] <= 100
    assert abs(accuracy["drop_pp"]) < 5
    assert accuracy["agreement"] > 95
    assert len(accuracy["class_iou"]["target"]) == len(CLASSES)
    manifest = json.loads((folder / "manifest.json").read_text())
    (output,) = manifest["contract"]["outputs"]
    sides = sorted(output["shape"])
    assert sides == ([1, PX, PX] if argmax else [1, 4, PX, PX])
    assert main(["verify", str(folder)]) == 0
    assert len(list((folder / "examples").iterdir())) == 4
    card, page = ((folder / name).read_text() for name in ("README.md", "report.html"))
    assert "mIoU" in card
    assert "ates with 95 % intervals" not in card + page, "pixels of an image are not independent"
    assert page.count("data:image/png") == 4
    assert "IoU of &#39;red&#39;" in page or "IoU of 'red'" in page
    capsys.readouterr()

    again = asked(capsys, "evaluate", folder, "--data", scenes)
    assert again["target"] == accuracy["target"]
    picture = scenes / "images/val/0.png"
    (answer,) = asked(capsys, "run", folder, picture, "--output", tmp_path / "raw")
    assert set(answer["classes"]) <= set(CLASSES)
    with Image.open(tmp_path / "raw/0.overlay.png") as overlay:
        assert overlay.size == (PX, PX)
    (tmp_path / "budgets.toml").write_text(
        f'[[budget]]\nmodel = "net"\ntarget = "{target}"\ndevice = "any"\nowner = "a"\nreason = "b"\n'
        "[budget.limits]\nmiou_drop_pp = 10.0\npixel_agreement = 90.0\n"
    )
    capsys.readouterr()
    assert main(["check", str(folder), "--budgets", str(tmp_path / "budgets.toml"), "--no-device"]) == 0
    assert main(["diff", str(folder), str(folder)]) == 0
    if target == "mcu" and shutil.which("gcc"):
        command = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "selftest.c"]
        subprocess.run(command, cwd=folder / "c", check=True)
        assert "worst += output[i] != expected[i]" in (folder / "c/selftest.c").read_text()
