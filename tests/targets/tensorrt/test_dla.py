"""What NVIDIA's list says of a network on a DLA. No DLA was at hand, and none is claimed to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from graphs import CHANNELS, Builder, classifier, float_classifier
from seams import settings_of
from stand_ins import StandIn
from test_build_engine import answer

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.spec import load_target, with_precision
from edgec.pipeline.network.graph import Graph
from edgec.targets.tensorrt import compile_model
from edgec.targets.tensorrt.dla import CHECKS, NATIVE, dla_placement, why_not

WINDOW = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}


def reason(op: str, constants: dict[str, Any] | None = None, **attributes: Any) -> str:
    net = Builder()
    for name, value in (constants or {}).items():
        net.constants[name] = value
    net.add(op, ["input", *(constants or {})], "node", **attributes)
    graph = Graph.read(net.model("logits"))
    return why_not(graph, graph.nodes[-1])


def weight(kernel: int, groups: int = 1) -> dict[str, Any]:
    return {"w": Builder().stream.normal(size=(CHANNELS, CHANNELS // groups, kernel, kernel)).astype("float32")}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (reason("Conv", weight(3), **WINDOW), ""),
        (reason("Conv", weight(3, CHANNELS), **WINDOW, group=CHANNELS), ""),
        (reason("Conv", weight(3), kernel_shape=[3, 3], pads=[3, 3, 3, 3]), "padding as large as the kernel"),
        (reason("Conv", weight(3), **WINDOW, strides=[9, 9]), "strides 9, 1 to 8 are taken"),
        (reason("Conv", weight(33), kernel_shape=[33, 33], pads=[31] * 4), "kernel_shape 33, 1 to 32 are taken"),
        (reason("ConvTranspose", weight(2), kernel_shape=[2, 2], strides=[2, 2]), ""),
        (reason("ConvTranspose", weight(3), **WINDOW), "padding or dilation"),
        (reason("MaxPool", **WINDOW), ""),
        (reason("MaxPool", kernel_shape=[9, 9], pads=[4] * 4), "kernel_shape 9, 1 to 8 are taken"),
        (reason("Clip", {"low": Builder().stream.normal() * 0, "high": 6.0}), ""),
        (reason("Clip", {"low": 0.0, "high": 0.5}), "Clip from 0"),
        (reason("Clip", {"low": -1.0, "high": 6.0}), "Clip from 0"),
        (reason("Relu"), ""),
        (reason("Flatten"), "Flatten is not among its layers"),
        (reason("HardSigmoid"), "HardSigmoid is not among its layers"),
        (reason("GlobalAveragePool"), "GlobalAveragePool is not among its layers"),
    ],
)
def test_each_limit(found: str, words: str) -> None:
    assert found.startswith(words) if words else found == ""


def test_operators_stand_in_one_list() -> None:
    assert not set(NATIVE) & set(CHECKS)


def test_pieces_are_runs_of_neighbours() -> None:
    net = Builder()
    tensor = "input"
    for index, op in enumerate(["Relu", "HardSigmoid", "Relu", "Sigmoid", "HardSigmoid", "Tanh"]):
        tensor = net.add(op, [tensor], f"n{index}")
    found = dla_placement(Graph.read(net.model("logits")))
    assert (found.num_nodes, found.num_pieces, list(found.fallback)) == (4, 3, ["n1", "n4"])


@pytest.fixture
def accelerated(tmp_path: Path) -> Path:
    """FP16, for a board with two DLA cores."""
    onnx.save(float_classifier(), tmp_path / "float.onnx")
    target = with_precision(load_target("jetson-agx-orin"), "fp16")
    compile_model(tmp_path / "float.onnx", tmp_path / "accelerated", settings_of(target))
    return tmp_path / "accelerated"


def test_the_spec_tells_what_would_fall_back(accelerated: Path, artifact: Path) -> None:
    found = json.loads((accelerated / "engine_spec.json").read_text())["dla"]
    assert found["num_nodes"] > 0
    assert "HardSigmoid is not among its layers" in found["fallback"].values()
    assert json.loads((artifact / "engine_spec.json").read_text())["dla"] is None  # an Orin Nano has none


@pytest.mark.parametrize(
    ("version", "file", "flags"),
    [
        ("8.6.1", "model.onnx", ["FP16", "GPU_FALLBACK"]),
        ("10.3.0", "model.onnx", ["FP16", "GPU_FALLBACK"]),
        ("11.4.1", "model_typed.onnx", ["GPU_FALLBACK"]),
    ],
)
def test_how_each_version_is_asked(
    version: str, file: str, flags: list[str], accelerated: Path, stand_in: StandIn
) -> None:
    done = stand_in.run(accelerated, "--dla", "1", version=version)
    assert answer(done)["key"]["dla"] == 1
    assert f"parse {file}" in stand_in.calls()
    assert [call.removeprefix("flag ") for call in stand_in.calls() if call.startswith("flag")] == flags
    assert "by NVIDIA's list the DLA takes" in done.stderr


@pytest.mark.parametrize(
    ("version", "code"), [("10.8.0", "wrong-tensorrt"), ("11.3.0", "wrong-tensorrt"), ("11.4.0", "wrong-tensorrt")]
)
def test_versions_without_dla(version: str, code: str, accelerated: Path, stand_in: StandIn) -> None:
    assert answer(stand_in.run(accelerated, "--dla", "0", version=version))["error"] == code


def test_boards_without_dla_and_int8(artifact: Path, tmp_path: Path, stand_in: StandIn) -> None:
    assert answer(stand_in.run(artifact, "--dla", "0"))["error"] == "wrong-gpu"
    onnx.save(classifier(), tmp_path / "qdq.onnx")
    compile_model(tmp_path / "qdq.onnx", tmp_path / "int8", settings_of("jetson-agx-orin"))
    found = answer(stand_in.run(tmp_path / "int8", "--dla", "0"))
    assert (found["error"], "--precision fp16" in found["message"]) == ("wrong-tensorrt", True)


def test_the_board_may_ask_for_it(tmp_path: Path, stand_in: StandIn) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "jetson-agx-orin"\n[options]\ndla_core = 1\n')
    onnx.save(float_classifier(), tmp_path / "float.onnx")
    target = with_precision(load_target(str(path)), "fp16")
    compile_model(tmp_path / "float.onnx", tmp_path / "tensorrt", settings_of(target))
    assert answer(stand_in.run(tmp_path / "tensorrt"))["key"]["dla"] == 1


@pytest.mark.parametrize(
    ("board", "option", "words"),
    [
        ("jetson-agx-orin", "dla_core = 2", "the board has 2 DLA cores"),
        ("jetson-thor", "dla_core = 0", "the board has 0 DLA cores"),
        ("jetson-orin-nano", "hardware_compatible = true", "NVIDIA offers for no Jetson"),
    ],
)
def test_options_that_a_board_cannot_have(board: str, option: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'extends = "{board}"\n[options]\n{option}\n')
    with pytest.raises(EdgecError) as caught:
        load_target(str(path))
    assert (caught.value.code, words in caught.value.message) == ("bad-board", True)
