"""The first layers in integers of 16 bits, all behind one tensor in 8: for boards that compute in integers alone.

As in ``prefix.py`` the network is cut where noise costs most. Both sides are quantized as networks of their own, the
rest by what the first layers, rounded as they are, give it: its biases are those of this precision. Twice the bytes of
an activation are twice the memory, which a microcontroller has least of, so each place has its price.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from edgec.pipeline.forms.scheme import Level
from edgec.pipeline.network.graph import Graph
from edgec.pipeline.quantize.calibrate import Batches
from edgec.pipeline.quantize.prefix import Cut, FirstLayers, Quantizer, best_cut
from edgec.pipeline.quantize.qdq import in_16_bits
from edgec.pipeline.quantize.quantizer import QuantizedModel


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
        EdgecError: what ``best_cut`` raises.
    """

    def made(layers: onnx.ModelProto, cut: Cut) -> QuantizedModel | None:
        found = first(layers, "fast", images)
        return None if found.floats else found

    def memory(network: onnx.ModelProto) -> int:
        return arena_bytes(Graph.read(network))

    return best_cut(model, level, images, behind, FirstLayers("in 16 bits", made, stacked, memory, ram_bytes))


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
