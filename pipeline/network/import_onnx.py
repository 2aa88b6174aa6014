"""A user's own ONNX file: what edgec asks of it before anything long runs."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import Artifact, file_sha256
from edgec.pipeline.data.folders import check_inside
from edgec.pipeline.data.labels import safe_path
from edgec.pipeline.network.export import OPSET
from edgec.pipeline.network.onnx_bounds import check_bounds, check_functions, check_text
from edgec.pipeline.network.tensor_names import name_tensors_apart

if TYPE_CHECKING:
    import onnx

AGAIN = "export it again"
INTEGER_OPERATORS = frozenset({"ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "QGemm", "QAttention"})
"""Beside those whose names start with ``QLinear``."""

MEMORY_BYTES = 4 << 30  # of address space for one image, beside four times the weights


@dataclass(frozen=True)
class ImportOnnx:
    """Check a float ONNX file and bring it to the opset that every target reads.

    One image input with N symbolic or 1, H and W fixed; no Q/DQ left inside. What comes out takes ``(N, C, H, W)``
    float32: half precision is widened, and the layout and normalisation that the network begins with are taken from it
    (``onnx_input.py``).

    Attributes:
        takes_image: False where layout and normalisation were taken before.
        time_limit_s: for one image; after this the file is refused.
    """

    takes_image: bool = True
    time_limit_s: float = 45.0

    output: ClassVar[str] = "model.onnx"
    toolchain: ClassVar[tuple[str, ...]] = ("onnx",)

    def run(self, output: Path, *inputs: Artifact) -> None:
        """Convert ``inputs[0]``.

        Raises:
            EdgecError: what ``read_onnx`` and ``take_image`` raise; ``opset-conversion``, ``onnx-does-not-run``,
                ``bad-output``.
        """
        import onnx

        from edgec.pipeline.network.onnx_input import take_image
        from edgec.pipeline.network.opset import opset_of, prove_equal, to_opset
        from edgec.pipeline.network.plain import plain

        model = read_onnx(inputs[0].path)
        if self.takes_image:  # otherwise its names are ours already
            name_tensors_apart(model)
        model = plain(model)
        image, taken = take_image(model, inputs[0].path, self.takes_image)
        converted = to_opset(taken, OPSET)
        _name_nodes_apart(converted)
        onnx.save(converted, output)
        _check_runs(output, inputs[0].path, self.time_limit_s)
        if opset_of(model) != OPSET or taken is not model:
            before = output.with_name("before.onnx")
            onnx.save(model, before)
            prove_equal(before, output, image.feeds)
            before.unlink()


def read_onnx(path: Path) -> onnx.ModelProto:
    """Load and check a file; half precision comes back as float32.

    Raises:
        EdgecError: ``no-such-file``, ``unsafe-path``, ``corrupt-onnx``, ``tensor-too-large``, ``unsupported-opset``,
            ``already-quantized``, ``not-finite``, ``bad-output``, ``unsupported-operator``.
    """
    import onnx

    from edgec.pipeline.network.half_precision import widened
    from edgec.pipeline.network.opset import NEWEST_OPSET, OLDEST_OPSET, opset_of

    onnx_files(path)
    with named_damage(path):
        model = _readable(onnx.load(path), path)
        onnx.checker.check_model(model, full_check=True)
        _check_finite(model, path)
    opset = opset_of(model)
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise EdgecError(
            "unsupported-opset",
            f"'{path}' has opset {opset}, expected {OLDEST_OPSET} to {NEWEST_OPSET}",
            "export with opset 17",
        )
    for node in model.graph.node:
        if node.op_type.startswith("QLinear") or node.op_type in INTEGER_OPERATORS:
            raise EdgecError(
                "already-quantized",
                f"'{path}' has the node '{node.name}' ({node.op_type}), which computes on integers",
                "write it with Q/DQ pairs (ONNX Runtime: QuantFormat.QDQ), or give edgec the float network",
            )
    check_bounds(model, path)
    _check_outputs(model, path)
    return widened(model)


def has_pairs(path: Path) -> bool:
    """Whether a file holds QuantizeLinear or DequantizeLinear."""
    import onnx

    nodes = onnx.load(path, load_external_data=False).graph.node
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in nodes)


def onnx_files(path: Path) -> tuple[Path, ...]:
    """The file and every file of external data that it names: what its content is.

    Raises:
        EdgecError: ``no-such-file``, ``corrupt-onnx``; ``unsafe-path`` for a name or link that leaves its folder.
    """
    import onnx
    from onnx.external_data_helper import ExternalDataInfo, _get_all_tensors, uses_external_data

    if not os.path.isfile(path):
        raise EdgecError("no-such-file", f"no ONNX file '{path}'", "check the path")
    with named_damage(path):
        model = onnx.load(path, load_external_data=False)
        check_text(model, path)
        check_functions(model, path)
        tensors = [tensor for tensor in _get_all_tensors(model) if uses_external_data(tensor)]
        named = sorted({str(ExternalDataInfo(tensor).location) for tensor in tensors})
    files = []
    for name in named:
        safe = safe_path(name)
        if safe is None:
            message = f"'{path}' keeps tensors in {name[:80]!a}, outside its folder"
            raise EdgecError("unsafe-path", message, "save it again with its data beside it")
        if not os.path.isfile(path.parent / safe):
            message = f"'{path}' keeps tensors in '{name[:200]}', which is not there"
            raise EdgecError("no-such-file", message, "copy that file beside it")
        check_inside(path.parent / safe, path.parent)
        files.append(path.parent / safe)
    return (path, *files)


def onnx_artifact(path: Path) -> Artifact:
    """A user's ONNX file as a stage's input: its digest covers its external data, where there is any.

    Raises:
        EdgecError: as ``onnx_files``.
    """
    parts = [file_sha256(file) for file in onnx_files(path)]
    return Artifact(path, parts[0] if len(parts) == 1 else hashlib.sha256("\n".join(parts).encode()).hexdigest())


@contextmanager
def named_damage(path: Path) -> Iterator[None]:
    """Turn what reading a damaged file raises into ``corrupt-onnx``."""
    import onnx
    from google.protobuf.message import DecodeError

    damage = (
        DecodeError,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        ArithmeticError,
        LookupError,
        MemoryError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    )
    try:
        yield
    except damage as error:
        raise EdgecError("corrupt-onnx", f"'{path}' is no valid ONNX model: {_first_line(error)}", AGAIN) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def _check_finite(model: onnx.ModelProto, path: Path) -> None:
    import numpy as np
    from onnx import TensorProto, numpy_helper

    kinds = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
    for tensor in model.graph.initializer:
        if tensor.data_type in kinds and not np.isfinite(numpy_helper.to_array(tensor, str(path.parent))).all():
            message = f"'{path}': the tensor '{tensor.name}' has NaN or infinite values"
            raise EdgecError("not-finite", message, "export again from finite weights")


def _readable(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Functions of the file put in their places, ONNX's own domain by its short name, and outputs with a shape.

    Exporters that keep modules together write functions; the other two ONNX Runtime does not ask for.

    Raises:
        EdgecError: ``unsupported-operator`` for an operator of another domain, behind which no shape is known.
    """
    import onnx
    import onnx.inliner

    if model.functions:
        model = onnx.inliner.inline_local_functions(model, convert_version=True)
    for entry in (*model.opset_import, *model.graph.node):
        entry.domain = "" if entry.domain == "ai.onnx" else entry.domain
    bare = [value for value in model.graph.output if not value.type.tensor_type.HasField("shape")]
    if not bare:
        return model
    inferred = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.output}
    for value in bare:
        value.CopyFrom(inferred[value.name])
    foreign = [node for node in model.graph.node if node.domain]
    if foreign and not all(value.type.tensor_type.HasField("shape") for value in bare):
        node = foreign[0]
        message = f"'{path}' has the node '{node.name}' ({node.domain}.{node.op_type}), which ONNX does not define"
        hint = "export it again, or save it without ONNX Runtime's own optimizations"
        raise EdgecError("unsupported-operator", message, hint)
    return model


