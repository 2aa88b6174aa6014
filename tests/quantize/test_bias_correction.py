"""Bias correction takes the mean error out of each layer, and leaves everything but biases alone."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch
from calibrated import Calibrated

from edgec.pipeline.forms.scheme import parse_scheme
from edgec.pipeline.network.graph import Graph, Node
from edgec.pipeline.quantize import executor
from edgec.pipeline.quantize.bias_correction import GONE, correct_biases, correctable, forward, in_place, mean_error
from edgec.pipeline.quantize.executor import Values, one_thread, run, tensors
from edgec.pipeline.quantize.plan import Plan, make_plan
from edgec.pipeline.quantize.prepare import prepare
from edgec.pipeline.quantize.ranges import observed
from edgec.pipeline.quantize.sensitivity import layer_sqnr
from edgec.pipeline.quantize.simulate import fake_quantize, quantized_constants


def channel_means(graph: Graph, images: torch.Tensor, constants: Values, plan: Plan | None) -> dict[str, np.ndarray]:
    """Mean of every activation per channel, before it is stored."""
    means: dict[str, np.ndarray] = {}

    def keep(name: str, value: torch.Tensor) -> torch.Tensor:
        means[name] = value.transpose(0, 1).flatten(1).mean(dim=1).numpy()
        return value if plan is None else fake_quantize(value, plan.activations.get(name))

    run(graph, {graph.inputs[0]: images}, keep, constants)
    return means


@pytest.mark.parametrize("name", ["mobilenetv2"])
def test_the_mean_error_of_layers_shrinks(network: Callable[[str], Calibrated], name: str) -> None:
    """With one scale per weight the error is large; all layers together lose most of it, hardly one gets worse."""
    rules = parse_scheme({"extends": "tflite", "weight_granularity": "per_tensor"})
    source = network(name)
    prepared = prepare(observed(Graph.read(source.model), source.calibration), rules)
    graph, plan, images = prepared.graph, make_plan(prepared, rules), torch.from_numpy(source.images)
    corrected = correct_biases(graph, plan, images)
    wanted = channel_means(graph, images, tensors(graph), None)
    errors = {}
    for label, form in (("before", graph), ("after", corrected)):
        means = channel_means(form, images, quantized_constants(form, plan), plan)
        errors[label] = np.array(
            [
                np.abs(means[node.output] - wanted[node.output]).mean() / np.abs(wanted[node.output]).mean()
                for node in graph.nodes
                if correctable(graph, plan, node)
            ]
        )
    assert errors["after"].mean() < 0.6 * errors["before"].mean()
    assert (errors["after"] <= errors["before"] * 1.1 + 1e-3).mean() > 0.9


def test_only_biases_change(network: Callable[[str], Calibrated]) -> None:
    rules, source = parse_scheme({"extends": "tflite"}), network("mobilenetv2")
    prepared = prepare(observed(Graph.read(source.model), source.calibration), rules)
    graph, plan = prepared.graph, make_plan(prepared, rules)
    corrected = correct_biases(graph, plan, torch.from_numpy(source.images))
    biases = {node.inputs[2] for node in graph.nodes if correctable(graph, plan, node)}
    changed = {name for name, array in graph.constants.items() if not np.array_equal(corrected.constants[name], array)}
    assert changed
    assert changed <= biases


def test_what_was_changed_is_gone_before_the_next_batch_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole lists of large maps before and after would be twice the memory. One core, so that the order is known."""
    monkeypatch.setattr(executor, "num_cores", lambda: 1)
    batches = [torch.full((2,), float(value)) for value in range(4)]
    before = [weakref.ref(batch) for batch in batches]
    alive: list[int] = []

    def change(batch: torch.Tensor) -> torch.Tensor:
        alive.append(sum(one() is not None for one in before))
        return batch + 1

    changed = in_place(batches, change)
    assert changed is batches
    assert [batch.tolist() for batch in changed] == [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0]]
    assert alive == [4, 3, 2, 1]


@pytest.mark.parametrize("cores", [2, 3, 8])
@pytest.mark.parametrize("name", ["mobilenetv1", "mobilenetv3-small"])
def test_no_bit_depends_on_the_number_of_cores(
    network: Callable[[str], Calibrated], name: str, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules, source = parse_scheme({"extends": "tflite"}), network(name)
    prepared = prepare(observed(Graph.read(source.model), source.calibration), rules)
    graph, plan, images = prepared.graph, make_plan(prepared, rules), torch.from_numpy(source.images)
    found = []
    for count in (1, cores):
        monkeypatch.setattr(executor, "num_cores", lambda count=count: count)
        with one_thread():
            corrected, sqnr = correct_biases(graph, plan, images), layer_sqnr(graph, plan, images)
        found.append((b"".join(array.tobytes() for array in corrected.constants.values()), dict(sqnr)))
    assert found[0] == found[1]


BOUNDS = [(-torch.inf, torch.inf), (0.0, torch.inf), (-3.0, torch.inf), (-3.0, 3.0), (-torch.inf, 6.0)]


@pytest.mark.parametrize(("low", "high"), BOUNDS)
@pytest.mark.parametrize("shape", [(4, 5, 6, 7), (4, 5)])
def test_the_mean_error_counts_where_either_side_is_live(low: float, high: float, shape: tuple[int, ...]) -> None:
    """The formula of the docstring, position by position."""
    stream = torch.Generator().manual_seed(3)
    want, have = (4 * torch.randn(shape, generator=stream) for _ in range(2))
    found = mean_error([want[:2], want[2:]], [have[:2], have[2:]], torch.tensor(low), torch.tensor(high))
    live = ((want > low) & (want < high)) | ((have > low) & (have < high))
    spread = tuple(range(2, len(shape)))
    error, count = ((x.sum(dim=spread) if spread else x) for x in ((want - have) * live, live.float()))
    total = count.sum(dim=0).clamp_min(1e-9)
    mean = error.sum(dim=0) / total
    variance = (error - mean * count).pow(2).sum(dim=0) / total.pow(2)
    expected = mean * (1 - variance / mean.pow(2).clamp_min(1e-30)).clamp_min(0)
    torch.testing.assert_close(found, expected)


def test_spent_inputs_are_let_go_batch_by_batch() -> None:
    node = Node("Relu", ("x",), ("y",), {}, "relu")
    batches = [torch.randn(2, 3) for _ in range(3)]
    values = {"x": list(batches)}
    kept = forward(node, {}, dict(values))
    spent = forward(node, {}, values, spent=("x",))
    assert all(batch is GONE for batch in values["x"])
    assert [torch.equal(a, b) for a, b in zip(kept[0], spent[0], strict=True)] == [True] * 3
