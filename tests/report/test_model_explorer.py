"""Node data for Model Explorer: the format that its loader takes, under names that the opened graph has."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgec.pipeline.bundle.read import open_bundle
from edgec.pipeline.bundle.records import read_latency, read_quantization
from edgec.pipeline.bundle.write import write_json
from edgec.pipeline.cli import main
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.compiler import load_compiler, settings_of
from edgec.pipeline.forms.spec import load_target
from edgec.pipeline.report.model_explorer import node_data
from edgec.targets.tflite.flatbuffer import read_tflite


def test_values_lie_on_the_tensors_of_the_tflite_file(mcu_bundle: Path, tmp_path: Path) -> None:
    """As a board gets the file, with names: firmware's has none inside."""
    folder = Path(shutil.copytree(mcu_bundle, tmp_path / "copy"))
    bundle = replace(open_bundle(mcu_bundle), folder=folder)
    load_compiler("tflite").compile_model(bundle.qdq_onnx, bundle.artifact, settings_of(load_target("arm")))
    (found,) = node_data(bundle)
    tensors = {tensor.name for tensor in read_tflite(bundle.artifact.read_bytes()).tensors}
    results = found.content["results"]
    known = read_quantization(mcu_bundle).layer_sqnr_db
    assert sorted(value["value"] for value in results.values()) == sorted(
        round(db, 3) for db in known.values() if db is not None
    )
    last = onnx.load(bundle.qdq_onnx).graph.output[0].name
    assert last in results.keys() & tensors
    assert len(results.keys() & tensors) > 1


@pytest.mark.parametrize("name", ["mcu_bundle", "cpu_bundle"])
def test_values_lie_on_the_nodes_of_the_qdq_file(name: str, request: pytest.FixtureRequest) -> None:
    bundle = open_bundle(request.getfixturevalue(name))
    (found,) = node_data(bundle)
    assert found.content["results"].keys() <= {node.name for node in onnx.load(bundle.qdq_onnx).graph.node}


def test_it_has_what_the_loader_asks_for(mcu_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of one graph has ``results`` on top, each a ``value``; stops 0 and 1 are always given."""
    page, nodes = tmp_path / "page.html", tmp_path / "nodes.json"
    arguments = ["report", str(mcu_bundle), "--output", str(page), "--model-explorer", str(nodes)]
    assert main(arguments) == 0
    assert capsys.readouterr().out.split() == [str(page), str(nodes)]
    content = json.loads(nodes.read_text())
    assert all(set(value) == {"value"} and np.isfinite(value["value"]) for value in content["results"].values())
    assert [stop["stop"] for stop in content["gradient"]] == [0, 1]
    assert main(arguments) == 0, "its own file"
    nodes.write_text("{}")
    assert main(arguments) == 1
    assert "error[output-exists]" in capsys.readouterr().err


def test_time_stands_beside(mcu_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(mcu_bundle, tmp_path / "copy"))
    write_json(folder / "latency.json", {"status": "measured", "layer_us": {"first": 12.5}})
    assert read_latency(folder).layer_us == {"first": 12.5}
    noise, time = node_data(replace(open_bundle(mcu_bundle), folder=folder))
    assert (noise.suffix, time.suffix) == ("", "-time")
    assert time.content["results"] == {"first": {"value": 12.5}}


def test_without_figures_there_is_no_file(mcu_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(mcu_bundle, tmp_path / "copy"))
    write_json(folder / "quantization.json", {"float_layers": [], "layer_sqnr_db": {"exact": None}})
    with pytest.raises(EdgecError) as caught:
        node_data(replace(open_bundle(mcu_bundle), folder=folder))
    assert caught.value.code == "no-layer-figures"


def test_it_is_of_one_graph(mcu_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(mcu_bundle), str(mcu_bundle), "--model-explorer", "x.json"]) == 2
    assert "of one graph" in capsys.readouterr().err
