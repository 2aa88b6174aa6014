"""The first layers in float or finer integers, all behind one tensor in 8 bits: bits where noise costs most.

Noise of the first layers reaches every later one: in MobileNetV3-small the input, the stem and three blocks make half
of it. The network is cut at a tensor that is its only way through. What lies before it is a network of its own (here in
float, in ``sixteen_bits.py`` in 16 bits); what lies behind is quantized as another, whose images are the values of that
tensor, so that its ranges and biases are those of the network as it will be.
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
from edgec.pipeline.forms.memory import arena_with_margin
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.forms.scheme import Level, Scheme
from edgec.pipeline.network.cost import layer_macs
from edgec.pipeline.network.graph import LINEAR, Array, Graph, Node
from edgec.pipeline.quantize.calibrate import Batches
from edgec.pipeline.quantize.prepare import spelled
from edgec.pipeline.quantize.quantizer import QuantizedModel, load_images
from edgec.pipeline.quantize.record import PrefixRecord
from edgec.pipeline.tasks.metrics import sqnr_db

MOST_MACS = 0.3
"""Of the network's multiplications, in the prefix: in float they take about twice the instructions on an Arm core."""

MOST_CUTS = 5
JUDGES = 48
"""Images on which the cuts are compared."""

DB_PER_ARENA = 1.0
"""What as much memory again as the network takes in 8 bits has to gain."""

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


@dataclass(frozen=True, eq=False)
class FirstLayers:
    """How the layers before a cut compute.

    Attributes:
        words: for people, behind "the first layers".
        made: of those layers as a network, what gives values to the rest; None where they cannot compute so.
        joined: of all in 8 bits, both parts and the tensor between them, one network that ends as the first does.
        arena_bytes: of a whole network, the memory that has its price.
        ram_bytes: what the board has of it; None where it states none.
    """

    words: str
    made: Callable[[onnx.ModelProto, Cut], QuantizedModel | None]
    joined: Callable[[onnx.ModelProto, onnx.ModelProto, onnx.ModelProto, str], onnx.ModelProto]
    arena_bytes: Callable[[onnx.ModelProto], int]
    ram_bytes: int | None = None


@dataclass(frozen=True, eq=False)
class _Candidate:
    """Both parts as one network, and the first alone."""

    cut: Cut
    first: QuantizedModel
    both: QuantizedModel
    sqnr_db: float
    arena_bytes: int


def quantize_behind_prefix(
    model: onnx.ModelProto, level: Level, images: Batches, quantize: Quantizer, scheme: Scheme
) -> QuantizedModel:
    """Quantize behind the cut that leaves least noise at the outputs; what lies before it computes in float.

    Args:
        images: of calibration; each call starts them anew.
        scheme: whether the board takes integers, in front of float layers too, and how it wants these spelled.

    Raises:
        EdgecError: what ``best_cut`` raises.
    """

    def untouched(first: onnx.ModelProto, cut: Cut) -> QuantizedModel:
        layer, share = "one of the first layers, in float", f"{100 * cut.share:.0f} % of the multiplications"
        reason = f"{layer} up to '{cut.tensor}': {share}"
        return QuantizedModel(first, {node.name: reason for node in first.graph.node}, {}, 0.0)

    layers = FirstLayers("in float", untouched, partial(_behind_float, scheme), lambda network: 0)
    return replace(best_cut(model, level, images, quantize, layers), prefix=None)  # the reasons say it


