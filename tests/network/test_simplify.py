"""Simplification: outputs proven equal, bounded in time, refused with a reason."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from tiny import tiny_network

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import source
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.network.graph import Graph
from edgec.pipeline.network.simplify import Simplify, outputs_difference


def simplified(model: Path, folder: Path, **limits: float) -> Path:
    Simplify(**limits).run(folder / "simple.onnx", source(model))
    return folder / "simple.onnx"


def test_an_identity_vanishes_and_the_outputs_stay(tmp_path: Path) -> None:
    model = tiny_network()
    model.graph.node[1].input[0] = "same"
    model.graph.node.insert(1, helper.make_node("Identity", ["c1"], ["same"]))
    onnx.save(model, tmp_path / "m.onnx")
    result = simplified(tmp_path / "m.onnx", tmp_path)
    assert "Identity" not in {node.op_type for node in onnx.load(result).graph.node}
    assert outputs_difference(tmp_path / "m.onnx", result) < 1e-5


def test_onnxsim_takes_no_torch_along(tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('loaded')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    assert simplified(tiny_onnx, tmp_path).exists()


def test_a_time_limit_is_a_refusal(tiny_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgecError) as caught:
        simplified(tiny_onnx, tmp_path, time_limit_s=0.01)
    assert caught.value.code == "simplify-timeout"


def test_onnxsim_giving_up_is_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(EdgecError) as caught:
        simplified(tmp_path / "m.onnx", tmp_path)
    assert caught.value.code == "simplify-failed"


def test_changed_outputs_are_a_refusal(tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxsim is made to return another network by running it on one."""
    other = tiny_network()
    other.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(other.graph.initializer[0]) * 2, "w1")
    )
    onnx.save(other, tmp_path / "other.onnx")
    monkeypatch.setattr(
        "edgec.pipeline.network.simplify.subprocess.run",
        lambda command, **_: _copy(tmp_path / "other.onnx", command[-1]),
    )
    with pytest.raises(EdgecError) as caught:
        simplified(tiny_onnx, tmp_path)
    assert caught.value.code == "simplify-changed-outputs"


def _copy(path: Path, to: str) -> object:
    Path(to).write_bytes(path.read_bytes())

    class Done:
        returncode = 0

    return Done()


def shaped(body: str, batch: str | int) -> onnx.ModelProto:
    """A network whose Reshape says the batch in its own way, on ``(batch, 3, 4, 4)``."""
    constants = "<int64[1] first = {0}, int64[1] rest = {-1}, int64[2] one = {1, -1}, int64 zero = {0}>"
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[{batch}, 3, 4, 4] x) => (float[{batch}, 48] y) '
        f"{constants} {{ {body} }}"
    )


COMPUTED = "s = Shape(x) n = Gather(s, zero) u = Unsqueeze(n, first) c = Concat<axis = 0>(u, rest) y = Reshape(x, c)"


@pytest.mark.parametrize(
    ("body", "batch", "takes"),
    [("y = Reshape(x, one)", 1, 1), (COMPUTED, "N", None), ("y = Flatten(x)", "N", None), ("y = Flatten(x)", 1, 1)],
)
def test_shapes_that_hold_a_batch_fold_away(body: str, batch: str | int, takes: int | None, tmp_path: Path) -> None:
    """The batch is free again where any number of images is answered, and images are answered one by one where not."""
    onnx.save(shaped(body, batch), tmp_path / "m.onnx")
    result = simplified(tmp_path / "m.onnx", tmp_path)
    graph = Graph.read(onnx.load(result))
    assert {node.op for node in graph.nodes} <= {"Reshape", "Flatten"}
    assert graph.batch in (takes, 1)
    x = np.random.default_rng(0).normal(size=(3, 3, 4, 4)).astype(np.float32)
    np.testing.assert_array_equal(OrtRunner(result).predict(x)[0], x.reshape(3, 48))


@pytest.mark.parametrize(("operator", "apart"), [("Log", False), ("Neg", True)])
def test_what_is_no_number_before_and_after_is_equal(tmp_path: Path, operator: str, apart: bool) -> None:
    """A network that answers NaN is not the simplifier's fault; one that answers NaN only before is."""
    model = tiny_network()
    model.graph.node[-1].output[0] = "scores"
    model.graph.node.append(helper.make_node("Log", ["scores"], ["logits"]))
    onnx.save(model, tmp_path / "before.onnx")
    model.graph.node[-1].op_type = operator
    onnx.save(model, tmp_path / "after.onnx")
    assert (outputs_difference(tmp_path / "before.onnx", tmp_path / "after.onnx") != 0.0) == apart
