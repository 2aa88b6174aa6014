"""Writes the types into the file: FP16 tensors and weights, INT8 by Q/DQ, float32 inputs and outputs.

TensorRT 11 takes its types from the file alone, TensorRT 10 does where the network is created ``STRONGLY_TYPED``; a
float32 file runs its hard-swish, squeeze-excite and pooling in float32 there. What the rules are, read in the importer
of onnx-tensorrt (``QuantDequantLinearHelper``): Q takes the type of its input, DQ gives the type of its scale, and both
inputs of a convolution have one type. So an FP16 network holds FP16 scales, which ONNX has from operator set 19 on.

TensorRT 8 cannot read this file: its importer takes the bytes of every scale for float32, and ends at operator set 17.
That is why the folder holds two files.

What exists only inside an integer kernel, between the DQs of its inputs and the Q of its output, is written in float32:
there TensorRT computes with int32 sums and float32 factors whatever the types say, and scales need not be rounded to
FP16. FP16 are the tensors between kernels.

Any other node stays in float32 where FP16 would not hold what it computes with: values seen in the reference, or
described by a Q scale, that come near FP16's largest; constants that FP16 rounds away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.forms.format import Batch
from edgec.pipeline.forms.ort import PROVIDERS, session_options
from edgec.pipeline.network.graph import Array, Graph, Node
from edgec.targets.tensorrt.lint import ABSORBED, INTEGER, is_dequantized

OPSET = 19  # the first whose Q and DQ know FP16; TensorRT 10.3 reads up to 20
LARGEST = float(np.finfo(np.float16).max)
SMALLEST = np.finfo(np.float16).smallest_subnormal
MARGIN = 8.0  # the largest value seen on a few images against the largest that may come
MOST_ROUNDING = 2.0**-10  # of a constant, relative; FP16 itself rounds by 2^-11 down to 6e-5, and ever more below

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
STAY_FLOAT = {"Resize": (1, 2), "Upsample": (1,)}
"""Inputs that ONNX wants in float32, by operator."""


@dataclass(frozen=True)
class Typed:
    """A typed model and the nodes that stayed in float32, each with its reason."""

    model: onnx.ModelProto
    kept: Mapping[str, str]


def to_typed(graph: Graph, seen: Mapping[str, float]) -> Typed:
    """Give every float tensor of ``graph`` its type; the graph is in TensorRT's dialect, weights stored as integers.

    Args:
        seen: largest magnitude of each tensor, as ``largest_magnitudes`` finds it.
    """
    newer = Graph.read(_at_opset(graph.write()))
    inside = inside_integers(newer)
    kept = dict(_kept_in_float(newer, seen, inside))
    model = _Writer(newer, inside | kept.keys()).write()
    onnx.checker.check_model(model, full_check=True)
    return Typed(model, kept)


def inside_integers(graph: Graph) -> frozenset[str]:
    """Names of the nodes between DQ and Q that are one integer kernel: a convolution and its ReLU, an Add."""
    inside: set[str] = set()
    for node in graph.nodes:
        dequantized = [is_dequantized(graph, name) for name in node.inputs if name not in graph.constants]
        if node.op in INTEGER and dequantized and all(dequantized):
            inside |= _until_quantized(graph, node) or set()
    return frozenset(inside)


def _until_quantized(graph: Graph, node: Node) -> set[str] | None:
    """``node`` and the activations that it absorbs, if nothing but Q reads what they give; else None."""
    found = {node.name}
    if node.output in graph.outputs:
        return None
    for reader in graph.consumers.get(node.output, ()):
        behind = _until_quantized(graph, reader) if reader.op in ABSORBED else None
        if reader.op != "QuantizeLinear" and behind is None:
            return None
        found |= behind or set()
    return found


def largest_magnitudes(model: onnx.ModelProto, inputs: Batch) -> dict[str, float]:
    """Of every float tensor, executed as written on ``(N, C, H, W)`` inputs; of one that is quantized, its whole range.

    The scale of a Q comes from the calibration: what the images there reached counts even if these inputs do not.
    """
    graph = Graph.read(model)
    wide = graph.write()
    names = [node.output for node in graph.nodes if node.output not in graph.outputs]
    wide.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    seen = dict.fromkeys(graph.inputs, float(np.abs(inputs).max()))
    with scratch("typed") as folder:
        path = folder / "wide.onnx"
        onnx.save(wide, path)
        for name, value in _executed(path, inputs):
            if value.dtype == np.float32:
                seen[name] = max(seen.get(name, 0.0), float(np.abs(value).max(initial=0.0)))
    for node in graph.nodes:
        if node.op == "QuantizeLinear" and node.inputs[0] in seen:
            reach = 128 * float(graph.constants[node.inputs[1]].max())
            seen[node.inputs[0]] = max(seen[node.inputs[0]], reach)
    return seen


def _executed(path: Path, inputs: Batch) -> Iterator[tuple[str, Array]]:
    import onnxruntime

    options = session_options(0)
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=PROVIDERS)
    names = [output.name for output in session.get_outputs()]
    for index in range(len(inputs)):
        yield from zip(names, session.run(None, {session.get_inputs()[0].name: inputs[index : index + 1]}), strict=True)


def _at_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    (opset,) = (entry for entry in model.opset_import if not entry.domain)
    if opset.version >= OPSET:
        return model
    changed = {node.op_type for node in model.graph.node if not node.domain and _changed(node.op_type, opset.version)}
    if changed <= {"QuantizeLinear", "DequantizeLinear", "Cast", "Reshape", "Identity", "Flatten", "AveragePool"}:
        opset.version = OPSET  # more types and attributes, the same meaning
        return model
    return onnx.version_converter.convert_version(model, OPSET)


def _changed(operator: str, version: int) -> bool:
    old, new = (onnx.defs.get_schema(operator, number).since_version for number in (version, OPSET))
    return bool(old != new)


def _kept_in_float(graph: Graph, seen: Mapping[str, float], inside: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Names of nodes and why; Q and DQ follow those around them."""
    for node in graph.nodes:
        if node.op in ("QuantizeLinear", "DequantizeLinear") or node.name in inside:
            continue
        if not _takes_half(graph, node):
            yield node.name, f"{node.op} has no FP16 form"
            continue
        reach = max((seen.get(name, 0.0) for name in (*graph.data_inputs(node), *node.outputs)), default=0.0)
        if MARGIN * reach > LARGEST:
            yield node.name, f"its values reach {reach:.3g}; FP16 ends at {LARGEST:.0f}"
            continue
        for name in node.inputs:
            lost = _lost(graph, name)
            if lost > MOST_ROUNDING:
                yield node.name, f"FP16 would change '{name}' by {lost:.1%}"
                break


