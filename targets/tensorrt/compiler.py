"""QDQ ONNX to the folder from which a device builds its engine. Needs neither TensorRT nor a GPU.

model.onnx        the QDQ reference in TensorRT's dialect, batch of one; for 8.5 to 10.2, with flags
model_typed.onnx  the same with FP16 and INT8 written into it; for 10.3 and later
engine_spec.json  digests, precision and limits: what build_engine.py must find on the device
golden.bin        inputs, then the reference's outputs, all of an image together; raw little-endian float32
lint.json         Q/DQ nodes that TensorRT will not fuse
build_engine.py   builds, proves and measures the engine there
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import file_sha256
from edgec.pipeline.forms.format import Batch, Format
from edgec.pipeline.network.graph import LINEAR
from edgec.targets.tensorrt.build_engine import STORED, TYPED
from edgec.targets.tensorrt.dialect import in_dialect, with_float_weights
from edgec.targets.tensorrt.dla import dla_placement
from edgec.targets.tensorrt.format import SCHEMA, SCRIPT, EngineFormat
from edgec.targets.tensorrt.lint import Finding, gives_floats, is_dequantized, lint
from edgec.targets.tensorrt.options import TensorRtSettings
from edgec.targets.tensorrt.proof import FLOAT_DB, same_function, typed_function
from edgec.targets.tensorrt.typed import largest_magnitudes, to_typed

if TYPE_CHECKING:
    import onnx

    from edgec.pipeline.forms.spec import Gpu
    from edgec.pipeline.network.graph import Graph

FORMAT: Format = EngineFormat()
TOOLCHAIN: tuple[str, ...] = ("onnx", "tensorrt")
MODEL, TYPED_MODEL = "model.onnx", "model_typed.onnx"
NUM_GOLDEN = 4
PATCHES = 8  # golden inputs are random patches of colour, this many to a side

UNSUPPORTED = ("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "DynamicQuantizeLinear", "Det", "Unique")
"""Operators that a CNN might hold and onnx-tensorrt's table (``docs/operators.md``) refuses."""


def check(model: onnx.ModelProto, settings: TensorRtSettings) -> None:
    """Refuse what TensorRT's ONNX parser is known not to take; the parser itself has the last word on the device.

    Raises:
        EdgecError: ``unsupported-operator`` names the node; ``unsupported-outputs``; ``bad-output`` for a constant.
    """
    import onnx

    constants = {tensor.name for tensor in model.graph.initializer}
    constants |= {name for node in model.graph.node if node.op_type == "Constant" for name in node.output}
    for output in model.graph.output:
        if output.name in constants:
            hint = "export the network without it, and keep it beside the artifact"
            raise EdgecError("bad-output", f"the output '{output.name}' is the same for every picture", hint)
        kind = onnx.TensorProto.DataType.Name(output.type.tensor_type.elem_type)
        if kind not in STORED:
            hint = "cast it to float at the end of the network, or choose another target"
            message = f"expected outputs of type {', '.join(STORED)}, got '{output.name}' of type {kind}"
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
    graph = in_dialect(reference)
    model = with_float_weights(graph)
    findings = lint(model)
    _refuse_violations(findings)
    inputs = _golden_inputs(reference)
    outputs = same_function(model, reference, inputs, FLOAT_DB)
    typed = to_typed(graph, largest_magnitudes(graph.write(), inputs)) if takes_types(settings.gpu) else None
    if typed:
        typed_function(typed.model, reference, inputs)
    output.mkdir()
    onnx.save(model, output / MODEL)
    if typed:
        onnx.save(typed.model, output / TYPED_MODEL)
    answers = np.concatenate([values.reshape(NUM_GOLDEN, -1) for values in outputs], axis=1)
    (output / "golden.bin").write_bytes(b"".join(array.astype("<f4").tobytes() for array in (inputs, answers)))
    layers = promised_layers(graph, typed.kept if typed else {})
    accelerator = {"dla": asdict(dla_placement(graph)) if settings.gpu.dla_cores else None}
    shapes = {value.name: values.shape[1:] for value, values in zip(reference.graph.output, outputs, strict=True)}
    spec = _spec(output, inputs.shape[1:], shapes, settings)
    write_json(output / "engine_spec.json", spec | layers | accelerator)
    write_json(output / "lint.json", [asdict(finding) for finding in findings])
    shutil.copyfile(SCRIPT, output / SCRIPT.name)


