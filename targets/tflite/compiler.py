"""QDQ or float ONNX to a .tflite file, without TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms.compiler import Probe
from edgec.pipeline.forms.format import Format
from edgec.targets.tflite.flatbuffer import INSTALL, METADATA_NAME, MODEL_ORDER, require_schema
from edgec.targets.tflite.format import TfliteFormat
from edgec.targets.tflite.options import TfliteOptions

if TYPE_CHECKING:
    import onnx

    from edgec.targets.tflite.graph import Graph

FORMAT: Format = TfliteFormat()
TOOLCHAIN: tuple[str, ...] = ("ai-edge-litert", "flatbuffers")
COUNTS_WITH: tuple[str, ...] = ("tflite-micro",)
LABELS, PREPROCESS = "edgec.labels", "edgec.preprocess"  # ``metadata_props`` of an ONNX file, each one JSON
HALF = "reduced_precision_support"  # of the metadata: XNNPACK may compute so
HALF_REMARK = "this board computes in float16, this machine in float32: --on an emulated core gives the board's answers"
MIN_RUNTIME = b"2.5.0".ljust(16, b"\0")  # a 16-byte text, as TensorFlow's converter writes it


def check(model: onnx.ModelProto, settings: TfliteOptions) -> tuple[str, ...]:
    """Refuse what cannot be lowered for this board, before anything long runs.

    Returns:
        What XNNPACK will leave; of a microcontroller what a smaller arena may cost.

    Raises:
        EdgecError: ``unsupported-operator`` names the node and the rule; ``dynamic-shape``, ``bad-quantization``,
            ``missing-runtime``.
    """
    if not settings.xnnpack:
        graph = _prepared(model, settings)
        return _smaller_words(graph, settings) if settings.smaller_arena else ()
    from edgec.targets.tflite.delegate import left_by_xnnpack

    left = left_by_xnnpack(to_tflite(model, replace(settings, input_type="int8")))
    return (*left, HALF_REMARK) if computes_in_half(settings) else left


def computes_in_half(settings: TfliteOptions) -> bool:
    """A network in float16 for a core that has instructions for it. Beside integers XNNPACK computes in float32."""
    return settings.half_arithmetic and settings.constants == "float16"


def compile_model(qdq: Path, output: Path, settings: TfliteOptions) -> None:
    """Lower the ONNX file to ``output``, with the labels and the preprocessing that its ``metadata_props`` hold.

    Raises:
        EdgecError: as ``check``; ``inexact-normalisation``.
    """
    import onnx

    model = onnx.load(qdq)
    described = {
        entry.key: json.loads(entry.value) for entry in model.metadata_props if entry.key in (LABELS, PREPROCESS)
    }
    preprocess = Preprocess(**described[PREPROCESS]) if PREPROCESS in described else None
    output.write_bytes(to_tflite(model, settings, described.get(LABELS, ()), preprocess))


def to_tflite(
    model: onnx.ModelProto,
    options: TfliteOptions,
    labels: Sequence[str] = (),
    preprocess: Preprocess | None = None,
) -> bytes:
    """Lower a model to the bytes of a .tflite file; equal arguments give equal bytes.

    Args:
        model: float or explicit-QDQ ONNX, operator set 13 to 21, NCHW.
        labels: class names, kept in the file's metadata.
        preprocess: kept in the metadata; folded into the first convolution for ``input_type = "uint8"``.

    Raises:
        EdgecError: as ``check``; ``inexact-normalisation`` and ``unsupported-precision`` (``uint8``).
    """
    require_schema()
    from edgec.targets.tflite.arena import smaller_arena
    from edgec.targets.tflite.lowering import Lowering
    from edgec.targets.tflite.normalisation import fold_normalisation
    from edgec.targets.tflite.prefix import lower_parts, parts_of
    from edgec.targets.tflite.reader import read_graph
    from edgec.targets.tflite.rules import RULES

    parts = parts_of(model) if options.xnnpack else None
    graph = _prepared(model if parts is None else parts.rest, options)
    if options.input_type == "uint8" and parts is None:
        if any((note := graph.tensors[name].quantization) and note.is_wide for name in graph.inputs):
            message = "pixels of 8 bits feed no network whose first layers have 16"
            raise EdgecError("unsupported-precision", message, "choose --precision int8, or input_type = 'int8'")
        graph = fold_normalisation(graph, preprocess)
    if options.smaller_arena:
        graph = smaller_arena(graph, options)
    metadata = _metadata(options, labels, preprocess, outputs_in_model_order(graph))
    if parts is None:
        return Lowering(graph, options).run(RULES, metadata)
    entry, prefix = read_graph(parts.entry), _prepared(parts.prefix, options)
    return lower_parts(entry, prefix, graph, options, RULES, metadata)


def outputs_in_model_order(graph: Graph) -> list[int]:
    """Places of the outputs of rank 4 for which the model itself asks for an order."""
    tensors = [graph.tensors[name] for name in graph.outputs.values()]
    return [place for place, tensor in enumerate(tensors) if len(tensor.shape) == 4 and not tensor.channels_last]


def estimate(artifact: Path, settings: TfliteOptions) -> None:
    """Nobody computes this board's latency; measure it."""


