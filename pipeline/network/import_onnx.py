"""A user's own ONNX file: what edgec asks of it before anything long runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.store import Artifact
from edgec.pipeline.network.export import OPSET

if TYPE_CHECKING:
    import onnx

OLDEST_OPSET, NEWEST_OPSET = 13, 21


@dataclass(frozen=True)
class ImportOnnx:
    """Check a float ONNX file and bring it to the opset that every target reads.

    One image input ``(N, 3, H, W)`` float32 with N symbolic or 1, and H, W fixed; no Q/DQ inside.
    """

    output: ClassVar[str] = "model.onnx"
    toolchain: ClassVar[tuple[str, ...]] = ("onnx",)

    def run(self, output: Path, *inputs: Artifact) -> None:
        """Convert ``inputs[0]``.

        Raises:
            EdgecError: what ``read_onnx`` and ``input_px`` raise; ``opset-conversion``.
        """
        import onnx

        model = read_onnx(inputs[0].path)
        input_px(model, inputs[0].path)
        onnx.save(_to_opset(model), output)


def read_onnx(path: Path) -> onnx.ModelProto:
    """Load and check a file.

    Raises:
        EdgecError: ``no-such-file``, ``corrupt-onnx``, ``unsupported-opset``, ``already-quantized``, ``not-finite``.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise EdgecError("no-such-file", f"no ONNX file '{path}'", "check the path")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
    except (
        DecodeError,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        ValueError,
        OSError,
    ) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EdgecError("corrupt-onnx", f"'{path}' is no valid ONNX model: {reason}", "export it again") from error
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise EdgecError(
            "unsupported-opset",
            f"'{path}' has opset {opset}, expected {OLDEST_OPSET} to {NEWEST_OPSET}",
            "export with opset 17",
        )
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger"):
            raise EdgecError(
                "already-quantized",
                f"'{path}' has the node '{node.name}' ({node.op_type})",
                "give edgec the float network",
            )
    _check_finite(model, path)
    return model


def input_px(model: onnx.ModelProto, path: Path) -> int:
    """The side of the square image input.

    Raises:
        EdgecError: ``bad-input-shape``, ``dynamic-shape``.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    images = [value for value in model.graph.input if value.name not in constants]
    hint = "expected one float32 input (N, 3, H, W)"
    if len(images) != 1:
        raise EdgecError("bad-input-shape", f"'{path}' has {len(images)} inputs", hint)
    sides = images[0].type.tensor_type.shape.dim
    text = "(" + ", ".join(side.dim_param or str(side.dim_value or "?") for side in sides) + ")"
    if len(sides) != 4 or images[0].type.tensor_type.elem_type != 1:
        raise EdgecError("bad-input-shape", f"'{path}' has the input '{images[0].name}' of shape {text}", hint)
    if not all(side.dim_value for side in sides[1:]):
        raise EdgecError(
            "dynamic-shape",
            f"'{path}' has the input '{images[0].name}' of shape {text}, expected fixed height and width",
            "export with a fixed image size; only the batch may be symbolic",
        )
    channels, height, width = (side.dim_value for side in sides[1:])
    if channels != 3 or height != width or sides[0].dim_value not in (0, 1):
        raise EdgecError(
            "bad-input-shape",
            f"'{path}' has the input '{images[0].name}' of shape {text}",
            f"{hint} with N symbolic or 1, H = W",
        )
    return int(height)


def _check_finite(model: onnx.ModelProto, path: Path) -> None:
    import numpy as np
    from onnx import TensorProto, numpy_helper

    kinds = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
    for tensor in model.graph.initializer:
        if tensor.data_type in kinds and not np.isfinite(numpy_helper.to_array(tensor, str(path.parent))).all():
            message = f"'{path}': the tensor '{tensor.name}' has NaN or infinite values"
            raise EdgecError("not-finite", message, "export again from finite weights")


def _to_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnx import version_converter

    try:
        return version_converter.convert_version(model, OPSET)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise EdgecError(
            "opset-conversion", f"cannot convert the model to opset {OPSET}: {reason}", f"export it with opset {OPSET}"
        ) from error
