"""An ONNX file as an artifact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.pipeline.forms.format import Alone, Contract, Runtime, TensorContract, counts, damaged, layout_of

if TYPE_CHECKING:
    import onnx

DTYPES = {
    **{1: "float32", 10: "float16", 11: "float64", 9: "bool"},
    **{2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 12: "uint32", 6: "int32", 13: "uint64", 7: "int64"},
}
"""Of TensorProto.DataType: all that a network may answer in."""


@dataclass(frozen=True)
class OnnxFormat(Alone):
    """The QDQ file, which ONNX Runtime reads from memory."""

    name: str = "onnx"
    artifact: str = "model.onnx"
    linkable: bool = True

    def contract(self, artifact: Path) -> Contract:
        """Graph inputs and outputs.

        Raises:
            EdgecError: ``corrupt-artifact-file``.
        """
        return onnx_contract(artifact)

    def runtime(self, settings: Any) -> Runtime:
        """1.12 is the first with operator set 17."""
        return Runtime("ONNX Runtime", ">=1.12")


def onnx_contract(path: Path) -> Contract:
    """What an ONNX file expects and answers; QDQ inside stays inside, so its tensors are float.

    Raises:
        EdgecError: ``corrupt-artifact-file``.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except (OSError, DecodeError) as error:
        raise damaged(path, str(error)) from error
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [_tensor(value) for value in graph.input if value.name not in constants]
    outputs = [_tensor(value) for value in graph.output]
    return Contract(tuple(inputs), tuple(outputs), counts(node.op_type for node in graph.node))


def _tensor(value: onnx.ValueInfoProto) -> TensorContract:
    kind = value.type.tensor_type
    shape = tuple(max(side.dim_value, 1) for side in kind.shape.dim)
    return TensorContract(value.name, DTYPES.get(kind.elem_type, "other"), shape, layout_of(shape, False))
