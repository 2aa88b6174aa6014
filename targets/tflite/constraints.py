"""What a graph must hold to be lowered. A constraint's docstring is its message and its line in the documentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgec.pipeline.core.errors import EdgecError
from edgec.targets.tflite.fuse import pad_amounts
from edgec.targets.tflite.graph import Graph, Node
from edgec.targets.tflite.integer import activation_of, covers
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


LAYOUT_FREE = frozenset(
    {"Transpose", "Relu", "Clip", "Sigmoid", "Softmax", "Reshape", "Flatten", "Squeeze", "Unsqueeze"}
    | {"ArgMax", "Concat", "Add", "Mul"}
)
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
    for operator in sorted(known | {"DequantizeLinear"}):
        rules = [f"- {rule.text}" for rule in CONSTRAINTS if operator in rule.operators]
        lines += ["", f"## {operator}", "", *(rules or ["No further rule."])]
    return "\n".join(lines) + "\n"


@constraint()
def rank_is_two_or_four(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """Activations have rank 2 (N, C) or rank 4 (N, C, H, W); ArgMax may give rank 1 or 3."""
    allowed = (1, 2, 3, 4) if node.op in ("ArgMax", "Softmax") else (2, 4)
    return len(graph.tensors[node.output].shape) in allowed


@constraint()
def int8_throughout(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """In a quantized model every activation carries Q/DQ: int8 and float operators do not mix."""
    if not graph.is_quantized:
        return True
    names = [node.output, *(n for n in node.inputs[:1] if not graph.is_constant(n))]
    return all(graph.tensors[name].quantization for name in names if graph.tensors[name].dtype == "float32")


@constraint()
def channels_last_inside(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """Behind a Transpose only element-wise operators, Concat, Reshape, Softmax and ArgMax follow."""
    mixed = {graph.tensors[n].channels_last for n in node.inputs if n and not graph.is_constant(n)}
    return mixed == {True} or (node.op in LAYOUT_FREE and len(mixed) == 1)


@constraint("Conv", "Gemm")
def constant_weights(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """Weights and bias are constants."""
    return all(graph.is_constant(name) for name in node.inputs[1:] if name)


@constraint("Conv", "Gemm")
def symmetric_weights(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """Quantized weights are int8 with zero_point 0, per tensor or per output channel."""
    weights = graph.tensors[node.inputs[1]]
    note = weights.quantization
    if note is None:
        return not graph.is_quantized
    return (
        note.zero_point == 0 and note.axis in (None, 0) and weights.data is not None and weights.data.dtype == np.int8
    )


@constraint("Conv", "Gemm")
def weight_granularity(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """A board with per_channel = false takes one weight scale per tensor."""
    note = graph.tensors[node.inputs[1]].quantization
    return options.per_channel or note is None or len(note.scale) == 1


@constraint("Conv")
def depthwise_or_dense(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """group is 1, or the number of input channels (depthwise, any multiplier)."""
    return node.attributes.get("group", 1) in (1, graph.tensors[node.inputs[0]].shape[1])


@constraint("MaxPool", "AveragePool")
def pool_is_dense(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """dilations are 1; under ceil_mode no window starts behind the input, where runtimes disagree about it."""
    window, sides = window_of(graph, node), (node.inputs[0], node.output)
    size, output = (graph.tensors[name].shape[2:] for name in sides)
    inside = all((output[i] - 1) * window.strides[i] < size[i] + window.pads[i] for i in (0, 1))
    return window.dilations == (1, 1) and inside


@constraint("AveragePool")
def average_counts_what_tflite_counts(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """ceil_mode is 0; with pads, count_include_pad is 1, or the pads are SAME's."""
    window = window_of(graph, node)
    if node.attributes.get("ceil_mode"):
        return False
    return not any(window.pads) or bool(node.attributes.get("count_include_pad", 0)) or window.is_same


@constraint("Gemm")
def plain_gemm(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """alpha and beta are 1 and transA is 0."""
    get = node.attributes.get
    return get("alpha", 1.0) == 1.0 and get("beta", 1.0) == 1.0 and not get("transA", 0)


@constraint("Add", "Mul")
def operands_broadcast_by_channel(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """Two computed operands have equal rank; a constant is a single value or has at most the other's rank."""
    ranks = [len(graph.tensors[name].shape) for name in node.inputs]
    constant = [graph.is_constant(name) for name in node.inputs]
    return len(node.inputs) == 2 and not all(constant) and (any(constant) or ranks[0] == ranks[1])


@constraint("Clip", "Relu")
def clip_is_an_activation(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """Bounds are constants: (0, inf), (0, 6) or (-1, 1); in int8 also others that lie outside the output's range."""
    return activation_of(graph, node) is not None


@constraint("HardSigmoid")
def hard_sigmoid_saturates(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """In int8 the output's range lies within [0, 1], alpha is positive and the input has rank 4."""
    note = graph.tensors[node.output].quantization
    rank = len(graph.tensors[node.output].shape)
    return note is None or (covers(note, 0.0, 1.0) and node.attributes.get("alpha", 0.2) > 0 and rank == 4)


@constraint("Softmax")
def softmax_over_channels(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """axis is the channel axis, or the last one of a tensor in the model's own order."""
    source = graph.tensors[node.inputs[0]]
    rank = len(source.shape)
    axis = int(node.attributes.get("axis", -1)) % rank
    return axis == (1 if rank == 4 and source.channels_last else rank - 1)


@constraint("ArgMax")
def arg_max_drops_its_axis(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """keepdims is 0 and select_last_index is 0."""
    return not node.attributes.get("keepdims", 1) and not node.attributes.get("select_last_index", 0)


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


@constraint("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape_keeps_order(graph: Graph, node: Node, options: TfliteOptions) -> bool:
    """The stored order stays: from or to (N, C, 1, 1), a rank-2 tensor, or a flattened feature map that only Gemm
    reads."""
    source, output = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    if source.shape == output.shape or not source.channels_last:
        return True
    if len(source.shape) == 4 and len(output.shape) == 2:
        alone = not graph.is_output(node.output) and all(r.op == "Gemm" for r in graph.readers(node.output))
        return source.shape[2:] == (1, 1) or alone
    return len(source.shape) == 2 and (len(output.shape) == 2 or output.shape[2:] == (1, 1))


if __name__ == "__main__":
    import sys

    from edgec.targets.tflite.rules import RULES

    sys.stdout.write(document(frozenset(RULES)))
