"""Sensitivity: every quantized tensor and weight ranked once, on the command line as a table, JSON or plot."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import onnx
import pytest

from edgec.pipeline.cli import main
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.store import Store
from edgec.pipeline.quantize_network import Chaos, QuantizedFile, quantize_network, scheme_recipe
from edgec.pipeline.recipe import DataFolders


def test_ranks_every_layer_once(model: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sensitivity", str(model), "--scheme", "tflite", "--data", str(tiny_images), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["sqnr_db"] for row in rows] == sorted(row["sqnr_db"] for row in rows)
    weights = [row["weight"] for row in rows if row["weight"]]
    stored = [row["tensor"] for row in rows if row["tensor"]]
    assert len(weights) == len(set(weights)) == 3
    assert len(stored) == len(set(stored))
    assert all(row["sqnr_db"] > 20 for row in rows)


@pytest.mark.parametrize("scheme", ["tflite", "openvino"])
def test_how_far_a_network_is_from_itself(
    scheme: str, crowded: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sums of integers and sums of rounded floats: where the two differ, no figure of an artifact is surer."""
    arguments = ["sensitivity", str(crowded), "--scheme", scheme, "--data", str(tiny_images), "--chaos"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {entry["name"] for entry in found["layers"]}
    itself = found["chaos"]
    assert itself["num_images"] == 24
    assert itself["sqnr_db"] is None or itself["sqnr_db"] > 20
    assert itself["agreement"] >= 80
    assert main(arguments) == 0
    assert "under equivalent arithmetic it " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Chaos(None, 100.0, 9), "under equivalent arithmetic it answers the same, on 9 images"),
        (Chaos(18.04, 96.9, 64), "it is 18.0 dB from itself, 96.9 % of the answers are the same, on 64 images"),
        (Chaos(18.04, None, 64), "it is 18.0 dB from itself, on 64 images"),
    ],
)
def test_the_words_of_chaos(found: Chaos, words: str) -> None:
    assert found.words().endswith(words)


def test_a_plot_without_matplotlib_is_refused_before_the_work(
    model: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *of: None if name == "matplotlib" else real(name, *of)
    )
    arguments = ["sensitivity", str(model), "--scheme", "tflite", "--data", str(tiny_images)]
    assert main([*arguments, "--plot", str(tmp_path / "worst.svg")]) == 1
    code = capsys.readouterr().err.partition("error[")[2].partition("]")[0]
    assert code == "missing-matplotlib"


def test_a_plot_of_another_kind_is_refused_before_the_work(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There are no data: they would be missed later."""
    assert main(["sensitivity", str(model), "--scheme", "tflite", "--data", "gone", "--plot", "worst.xls"]) == 1
    assert capsys.readouterr().err.startswith("error[bad-plot-format]")


def quantized(model: Path, scheme: str, images: Path, folder: Path) -> QuantizedFile:
    recipe = scheme_recipe(str(model), scheme, DataFolders(images), 12, max_drop_pp=1.0)
    return quantize_network(recipe, folder / "q.onnx", Store(folder / "cache"))


def test_a_drop_that_cannot_be_held_is_said(crowded: Path, tiny_images: Path, tmp_path: Path) -> None:
    """Where a scheme has all in integers, nothing can go back into float."""
    with pytest.raises(EdgecError) as refusal:
        quantized(crowded, "tflite", tiny_images, tmp_path)
    assert refusal.value.code == "drop-not-held"
    assert "with all in integers, as the target computes" in refusal.value.message
    assert not (tmp_path / "q.onnx").exists()


def test_a_drop_is_held_by_the_layers_that_cannot_be_in_integers(
    crowded: Path, tiny_images: Path, tmp_path: Path
) -> None:
    written = quantized(crowded, "openvino", tiny_images, tmp_path)
    assert written.reference.drop_pp == 0
    in_float = {layer.layer for layer in written.float_layers}
    assert "tell" in in_float, "it reads the tensor that 8 bits cannot hold"
    assert in_float < {node.name for node in onnx.load(tmp_path / "tiny.onnx").graph.node}


def test_a_drop_that_holds_leaves_all_in_integers(model: Path, tiny_images: Path, tmp_path: Path) -> None:
    written = quantized(model, "openvino", tiny_images, tmp_path)
    assert not any("sensitive" in layer.reason for layer in written.float_layers)
    assert written.num_images == 6
