"""What a graph must hold to be lowered. A constraint's docstring is its message and its line in the documentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgec.pipeline.core.errors import EdgecError
from edgec.targets.tflite.fuse import pad_amounts
from edgec.targets.tflite.graph import Graph, Node
from edgec.targets.tflite.integer import clip_bounds, saturates
from edgec.targets.tflite.layout import stored_axis
from edgec.targets.tflite.options import TfliteOptions
from edgec.targets.tflite.resize import matching_conventions
from edgec.targets.tflite.window import window_of

Holds = Callable[[Graph, Node, TfliteOptions], bool]


@dataclass(frozen=True)
class Constraint:
    """One condition on the nodes of some operators.

    Attributes:
        operators: ONNX operator types; empty for every operator.
        holds: takes the prepared graph, the node and the board's options.
    """

    operators: tuple[str, ...]
    holds: Holds

    @property
    def text(self) -> str:
        """The condition in words."""
        return " ".join((self.holds.__doc__ or "").split())


INTERNAL = frozenset({"ChannelShuffle", "Relayout"})
"""What only the passes write."""
READ_AS = {
    "BatchNormalization": "Part of a convolution before it, or a depthwise 1x1 convolution of its own.",
    "DequantizeLinear": "No further rule.",
    "Div": "By a constant, as Mul; x by its own length, as LpNormalization.",
    "GlobalMaxPool": "As MaxPool.",
    "Split": "As a Slice for each output.",
}
"""What no rule lowers because it is read as something else."""
CONSTRAINTS: list[Constraint] = []


def constraint(*operators: str) -> Callable[[Holds], Holds]:
    """Register a condition for some operators, or for all."""

    def register(holds: Holds) -> Holds:
        CONSTRAINTS.append(Constraint(operators, holds))
        return holds

    return register


def check_operators(graph: Graph, known: frozenset[str]) -> None:
    """Refuse an operator that has no lowering rule.

    Raises:
        EdgecError: ``unsupported-operator`` names the node.
    """
    for node in graph.nodes:
        if node.op not in known:
            hint = "replace it in the model, or choose another target; docs/tflite-operators.md lists what is taken"
            message = f"node '{node.name}' ({node.op}): the tflite compiler has no rule for {node.op}"
            raise EdgecError("unsupported-operator", message, hint)


def check_graph(graph: Graph, options: TfliteOptions) -> None:
    """Hold every node of a prepared graph against every constraint.

    Raises:
        EdgecError: ``unsupported-operator`` names the node and the rule that it breaks.
    """
    for node in graph.nodes:
        for rule in CONSTRAINTS:
            if (not rule.operators or node.op in rule.operators) and not rule.holds(graph, node, options):
                hint = "change the model there, or choose another target; docs/tflite-operators.md lists the rules"
                message = f"node '{node.name}' ({node.op}) breaks the rule: {rule.text}"
                raise EdgecError("unsupported-operator", message, hint)


def document(known: frozenset[str]) -> str:
    """``docs/tflite-operators.md``, written from the constraints."""
    lines = [
        "# Operators that the TFLite compiler takes",
        "",
        "Written by `python -m edgec.targets.tflite.constraints > docs/tflite-operators.md`; a test compares them.",
        "Anything else is refused before work starts: `error[unsupported-operator]` names the node and the rule.",
        "",
        "## Every operator",
        "",
        *(f"- {rule.text}" for rule in CONSTRAINTS if not rule.operators),
    ]
    for operator in sorted({*known, *READ_AS} - INTERNAL):
        rules = [f"- {rule.text}" for rule in CONSTRAINTS if operator in rule.operators]
        lines += ["", f"## {operator}", "", *(rules or [READ_AS.get(operator, "No further rule.")])]
    return "\n".join(lines) + "\n"


@constraint()
def rank_is_at_most_six(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """Activations have rank 6 at most."""
    return len(graph.tensors[node.output].shape) <= 6


@constraint("Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "Resize")
def images_have_rank_four(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """The input is (N, C, H, W)."""
    return len(graph.tensors[node.inputs[0]].shape) == 4


@constraint("Gemm")
def vectors_or_rows(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """The input is (N, C), (N, T, C) or (N, H, W, C)."""
    return len(graph.tensors[node.inputs[0]].shape) in (2, 3, 4)


@constraint("MatMul")
def products_of_computed(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """With a constant matrix on the right, as Gemm; otherwise both are computed and have the same rank, 2 to 4."""
    ranks = {len(graph.tensors[name].shape) for name in node.inputs}
    return not any(graph.is_constant(name) for name in node.inputs) and len(ranks) == 1 and ranks <= {2, 3, 4}


@constraint()
def int8_throughout(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """In a quantized model every activation carries Q/DQ: int8 and float operators do not mix."""
    if not graph.is_quantized:
        return True
    if node.op == "Cast":
        return True
    names = [node.output, *(n for n in node.inputs if n and not graph.is_constant(n))]
    return all(graph.tensors[name].quantization for name in names if graph.tensors[name].dtype == "float32")


@constraint("ArgMax", "ConvTranspose", "Gather", "HardSwish", "Lookup", "MatMul", "PRelu", "ReduceMax", "Resize")
def eight_bits_or_float(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """The input is no int16, of which TFLite Micro has no kernel or ours is not tried."""
    note = graph.tensors[node.inputs[0]].quantization
    return note is None or not note.is_wide


@constraint("Conv", "ConvTranspose", "Gemm")
def constant_weights(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """Weights and bias are constants."""
    return all(graph.is_constant(name) for name in node.inputs[1:] if name)


@constraint("Conv", "ConvTranspose", "Gemm")
def symmetric_weights(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """Quantized weights are int8 with zero_point 0, per tensor or per output channel."""
    weights = graph.tensors[node.inputs[1]]
    note = weights.quantization
    if note is None:
        return not graph.is_quantized
    return (
        note.zero_point == 0 and note.axis in (None, 0) and weights.data is not None and weights.data.dtype == np.int8
    )


@constraint("Conv", "ConvTranspose", "Gemm")
def weight_granularity(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """A board with per_channel = false takes one weight scale per tensor."""
    note = graph.tensors[node.inputs[1]].quantization
    return options.per_channel or note is None or len(note.scale) == 1


@constraint("ConvTranspose")
def plain_transposed_convolution(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """group and dilations are 1, and output_padding is at most what the pads cut off."""
    window = window_of(graph, node)
    return node.attributes.get("group", 1) == 1 and window.dilations == (1, 1) and min(window.pads) >= 0


@constraint("MaxPool", "AveragePool")
def pool_is_dense(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """dilations are 1; under ceil_mode no window starts behind the input, where runtimes disagree about it."""
    window, sides = window_of(graph, node), (node.inputs[0], node.output)
    size, output = (graph.tensors[name].shape[2:] for name in sides)
    inside = all((output[i] - 1) * window.strides[i] < size[i] + window.pads[i] for i in (0, 1))
    return window.dilations == (1, 1) and inside


@constraint("Gemm")
def plain_gemm(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """alpha and beta are 1 and transA is 0."""
    get = node.attributes.get
    return get("alpha", 1.0) == 1.0 and get("beta", 1.0) == 1.0 and not get("transA", 0)


@constraint("Add", "Mul", "Sub")
def operands_broadcast_by_channel(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """Two computed operands have equal rank; a constant is a single value or has at most the other's rank."""
    ranks = [len(graph.tensors[name].shape) for name in node.inputs]
    constant = [graph.is_constant(name) for name in node.inputs]
    return len(node.inputs) == 2 and not all(constant) and (any(constant) or ranks[0] == ranks[1])


