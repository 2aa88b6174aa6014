"""What each equalized gate of a split hard-swish buys in dB, and what it costs in instructions.

    edgec build mobilenetv3-small --weights CARD.toml --data PHOTOS --target arm --output BUNDLE
    python benchmarks/gates.py BUNDLE --data PHOTOS [--calibrate 200] [--judge 64] [--core cortex-a76]

A gate whose stream has a factor for each channel is a depthwise 1x1 convolution; without them it adds one value. Each
row quantizes the bundle's float network anew without the factors of one hard-swish, or of all, at level ``fast``. The
first pictures of PHOTOS calibrate and the next ones judge the QDQ reference against float; the file's instructions are
those of one inference in XNNPACK on the emulated core. At the end all gates whose factors buy less than a limit for a
million instructions go at once.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import onnx

from edgec.pipeline.bundle.float_network import float_network
from edgec.pipeline.bundle.read import Bundle, open_bundle
from edgec.pipeline.data.dataset import Dataset, batches, open_dataset
from edgec.pipeline.forms.device import open_device
from edgec.pipeline.forms.form import Form, float_form, reference_form
from edgec.pipeline.forms.scheme import load_scheme
from edgec.pipeline.quantize import quantizer
from edgec.pipeline.quantize.calibrate import Calibration, collect
from edgec.pipeline.tasks.metrics import sqnr_db
from edgec.targets.tflite.compiler import to_tflite
from edgec.targets.tflite.inference import count_instructions
from edgec.targets.tflite.options import TfliteOptions

LEAST_DB = 0.5
"""That the factors of a gate have to buy for a million instructions, in the last row."""


@dataclass(frozen=True)
class Material:
    """What every row starts from."""

    bundle: Bundle
    float_onnx: Path
    calibration: Calibration
    calibrating: Dataset
    judging: Dataset
    core: str
    folder: Path

    def outputs(self, network: Path, form: Form) -> npt.NDArray[np.float32]:
        runner = form.open(network)
        return np.concatenate([runner.predict(batch)[0] for batch in batches(self.judging, self.bundle.preprocess)])


def material(options: argparse.Namespace, folder: Path) -> Material:
    bundle = open_bundle(options.bundle)
    pictures, path = open_dataset(options.data), float_network(bundle)
    parts = [slice(options.calibrate), slice(options.calibrate, options.calibrate + options.judge)]
    calibrating, judging = (replace(pictures, samples=pictures.samples[part]) for part in parts)
    seen = collect(path, partial(batches, calibrating, bundle.preprocess))
    return Material(bundle, path, seen, calibrating, judging, options.core, folder)


def quantized(given: Material, without: Collection[str]) -> tuple[Path, tuple[str, ...]]:
    """The QDQ network without the factors of these products; and the products that had factors."""
    chosen, choose = dict[str, npt.NDArray[np.float64]](), quantizer.stream_factors

    def stream_factors(network: quantizer.Network, scheme: quantizer.Scheme) -> Mapping[str, object]:
        found = choose(network, scheme)
        chosen.update(found)
        gone = {id(found[name]) for name in without if name in found}  # one array for all tensors of a stream
        return {name: factors for name, factors in found.items() if id(factors) not in gone}

    feed, model = partial(batches, given.calibrating, given.bundle.preprocess), onnx.load(given.float_onnx)
    with patch.object(quantizer, "stream_factors", stream_factors):
        found = quantizer.quantize(model, given.calibration, load_scheme("tflite"), "fast", feed)
    path = given.folder / "qdq.onnx"
    onnx.save(found.model, path)
    products = [node.output[0] for node in model.graph.node if node.op_type == "HardSwish" and node.output[0] in chosen]
    return path, tuple(products)


def measured(given: Material, network: Path, truth: npt.NDArray[np.float32]) -> tuple[float, float]:
    """SQNR in dB, and millions of instructions."""
    file = given.folder / "model.tflite"
    file.write_bytes(to_tflite(onnx.load(network), TfliteOptions()))
    count = count_instructions(open_device(f"qemu:{given.core}"), file, timeout_s=900.0)
    return sqnr_db(given.outputs(network, reference_form()), truth), count / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--calibrate", type=int, default=200)
    parser.add_argument("--judge", type=int, default=64)
    parser.add_argument("--core", default="cortex-a76")
    options = parser.parse_args()
    print("| hard-swish without factors | SQNR dB | M instructions | its factors buy, dB | and cost, M | dB per M |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        given = material(options, Path(folder))
        truth = given.outputs(given.float_onnx, float_form())
        network, products = quantized(given, ())
        best, most = measured(given, network, truth)
        print(f"| none | {best:.2f} | {most:.2f} | | | |", flush=True)
        poor = []
        for name in products:
            db, count = measured(given, quantized(given, [name])[0], truth)
            worth = (best - db) / max(most - count, 1e-6)
            poor += [name] if worth < LEAST_DB else []
            print(
                f"| `{name}` | {db:.2f} | {count:.2f} | {best - db:.2f} | {most - count:.2f} | {worth:.1f} |",
                flush=True,
            )
        for words, gone in ((f"the {len(poor)} below {LEAST_DB} dB per M", poor), ("all", products)):
            db, count = measured(given, quantized(given, gone)[0], truth)
            worth = (best - db) / max(most - count, 1e-6)
            print(
                f"| {words} | {db:.2f} | {count:.2f} | {best - db:.2f} | {most - count:.2f} | {worth:.1f} |", flush=True
            )


if __name__ == "__main__":
    main()
