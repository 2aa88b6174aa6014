"""Where edgec's .tflite and the QDQ reference part, on real ImageNet weights and photographs.

    python benchmarks/tflite_agreement.py [--models mobilenetv3-small ...] [--level accurate] [--images 6]

Reads ``../shared/real`` (``--real``); half of the photographs calibrate, the other half judge. First the whole network:
the artifact in LiteRT with XNNPACK, and with TFLite's reference kernels, against the reference. Then every operator on
its own, fed with the very integers that the reference has there: the share of its results that differ.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx.utils import Extractor
from quantizers import CARDS, ROOT, float_onnx, halves, read

from edgec.pipeline.data.dataset import open_dataset
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.network.models.weights import resolve_weights
from edgec.pipeline.tasks.metrics import answers, right_percent, sqnr_db, topk_percent
from edgec.targets.tflite.compiler import to_tflite
from edgec.targets.tflite.flatbuffer import read_tflite
from edgec.targets.tflite.options import TfliteOptions
from edgec.targets.tflite.runner import LiteRtRunner, open_interpreter

Array = npt.NDArray[np.float32]
KERNELS = {"XNNPACK": False, "reference kernels": True}


def main() -> None:
    options = _arguments()
    for model in options.models:
        with tempfile.TemporaryDirectory() as folder:
            qdq, images, labels = quantized(model, options, Path(folder))
            whole_network(model, qdq, images, labels)
            operators(qdq, images[: options.images])


def quantized(model: str, options: argparse.Namespace, folder: Path) -> tuple[Path, Array, npt.NDArray[np.int64]]:
    """The QDQ file, and the photographs that judge with their labels."""
    from edgec.pipeline.forms.scheme import load_scheme
    from edgec.pipeline.network import models
    from edgec.pipeline.quantize.calibrate import collect
    from edgec.pipeline.quantize.quantizer import quantize

    weights = resolve_weights(str(options.real / "weights" / CARDS[model]), models.get(model))
    calibration, test = halves(open_dataset(options.real / "imagenet"), 0)
    source, qdq, pictures = float_onnx(weights, folder), folder / "qdq.onnx", read(calibration, weights)
    batches = [pictures[start : start + 20] for start in range(0, len(pictures), 20)]
    found = quantize(
        onnx.load(source), collect(source, lambda: batches), load_scheme("tflite"), options.level, lambda: batches
    )
    onnx.save(found.model, qdq)
    assert test.labels is not None
    return qdq, read(test, weights), test.labels


def whole_network(model: str, qdq: Path, images: Array, labels: npt.NDArray[np.int64]) -> None:
    """Agreement and signal-to-noise ratio of the logits, and the share of images whose logits are equal."""
    artifact = qdq.with_suffix(".tflite")
    artifact.write_bytes(to_tflite(onnx.load(qdq), TfliteOptions()))
    reference = OrtRunner(qdq, as_written=True)
    expected = np.concatenate([reference.predict(images[start : start + 20])[0] for start in range(0, len(images), 20)])
    print(f"{model}: {len(images)} images, top-1 of the reference {topk_percent(expected, labels):.2f} %")
    for kernels, is_reference in KERNELS.items():
        found = LiteRtRunner(artifact, reference=is_reference).predict(images)[0]
        same = right_percent(answers(found), answers(expected))
        facts = same, sqnr_db(found, expected), 100 * (found == expected).all(1).mean()
        print(f"  {kernels:<18} agree {facts[0]:.1f} %, {facts[1]:.1f} dB, equal logits on {facts[2]:.1f} % of images")


def operators(qdq: Path, images: Array) -> None:
    """Share and size of the differences by TFLite operator and kernels."""
    model = onnx.shape_inference.infer_shapes(onnx.load(qdq))
    integers = reference_integers(model, images, qdq.with_name("exposed.onnx"))
    found: dict[tuple[str, str], list[Array]] = defaultdict(list)
    for quantize, sources in pieces(model):
        read_back = next(node for node in model.graph.node if quantize.output[0] in node.input)
        piece = Extractor(model).extract_model([source.input[0] for source in sources], read_back.output)
        fed = {source.input[0]: integers[source.output[0]] for source in sources}
        content = to_tflite(piece, TfliteOptions())
        kinds = "+".join(operator.kind for operator in read_tflite(content).operators)
        for kernels, is_reference in KERNELS.items():
            answer = executed(content, fed, is_reference)
            found[kinds, kernels].append((answer - integers[quantize.output[0]].reshape(answer.shape)).ravel())
    for (kinds, kernels), parts in sorted(found.items()):
        steps = np.concatenate(parts)
        share, largest = 100 * np.mean(steps != 0), np.abs(steps).max()
        print(f"  {kinds:<18} {kernels:<18} {steps.size:9} values, {share:8.4f} % differ, by {largest:.0f} at most")


def reference_integers(model: onnx.ModelProto, images: Array, path: Path) -> dict[str, Array]:
    """Every stored tensor of the reference, ``(N, ...)``, as float32."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            exposed.graph.output.append(onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.INT8, None))
    onnx.save(exposed, path)
    runner = OrtRunner(path, as_written=True)
    return dict(zip(runner.outputs, runner.predict(images), strict=True))


def pieces(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, list[onnx.NodeProto]]]:
    """Each QuantizeLinear behind an operator, with those in front of it."""
    producers = {name: node for node in model.graph.node for name in node.output}

    def in_front(name: str) -> list[onnx.NodeProto]:
        node = producers[name]
        if node.op_type == "DequantizeLinear":
            return [producers[node.input[0]]] if node.input[0] in producers else []
        return [source for name in node.input if name in producers for source in in_front(name)]

    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in producers:
            yield node, list({source.name: source for source in in_front(node.input[0])}.values())


def executed(content: bytes, fed: dict[str, Array], is_reference: bool) -> Array:
    """One file's stored integers, ``(N, C, H, W)``, from those of its inputs by name."""
    interpreter = open_interpreter(content, 1, xnnpack=True, reference=is_reference)
    places = {details["name"]: details["index"] for details in interpreter.get_input_details()}
    output, answers = interpreter.get_output_details()[0]["index"], []
    for index in range(len(next(iter(fed.values())))):
        for name, values in fed.items():
            image = values[index : index + 1].astype(np.int8)
            interpreter.set_tensor(places[name], image.transpose(0, 2, 3, 1) if image.ndim == 4 else image)
        interpreter.invoke()
        answer = interpreter.get_tensor(output)
        answers.append(answer.transpose(0, 3, 1, 2) if answer.ndim == 4 else answer)
    return np.concatenate(answers).astype(np.float32)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=tuple(CARDS), default=tuple(CARDS))
    parser.add_argument("--level", choices=("fast", "accurate", "best"), default="accurate")
    parser.add_argument("--images", type=int, default=6, help="for the comparison of single operators")
    parser.add_argument("--real", type=Path, default=ROOT.parent / "shared" / "real")
    return parser.parse_args()


if __name__ == "__main__":
    main()
