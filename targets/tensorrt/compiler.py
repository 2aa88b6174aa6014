"""QDQ ONNX to the folder from which a device builds its engine. Needs neither TensorRT nor a GPU.

model.onnx        the QDQ reference in TensorRT's dialect, batch of one; computes the same bits
engine_spec.json  digests, precision and limits: what build_engine.py must find on the device
golden.bin        inputs and the reference's outputs, raw little-endian float32
lint.json         Q/DQ nodes that TensorRT will not fuse
build_engine.py   builds, proves and measures the engine there
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.store import file_sha256
from edgec.pipeline.forms.format import Batch, Format
from edgec.targets.tensorrt.dialect import to_tensorrt
from edgec.targets.tensorrt.format import EngineFormat
from edgec.targets.tensorrt.lint import Finding, lint
from edgec.targets.tensorrt.options import TensorRtSettings
from edgec.targets.tensorrt.proof import same_function

if TYPE_CHECKING:
    import onnx

FORMAT: Format = EngineFormat()
TOOLCHAIN: tuple[str, ...] = ("onnx", "tensorrt")
SCRIPT = Path(__file__).with_name("build_engine.py")
NUM_GOLDEN = 4
FLOAT_DB = 80.0  # of outputs without rounding: float32's own error over a hundred layers
PATCHES = 8  # golden inputs are random patches of colour, this many to a side

UNSUPPORTED = ("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "DynamicQuantizeLinear", "Det", "Unique")
"""Operators that a CNN might hold and onnx-tensorrt's table (``docs/operators.md``) refuses."""


def check(model: onnx.ModelProto, settings: TensorRtSettings) -> None:
    """Refuse what TensorRT's ONNX parser is known not to take; the parser itself has the last word on the device.

    Raises:
        EdgecError: ``unsupported-operator`` names the node; ``unsupported-outputs``.
    """
    if len(model.graph.output) > 1:
        hint = "keep one output, or choose another target"
        message = f"engines with {len(model.graph.output)} outputs are not built yet"
        raise EdgecError("unsupported-outputs", message, hint)
    for node in model.graph.node:
        if node.op_type in UNSUPPORTED or node.domain not in ("", "ai.onnx"):
            where = f"'{node.op_type}' (node '{node.name or node.output[0]}')"
            hint = "replace it in the model, or choose another target"
            raise EdgecError("unsupported-operator", f"TensorRT cannot take the operator {where}", hint)


def compile_model(qdq: Path, output: Path, settings: TensorRtSettings) -> None:
    """Write the folder; the model in it is executed beside ``qdq`` and must give the same outputs.

    Raises:
        EdgecError: ``unfusable-qdq``, ``compile-mismatch``, ``bad-quantization``.
    """
    import onnx

    reference = _single(onnx.load(qdq))
    model = to_tensorrt(reference)
    findings = lint(model)
    _refuse_violations(findings)
    inputs = _golden_inputs(reference)
    golden = inputs, same_function(model, reference, inputs, FLOAT_DB)
    output.mkdir()
    onnx.save(model, output / "model.onnx")
    (output / "golden.bin").write_bytes(b"".join(array.astype("<f4").tobytes() for array in golden))
    _write_json(output / "engine_spec.json", _spec(output, golden, settings))
    _write_json(output / "lint.json", [asdict(finding) for finding in findings])
    shutil.copyfile(SCRIPT, output / SCRIPT.name)


def trtexec_command(precision: str, workspace_mib: int) -> str:
    """What TensorRT's own tool needs to build the same engine; for TensorRT 8.5 to 10."""
    flags = "--fp16 --int8" if precision == "int8" else "--fp16"
    return (
        f"trtexec --onnx=model.onnx --saveEngine=model.engine --timingCacheFile=timing.cache {flags} "
        f"--memPoolSize=workspace:{workspace_mib} --profilingVerbosity=detailed --useSpinWait"
    )


def _single(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` for a batch of one."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return model


def _refuse_violations(findings: list[Finding]) -> None:
    violations = [finding for finding in findings if finding.severity == "violation"]
    if violations:
        first = violations[0]
        message = (
            f"{len(violations)} Q/DQ nodes break TensorRT's rules, first '{first.node}' ({first.rule}): {first.message}"
        )
        raise EdgecError("unfusable-qdq", message, "the scheme must extend 'tensorrt'; see docs/jetson.md")


def _golden_inputs(model: onnx.ModelProto) -> Batch:
    """``(N, 3, H, W)`` random patches of colour."""
    _, channels, height, width = (dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim)
    stream = np.random.default_rng(0)
    rows, columns = (-(-side // PATCHES) for side in (height, width))
    patches = stream.standard_normal((NUM_GOLDEN, channels, PATCHES, PATCHES)).astype(np.float32)
    return patches.repeat(rows, axis=2).repeat(columns, axis=3)[:, :, :height, :width]


def _spec(folder: Path, golden: tuple[Batch, Batch], settings: TensorRtSettings) -> dict[str, Any]:
    options = settings.options
    return {
        "schema": 1,
        "target": settings.board,
        "precision": settings.precision,
        "compute_capability": settings.gpu.compute_capability,
        "model_sha256": file_sha256(folder / "model.onnx"),
        "golden_sha256": file_sha256(folder / "golden.bin"),
        "num_golden": NUM_GOLDEN,
        "input_shape": [1, *golden[0].shape[1:]],
        "output_shape": [1, *golden[1].shape[1:]],
        "least_sqnr_db": options.least_sqnr_db,
        "workspace_bytes": options.workspace_mib << 20,
        "hardware_compatible": options.hardware_compatible,
        "max_reformats": options.max_reformats,
        "trtexec": trtexec_command(settings.precision, options.workspace_mib),
    }


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def estimate(artifact: Path, settings: TensorRtSettings) -> tuple[float, float] | None:
    """A roofline of the folder's model on the board's GPU; see ``roofline.py``."""
    import onnx

    from edgec.targets.tensorrt.roofline import estimate_latency

    found = estimate_latency(onnx.load(artifact / "model.onnx"), settings.gpu, settings.precision)
    return (found.low_ms, found.high_ms) if found else None