@constraint("Clip")
def bounds_are_constants(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """The bounds are constants, and one of them is there."""
    bounds = clip_bounds(graph, node)
    return bounds is not None and bool(np.isfinite(bounds).any())


@constraint("Lookup")
def tables_hold_integers(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """A function without an operator of its own, such as Softplus, Mish, Elu or GELU, is looked up in int8 only."""
    return graph.is_quantized


@constraint("PRelu")
def constant_slopes(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """The slopes are constants, one for each channel or one for all."""
    if len(node.inputs) < 2 or not graph.is_constant(node.inputs[1]):
        return False
    shape, slopes = graph.tensors[node.inputs[0]].shape, graph.tensors[node.inputs[1]].shape
    return slopes == (shape[1], *[1] * (len(shape) - 2)) and len(shape) in (2, 4)


@constraint("Slice")
def forward_slice(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """Starts, ends, axes and steps are constants; steps are positive, or one is negative and all other axes stay."""
    return "begin" in node.attributes and all(step > 0 for step in node.attributes["steps"])


@constraint("LayerNormalization")
def norm_in_float(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """It computes in float between int8 tensors, so that no microcontroller takes it; scale and bias are constants."""
    return options.runtime != "tflite-micro" and all(graph.is_constant(name) for name in node.inputs[1:] if name)


@constraint("Gather")
def picks_by_constants(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """The indices are constants, and the data is computed."""
    return "indices" in node.attributes


@constraint("LpNormalization")
def euclidean_norm(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """p is 2."""
    return int(node.attributes.get("p", 2)) == 2


@constraint("Cast")
def cast_of_indices(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """From the indices that ArgMax gives, to int32, int64 or float32."""
    return graph.tensors[node.inputs[0]].dtype == "int32" and node.attributes["to"] in (1, 6, 7)


@constraint("HardSigmoid")
def hard_sigmoid_saturates(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """In integers the output's range ends within [0, 1], alpha is positive and the input has rank 4."""
    note = graph.tensors[node.output].quantization
    rank = len(graph.tensors[node.output].shape)
    return note is None or (saturates(note) and node.attributes.get("alpha", 0.2) > 0 and rank == 4)


@constraint("Softmax", "LpNormalization")
def softmax_over_channels(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """axis is the channel axis of an image, or the last one."""
    source = graph.tensors[node.inputs[0]]
    return stored_axis(source, int(node.attributes.get("axis", -1))) == len(source.shape) - 1


@constraint("ArgMax")
def arg_max_takes_the_first(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """select_last_index is 0."""
    return not node.attributes.get("select_last_index", 0)


@constraint("Concat")
def concat_of_computed(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """Every operand is computed, none a constant."""
    return not any(graph.is_constant(name) for name in node.inputs)


@constraint("Pad")
def constant_pad(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """mode is constant, over all axes, by constant amounts that are not negative."""
    amounts = pad_amounts(graph, node)
    return amounts is not None and min(amounts) >= 0


@constraint("Resize")
def resize_reads_the_same_pixels(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """mode is linear or nearest, over height and width; one of TFLite's align_corners, half-pixel and asymmetric
    conventions reads the same pixels."""
    get = node.attributes.get
    plain = get("mode", "nearest") in ("linear", "nearest") and not get("antialias", 0) and not get("axes")
    shapes = [graph.tensors[name].shape for name in (node.inputs[0], node.output)]
    return plain and shapes[0][:2] == shapes[1][:2] and bool(matching_conventions(graph, node))


if __name__ == "__main__":
    import sys

    from edgec.targets.tflite.rules import RULES

    sys.stdout.write(document(frozenset(RULES)))
