"""What strips and wider windows save of TFLite Micro's arena: measured by TFLite Micro itself, with the same answers.

python benchmarks/arena.py [--padding torch tf-same]

Untrained networks, calibrated on four pictures of noise: the arena depends on shapes alone. Each file answers the same
random images; one integer that differs ends the run.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxsim
import torch

from edgec.pipeline.forms.spec import load_target
from edgec.pipeline.network.export import export_onnx
from edgec.pipeline.network.models.initialise import initialise, settle_batch_norm
from edgec.pipeline.network.models.spec import NetworkConfig, build_network
from edgec.pipeline.quantize.calibrate import collect
from edgec.pipeline.quantize.quantizer import quantize
from edgec.targets.tflite.compiler import to_tflite
from edgec.targets.tflite.flatbuffer import read_tflite
from edgec.targets.tflite.live import planned_bytes
from edgec.targets.tflite.micro import run_micro
from edgec.targets.tflite.options import settings

CASES = (
    ("mobilenetv2", 1.0, 224),
    ("mobilenetv2", 0.35, 96),
    ("mobilenetv2", 0.3, 80),
    ("mobilenetv3-small", 1.0, 224),
    ("mobilenetv1", 0.25, 96),
)
COLUMNS = (
    "network | padding | arena whole | in strips | saved | tensors whole | in strips | more MACs | more bytes of file"
)


def quantized(model: str, width: float, px: int, padding: str) -> onnx.ModelProto:
    """The QDQ network of a microcontroller."""
    torch.manual_seed(0)
    network = build_network(NetworkConfig(model, width, px, 1000, padding))
    initialise(network)
    settle_batch_norm(network, px)
    with tempfile.TemporaryDirectory() as folder:
        raw, path = Path(folder) / "raw.onnx", Path(folder) / "float.onnx"
        export_onnx(network, px, raw)
        onnx.save(onnxsim.simplify(onnx.load(raw), skipped_optimizers=["fuse_bn_into_conv"])[0], path)
        noise = np.random.default_rng(1).normal(size=(4, 3, -(-px // 16), -(-px // 16)))
        images = noise.repeat(16, 2).repeat(16, 3)[..., :px, :px].astype(np.float32)
        seen, scheme = collect(path, lambda: [images]), load_target("mcu").scheme
        return quantize(onnx.load(path), seen, scheme, "fast", lambda: [images]).model


def row(model: str, width: float, px: int, padding: str, num_images: int) -> str:
    """One line of the table; KB of 1,000 bytes."""
    qdq, options = quantized(model, width, px, padding), settings(load_target("mcu"))
    contents = [to_tflite(qdq, replace(options, smaller_arena=smaller)) for smaller in (False, True)]
    files = [read_tflite(content) for content in contents]
    shape = files[0].tensors[files[0].inputs[0]].shape
    images = np.random.default_rng(2).integers(-128, 128, (num_images, *shape[1:])).astype(np.int8)
    before, after = (run_micro(content, images) for content in contents)
    np.testing.assert_array_equal(after.outputs[0], before.outputs[0])
    arenas = before.arena_bytes, after.arena_bytes
    figures = [f"{value / 1e3:.1f}" for value in (*arenas, *map(planned_bytes, files))]
    figures.insert(2, f"{100 * (1 - arenas[1] / arenas[0]):.1f} %")
    more = f"{100 * (files[1].macs / files[0].macs - 1):.1f} % | {len(contents[1]) - len(contents[0]):,}"
    return f"| {model} {width} {px} px | {padding} | {' | '.join(figures)} | {more} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--padding", nargs="+", choices=["torch", "tf-same"], default=["torch", "tf-same"])
    parser.add_argument("--images", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| {COLUMNS} |\n|{'---|' * (COLUMNS.count('|') + 1)}")
    for model, width, px in CASES:
        for padding in options.padding:
            print(row(model, width, px, padding, options.images), flush=True)


if __name__ == "__main__":
    main()