def takes_types(gpu: Gpu) -> bool:
    """Whether some TensorRT for this GPU is new enough for the typed file; any server's is."""
    return not gpu.jetpack or any(version_of(text) >= TYPED for text in gpu.jetpack.values())


def version_of(text: str) -> tuple[int, ...]:
    """``"10.3"`` as ``(10, 3)``."""
    return tuple(int(part) for part in text.split("."))


def promised_layers(graph: Graph, kept: Mapping[str, str]) -> dict[str, Any]:
    """Convolutions and products by the precision that the file gives them: what the engine must show.

    Nothing is promised of a depthwise convolution that takes integers and gives floats: see ``lint.whole_depthwise``.
    """
    linear = [node for node in graph.nodes if node.op in LINEAR and not gives_floats(graph, node)]
    integer = [node.name for node in linear if all(is_dequantized(graph, name) for name in node.inputs[:2])]
    return {
        "int8_layers": integer,
        "fp16_layers": [node.name for node in linear if node.name not in {*integer, *kept}],
        "fp32_layers": dict(kept),
    }


def trtexec_command(model: str, flags: str, workspace_mib: int) -> str:
    """What TensorRT's own tool needs to build the same engine."""
    return (
        f"trtexec --onnx={model} --saveEngine=model.engine --timingCacheFile=timing.cache {flags} "
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
    """``(N, C, H, W)`` random patches of colour."""
    _, channels, height, width = (dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim)
    stream = np.random.default_rng(0)
    rows, columns = (-(-side // PATCHES) for side in (height, width))
    patches = stream.standard_normal((NUM_GOLDEN, channels, PATCHES, PATCHES)).astype(np.float32)
    return patches.repeat(rows, axis=2).repeat(columns, axis=3)[:, :, :height, :width]


def _spec(
    folder: Path, image: Sequence[int], outputs: Mapping[str, Sequence[int]], settings: TensorRtSettings
) -> dict[str, Any]:
    """Shapes are given for one image, without the batch."""
    options, gpu = settings.options, settings.gpu
    typed = folder / TYPED_MODEL
    flags = "--fp16" if settings.precision == "fp16" else "--fp16 --int8"
    return {
        "schema": SCHEMA,
        "target": settings.board,
        "precision": settings.precision,
        "compute_capability": gpu.compute_capability,
        "model_sha256": file_sha256(folder / MODEL),
        "typed_sha256": file_sha256(typed) if typed.is_file() else None,
        "golden_sha256": file_sha256(folder / "golden.bin"),
        "num_golden": NUM_GOLDEN,
        "input_shape": [1, *image],
        "outputs": {name: [1, *shape] for name, shape in outputs.items()},
        "least_sqnr_db": options.least_sqnr_db,
        "workspace_bytes": options.workspace_mib << 20,
        "hardware_compatible": options.hardware_compatible,
        "version_compatible": options.version_compatible,
        "max_reformats": options.max_reformats,
        "dla_core": options.dla_core,
        "trtexec": trtexec_command(MODEL, flags, options.workspace_mib),
        "trtexec_typed": trtexec_command(TYPED_MODEL, "--stronglyTyped", options.workspace_mib),
    }


def write_json(path: Path, value: object) -> None:
    """Indented, as people read it."""
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def estimate(artifact: Path, settings: TensorRtSettings) -> tuple[float, float] | None:
    """A roofline of the folder's model on the board's GPU; see ``roofline.py``."""
    import onnx

    from edgec.targets.tensorrt.roofline import estimate_latency

    found = estimate_latency(onnx.load(artifact / MODEL), settings.gpu, settings.precision)
    return (found.low_ms, found.high_ms) if found else None