def _takes_half(graph: Graph, node: Node) -> bool:
    (version,) = (entry.version for entry in graph.model.opset_import if not entry.domain)
    schema = onnx.defs.get_schema(node.op, version, node.domain)
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    types = allowed.get(schema.outputs[0].type_str, [])
    return "tensor(float16)" in types


def _lost(graph: Graph, name: str) -> float:
    """Relative change by FP16 of a constant as a whole, or of the scale of a DQ."""
    made = graph.producer.get(name)
    if made is None or made.op != "DequantizeLinear":
        value = graph.constants.get(name)
        return 0.0 if value is None or value.dtype != np.float32 else _relative(value)
    return _relative(graph.constants[made.inputs[1]])


def _relative(values: Array) -> float:
    """The largest error against the largest value: what is small beside its neighbours may lose more of itself."""
    if not values.size or not values.any():
        return 0.0
    with np.errstate(over="ignore"):
        error = np.abs(values.astype(np.float16).astype(np.float64) - values)
    return float(error.max() / np.abs(values).max())


@dataclass
class _Writer:
    """Writes the nodes anew, with a Cast wherever a tensor is needed in another type than the one it has."""

    graph: Graph
    in_float: frozenset[str]
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    made: dict[tuple[str, int], str] = field(default_factory=dict)

    def write(self) -> onnx.ModelProto:
        inferred = onnx.shape_inference.infer_shapes(self.graph.write()).graph
        self.types = {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.input)}
        self.types |= {value.name: value.type.tensor_type.elem_type for value in inferred.output}
        floats = {name for name, kind in self.types.items() if kind == FLOAT}
        self.types |= dict.fromkeys(floats - set(self.graph.inputs), HALF)
        for node in self.graph.nodes:
            if node.op == "DequantizeLinear":
                continue  # written where it is read, in the type of its reader
            if node.op == "QuantizeLinear":
                self._quantize(node)
            else:
                self._compute(node, floats)
        return self.graph.with_nodes(self._with_outputs(), self.constants).write()

    def _quantize(self, node: Node) -> None:
        """In the type that its input has; a scale that FP16 cannot hold stays float32, and so does the input then."""
        kind = self.types.get(node.inputs[0], FLOAT)
        if _relative(self.graph.constants[node.inputs[1]]) > MOST_ROUNDING:
            kind = FLOAT
        scale = self._constant(node.inputs[1], self.graph.constants[node.inputs[1]], kind)
        inputs = (self._as(node.inputs[0], kind), scale, *node.inputs[2:])
        self.nodes.append(replace(node, inputs=inputs))

    def _compute(self, node: Node, floats: set[str]) -> None:
        kind = FLOAT if node.name in self.in_float else HALF
        stay = STAY_FLOAT.get(node.op, ())
        inputs = []
        for index, name in enumerate(node.inputs):
            constant = self.graph.constants.get(name)
            is_float = name in floats or (constant is not None and constant.dtype == np.float32)
            inputs.append(self._as(name, kind) if name and is_float and index not in stay else name)
        for name in node.outputs:
            if name in floats:
                self.types[name] = kind
        attributes = dict(node.attributes)
        if node.op == "Cast" and attributes.get("to") == FLOAT:
            attributes["to"] = kind
        self.nodes.append(replace(node, inputs=tuple(inputs), attributes=attributes))

    def _as(self, name: str, kind: int) -> str:
        """``name`` in a type: as it is, as another constant, by a DQ of that type, or by a Cast."""
        source = self.graph.producer.get(name)
        if source is not None and source.op == "DequantizeLinear":
            return self._dequantized(source, kind)
        if name in self.graph.constants:
            return self._constant(name, self.graph.constants[name], kind)
        if self.types[name] == kind:
            return name
        cast = f"{name}.{'half' if kind == HALF else 'float'}"
        if (name, kind) not in self.made:
            self.made[name, kind] = cast
            self.nodes.append(Node("Cast", (name,), (cast,), {"to": kind}, cast))
        return cast

    def _dequantized(self, node: Node, kind: int) -> str:
        """One DQ for each type that is asked for: a Cast behind it would part it from the layer that it fuses with."""
        if (node.output, kind) not in self.made:
            is_first = all(made != node.output for made, _ in self.made)
            is_own = kind == FLOAT if node.output in self.graph.outputs else is_first
            name = node.output if is_own else f"{node.output}.{'half' if kind == HALF else 'float'}"
            self.made[node.output, kind] = name
            scale = self._constant(node.inputs[1], self.graph.constants[node.inputs[1]], kind)
            inputs = (node.inputs[0], scale, *node.inputs[2:])
            self.nodes.append(replace(node, inputs=inputs, outputs=(name,), name=node.name if is_own else name))
        return self.made[node.output, kind]

    def _constant(self, name: str, value: Array, kind: int) -> str:
        """In FP16 a scale never rounds to 0, which TensorRT refuses."""
        if kind == FLOAT:
            return name
        half = value.astype(np.float16)
        self.constants[f"{name}.half"] = np.where((half == 0) & (value > 0), SMALLEST, half)
        return f"{name}.half"

    def _with_outputs(self) -> list[Node]:
        """The network's outputs in float32 under their own names."""
        renamed: dict[str, str] = {}
        casts = []
        for name in self.graph.outputs:
            source = self.graph.producer[name]
            if source.op == "DequantizeLinear":
                self._dequantized(source, FLOAT)
            elif self.types[name] == HALF:
                renamed[name] = f"{name}.half"
                casts.append(Node("Cast", (f"{name}.half",), (name,), {"to": FLOAT}, f"{name}.float"))

        def rename(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(renamed.get(name, name) for name in names)

        nodes = [replace(node, inputs=rename(node.inputs), outputs=rename(node.outputs)) for node in self.nodes]
        return [*nodes, *casts]
