"""From any operator set to the one that every target reads.

The ONNX project's converter goes upwards. Downwards it writes nodes that are not valid; there each operator that
changed is rewritten here, and those that are new are replaced by their own definition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.inliner
from onnx import helper, numpy_helper

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.network.nodes import attributes_of

if TYPE_CHECKING:
    from edgec.pipeline.network.simplify import Feeds

OLDEST_OPSET = 9
NEWEST_OPSET = onnx.defs.onnx_opset_version()

TOLERANCE = 1e-4
"""Of any output, relative to the largest one."""

Shapes = Mapping[str, list[int | None]]


@dataclass(frozen=True, eq=False)
class _Network:
    """What rewriting one node needs to know of the others."""

    constants: Mapping[str, np.ndarray[Any, Any]]
    shapes: Shapes
    added: list[onnx.TensorProto]

    def constant(self, node: onnx.NodeProto, place: int) -> list[Any] | None:
        """An optional input's value; None where it is absent."""
        if place >= len(node.input) or not node.input[place]:
            return None
        if node.input[place] not in self.constants:
            raise _refused(node, "reads axes or sizes that are computed")
        return list(np.ravel(self.constants[node.input[place]]).tolist())

    def rank(self, node: onnx.NodeProto) -> int:
        """Of the first input."""
        if node.input[0] not in self.shapes:
            raise _refused(node, "has an input of unknown rank")
        return len(self.shapes[node.input[0]])

    def add(self, node: onnx.NodeProto, suffix: str, values: object, dtype: type = np.int64) -> str:
        """A new constant beside a node."""
        name = f"{node.output[0]}/{suffix}"
        self.added.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name


def to_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The same network in another operator set.

    Raises:
        EdgecError: ``opset-conversion`` names a node that has no other form.
    """
    given, model = opset_of(model), with_free_batch(model)
    if given == opset:
        return model
    try:
        converted = onnx.version_converter.convert_version(model, opset) if given < opset else _downwards(model, opset)
        onnx.checker.check_model(converted, full_check=True)
    except (RuntimeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).strip().splitlines()[0]
        raise EdgecError(
            "opset-conversion", f"cannot convert the model to opset {opset}: {reason}", f"export it with opset {opset}"
        ) from error
    return converted


def opset_of(model: onnx.ModelProto) -> int:
    """Version of ONNX's own operators; 0 where the file names none."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def with_free_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """A batch of -1, as some exporters write it, under a name."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in (*copy.graph.input, *copy.graph.output, *copy.graph.value_info):
        for side in value.type.tensor_type.shape.dim[:1]:
            if side.dim_value < 0:
                side.dim_param = "N"
    return copy


def prove_equal(before: Path, after: Path, feeds: Feeds | None = None) -> None:
    """Both files answer alike to seeded noise.

    Args:
        feeds: what each of them takes for one noise; the noise itself where None.

    Raises:
        EdgecError: ``opset-conversion``.
    """
    from edgec.pipeline.network.simplify import outputs_difference

    difference = outputs_difference(before, after, feeds)
    if not difference <= TOLERANCE:
        message = (
            f"bringing the model to opset 17 and its input to (N, C, H, W) changed its outputs by {difference:.2g}"
        )
        raise EdgecError("opset-conversion", message, "export it with opset 17")


def _downwards(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if _exists(schema, opset)}
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    plain.graph.value_info.extend(  # the inliner asks for the types of constants too
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in model.graph.initializer
    )
    plain = onnx.shape_inference.infer_shapes(plain)
    for _ in range(3):  # a definition may use operators that have a definition themselves
        newer = [("", node.op_type) for node in plain.graph.node if node.domain == "" and node.op_type not in known]
        if newer:
            plain = onnx.inliner.inline_selected_functions(plain, newer, inline_schema_functions=True)
    network = _Network(constants_of(plain), _shapes(plain), [])
    for node in plain.graph.node:
        if node.domain == "" and node.op_type not in known:
            raise _refused(node, f"has no form in opset {opset}")
        rewrite = _REWRITES.get(node.op_type)
        if rewrite is not None:
            rewrite(node, network)
    plain.graph.initializer.extend(network.added)
    for entry in plain.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = opset
    del plain.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(plain, data_prop=True)


def _exists(schema: Any, opset: int) -> bool:
    return bool(schema.domain == "" and schema.since_version <= opset)


