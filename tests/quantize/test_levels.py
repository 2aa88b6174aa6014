"""More effort is never worse: each level has to answer held-out images better than the one below, or is not kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from calibrated import Calibrated, calibrate
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.forms.scheme import Level, load_scheme
from edgec.pipeline.network.graph import Graph
from edgec.pipeline.quantize.affine import Array
from edgec.pipeline.quantize.calibrate import collect
from edgec.pipeline.quantize.learning import Learning
from edgec.pipeline.quantize.levels import LEVELS, held_out, is_better
from edgec.pipeline.quantize.plan import make_plan
from edgec.pipeline.quantize.quantizer import equalized, quantize, sensitivities
from edgec.pipeline.quantize.ranges import clip_ranges
from edgec.pipeline.quantize.vnni import SaturatingRunner
from edgec.pipeline.tasks.metrics import sqnr_db

SIDE = 16


def gated(heads: int = 1) -> onnx.ModelProto:
    """Squeeze-excite by Gemms, as Linear layers export it: the pooled vectors are small and have long tails."""
    stream = np.random.default_rng(1)

    def weight(*shape: int, spread: float = 1.0) -> Array:
        return stream.normal(0, spread, shape).astype(np.float32)

    constants = {
        "stem": weight(16, 3, 3, 3, spread=0.3),
        "squeeze": weight(8, 16, spread=0.5),
        "excite": weight(16, 8, spread=0.5),
        "shape": np.array([-1, 16, 1, 1]),
        "wide": weight(32, 16, 1, 1, spread=0.3),
    }
    nodes = [
        helper.make_node("Conv", ["input", "stem"], ["c"], "c", pads=[1] * 4, strides=[2, 2], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["x"], "x"),
        helper.make_node("GlobalAveragePool", ["x"], ["p"], "p"),
        helper.make_node("Flatten", ["p"], ["f"], "f"),
        helper.make_node("Gemm", ["f", "squeeze"], ["s"], "s", transB=1),
        helper.make_node("Relu", ["s"], ["sr"], "sr"),
        helper.make_node("Gemm", ["sr", "excite"], ["e"], "e", transB=1),
        helper.make_node("Sigmoid", ["e"], ["es"], "es"),
        helper.make_node("Reshape", ["es", "shape"], ["g"], "g"),
        helper.make_node("Mul", ["x", "g"], ["y"], "y"),
        helper.make_node("Conv", ["y", "wide"], ["w"], "w", kernel_shape=[1, 1]),
        helper.make_node("GlobalAveragePool", ["w"], ["q"], "q"),
        helper.make_node("Flatten", ["q"], ["v"], "v"),
    ]
    for index in range(heads):
        constants[f"head{index}"] = weight(10, 32, spread=0.2)
        nodes.append(helper.make_node("Gemm", ["v", f"head{index}"], [f"logits{index}"], f"classify{index}", transB=1))
    graph = helper.make_graph(
        nodes,
        "gated",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(f"logits{i}", TensorProto.FLOAT, ["N", 10]) for i in range(heads)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def pictures(seed: int, count: int) -> Array:
    """Brightness and contrast differ from picture to picture, as they do outside: some are far brighter than most."""
    stream = np.random.default_rng(seed)
    contrast = stream.lognormal(-0.3, 0.8, (count, 1, 1, 1))
    colour = stream.normal(0, 1, (count, 3, 1, 1)) * contrast
    return np.asarray(colour + contrast * stream.normal(0, 0.5, (count, 3, SIDE, SIDE)), np.float32)


def source_of(model: onnx.ModelProto, images: Array, folder: Path) -> Calibrated:
    onnx.save(model, folder / "float.onnx")
    return calibrate(folder / "float.onnx", images)


def fidelity(made: onnx.ModelProto, folder: Path, images: Array) -> float:
    """Of the first output, in dB."""
    onnx.save(made, folder / "qdq.onnx")
    wanted = OrtRunner(folder / "float.onnx").predict(images)[0]
    return sqnr_db(OrtRunner(folder / "qdq.onnx", as_written=True).predict(images)[0], wanted)


MISJUDGED_DB = 2.0
"""Eight pictures judge here, and may be that wrong about ninety-six others; without them it was 10 dB and more."""


@pytest.mark.parametrize("scheme", ["openvino", "tflite"])
@pytest.mark.parametrize("seed", range(3))
def test_more_effort_costs_other_images_nothing(scheme: str, seed: int, tmp_path: Path) -> None:
    source = source_of(gated(), pictures(seed, 24), tmp_path)
    rules, others = load_scheme(scheme), pictures(seed + 100, 96)
    found = {
        level: fidelity(
            quantize(source.model, source.calibration, rules, level, source.batches).model, tmp_path, others
        )
        for level in LEVELS
    }
    assert found["accurate"] > found["fast"] - MISJUDGED_DB, found
    assert found["best"] > found["fast"] - MISJUDGED_DB, found


@pytest.mark.parametrize("scheme", ["openvino", "tflite"])
@pytest.mark.parametrize("seed", range(3))
def test_clipping_leaves_room_for_images_that_the_histogram_has_not_seen(
    scheme: str, seed: int, tmp_path: Path
) -> None:
    """Sixteen images have sixteen pooled vectors: without its tail, the range of one ends where they do."""
    images = pictures(seed, 16)
    source = source_of(gated(), images, tmp_path)
    rules = load_scheme(scheme)
    network = equalized(Graph.read(source.model), source.calibration, rules)
    plan = make_plan(network, rules)
    clipped = make_plan(clip_ranges(network, plan, rules, torch.from_numpy(images)), rules)
    name = next(name for name in plan.activations if name in ("v", "q"))
    full, narrow = plan.activations[name], clipped.activations[name]
    assert float(narrow.highest) > 0.6 * float(full.highest)
    assert float(narrow.lowest) < 0.6 * float(full.lowest)


@pytest.mark.parametrize("level", ["accurate", "best"])
def test_what_is_kept_is_the_better_by_what_is_said(level: Level, tmp_path: Path) -> None:
    source = source_of(gated(heads=2), pictures(4, 24), tmp_path)
    rules = load_scheme("tflite")
    made = quantize(source.model, source.calibration, rules, level, source.batches)
    assert made.kept is not None
    assert made.kept.num_images == 8
    assert list(made.kept.sqnr_db) == list(LEVELS[: LEVELS.index(level) + 1])
    kept = made.kept.sqnr_db[made.kept.level]
    below = LEVELS[: LEVELS.index(made.kept.level)]
    assert kept is not None
    assert all(kept > (made.kept.sqnr_db[other] or np.inf) for other in below)
    if made.kept.level == "fast":
        fast = quantize(source.model, source.calibration, rules, "fast", source.batches)
        assert fast.model.SerializeToString(deterministic=True) == made.model.SerializeToString(deterministic=True)
        assert fast.kept is None


@pytest.mark.parametrize("level", LEVELS)
def test_a_network_of_one_image_at_a_time(level: Level, tmp_path: Path) -> None:
    """As torch's exporter writes it: shapes inside hold the 1, and two images at a time would be an error."""
    model, images = gated(), pictures(6, 24)
    for tensor in model.graph.initializer:
        if tensor.name == "shape":
            tensor.CopyFrom(numpy_helper.from_array(np.array([1, 16, 1, 1]), "shape"))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, tmp_path / "float.onnx")

    def stream() -> Iterator[Array]:
        return iter(images[:, None])

    calibration = collect(tmp_path / "float.onnx", stream)
    made = quantize(model, calibration, load_scheme("tflite"), level, stream, learning=Learning(0.05))
    assert fidelity(made.model, tmp_path, pictures(60, 16)) > 15
    assert sensitivities(model, calibration, load_scheme("openvino"), stream)
    saturated = SaturatingRunner(tmp_path / "qdq.onnx").predict(pictures(60, 16))[0]
    assert saturated.shape == (16, 10)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_too_few_images_judge_nothing(count: int, tmp_path: Path) -> None:
    images = pictures(5, count)
    onnx.save(gated(), tmp_path / "float.onnx")

    def stream() -> Iterator[Array]:
        return iter([images])

    calibration = collect(tmp_path / "float.onnx", stream)
    made = quantize(gated(), calibration, load_scheme("openvino"), "best", stream)
    assert made.kept is not None
    assert made.kept.level == "fast"
    assert made.kept.num_images == count // 3


