"""The first layers in float, everything behind one tensor in integers: fewer bits where the noise is made cost most.

Noise of the first layers reaches every later one: in MobileNetV3-small the input, the stem and three blocks make half
of it. The network is cut at a tensor that is its only way through. What lies before it is not touched; what lies behind
is quantized as a network of its own, whose images are the values of that tensor, so that its ranges and biases are
those of the network as it will be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import onnx

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.forms.format import Batch, Outputs
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.forms.scheme import Level, Scheme
from edgec.pipeline.network.cost import layer_macs
from edgec.pipeline.network.graph import LINEAR, Array, Graph, Node
from edgec.pipeline.quantize.calibrate import Batches
from edgec.pipeline.quantize.prepare import spelled
from edgec.pipeline.quantize.quantizer import QuantizedModel, load_images
from edgec.pipeline.tasks.metrics import sqnr_db

MOST_MACS = 0.3
"""Of the network's multiplications, in the prefix: in float they take about twice the instructions on an Arm core."""

MOST_CUTS = 5
JUDGES = 48
"""Images on which the cuts are compared."""

ABSORBED = ("Relu", "Clip", "HardSwish", "HardSigmoid", "Sigmoid", "LeakyRelu", "Elu", "Tanh", "PRelu")


@dataclass(frozen=True)
class Cut:
    """A tensor that is the only way through, and the share of the multiplications before it."""

    tensor: str
    share: float


def cuts(graph: Graph) -> list[Cut]:
    """Where a prefix may end, the shortest first: behind a whole layer, at most ``MOST_CUTS`` within ``MOST_MACS``."""
    shapes = {name: tuple(side or 1 for side in shape) for name, shape in graph.shapes.items()}
    macs = [layer_macs(node.op, node.inputs, node.output, shapes) or 0 for node in graph.nodes]
    total, before, found = max(sum(macs), 1), 0, list[Cut]()
    last = {name: place for place, node in enumerate(graph.nodes) for name in graph.data_inputs(node)}
    last |= dict.fromkeys(graph.outputs, len(graph.nodes))
    needed = last.get(graph.inputs[0], -1)  # the last reader of anything made so far
    for place, node in enumerate(graph.nodes):
        before += macs[place]
        if needed <= place and before and _ends_a_layer(graph, node) and before / total <= MOST_MACS:
            found.append(Cut(node.output, before / total))
        needed = max(needed, *(last.get(name, -1) for name in node.outputs))
    if not found:
        return []
    chosen = np.unique(np.linspace(0, len(found) - 1, MOST_CUTS).round().astype(int))
    return [found[place] for place in chosen]


def _ends_a_layer(graph: Graph, node: Node) -> bool:
    """A map that is read on, and by no activation that its maker would absorb."""
    readers = graph.consumers.get(node.output, ())
    absorbed = node.op in (*LINEAR, "Add") and any(reader.op in ABSORBED for reader in readers)
    is_map = len(graph.shapes.get(node.output, ())) == 4
    return bool(readers) and is_map and not absorbed and node.output not in graph.outputs


Quantizer = Callable[[onnx.ModelProto, Level, Batches], QuantizedModel]
"""Quantizes a float network by its images."""


def quantize_behind_prefix(
    model: onnx.ModelProto, level: Level, images: Batches, quantize: Quantizer, scheme: Scheme
) -> QuantizedModel:
    """Quantize behind the cut that leaves least noise at the outputs.

    Args:
        images: of calibration; each call starts them anew.
        scheme: whether the board takes integers, in front of float layers too, and how it wants these spelled.

    Raises:
        EdgecError: what ``quantize`` raises; ``mixed-gains-nothing`` where no cut leaves less noise than that.
    """
    start, source = time.perf_counter(), Graph.read(model)
    whole = quantize(model, level, images)
    judges = load_images(images, JUDGES).numpy()
    expected = answers(model, judges)

    joined = partial(_joined, source, Graph.read(whole.model), scheme)

    def behind(cut: Cut, how: Level) -> QuantizedModel:
        first = source.part(source.makers(cut.tensor), source.inputs, (cut.tensor,))
        rest = quantize(without_prefix(source, cut.tensor), how, values_behind(first, images))
        return replace(rest, model=joined(cut.tensor, Graph.read(rest.model)))

    def worst_db(quantized: onnx.ModelProto) -> float:
        return min(map(sqnr_db, answers(quantized, judges), expected))

    fast = {cut: behind(cut, "fast") for cut in cuts(source)}
    tried = {cut: worst_db(found.model) for cut, found in fast.items()}
    best = max(tried, key=lambda cut: tried[cut], default=None)
    least = worst_db(whole.model)
    if best is None or tried[best] <= least:
        found = f"{tried[best]:.1f} dB against {least:.1f}" if best is not None else "there is no place to cut"
        message = f"the first layers in float leave no less noise than all in integers: {found}"
        raise EdgecError("mixed-gains-nothing", message, "build it with --precision int8")
    made = fast[best] if level == "fast" else behind(best, level)
    reason = f"one of the first layers, in float up to '{best.tensor}': {100 * best.share:.0f} % of the multiplications"
    floats = {node.name: reason for node in source.makers(best.tensor)}
    return replace(made, floats={**floats, **made.floats}, seconds=time.perf_counter() - start)


def answers(model: onnx.ModelProto, images: Batch) -> Outputs:
    """Every output, each Q and DQ executed as written."""
    with scratch("prefix") as folder:
        onnx.save(model, folder / "network.onnx")
        return OrtRunner(folder / "network.onnx", as_written=True).predict(images)


def without_prefix(graph: Graph, tensor: str) -> onnx.ModelProto:
    """The network behind a tensor, which is its input."""
    gone = {node.name for node in graph.makers(tensor)}
    return graph.part((node for node in graph.nodes if node.name not in gone), (tensor,), graph.outputs)


def values_behind(first: onnx.ModelProto, batches_factory: Batches) -> Batches:
    """The calibration images as the first layers give them to the rest."""

    def stream() -> Iterator[Array]:
        with scratch("prefix") as folder:
            onnx.save(first, folder / "prefix.onnx")
            runner = OrtRunner(folder / "prefix.onnx", as_written=True)
            for batch in batches_factory():
                yield runner.predict(batch)[0]

    return stream


def _joined(source: Graph, whole: Graph, scheme: Scheme, tensor: str, rest: Graph) -> onnx.ModelProto:
    """Q and DQ of the input as in ``whole`` where the board takes integers, the prefix in float, the quantized rest.

    Pixels lose nothing by the first pair.
    """
    (name,) = source.inputs
    of_input = [node for node in whole.nodes if node.op == "QuantizeLinear" and node.inputs[0] == name]
    pair = of_input if scheme.quantize_output else []
    pair += [node for node in whole.nodes if pair and node.inputs[0] == pair[0].output]
    read = {name: pair[-1].output} if pair else {}
    first = spelled(Graph.read(source.part(source.makers(tensor), source.inputs, (tensor,))), scheme)
    own = {constant: f"{constant}.in_prefix" for constant in first.constants}
    prefix = [
        replace(node, inputs=tuple({**own, **read}.get(given, given) for given in node.inputs)) for node in first.nodes
    ]
    constants = {own[given]: value for given, value in first.constants.items()}
    constants |= {given: whole.constants[given] for node in pair for given in node.inputs if given in whole.constants}
    return replace(whole, nodes=(*pair, *prefix, *rest.nodes), constants={**rest.constants, **constants}).write()
