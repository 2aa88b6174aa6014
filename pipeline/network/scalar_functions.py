"""Functions of one value, whatever nodes spell them: GELU by Erf, Mish, Softplus and their kin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from edgec.pipeline.network.graph import Graph, Node

Array = npt.NDArray[np.float32]

ELEMENTWISE = frozenset(
    {"Abs", "Add", "Celu", "Ceil", "Clip", "Cos", "Div", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish"}
    | {"LeakyRelu", "Log", "Max", "Min", "Mul", "Neg", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid"}
    | {"Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Tanh", "ThresholdedRelu"}
)
"""Each value of the result depends on the values at its own place alone."""

MOST_NODES = 16


@dataclass(frozen=True, eq=False)
class ScalarFunction:
    """Nodes that together compute one function of the single values of one tensor.

    Attributes:
        source: the tensor.
        nodes: in topological order; the last one writes the result, what the others write nobody else reads.
        opset: of the network, in which ``nodes`` are written.
    """

    source: str
    nodes: tuple[Node, ...]
    constants: dict[str, npt.NDArray[np.generic]]
    opset: int

    @property
    def output(self) -> str:
        """The tensor of the results."""
        return self.nodes[-1].output

    @property
    def interior(self) -> set[str]:
        """Tensors that need not exist."""
        return {node.output for node in self.nodes[:-1]}

    def __call__(self, values: Array) -> Array:
        """The function at each of some values, in float32."""
        from onnx.reference import ReferenceEvaluator

        inputs = [helper.make_tensor_value_info(self.source, TensorProto.FLOAT, values.shape)]
        outputs = [helper.make_tensor_value_info(self.output, TensorProto.FLOAT, None)]
        constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in self.constants.items()]
        graph = helper.make_graph([node.proto() for node in self.nodes], "function", inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        with np.errstate(all="ignore"):
            (result,) = ReferenceEvaluator(model).run(None, {self.source: values})
        return np.asarray(result, np.float32).reshape(values.shape)


def scalar_functions(graph: Graph, is_native: Callable[[Node], bool]) -> list[ScalarFunction]:
    """The functions that hold an operator which is not native; each as large as it can be, none inside another."""
    found: list[ScalarFunction] = []
    taken: set[str] = set()
    order = {node.output: index for index, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if node.output in taken or is_native(node) or not _scalar(graph, node):
            continue
        inside = _largest(graph, {node.output}, order)
        if inside is None:
            continue
        nodes = tuple(sorted((graph.producer[name] for name in inside), key=lambda n: order[n.output]))
        names = {name for n in nodes for name in n.inputs if name in graph.constants}
        (source,) = _sources(graph, inside)
        opset = next(entry.version for entry in graph.model.opset_import if entry.domain in ("", "ai.onnx"))
        found.append(ScalarFunction(source, nodes, {name: graph.constants[name] for name in sorted(names)}, opset))
        taken |= inside
    return found


def _scalar(graph: Graph, node: Node) -> bool:
    """Elementwise, with single values as constants and something computed."""
    known = [graph.constants[name].size == 1 for name in node.inputs if name in graph.constants]
    return node.op in ELEMENTWISE and node.domain in ("", "ai.onnx") and all(known) and bool(graph.data_inputs(node))


def _largest(graph: Graph, inside: set[str], order: dict[str, int]) -> set[str] | None:
    best = _closed(graph, inside, order)
    while best is not None:
        (exit_,) = _exits(graph, best)
        readers = graph.consumers.get(exit_, ())
        grown = None
        if readers and exit_ not in graph.outputs and all(_scalar(graph, reader) for reader in readers):
            grown = _closed(graph, best | {reader.output for reader in readers}, order)
        if grown is None or len(grown) > MOST_NODES:
            return best
        best = grown
    return None


def _closed(graph: Graph, inside: set[str], order: dict[str, int]) -> set[str] | None:
    """With the nodes in front that make it read one tensor alone; None where it has several sources or results."""
    inside = set(inside)
    while len(sources := _sources(graph, inside)) > 1:
        last = max(sources, key=lambda name: order.get(name, -1))
        maker = graph.producer.get(last)
        if maker is None or not _scalar(graph, maker) or len(inside) > MOST_NODES:
            return None
        inside.add(last)
    return inside if len(_exits(graph, inside)) == 1 else None


def _sources(graph: Graph, inside: set[str]) -> set[str]:
    return {name for out in inside for name in graph.data_inputs(graph.producer[out]) if name not in inside}


def _exits(graph: Graph, inside: set[str]) -> list[str]:
    def leaves(name: str) -> bool:
        outside = any(reader.output not in inside for reader in graph.consumers.get(name, ()))
        return outside or name in graph.outputs

    return [name for name in inside if leaves(name)]
