"""Learning from the float network: the gradients, what may move, and that it never ships what is worse."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from calibrated import Calibrated, calibrate
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from edgec.pipeline.core.root import default_root
from edgec.pipeline.core.store import Store
from edgec.pipeline.core.unfinished import FOLDER, KEPT_SECONDS, unfinished
from edgec.pipeline.forms.scheme import Scheme, load_scheme
from edgec.pipeline.network.graph import Graph
from edgec.pipeline.quantize import learning, levels
from edgec.pipeline.quantize.learnable import Learnable, StoredTensor
from edgec.pipeline.quantize.learning import Learning, Lesson, changed, learned, num_steps
from edgec.pipeline.quantize.levels import Candidate, Quantizing, best_level
from edgec.pipeline.quantize.plan import Network, Plan, make_plan
from edgec.pipeline.quantize.quantizer import equalized, num_lessons, quantize
from edgec.pipeline.quantize.ranges import fit_input
from edgec.pipeline.quantize.simulate import every_output, quantized_constants
from edgec.pipeline.quantize.ties import ties

SIDE = 16
SCHEMES = ("tflite", "tflite-native", "tensorrt", "openvino")


def bottlenecks(last: str = "Gemm") -> onnx.ModelProto:
    """Stem with hard-swish, a residual inverted bottleneck with squeeze-excite, max pool, classifier or class map."""
    stream = np.random.default_rng(3)

    def weight(*shape: int) -> np.ndarray:
        """He's spread, with channels that differ."""
        spread = np.sqrt(2 / np.prod(shape[1:])) * stream.lognormal(0, 0.7, (shape[0], *[1] * (len(shape) - 1)))
        return np.asarray(stream.normal(0, 1, shape) * spread, np.float32)

    constants = {
        "stem": weight(16, 3, 3, 3),
        "stem_b": stream.normal(0, 0.3, 16).astype(np.float32),
        "expand": weight(32, 16, 1, 1),
        "expand_b": stream.normal(0, 0.3, 32).astype(np.float32),
        "spatial": weight(32, 1, 3, 3),
        "spatial_b": stream.normal(0, 0.3, 32).astype(np.float32),
        "squeeze": weight(8, 32, 1, 1),
        "squeeze_b": stream.normal(0, 0.3, 8).astype(np.float32),
        "excite": weight(32, 8, 1, 1),
        "excite_b": stream.normal(0, 0.3, 32).astype(np.float32),
        "project": weight(16, 32, 1, 1),
        "project_b": stream.normal(0, 0.3, 16).astype(np.float32),
        "head": weight(10, 16),
        "head_b": stream.normal(0, 0.3, 10).astype(np.float32),
        "pixels": weight(5, 16, 1, 1),
        "pixels_b": stream.normal(0, 0.3, 5).astype(np.float32),
    }

    def conv(source: str, name: str, result: str, **attributes: object) -> onnx.NodeProto:
        return helper.make_node("Conv", [source, name, f"{name}_b"], [result], name, **attributes)

    nodes = [
        conv("input", "stem", "c", pads=[1] * 4, strides=[2, 2], kernel_shape=[3, 3]),
        helper.make_node("HardSwish", ["c"], ["x"], "swish"),
        conv("x", "expand", "e", kernel_shape=[1, 1]),
        helper.make_node("Relu", ["e"], ["er"], "relu"),
        conv("er", "spatial", "d", pads=[1] * 4, kernel_shape=[3, 3], group=32),
        helper.make_node("Relu", ["d"], ["dr"], "relu_d"),
        helper.make_node("GlobalAveragePool", ["dr"], ["p"], "pool_se"),
        conv("p", "squeeze", "s", kernel_shape=[1, 1]),
        helper.make_node("Relu", ["s"], ["sr"], "relu_s"),
        conv("sr", "excite", "t", kernel_shape=[1, 1]),
        helper.make_node("HardSigmoid", ["t"], ["gate"], "gate", alpha=1 / 6, beta=0.5),
        helper.make_node("Mul", ["dr", "gate"], ["m"], "scale"),
        conv("m", "project", "b", kernel_shape=[1, 1]),
        helper.make_node("Add", ["x", "b"], ["y"], "sum"),
        helper.make_node("MaxPool", ["y"], ["z"], "max", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    if last == "Gemm":
        nodes += [
            helper.make_node("GlobalAveragePool", ["z"], ["q"], "pool"),
            helper.make_node("Flatten", ["q"], ["v"], "flatten"),
            helper.make_node("Gemm", ["v", "head", "head_b"], ["answer"], "classify", transB=1),
        ]
        answer = helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["N", 10])
    else:
        nodes += [
            conv("z", "pixels", "logits", kernel_shape=[1, 1]),
            helper.make_node("ArgMax", ["logits"], ["answer"], "choose", axis=1, keepdims=0),
        ]
        answer = helper.make_tensor_value_info("answer", TensorProto.INT64, ["N", SIDE // 4, SIDE // 4])
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "bottlenecks",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [answer],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in read],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def pictures(seed: int, count: int) -> np.ndarray:
    stream = np.random.default_rng(seed)
    colour = stream.normal(0, 1, (count, 3, 1, 1))
    return np.asarray(colour + stream.normal(0, 0.7, (count, 3, SIDE, SIDE)), np.float32)


@pytest.fixture
def source(tmp_path: Path) -> Calibrated:
    onnx.save(bottlenecks(), tmp_path / "float.onnx")
    return calibrate(tmp_path / "float.onnx", pictures(0, 48))


def begun(source: Calibrated, scheme: Scheme) -> tuple[Network, Candidate]:
    """The float network as it is quantized, and what ``fast`` makes of it."""
    images = torch.from_numpy(source.images)
    network = fit_input(equalized(Graph.read(source.model), source.calibration, scheme), scheme, images)
    return network, Quantizing(scheme, {}).fast(network, images)


def taught(source: Calibrated, name: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Candidate, Graph, Plan]:
    """What ``fast`` made, and the same after so many steps."""
    monkeypatch.setattr(learning, "num_steps", lambda graph, minutes: steps)
    scheme = load_scheme(name)
    network, start = begun(source, scheme)
    images = torch.from_numpy(source.images)
    found = learned(start.network.graph, start.plan, scheme, network.graph, images, Learning(1.0))
    assert found is not None
    return start, *found


def surrogate(x: Tensor, scale: Tensor, zero: Tensor, qmin: int, qmax: int, error: Tensor) -> Tensor:
    """A stored tensor whose rounding errors are held: smooth, and what LSQ+ differentiates."""
    low, high = qmin - zero, qmax - zero
    inside = x / scale + error
    return torch.where(inside < low, low, torch.where(inside > high, high, inside)) * scale


@given(
    st.integers(0, 10_000),
    st.sampled_from([(), (4,)]),
    st.floats(0.01, 0.5),
    st.integers(-100, 100),
)
@settings(max_examples=60, deadline=None)
def test_gradients_are_those_of_finite_differences(seed: int, shape: tuple[int, ...], step: float, at: int) -> None:
    """In float64, rounding errors and the zero point's held: ``x``, scale and zero point, clipped values too."""
    generator = torch.Generator().manual_seed(seed)
    x = 20 * step * torch.randn(3, 4, 5, 5, generator=generator, dtype=torch.float64) * 4
    spread = (1, 4, 1, 1) if shape else (1, 1, 1, 1)
    scale = step * (0.5 + torch.rand(spread, generator=generator, dtype=torch.float64))
    zero = torch.full(spread, float(at), dtype=torch.float64)
    x, scale, zero = (value.requires_grad_(True) for value in (x, scale, zero))
    y = StoredTensor.apply(x, scale, zero, -128, 127)
    weight = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    found = torch.autograd.grad((y * weight).sum(), (x, scale, zero))
    with torch.no_grad():
        error = (x / scale).round() - x / scale
        near = ((x / scale).round() - (-128.5 - zero)).abs().min(((x / scale).round() - (127.5 - zero)).abs()) < 1

        def moved(dx: float, ds: Tensor | float, dz: Tensor | float) -> Tensor:
            return surrogate(x + dx, scale + ds, zero + dz, -128, 127, error)

        h = 1e-6
        of_x = (moved(h, 0, 0) - moved(-h, 0, 0)) / (2 * h) * weight
        assert torch.allclose(of_x[~near], found[0][~near], atol=1e-4)
        if bool(near.any()):
            return  # a value on the edge has a slope on one side alone
        for place in range(scale.numel()):
            one = torch.zeros_like(scale).reshape(-1)
            one[place] = h
            one = one.reshape(scale.shape)
            of_scale = ((moved(0, one, 0) - moved(0, -one, 0)) / (2 * h) * weight).sum()
            of_zero = ((moved(0, 0, one) - moved(0, 0, -one)) / (2 * h) * weight).sum()
            assert torch.allclose(of_scale, found[1].reshape(-1)[place], rtol=1e-3, atol=1e-3)
            assert torch.allclose(of_zero, found[2].reshape(-1)[place], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", SCHEMES)
def test_it_begins_as_what_it_is_given(name: str, source: Calibrated) -> None:
    """Forwards it is the plan's own simulation, and what it writes down is that plan."""
    scheme = load_scheme(name)
    _, start = begun(source, scheme)
    pupil, images = Learnable(start.network.graph, start.plan, scheme), torch.from_numpy(source.images[:8])
    wanted = every_output(start.network.graph, images, start.plan)[0]
    with torch.no_grad():
        found = pupil.tensors(images, start.network.graph.outputs)
    assert torch.allclose(found["answer"], wanted, atol=1e-5)
    graph, plan = pupil.learned()
    assert torch.allclose(every_output(graph, images, plan)[0], wanted, atol=1e-5)
    for tensor, params in start.plan.activations.items():
        assert np.array_equal(plan.activations[tensor].scale, params.scale), tensor
        assert np.array_equal(plan.activations[tensor].zero_point, params.zero_point), tensor


@pytest.mark.parametrize("name", SCHEMES)
def test_what_it_learned_is_what_the_plan_says(name: str, source: Calibrated, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network that learned and the simulation of what it wrote down answer alike; something moved in each kind."""
    start, graph, plan = taught(source, name, 12, monkeypatch)
    scheme, images = load_scheme(name), torch.from_numpy(source.images[:8])
    before = every_output(start.network.graph, images, start.plan)[0]
    assert not torch.equal(every_output(graph, images, plan)[0], before)
    again = Learnable(graph, plan, scheme)
    with torch.no_grad():
        found = again.tensors(images, graph.outputs)["answer"]
    assert torch.allclose(found, every_output(graph, images, plan)[0], atol=1e-5)
    scales = ((plan.activations[name].scale, params.scale) for name, params in start.plan.activations.items())
    assert not all(np.array_equal(one, other) for one, other in scales)
    assert not np.array_equal(graph.constants["expand"], start.network.graph.constants["expand"])


@pytest.mark.parametrize("name", SCHEMES)
def test_it_learns_on_the_grid_that_it_ships(name: str, source: Calibrated) -> None:
    """Weights that drift ask for other steps, by magnitudes and by pairs: while they learn and at the end."""
    scheme = load_scheme(name)
    _, start = begun(source, scheme)
    pupil, stream = Learnable(start.network.graph, start.plan, scheme), torch.Generator().manual_seed(0)
    for kind in ("weights", "rows", "columns"):
        for value in pupil.parameters[kind].values():
            value.add_(0.3 * torch.randn(value.shape, generator=stream))
    with torch.no_grad():
        learning_ones = pupil.constants()
    graph, plan = pupil.learned()
    shipped = quantized_constants(graph, plan)
    for layer in pupil.layers:
        torch.testing.assert_close(learning_ones[layer.weight], shipped[layer.weight], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SCHEMES)
def test_chosen_weights_stay_on_the_grid_that_they_were_chosen_for(name: str, source: Calibrated) -> None:
    """A grid of their own magnitudes would round them again, and to nearest."""
    scheme, images = load_scheme(name), torch.from_numpy(source.images)
    network, _ = begun(source, scheme)
    asked, best = make_plan(network, scheme, {}), Quantizing(scheme, {}).best(network, images)
    for weight, params in asked.weights.items():
        np.testing.assert_array_equal(best.plan.weights[weight].scale, params.scale)


@pytest.mark.parametrize("name", SCHEMES)
def test_what_the_runtime_prescribes_stays(name: str, source: Calibrated, monkeypatch: pytest.MonkeyPatch) -> None:
    """The input's grid, HardSigmoid's, shared scales, a symmetric zero point; gates and the weights of vectors."""
    start, graph, plan = taught(source, name, 12, monkeypatch)
    scheme = load_scheme(name)
    before = start.network.graph
    bound = ties(before, scheme, start.plan)
    for tensor, params in plan.activations.items():
        if tensor not in bound.scales:
            assert np.array_equal(params.scale, start.plan.activations[tensor].scale), tensor
        else:
            leader = plan.activations[bound.scales[tensor]]
            assert np.array_equal(params.scale, leader.scale), tensor
        if scheme.activation_symmetric:
            assert not params.zero_point.any()
        assert params.qmin <= params.zero_point.min() <= params.zero_point.max() <= params.qmax
    assert "input" not in bound.scales
    if scheme.quantize_output:
        assert "gate" not in bound.scales
        assert bound.scales["y"] == bound.scales["z"], "MaxPool carries its input's grid"
    ratio = graph.constants["head"] / before.constants["head"]
    assert np.allclose(ratio * ratio[0, 0], ratio[:, :1] * ratio[:1], rtol=1e-5), "factors of rows and columns alone"
    gates = [node for node in before.nodes if node.name.endswith("gate") and node.op == "Conv"]
    for node in gates:
        assert np.array_equal(graph.constants[node.inputs[1]], before.constants[node.inputs[1]])


def preactivated() -> onnx.ModelProto:
    """As Xception has it: a sum that is stored, and its Relu beside it, which picks from the sum's integers."""
    stream = np.random.default_rng(4)
    constants = {f"w{i}": stream.normal(0, 0.4, (8, 3 if i == 0 else 8, 1, 1)).astype(np.float32) for i in range(3)}
    constants |= {f"b{i}": stream.normal(0, 0.3, 8).astype(np.float32) for i in range(3)}
    nodes = [
        helper.make_node("Conv", ["input", "w0", "b0"], ["a"], "first", kernel_shape=[1, 1]),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "w1", "b1"], ["c"], "second", kernel_shape=[1, 1]),
        helper.make_node("Add", ["a", "c"], ["s"], "sum"),
        helper.make_node("Conv", ["s", "w2", "b2"], ["answer"], "last", kernel_shape=[1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "preactivated",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["N", 8, SIDE, SIDE])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_relu_keeps_the_step_of_what_it_picks_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the same step, its zero point the lowest integer, XNNPACK rounds nothing."""
    onnx.save(preactivated(), tmp_path / "float.onnx")
    start, _, plan = taught(calibrate(tmp_path / "float.onnx", pictures(3, 32)), "tflite", 12, monkeypatch)
    source, relu = plan.activations["a"], plan.activations["r"]
    assert not np.array_equal(source.scale, start.plan.activations["a"].scale)
    assert np.array_equal(relu.scale, source.scale)
    assert int(relu.zero_point) == relu.qmin


def test_it_comes_nearer_to_the_float_network(source: Calibrated, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a spoilt start: biases off by half a step of their output, which only learning can know."""
    scheme = load_scheme("tflite")
    network, start = begun(source, scheme)
    spoilt = {
        node.inputs[2]: start.network.graph.constants[node.inputs[2]] + 0.5 * float(start.plan.activations["y"].scale)
        for node in start.network.graph.nodes
        if node.op == "Conv" and len(node.inputs) > 2 and node.name in ("expand", "spatial", "project")
    }
    graph = start.network.graph.with_constants(spoilt)
    monkeypatch.setattr(learning, "num_steps", lambda graph, minutes: 120)
    monkeypatch.setattr(learning, "RATES", {**learning.RATES, "biases": 0.02})
    images = torch.from_numpy(source.images)
    found = learned(graph, start.plan, scheme, network.graph, images, Learning(1.0))
    assert found is not None
    others = torch.from_numpy(pictures(9, 64))
    wanted = every_output(network.graph, others)[0]

    def noise(graph: Graph, plan: Plan) -> float:
        return float((every_output(graph, others, plan)[0] - wanted).pow(2).sum())

    assert noise(*found) < 0.5 * noise(graph, start.plan)


class Killed(Exception):
    """Stands for a signal."""


def killed_after(steps: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done == steps:
            raise Killed

    return progress


def test_a_killed_run_goes_on_and_ends_as_an_unbroken_one(
    source: Calibrated, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(learning, "num_steps", lambda graph, minutes: 25)
    scheme = load_scheme("tflite")
    network, start = begun(source, scheme)
    images = torch.from_numpy(source.images)
    seen: list[int] = []

    def run(progress: Callable[[int, int], None]) -> tuple[Graph, Plan]:
        asked = Learning(1.0, progress)
        found = learned(start.network.graph, start.plan, scheme, network.graph, images, asked)
        assert found is not None
        return found

    whole = run(lambda done, total: None)
    folder = default_root() / FOLDER
    assert list(folder.iterdir()) == []
    with pytest.raises(Killed):
        run(killed_after(17))
    assert len(list(folder.iterdir())) == 1
    resumed = run(lambda done, total: seen.append(done))
    assert seen == list(range(11, 26)), "the last safe step was the tenth"
    assert list(folder.iterdir()) == []
    for one, other in zip(whole, resumed, strict=True):
        if isinstance(one, Graph) and isinstance(other, Graph):
            assert all(np.array_equal(one.constants[name], other.constants[name]) for name in one.constants)
        elif isinstance(one, Plan) and isinstance(other, Plan):
            for name, params in one.activations.items():
                assert np.array_equal(params.scale, other.activations[name].scale)
                assert np.array_equal(params.zero_point, other.activations[name].zero_point)


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_damaged_leftover_is_no_beginning(
    damage: bytes | None, source: Calibrated, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Empty, something else, or half of it: it begins anew."""
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(learning, "num_steps", lambda graph, minutes: 20)
    scheme = load_scheme("tflite")
    network, start = begun(source, scheme)
    images, seen = torch.from_numpy(source.images), list[int]()
    with pytest.raises(Killed):
        learned(start.network.graph, start.plan, scheme, network.graph, images, Learning(1.0, killed_after(12)))
    (left,) = (default_root() / FOLDER).iterdir()
    left.write_bytes(left.read_bytes()[: left.stat().st_size // 2] if damage is None else damage)
    asked = Learning(1.0, lambda done, total: seen.append(done))
    assert learned(start.network.graph, start.plan, scheme, network.graph, images, asked) is not None
    assert seen[0] == 1


def test_another_network_begins_anew(source: Calibrated, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What was left belongs to one start, one set of images, one number of steps."""
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(learning, "num_steps", lambda graph, minutes: 20)
    scheme = load_scheme("tflite")
    network, start = begun(source, scheme)
    images = torch.from_numpy(source.images)
    with pytest.raises(Killed):
        learned(start.network.graph, start.plan, scheme, network.graph, images, Learning(1.0, killed_after(12)))
    seen: list[int] = []
    asked = Learning(1.0, lambda done, total: seen.append(done))
    learned(start.network.graph, start.plan, scheme, network.graph, images[:-1], asked)
    assert seen[0] == 1
    assert len(list((default_root() / FOLDER).iterdir())) == 1, "the other one's is still there"


def test_what_is_old_goes_and_clear_takes_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import time

    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path / "cache"))
    for name in ("old", "new"):
        with suppress(Killed), unfinished(name) as file:
            file.write_bytes(b"half")
            raise Killed
    folder = default_root() / FOLDER
    os.utime(folder / "old", (time.time() - KEPT_SECONDS - 1,) * 2)
    with unfinished("third"):
        assert [path.name for path in folder.iterdir()] == ["new"]
    Store(default_root()).clear()
    assert not folder.exists()


@pytest.mark.parametrize("better", [True, False])
def test_what_answers_worse_is_left(better: bool, source: Calibrated, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for learning gives the float network's finer grids, or ruined ones."""
    scheme = load_scheme("tflite")
    network, start = begun(source, scheme)

    def stand_in(
        graph: Graph, plan: Plan, scheme: Scheme, teacher: Graph, images: Tensor, asked: Learning
    ) -> tuple[Graph, Plan]:
        factor = 1.0 if better else 8.0
        coarse = {name: replace(params, scale=params.scale * factor) for name, params in plan.activations.items()}
        return graph, Plan({} if better else coarse, {} if better else plan.weights, plan.floats)

    monkeypatch.setattr(levels, "learned", stand_in)
    made, record = best_level(
        Quantizing(scheme, {}, learning=Learning(1.0)), network, "best", torch.from_numpy(source.images), 32
    )
    assert record is not None
    assert record.learning is not None
    assert record.learning.is_kept is better
    assert bool(made.plan.activations) is not better
    assert ("kept" if better else "left") in record.words()
    assert start.plan.activations.keys() == network.seen.keys() & start.plan.activations.keys()


def test_lower_levels_do_not_learn(source: Calibrated, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(levels, "learned", never)
    scheme = load_scheme("tflite")
    for level in ("fast", "accurate"):
        quantize(source.model, source.calibration, scheme, level, source.batches, learning=Learning(1.0))
    made = quantize(source.model, source.calibration, scheme, "best", source.batches)
    assert made.kept is not None
    assert made.kept.learning is None


def test_judges_do_not_teach(source: Calibrated, monkeypatch: pytest.MonkeyPatch) -> None:
    """No image that decides whether it is kept is among those it learns by; the others all are."""
    taught_by: list[Tensor] = []

    def noted(graph: Graph, plan: Plan, scheme: Scheme, teacher: Graph, images: Tensor, asked: Learning) -> None:
        taught_by.append(images)

    monkeypatch.setattr(levels, "learned", noted)
    images = torch.from_numpy(source.images)
    scheme = load_scheme("tflite")
    network, _ = begun(source, scheme)
    best_level(Quantizing(scheme, {}, learning=Learning(1.0)), network, "best", images[:30], 20, images[30:])
    rows = {image.numpy().tobytes() for image in taught_by[0]}
    _, judging = levels.held_out(images[:30])
    assert len(rows) == 48 - len(judging)
    assert not rows & {image.numpy().tobytes() for image in judging}


def test_class_maps_learn_by_what_the_classes_are_chosen_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(bottlenecks("ArgMax"), tmp_path / "float.onnx")
    source = calibrate(tmp_path / "float.onnx", pictures(1, 32))
    scheme = load_scheme("openvino")
    network, start = begun(source, scheme)
    assert Lesson(network.graph, Learnable(start.network.graph, start.plan, scheme)).answers == ("logits",)
    monkeypatch.setattr(learning, "num_steps", lambda graph, minutes: 3)
    images = torch.from_numpy(source.images)
    assert learned(start.network.graph, start.plan, scheme, network.graph, images, Learning(1.0)) is not None


def test_minutes_are_steps_on_any_machine(source: Calibrated) -> None:
    graph = Graph.read(source.model)
    assert num_steps(graph, 0.0) == 0
    assert num_steps(graph, 1e-9) == 0
    few, more = num_steps(graph, 0.02), num_steps(graph, 0.04)
    assert 0 < few < more <= learning.MOST_STEPS
    assert num_steps(graph, 1000.0) == learning.MOST_STEPS


def test_no_time_is_nothing_learned(source: Calibrated) -> None:
    scheme = load_scheme("tflite")
    network, start = begun(source, scheme)
    images = torch.from_numpy(source.images)
    assert learned(start.network.graph, start.plan, scheme, network.graph, images, Learning(0.0)) is None


@given(st.integers(1, 6), st.integers(1, 6), st.integers(2, 9), st.integers(2, 9), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_changed_images_keep_their_shape_and_values(n: int, c: int, h: int, w: int, seed: int) -> None:
    images = torch.randn(n, c, h, w, generator=torch.Generator().manual_seed(seed))
    found = changed(images, torch.Generator().manual_seed(seed))
    assert found.shape == images.shape
    assert float(found.min()) >= float(images.min()) - 1e-5
    assert float(found.max()) <= float(images.max()) + 1e-5
    assert torch.equal(found, changed(images, torch.Generator().manual_seed(seed)))


def test_vectors_are_not_cut() -> None:
    vectors = torch.randn(4, 7)
    assert torch.equal(changed(vectors, torch.Generator()), vectors)


def test_as_many_lessons_as_fit(source: Calibrated) -> None:
    assert num_lessons(Graph.read(source.model)) == 2**28 // (4 * 3 * SIDE * SIDE)


def test_an_operator_without_gradients_is_taught_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the reference evaluator computes passes no gradient on; what lies behind it learns all the same."""
    model = bottlenecks()
    for node in model.graph.node:
        if node.name == "sum":
            node.output[0] = "before"
    place = [node.name for node in model.graph.node].index("max")
    model.graph.node.insert(place, helper.make_node("ThresholdedRelu", ["before"], ["y"], "threshold", alpha=-50.0))
    onnx.save(model, tmp_path / "float.onnx")
    source = calibrate(tmp_path / "float.onnx", pictures(2, 24))
    start, graph, _ = taught(source, "openvino", 3, monkeypatch)
    assert not np.array_equal(graph.constants["head_b"], start.network.graph.constants["head_b"])


@pytest.mark.parametrize("spoilt", ["a flat channel", "not finite"])
def test_odd_values_do_not_take_over(spoilt: str, source: Calibrated) -> None:
    """A channel that hardly varies is no reason for a loss of millions, and what is not finite teaches nothing."""
    scheme = load_scheme("openvino")
    network, start = begun(source, scheme)
    bias = np.array(network.graph.constants["project_b"])
    weight = np.array(network.graph.constants["project"])
    weight[3] *= 1e-4
    bias[3] = np.inf if spoilt == "not finite" else 0.5
    graph = network.graph.with_constants({"project": weight, "project_b": bias})
    pupil = Learnable(start.network.graph, start.plan, scheme)
    lesson, images = Lesson(graph, pupil), torch.from_numpy(source.images[:8])
    for parameters in pupil.parameters.values():
        for parameter in parameters.values():
            parameter.requires_grad_(True)
    lesson.teach(pupil, images)
    gradients = [p.grad for some in pupil.parameters.values() for p in some.values() if p.grad is not None]
    if spoilt == "not finite":
        assert not gradients
    else:
        assert float(lesson.loss(pupil, images).detach()) < 1e4
        assert gradients
