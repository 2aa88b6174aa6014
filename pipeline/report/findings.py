"""What a report shows of one bundle, read from its files."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgec.pipeline.bundle.manifest import Manifest
from edgec.pipeline.bundle.records import read_latency, read_quantization, read_sensitivity, read_training
from edgec.pipeline.forms.golden import GoldenSet, read_golden
from edgec.pipeline.forms.golden_inputs import to_real
from edgec.pipeline.forms.measure import Latency
from edgec.pipeline.network.models.curve import Curve
from edgec.pipeline.quantize.record import QuantizationRecord
from edgec.pipeline.tasks.classification import Predictions, class_name, probabilities, read_predictions
from edgec.pipeline.tasks.metrics import answers

NUM_WORST_CLASSES = 8
THUMBNAIL_PX = 160


@dataclass(frozen=True)
class ClassErrors:
    """A class that the artifact often misses.

    Attributes:
        float_right: images of it that the float network gets right.
        right: that the artifact gets right.
        mistaken_for: the classes it names instead, with counts, the most frequent first.
    """

    name: str
    num_images: int
    float_right: int
    right: int
    mistaken_for: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Example:
    """A golden image with both answers: (class, probability)."""

    name: str
    picture: str
    float_answer: tuple[str, float]
    answer: tuple[str, float]


@dataclass(frozen=True)
class Findings:
    """One build, ready to be drawn.

    Attributes:
        name: how the page calls it.
        predictions: of classes; None for other tasks.
        latency: ``latency.json``.
        quantization: ``quantization.json``.
        sensitivity: output SQNR in dB with one layer alone quantized, by layer, None where that is exact; empty where
            nobody ranked them.
        training: how the weights were trained; None where nothing says so.
        strips: pictures of a task that answers with maps, as its examples show them.
        weight_bytes: constants of each weighted layer of the quantized network, in order.
        float_bytes: what these constants take as float32.
        instructions: of one inference, where an emulated core counted them.
    """

    name: str
    manifest: Manifest
    golden: GoldenSet
    predictions: Predictions | None
    latency: Latency
    quantization: QuantizationRecord
    sensitivity: dict[str, float | None]
    weight_bytes: dict[str, int]
    worst_classes: tuple[ClassErrors, ...]
    examples: tuple[Example, ...]
    strips: tuple[str, ...] = ()
    training: Curve | None = None
    float_bytes: int = 0
    instructions: int | None = None


def read_findings(folder: Path, manifest: Manifest, instructions: int | None = None) -> Findings:
    """Gather what the page needs from a bundle whose files are in place.

    Args:
        instructions: where the manifest, which tells them of weighed precisions alone, does not.
    """
    classified = manifest.accuracy.task == "classification"
    predictions = read_predictions(folder / "predictions.csv") if classified else None
    golden = read_golden(folder / "golden")
    weight_bytes, float_bytes = _weights(folder / "reference" / "qdq.onnx")
    return Findings(
        f"{manifest.model.name} · {manifest.target.name}",
        manifest,
        golden,
        predictions,
        read_latency(folder),
        read_quantization(folder),
        read_sensitivity(folder),
        weight_bytes,
        worst_classes(predictions, manifest.labels) if predictions else (),
        _examples(folder / "golden", golden, manifest),
        tuple(_embedded(path.read_bytes(), "png") for path in sorted((folder / "examples").glob("*.png"))),
        read_training(folder),
        float_bytes,
        instructions if instructions is not None else _weighed_instructions(manifest),
    )


def _weighed_instructions(manifest: Manifest) -> int | None:
    """Of the precision that ships, where several were weighed on an emulated core."""
    ships = manifest.target.precision
    return next((row.instructions for row in manifest.weighed if row.precision == ships), None)


def worst_classes(predictions: Predictions, labels: tuple[str, ...]) -> tuple[ClassErrors, ...]:
    """Classes by the number of images that the artifact gets wrong; none where labels are unknown."""
    known = predictions.labels >= 0
    if not known.any():
        return ()
    said = predictions.shipped
    wrong = known & (said != predictions.labels)
    order = sorted(
        {int(i) for i in predictions.labels[wrong]}, key=lambda i: (-int(np.sum(wrong & (predictions.labels == i))), i)
    )
    return tuple(_class_errors(i, said, predictions, labels) for i in order[:NUM_WORST_CLASSES])


def _class_errors(
    index: int, said: npt.NDArray[np.int64], predictions: Predictions, labels: tuple[str, ...]
) -> ClassErrors:
    mine = predictions.labels == index
    others, counts = np.unique(said[mine & (said != index)], return_counts=True)
    pairs = sorted(zip(others.tolist(), counts.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
    return ClassErrors(
        class_name(index, labels),
        int(mine.sum()),
        int(np.sum(mine & (predictions.classes["float"] == index))),
        int(np.sum(mine & (said == index))),
        tuple((class_name(other, labels), count) for other, count in pairs[:3]),
    )


def _weights(qdq: Path) -> tuple[dict[str, int], int]:
    """Bytes of the constants of each weighted layer, and of all of them together as float32."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(qdq).graph
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    sources = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul", "ConvTranspose")]
    sizes, counted = dict[str, int](), set[str]()
    for node in layers:
        constants = [source for name in node.input[1:] if (source := sources.get(name, name)) in known]
        sizes[node.name or node.output[0]] = sum(known[constant].nbytes for constant in constants)
        counted.update(constants)
    return {name: size for name, size in sizes.items() if size}, sum(4 * known[name].size for name in counted)


def _examples(folder: Path, golden: GoldenSet, manifest: Manifest) -> tuple[Example, ...]:
    output = manifest.contract.outputs[0]
    if manifest.accuracy.task != "classification":
        return ()
    pictures = np.load(folder / "pixels.npy")
    first = len(golden.vectors) - len(pictures)
    floats = np.load(folder / "float-outputs.float32.npy")[first:]
    said = to_real(np.load(folder / f"outputs.{golden.expected}.{output.dtype}.npy")[first:], output)
    names = [vector.name for vector in golden.vectors[first:]]
    return tuple(
        Example(name, _data_uri(pixels, manifest.preprocessing.color), _answer(one, manifest), _answer(other, manifest))
        for name, pixels, one, other in zip(names, pictures, floats, said, strict=True)
    )


def _answer(logits: npt.NDArray[np.float32], manifest: Manifest) -> tuple[str, float]:
    row = logits.reshape(1, -1)
    index = int(answers(row)[0])
    return class_name(index, manifest.labels), float(probabilities(row)[0, index])


def _data_uri(pixels: npt.NDArray[np.uint8], color: str) -> str:
    from PIL import Image

    image = Image.fromarray(
        np.ascontiguousarray(pixels[..., ::-1]) if color == "BGR" else pixels.squeeze(-1) if color == "GRAY" else pixels
    ).convert("RGB")
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return _embedded(buffer.getvalue(), "jpeg")


def _embedded(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
