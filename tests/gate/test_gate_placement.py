"""What runtimes make of the tiny network, counted; the network is small enough to count by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from seams import settings_of

from edgec.pipeline.bundle.read import open_bundle
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.compiler import load_compiler
from edgec.pipeline.gate.proxies import Proxies

if TYPE_CHECKING:
    from conftest import Build


def test_onnx_runtime(bundle: Path) -> None:
    """Conv, Relu, Conv, GlobalAveragePool, Flatten, Gemm; the layers read dequantized integers."""
    known = Proxies(open_bundle(bundle)).known()
    assert {name: known[name] for name in ("num_operators", "num_transposes", "num_float_layers")} == {
        "num_operators": 6,
        "num_transposes": 0,
        "num_float_layers": 0,
    }
    assert "num_reformats" not in known


def test_a_network_that_cannot_be_counted_keeps_its_other_counts(bundle: Path) -> None:
    """A budget can be written for it; a limit that somebody gives stays an error of its own."""
    opened = open_bundle(bundle)
    stated = opened.manifest.float_network
    assert stated is not None
    manifest = replace(opened.manifest, float_network=replace(stated, macs=None, params=None))
    proxies = Proxies(replace(opened, manifest=manifest))
    assert proxies.known().keys() == Proxies(opened).known().keys() - {"macs", "params"}
    with pytest.raises(EdgecError) as caught:
        proxies.count("macs")
    assert caught.value.code == "no-count"


def test_a_float_network_has_float_layers(tiny_onnx: Path) -> None:
    from edgec.targets import onnxruntime

    assert onnxruntime.placement(tiny_onnx, settings_of("onnxruntime")).num_float_layers == 3


@pytest.mark.parametrize(("target", "layer"), [("cpu", "first"), ("onnxruntime", "first"), ("arm", "")])
def test_times_of_layers_where_the_runtime_tells(build: Build, target: str, layer: str) -> None:
    if target == "cpu":
        pytest.importorskip("openvino")
    if target == "arm":
        pytest.importorskip("ai_edge_litert")
    bundle = open_bundle(build(target))
    times = load_compiler(bundle.target.compiler).layer_times(bundle.artifact, bundle.settings, 1)
    assert bool(times) == bool(layer)
    assert all(time_us >= 0 for time_us in times.values())
    assert not times or any(layer in name for name in times)


def test_openvino(build: Build) -> None:
    pytest.importorskip("openvino")
    known = Proxies(open_bundle(build("cpu"))).known()
    assert known["num_float_layers"] == 0
    assert known["num_reformats"] >= 1  # the input is planar, the kernels are not
    assert known["macs"] == 32 * 32 * 6 * 36 + 18


def test_litert(build: Build) -> None:
    pytest.importorskip("ai_edge_litert")
    known = Proxies(open_bundle(build("arm"))).known()
    assert (known["delegate_pieces"], known["num_float_layers"], known["num_transposes"]) == (1, 0, 0)