def probe(settings: TfliteOptions | None = None) -> Probe:
    """LiteRT is there when its interpreter loads."""
    if find_spec("ai_edge_litert") is None:
        return Probe(False, False, "", f"ai-edge-litert is not installed: {INSTALL}")
    from importlib.metadata import version

    return Probe(True, True, f"ai-edge-litert {version('ai-edge-litert')} with XNNPACK")


def _prepared(model: onnx.ModelProto, options: TfliteOptions) -> Graph:
    require_schema()
    from edgec.targets.tflite.canonical import canonical
    from edgec.targets.tflite.constraints import check_graph, check_operators
    from edgec.targets.tflite.fuse import prepare
    from edgec.targets.tflite.reader import read_graph
    from edgec.targets.tflite.rules import RULES

    graph = canonical(read_graph(model))
    check_operators(graph, frozenset(RULES))
    graph = prepare(graph)
    check_graph(graph, options)
    return graph


def _smaller_words(graph: Graph, options: TfliteOptions) -> tuple[str, ...]:
    """Without figures: the network is not quantized yet, and what is spelled in parts then makes other maps."""
    from edgec.targets.tflite.arena import MAX_MORE_MACS, smaller_arena

    if smaller_arena(graph, options) is graph:
        return ()
    price = f"for up to {100 * MAX_MORE_MACS:.0f} % more multiplications"
    return (
        f"large feature maps are computed in strips where that saves arena: the same answers, {price} "
        "(smaller_arena = false in the board's options keeps them whole)",
    )


def _metadata(
    options: TfliteOptions, labels: Sequence[str], preprocess: Preprocess | None, in_model_order: Sequence[int]
) -> dict[str, bytes]:
    """Named buffers; a linked file keeps what its tensors do not say: a foreign order, the meaning of pixels."""
    if not options.is_linked:
        described = {
            "min_runtime_version": MIN_RUNTIME,
            METADATA_NAME: _description(labels, preprocess, in_model_order),
        }
        return described | ({HALF: b"fp16accfp16"} if computes_in_half(options) else {})
    pixels = preprocess if options.input_type == "uint8" else None
    return {METADATA_NAME: _description((), pixels, in_model_order)} if pixels or in_model_order else {}


def _description(labels: Sequence[str], preprocess: Preprocess | None, in_model_order: Sequence[int]) -> bytes:
    """What the file says about itself: canonical JSON."""
    content: dict[str, object] = {"labels": list(labels), "preprocess": preprocess.stated() if preprocess else None}
    if in_model_order:
        content[MODEL_ORDER] = list(in_model_order)
    return json.dumps(content, sort_keys=True, ensure_ascii=False).encode()