def test_a_higher_level_is_kept_where_it_is_better(tmp_path: Path) -> None:
    """Rounding by covariance serves a network whose weights make the noise: here they have 7 bits per tensor."""
    images = pictures(7, 96)
    onnx.save(gated(), tmp_path / "float.onnx")

    def stream() -> Iterator[Array]:
        return iter([images])

    calibration = collect(tmp_path / "float.onnx", stream)
    coarse = replace(load_scheme("openvino"), reduce_range=True, safe_pairs=False, weight_granularity="per_tensor")
    made = quantize(gated(), calibration, coarse, "best", stream)
    assert made.kept is not None
    assert made.kept.level == "best"
    assert made.kept.sqnr_db["best"] > made.kept.sqnr_db["fast"] + 1.0


@given(st.integers(0, 200))
def test_judges_decide_nothing(count: int) -> None:
    images = torch.arange(count, dtype=torch.float32).reshape(count, 1)
    deciding, judging = held_out(images)
    assert len(judging) == count // 3
    assert sorted([*deciding.flatten().tolist(), *judging.flatten().tolist()]) == list(range(count))
    again, _ = held_out(images)
    assert torch.equal(deciding, again)


def test_better_means_clearly_and_all_together() -> None:
    """The typical image has to gain beyond its spread, and one image that is ruined outweighs many that gain a bit."""
    below = np.full((1, 12), 1e-3)
    gain = np.linspace(0.4, 0.6, 12)[None]
    assert is_better(below * gain, below)
    assert not is_better(below, below)
    assert not is_better(below * np.linspace(0.2, 1.9, 12)[None] ** 3, below), "some gain, some lose"
    ruined = below * gain
    ruined[0, 3] = 0.1
    assert not is_better(ruined, below)
    assert not is_better(below[:, :1] * 0.5, below[:, :1]), "one image is no evidence"


def test_the_worst_output_counts() -> None:
    below = np.stack([np.full(12, 1e-3), np.full(12, 1e-2)])
    other = np.stack([np.full(12, 1e-6), np.full(12, 2e-2)])
    assert not is_better(other, below)
