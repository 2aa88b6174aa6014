"""The first layers in integers of 16 bits, all behind one tensor in 8: for boards that compute in integers alone.

As in ``prefix.py`` the network is cut where noise costs most. Both sides are quantized as networks of their own, the
rest by what the first layers, rounded as they are, give it: its biases are those of this precision. Twice the bytes of
an activation are twice the memory, which a microcontroller has least of, so each place has its price.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import onnx

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.memory import arena_with_margin
from edgec.pipeline.forms.scheme import Level
from edgec.pipeline.network.graph import Graph
from edgec.pipeline.quantize.calibrate import Batches
from edgec.pipeline.quantize.prefix import JUDGES, Cut, Quantizer, answers, cuts, values_behind, without_prefix
from edgec.pipeline.quantize.qdq import in_16_bits
from edgec.pipeline.quantize.quantizer import QuantizedModel, load_images
from edgec.pipeline.quantize.record import PrefixRecord
from edgec.pipeline.tasks.metrics import sqnr_db

DB_PER_ARENA = 1.0
"""What as much memory again as the network takes in 8 bits has to gain."""


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A network with first layers in 16 bits.

    Attributes:
        head: the first layers.
        rest: those behind, by the level ``fast``.
        sqnr_db: of the worst output.
        arena_bytes: of its tensors.
    """

    cut: Cut
    head: QuantizedModel
    rest: QuantizedModel
    sqnr_db: float
    arena_bytes: int


def quantize_first_in_16_bits(
    model: onnx.ModelProto,
    level: Level,
    images: Batches,
    first: Quantizer,
    behind: Quantizer,
    ram_bytes: int | None = None,
) -> QuantizedModel:
    """Quantize with the cut that gains most for its memory.

    Args:
        images: of calibration; each call starts them anew.
        first: quantizes the first layers; it always takes the level ``fast``.
        behind: quantizes the rest, and all in 8 bits to compare with.
        ram_bytes: what the board has for tensors; no cut passes it.

    Raises:
        EdgecError: what the quantizers raise; ``mixed-gains-nothing`` where no cut leaves less noise or fits.
    """
    start, source = time.perf_counter(), Graph.read(model)
    whole = behind(model, level, images)
    judges = load_images(images, JUDGES).numpy()
    expected = answers(model, judges)

    def worst_db(quantized: onnx.ModelProto) -> float:
        return min(map(sqnr_db, answers(quantized, judges), expected))

    least, room = worst_db(whole.model), arena_bytes(Graph.read(whole.model))
    candidates = list[_Candidate]()
    for cut in cuts(source):
        head = first(source.part(source.makers(cut.tensor), source.inputs, (cut.tensor,)), "fast", images)
        if head.floats:
            continue
        rest = behind(without_prefix(source, cut.tensor), "fast", values_behind(head.model, images))
        joined = stacked(whole.model, head.model, rest.model, cut.tensor)
        taken = arena_bytes(Graph.read(joined))
        if ram_bytes is None or arena_with_margin(taken) <= ram_bytes:
            candidates.append(_Candidate(cut, head, rest, worst_db(joined), taken))
    best = max(candidates, key=lambda one: worth_db(one.sqnr_db - least, one.arena_bytes - room, room), default=None)
    if best is None or best.sqnr_db <= least:
        found = f"{best.sqnr_db:.1f} dB against {least:.1f}" if best else "there is no place to cut that fits"
        message = f"the first layers in 16 bits leave no less noise than all in 8: {found}"
        raise EdgecError("mixed-gains-nothing", message, "build it with --precision int8")
    rest = best.rest
    if level != "fast":
        rest = behind(without_prefix(source, best.cut.tensor), level, values_behind(best.head.model, images))
    made = stacked(whole.model, best.head.model, rest.model, best.cut.tensor)
    record = PrefixRecord(best.cut.tensor, best.cut.share, worst_db(made), least, len(judges), best.arena_bytes, room)
    layers = {**best.head.layer_sqnr_db, **rest.layer_sqnr_db}
    seconds = time.perf_counter() - start
    return replace(rest, model=made, layer_sqnr_db=layers, seconds=seconds, prefix=record)


def worth_db(gain_db: float, added_bytes: int, int8_bytes: int) -> float:
    """What a cut gains beyond the price of its memory."""
    return gain_db - DB_PER_ARENA * max(added_bytes, 0) / max(int8_bytes, 1)


def stacked(whole: onnx.ModelProto, first: onnx.ModelProto, rest: onnx.ModelProto, tensor: str) -> onnx.ModelProto:
    """Two QDQ networks, the second of which reads what the first gives, as one.

    Args:
        whole: has the inputs and outputs of both together.
    """
    shell, head, tail = (Graph.read(in_16_bits(model)) for model in (whole, first, rest))
    taken = {*tail.constants, *(name for node in tail.nodes for name in (node.name, *node.outputs))} - {tensor}

    def own(name: str) -> str:
        return f"{name}.in_prefix" if name in taken else name

    nodes = [
        replace(node, inputs=tuple(map(own, node.inputs)), outputs=tuple(map(own, node.outputs)), name=own(node.name))
        for node in head.nodes
    ]
    constants = {own(name): value for name, value in head.constants.items()}
    return replace(shell, nodes=(*nodes, *tail.nodes), constants={**tail.constants, **constants}).write()


def arena_bytes(graph: Graph) -> int:
    """Most bytes of one image's stored tensors that live at the same time, node by node, of a QDQ network.

    What a runtime takes beside them (padded copies, scratch buffers, its own records) is not in it.
    """
    made_of: dict[str, frozenset[str]] = {}
    size, born, dies = dict[str, int](), dict[str, int](), dict[str, int]()
    for place, node in enumerate(graph.nodes):
        sources = frozenset[str]().union(*(made_of.get(name, frozenset()) for name in node.inputs))
        if node.op == "QuantizeLinear" and node.inputs[0] not in graph.constants:
            stored = node.output
            sides = [side or 1 for side in graph.shapes.get(node.inputs[0], ())]
            size[stored] = int(np.prod(sides)) * graph.constants[node.inputs[2]].dtype.itemsize
            born[stored], dies[stored] = place, place
            dies |= dict.fromkeys(sources, place)
            sources = frozenset({stored})
        made_of |= dict.fromkeys(node.outputs, sources)
    for name in graph.outputs:
        dies |= dict.fromkeys(made_of.get(name, ()), len(graph.nodes))
    return max((sum(size[t] for t in size if born[t] <= place <= dies[t]) for place in born.values()), default=0)