def best_cut(
    model: onnx.ModelProto, level: Level, images: Batches, quantize: Quantizer, layers: FirstLayers
) -> QuantizedModel:
    """Try every cut by the level ``fast``; quantize by ``level`` with the one that gains most for its memory.

    Args:
        images: of calibration; each call starts them anew.
        quantize: makes the rest, and all in 8 bits to compare with, by ``fast`` as every cut.

    Raises:
        EdgecError: what ``quantize`` and ``layers`` raise; ``mixed-gains-nothing`` where no cut gains or fits.
    """
    start, source = time.perf_counter(), Graph.read(model)
    whole = quantize(model, "fast", images).model
    judges = load_images(images, JUDGES).numpy()
    expected = answers(model, judges)

    def worst_db(quantized: onnx.ModelProto) -> float:
        return min(map(sqnr_db, answers(quantized, judges), expected))

    def tried(cut: Cut, first: QuantizedModel, how: Level) -> _Candidate:
        rest = quantize(_without_prefix(source, cut.tensor), how, _values_behind(first.model, images))
        both = layers.joined(whole, first.model, rest.model, cut.tensor)
        noise, floats = {**first.layer_sqnr_db, **rest.layer_sqnr_db}, {**first.floats, **rest.floats}
        made = replace(rest, model=both, layer_sqnr_db=noise, floats=floats)
        return _Candidate(cut, first, made, worst_db(both), layers.arena_bytes(both))

    places = [(cut, source.part(source.makers(cut.tensor), source.inputs, (cut.tensor,))) for cut in cuts(source)]
    firsts = [(cut, first) for cut, before in places if (first := layers.made(before, cut)) is not None]
    found = [tried(cut, first, "fast") for cut, first in firsts]
    least, room = worst_db(whole), layers.arena_bytes(whole)
    fits = [one for one in found if layers.ram_bytes is None or arena_with_margin(one.arena_bytes) <= layers.ram_bytes]
    best = max(fits, key=lambda one: worth_db(one.sqnr_db - least, one.arena_bytes - room, room), default=None)
    if best is None or best.sqnr_db <= least:
        nowhere = f"there is no place to cut{' that fits' if places else ''}"
        said = f"{best.sqnr_db:.1f} dB against {least:.1f}" if best else nowhere
        message = f"the first layers {layers.words} leave no less noise than all in 8 bits: {said}"
        raise EdgecError("mixed-gains-nothing", message, "build it with --precision int8")
    if level != "fast":
        best = tried(best.cut, best.first, level)
    noise, memory = (best.sqnr_db, least, len(judges)), (best.arena_bytes, room)
    record = PrefixRecord(best.cut.tensor, best.cut.share, *noise, *memory)
    return replace(best.both, seconds=time.perf_counter() - start, prefix=record)


def worth_db(gain_db: float, added_bytes: int, int8_bytes: int) -> float:
    """What a cut gains beyond the price of its memory."""
    return gain_db - DB_PER_ARENA * max(added_bytes, 0) / max(int8_bytes, 1)


def answers(model: onnx.ModelProto, images: Batch) -> Outputs:
    """Every output, each Q and DQ executed as written."""
    with scratch("prefix") as folder:
        onnx.save(model, folder / "network.onnx")
        return OrtRunner(folder / "network.onnx", as_written=True).predict(images)


def _without_prefix(graph: Graph, tensor: str) -> onnx.ModelProto:
    """The network behind a tensor, which is its input."""
    gone = {node.name for node in graph.makers(tensor)}
    return graph.part((node for node in graph.nodes if node.name not in gone), (tensor,), graph.outputs)


def _values_behind(first: onnx.ModelProto, batches_factory: Batches) -> Batches:
    """The calibration images as the first layers give them to the rest."""

    def stream() -> Iterator[Array]:
        with scratch("prefix") as folder:
            onnx.save(first, folder / "prefix.onnx")
            runner = OrtRunner(folder / "prefix.onnx", as_written=True)
            for batch in batches_factory():
                yield runner.predict(batch)[0]

    return stream


def _behind_float(
    scheme: Scheme, whole: onnx.ModelProto, first: onnx.ModelProto, rest: onnx.ModelProto, tensor: str
) -> onnx.ModelProto:
    """Q and DQ of the input as in ``whole`` where the board takes integers, the prefix in float, the quantized rest.

    Pixels lose nothing by the first pair.
    """
    shell, head, tail = Graph.read(whole), spelled(Graph.read(first), scheme), Graph.read(rest)
    (name,) = shell.inputs
    of_input = [node for node in shell.nodes if node.op == "QuantizeLinear" and node.inputs[0] == name]
    pair = of_input if scheme.quantize_output else []
    pair += [node for node in shell.nodes if pair and node.inputs[0] == pair[0].output]
    read = {name: pair[-1].output} if pair else {}
    own = {constant: f"{constant}.in_prefix" for constant in head.constants}
    prefix = [
        replace(node, inputs=tuple({**own, **read}.get(given, given) for given in node.inputs)) for node in head.nodes
    ]
    constants = {own[given]: value for given, value in head.constants.items()}
    constants |= {given: shell.constants[given] for node in pair for given in node.inputs if given in shell.constants}
    return replace(shell, nodes=(*pair, *prefix, *tail.nodes), constants={**tail.constants, **constants}).write()
