"""What one operator costs in XNNPACK, INT8 against float32: instructions on emulated Arm cores, nanoseconds here.

    python benchmarks/operators.py [--cores cortex-a53 cortex-a72 cortex-a76] [--kinds KIND ...] [--time]

Each operator stands in a chain of 3 and of 7 of itself on a map of 28 x 28 with 96 channels, quantized and lowered as a
build does it. A quarter of the difference is one operator alone, without what the runtime does for each call. Divided
by the values that it makes, instructions repeat to the instruction; nanoseconds (``--time``, one thread, chains by
turns) want an idle machine. The hard-swish of INT8 is what edgec makes of it, a gate with factors and the product. A
gate without factors adds one value; a chain of such sums has no cost that these differences show.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from tflite_time import interleaved

CHANNELS, SIDE = 96, 28
SHAPE = (1, CHANNELS, SIDE, SIDE)
LENGTHS = (3, 7)
CORES = ("cortex-a53", "cortex-a72", "cortex-a76")

Array = npt.NDArray[np.float32]


class Chain:
    """A float ONNX model that grows node by node."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(0)

    def constant(self, values: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], f"n{len(self.nodes)}", **attributes))
        return output

    def convolve(self, x: str, kernel: int, group: int, spread: float = 0.0) -> str:
        """SAME, and about as large as what came in; ``spread`` of the weights about 1 where each is one value."""
        fan_in = CHANNELS // group * kernel**2
        shape = (CHANNELS, CHANNELS // group, kernel, kernel)
        weight = self.rng.normal(1.0 if spread else 0.0, spread or fan_in**-0.5, shape)
        pads = [kernel // 2] * 4
        bias = self.constant(np.zeros(CHANNELS, np.float32))
        return self.add("Conv", x, self.constant(np.abs(weight) if spread else weight), bias, group=group, pads=pads)

    def model(self, output: str) -> onnx.ModelProto:
        names = (helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ("x", output))
        graph = helper.make_graph(self.nodes, "chain", *([name] for name in names), self.constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return onnx.shape_inference.infer_shapes(made)


KINDS: dict[str, Callable[[Chain, str], str]] = {
    "convolution 1x1": lambda chain, x: chain.convolve(x, 1, 1),
    "convolution 3x3": lambda chain, x: chain.convolve(x, 3, 1),
    "depthwise 3x3": lambda chain, x: chain.convolve(x, 3, CHANNELS),
    "depthwise 5x5": lambda chain, x: chain.convolve(x, 5, CHANNELS),
    "depthwise 1x1, as a gate with factors": lambda chain, x: chain.convolve(x, 1, CHANNELS, 0.2),
    "add two maps": lambda chain, x: chain.add("Add", x, "x"),
    "multiply two maps": lambda chain, x: chain.add("Mul", x, "x"),
    "hard-swish": lambda chain, x: chain.add("HardSwish", x),
}


def write(kind: str, length: int, folder: Path) -> dict[str, Path]:
    """The chain as .tflite: INT8 and float32."""
    from edgec.pipeline.forms.scheme import load_scheme
    from edgec.pipeline.quantize.calibrate import collect
    from edgec.pipeline.quantize.quantizer import quantize
    from edgec.targets.tflite.compiler import to_tflite
    from edgec.targets.tflite.options import TfliteOptions

    chain, x = Chain(), "x"
    for _ in range(length):
        x = KINDS[kind](chain, x)
    source, folder = chain.model(x), folder / f"{list(KINDS).index(kind)}-{length}"
    folder.mkdir()
    onnx.save(source, folder / "float.onnx")
    images = np.split(np.random.default_rng(1).normal(size=(8, *SHAPE[1:])).astype(np.float32), 8)
    seen = collect(folder / "float.onnx", lambda: images)
    integer = quantize(source, seen, load_scheme("tflite"), "fast", lambda: images).model
    for name, model in {"int8": integer, "float": source}.items():
        (folder / f"{name}.tflite").write_bytes(to_tflite(model, TfliteOptions()))
    return {name: folder / f"{name}.tflite" for name in ("int8", "float")}


def instructions(path: Path, core: str) -> float:
    from edgec.pipeline.forms.device import open_device
    from edgec.targets.tflite.inference import count_instructions

    return float(count_instructions(open_device(f"qemu:{core}"), path, xnnpack=True, timeout_s=600.0))


def of_one(found: dict[int, float]) -> float:
    """Of one operator and one value, from chains of two lengths."""
    few, many = LENGTHS
    return (found[many] - found[few]) / (many - few) / np.prod(SHAPE)


def row(kind: str, folder: Path, options: argparse.Namespace) -> str:
    files = {length: write(kind, length, folder) for length in LENGTHS}
    cells = []
    for core in options.cores:
        pair = [of_one({n: instructions(files[n][name], core) for n in LENGTHS}) for name in ("int8", "float")]
        cells.append(f"{pair[0]:.2f} / {pair[1]:.2f} = {pair[0] / pair[1]:.2f}")
    if options.time:
        chains = {f"{name} {n}": files[n][name] for n in LENGTHS for name in ("int8", "float")}
        ms = interleaved(chains, options.budget_s / len(options.kinds))
        pair = [1e6 * of_one({n: ms[f"{name} {n}"] for n in LENGTHS}) for name in ("int8", "float")]
        cells.append(f"{pair[0]:.2f} / {pair[1]:.2f} = {pair[0] / pair[1]:.2f}")
    return f"| {kind} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", nargs="*", default=list(CORES))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND")
    parser.add_argument("--time", action="store_true", help="nanoseconds on this machine too")
    parser.add_argument("--budget-s", type=float, default=60.0, help="seconds of timing in all")
    options = parser.parse_args()
    columns = [f"{core}, instructions" for core in options.cores] + ["this machine, ns"] * options.time
    print(f"| INT8 / float32 of one value | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.kinds:
            print(row(kind, Path(folder), options), flush=True)


if __name__ == "__main__":
    main()