def constants_of(model: onnx.ModelProto) -> dict[str, np.ndarray[Any, Any]]:
    """Initializers, and what Constant nodes hold."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            given = attributes_of(node)
            if "value" in given:
                found[node.output[0]] = numpy_helper.to_array(given["value"])
            elif given:
                found[node.output[0]] = np.asarray(next(iter(given.values())))
    return found


def _shapes(model: onnx.ModelProto) -> Shapes:
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    values = {value.name: value.type.tensor_type for value in (*graph.input, *graph.value_info, *graph.output)}
    shapes: dict[str, list[int | None]] = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for name, kind in values.items():
        if kind.HasField("shape"):
            shapes.setdefault(name, [side.dim_value or None for side in kind.shape.dim])
    return shapes


def _attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    found = [helper.get_attribute_value(attribute) for attribute in node.attribute if attribute.name == name]
    return found[0] if found else default


def _without(node: onnx.NodeProto, *names: str) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)


def _reduce(node: onnx.NodeProto, network: _Network) -> None:
    """Axes were an attribute before opset 18."""
    axes = network.constant(node, 1)
    if not axes and _attribute(node, "noop_with_empty_axes", 0):
        node.op_type = "Identity"
        del node.attribute[:]
    elif axes:
        node.attribute.append(helper.make_attribute("axes", [int(axis) for axis in axes]))
    _without(node, "noop_with_empty_axes")
    del node.input[1:]


def _split(node: onnx.NodeProto, network: _Network) -> None:
    """The number of outputs is told from opset 18 on; before, parts that are not equal need their sizes."""
    if _attribute(node, "num_outputs") is None:
        return
    axis, parts = int(_attribute(node, "axis", 0)), len(node.output)
    side = network.shapes.get(node.input[0], [None] * (abs(axis) + 1))[axis]
    if side is None:
        raise _refused(node, "splits an axis of unknown size")
    _without(node, "num_outputs")
    if side % parts:
        each = -(-side // parts)
        del node.input[1:]
        node.input.append(network.add(node, "sizes", [each] * (parts - 1) + [side - each * (parts - 1)]))


def _pad(node: onnx.NodeProto, network: _Network) -> None:
    """Pads were of all axes before opset 18."""
    axes = network.constant(node, 3)
    if _attribute(node, "mode", b"constant") == b"wrap":
        raise _refused(node, "pads by wrapping around")
    if axes is None:
        return
    rank, pads = network.rank(node), network.constant(node, 1) or []
    whole = [0] * (2 * rank)
    for place, axis in enumerate(axes):
        whole[axis % rank], whole[axis % rank + rank] = pads[place], pads[place + len(axes)]
    node.input[1] = network.add(node, "pads", whole)
    del node.input[3:]


def _resize(node: onnx.NodeProto, network: _Network) -> None:
    """Sizes and scales were of all axes before opset 18, and nothing was smoothed."""
    unknown = _attribute(node, "coordinate_transformation_mode", b"") == b"half_pixel_symmetric"
    if _attribute(node, "antialias", 0) or unknown:
        raise _refused(node, "smooths what it reads, or reads by half_pixel_symmetric")
    if _attribute(node, "keep_aspect_ratio_policy", b"stretch") != b"stretch":
        raise _refused(node, "keeps the aspect ratio")
    axes = _attribute(node, "axes")
    if axes:
        scales, sizes, rank = network.constant(node, 2), network.constant(node, 3), network.rank(node)
        if scales:
            told = dict(zip((axis % rank for axis in axes), scales, strict=True))
            node.input[2] = network.add(node, "scales", [told.get(axis, 1.0) for axis in range(rank)], np.float32)
        elif sizes:
            told = dict(zip((axis % rank for axis in axes), sizes, strict=True))
            sides = network.shapes[node.input[0]]
            whole = [told.get(axis, sides[axis] or 1) for axis in range(rank)]
            node.input[3] = network.add(node, "sizes", whole)
    _without(node, "antialias", "axes", "keep_aspect_ratio_policy")


def _average_pool(node: onnx.NodeProto, network: _Network) -> None:
    """Dilations are told from opset 19 on."""
    if any(dilation != 1 for dilation in _attribute(node, "dilations", [])):
        raise _refused(node, "is dilated")
    _without(node, "dilations")


def _cast(node: onnx.NodeProto, network: _Network) -> None:
    """How 8-bit floats are rounded does not matter for other types."""
    _without(node, "saturate", "round_mode")


def _cast_like(node: onnx.NodeProto, network: _Network) -> None:
    """Definitions cast their constants to the type of what they compute with: a float network's is float32."""
    node.op_type = "Cast"
    _without(node, "saturate", "round_mode")
    del node.input[1:]
    node.attribute.append(helper.make_attribute("to", onnx.TensorProto.FLOAT))


def _grid_sample(node: onnx.NodeProto, network: _Network) -> None:
    """Two modes had longer names before opset 20."""
    mode = _attribute(node, "mode", b"linear").decode()
    _without(node, "mode")
    node.attribute.append(helper.make_attribute("mode", {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)))


_REWRITES: Mapping[str, Callable[[onnx.NodeProto, _Network], None]] = {
    **{
        f"Reduce{kind}": _reduce
        for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
    },
    "AveragePool": _average_pool,
    "Cast": _cast,
    "CastLike": _cast_like,
    "GridSample": _grid_sample,
    "Pad": _pad,
    "Resize": _resize,
    "Split": _split,
}
"""Operators whose form in opset 18 or newer is not that of opset 17."""


def _refused(node: onnx.NodeProto, why: str) -> EdgecError:
    name = node.name or next(iter(node.output), "")
    message = f"node '{name}' ({node.op_type}) {why}, which opset 17 cannot say"
    return EdgecError("opset-conversion", message, "export it with opset 17, or replace the node")