def _check_outputs(model: onnx.ModelProto, path: Path) -> None:
    names = Counter(value.name for value in model.graph.output)
    kinds = {
        "a constant of the file": {tensor.name for tensor in model.graph.initializer},
        "the input itself": {value.name for value in model.graph.input},
        "named twice": {name for name, count in names.items() if count > 1},
    }
    for kind, known in kinds.items():
        for name in names:
            if name in known:
                message, hint = f"'{path}' has the output '{name}', which is {kind}", "export it without that output"
                raise EdgecError("bad-output", message, hint)


def _name_nodes_apart(model: onnx.ModelProto) -> None:
    """ONNX lets nodes share a name, and runtimes do not: the second ``a`` becomes ``a_2``."""
    taken = {node.name for node in model.graph.node}
    seen: Counter[str] = Counter()
    for node in model.graph.node:
        seen[node.name] += 1
        if node.name and seen[node.name] > 1:
            base, number = node.name, seen[node.name]
            while (name := f"{base}_{number}") in taken:
                number += 1
            node.name = name
            taken.add(name)


def _check_runs(converted: Path, path: Path, time_limit_s: float) -> None:
    """One image through ONNX Runtime, the reference of every target, with a bound on memory and time.

    In a process of its own: shapes that are computed may ask for terabytes, and a loop may have no end.
    """
    command = [sys.executable, "-m", "edgec.pipeline.network.import_onnx", str(converted)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=time_limit_s, check=False)
    except subprocess.TimeoutExpired:
        message = f"ONNX Runtime did not answer '{path}' within {time_limit_s:.0f} s"
        raise EdgecError("onnx-does-not-run", message, "export a smaller network, without loops") from None
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        message = f"ONNX Runtime does not run '{path}': {reason[:300]}"
        raise EdgecError("onnx-does-not-run", message, AGAIN)
    if done.stdout:
        message = f"'{path}': for one image {done.stdout.strip()[:300]}"
        raise EdgecError("bad-output", message, "export it with the batch as the first side of every output")


def _run_once(converted: Path) -> str:
    """What is wrong with the answers to one image; empty where each output has one row for it."""
    from edgec.pipeline.forms.ort import OrtRunner

    if sys.platform == "linux":
        import resource

        most = MEMORY_BYTES + 4 * converted.stat().st_size
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    runner = OrtRunner(converted)
    for name, shape in zip(runner.outputs, runner.shapes(), strict=True):
        if shape[:1] != (1,):
            return f"the output {name!a} has the shape {shape}"
    return ""


if __name__ == "__main__":
    print(_run_once(Path(sys.argv[1])), end="")
