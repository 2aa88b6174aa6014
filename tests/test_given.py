"""A network that another tool quantized, through the command line: its parameters are kept on every target."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgec.pipeline.cli import main
from edgec.pipeline.data.dataset import batches, open_dataset
from edgec.pipeline.data.preprocess import Preprocess

PREPROCESS = "[preprocess]\nresize_px = 40\ncrop_px = 32\nmean = [127.5, 127.5, 127.5]\nstd = [127.5, 127.5, 127.5]\n"


@pytest.fixture(scope="session")
def quantized_toml(tiny_onnx: Path, tiny_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``model.toml`` of the tiny network, quantized by ONNX Runtime's own tool."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    folder = tmp_path_factory.mktemp("quantized")
    preprocess = Preprocess(resize_px=40, crop_px=32, mean=(127.5,) * 3, std=(127.5,) * 3)

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            self._fed: Iterator[dict[str, np.ndarray]] = iter(
                {"input": batch} for batch in batches(open_dataset(tiny_images), preprocess, 8)
            )

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._fed, None)

    quantize_static(
        tiny_onnx,
        folder / "q.onnx",
        Images(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    (folder / "q.toml").write_text(f'onnx = "q.onnx"\nlabels = ["blue", "green", "red"]\n{PREPROCESS}')
    return folder / "q.toml"


def build(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    status = main(["build", *map(str, arguments), "--no-measure", "--json"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    result: dict[str, Any] = json.loads(captured.out)
    return result


def given_scales(path: Path) -> set[float]:
    graph = onnx.load(path).graph
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return {float(values[node.input[1]]) for node in graph.node if node.op_type == "QuantizeLinear"}


@pytest.mark.parametrize("target", ["cpu", "arm", "jetson"])
def test_a_quantized_network_is_built_with_its_own_parameters(
    target: str, quantized_toml: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    arguments = (quantized_toml, "--target", target, "--data", tiny_images, "--output", folder)
    result = build(capsys, *arguments)
    assert result["quantizer"] == "as-given"
    assert "taken as quantized: 'float' is the network with its Q/DQ removed" in result["notes"]
    given = json.loads((folder / "quantization.json").read_text())["given"]
    assert given["num_weights"] == 3
    found, theirs = given_scales(folder / "reference" / "qdq.onnx"), given_scales(quantized_toml.parent / "q.onnx")
    if target == "jetson":
        assert set(given["changed"].values()) == {"asymmetric, the target takes int8 around 0: a range that holds it"}
    else:
        assert (given["changed"], found) == ({}, theirs)
    assert result["accuracy"]["reference"] == result["accuracy"]["float"] == 100.0
    assert main(["verify", str(folder)]) == 0
    capsys.readouterr()


def test_it_is_reproduced(
    quantized_toml: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    build(capsys, quantized_toml, "--target", "arm", "--data", tiny_images, "--output", folder)
    arguments = ["reproduce", str(folder), "--model", str(quantized_toml), "--data", str(tiny_images)]
    assert main(arguments) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--target", "arm", "--quantizer", "best"], "--quantizer best would change the parameters"),
        (["--target", "arm", "--quantizer", "fast"], "--quantizer fast would change the parameters"),
        (["--target", "jetson", "--precision", "fp16"], "nothing is in the precision 'fp16'"),
        (["--target", "arm", "--precision", "mixed"], "its own Q/DQ say what is float"),
    ],
)
def test_what_contradicts_it_is_refused(
    options: list[str], words: str, quantized_toml: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", str(quantized_toml), "--data", str(tiny_images), *options]) == 1
    said = capsys.readouterr().err
    assert said.partition("error[")[2].partition("]")[0] == "quantizer-does-not-fit"
    assert words in said


def test_a_float_network_has_nothing_to_keep(
    tiny_onnx: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["build", str(tiny_onnx), "--data", str(tiny_images), "--target", "arm", "--quantizer", "as-given"]
    assert main(arguments) == 1
    assert "brings no Q/DQ pairs along" in capsys.readouterr().err


def test_layers_go_back_into_float_for_a_drop(
    quantized_toml: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = ("--max-drop-pp", "50", "--sensitivity")
    arguments = (quantized_toml, "--target", "onnxruntime", "--data", tiny_images, "--output", tmp_path / "out")
    notes = build(capsys, *arguments, *limit)["notes"]
    assert any("no layer had to go back into float" in note for note in notes)
    assert any("the network's own parameters are kept" in note for note in notes)
