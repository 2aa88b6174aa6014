"""Small networks that bring Q/DQ pairs along, in the spellings of different exporters."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 8
CHANNELS = 16

ACTIVATIONS = {
    "uint8": (TensorProto.UINT8, 100, 0.03),
    "int8": (TensorProto.INT8, 0, 0.05),
    "int8-shifted": (TensorProto.INT8, -11, 0.04),
    "clipped": (TensorProto.UINT8, 60, 0.06),
    "int4": (TensorProto.INT4, -1, 0.5),
    "uint16": (TensorProto.UINT16, 30000, 0.0002),
}
"""ONNX type, zero_point and scale."""

WEIGHTS = ("stored", "fake", "per-tensor", "uint8-128", "asymmetric", "int4", "blocks")


@dataclass
class Writer:
    """Collects nodes and constants of one graph."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, values: object, kind: int = TensorProto.FLOAT) -> str:
        array = np.asarray(values, np.float32)
        narrow = kind in (TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT8E4M3FN)
        tensor = helper.make_tensor(name, kind, array.shape, array.reshape(-1).tolist()) if narrow else None
        self.constants.append(
            tensor or numpy_helper.from_array(array.astype(helper.tensor_dtype_to_np_dtype(kind)), name)
        )
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], f"{output}.node", **attributes))
        return output

    def pair(self, name: str, spelling: str, output: str | None = None) -> str:
        """Q and DQ of an activation."""
        kind, zero, scale = ACTIVATIONS[spelling]
        parameters = [self.constant(f"{name}.s", scale), self.constant(f"{name}.z", zero, kind)]
        stored = self.node("QuantizeLinear", [name, *parameters], f"{name}.q")
        if spelling == "clipped":
            bounds = [self.constant(f"{name}.{end}", value, kind) for end, value in (("low", 0), ("high", 127))]
            stored = self.node("Clip", [stored, *bounds], f"{name}.clip")
        return self.node("DequantizeLinear", [stored, *parameters], output or f"{name}.dq")

    def weight(self, name: str, values: np.ndarray, spelling: str) -> str:
        """DQ of a weight whose first axis is the output channel, and Q where the exporter leaves it in the file."""
        rows = np.abs(values).reshape(len(values), -1).max(axis=1)
        axis: dict[str, int] = {"axis": 0}
        kind, zero, scale = TensorProto.INT8, np.zeros(len(rows)), rows / 127
        if spelling in ("per-tensor", "uint8-128", "asymmetric"):
            axis, zero, scale = {}, np.zeros(()), rows.max() / 127
        if spelling in ("uint8-128", "asymmetric"):
            kind, zero = TensorProto.UINT8, np.array(128 if spelling == "uint8-128" else 120)
        if spelling in ("int4", "blocks"):
            kind, scale = TensorProto.INT4, rows / 7
        low, high = {TensorProto.INT8: (-127, 127), TensorProto.UINT8: (0, 255), TensorProto.INT4: (-8, 7)}[kind]
        spread = np.reshape(scale, (-1, *[1] * (values.ndim - 1))) if np.ndim(scale) else scale
        whole = np.clip(np.rint(values / spread) + (zero if np.ndim(zero) == 0 else 0), low, high)
        if spelling == "blocks":
            axis = {"axis": 1, "block_size": 2}
            blocks = [*values.shape]
            blocks[1] = -(-blocks[1] // 2)
            scale = np.broadcast_to(spread, blocks)
            zero = np.zeros(blocks)
        parameters = [self.constant(f"{name}.s", scale), self.constant(f"{name}.z", zero, kind)]
        if spelling == "fake":
            stored = self.node("QuantizeLinear", [self.constant(name, values), *parameters], f"{name}.q", **axis)
        else:
            stored = self.constant(f"{name}.q", whole, kind)
        return self.node("DequantizeLinear", [stored, *parameters], f"{name}.dq", **axis)

    def bias(self, name: str, values: np.ndarray, step: np.ndarray, stored: bool) -> str:
        """Of 32 bits in steps of what it is added to, or in float."""
        if not stored:
            return self.constant(name, values)
        integers = self.constant(f"{name}.q", np.rint(values / step), TensorProto.INT32)
        return self.node("DequantizeLinear", [integers, self.constant(f"{name}.s", step)], f"{name}.dq", axis=0)

    def model(self, output_shape: list[object], opset: int = 21) -> onnx.ModelProto:
        """From ``x`` to ``y``."""
        graph = helper.make_graph(
            self.nodes,
            "pairs",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, output_shape)],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def qdq_network(activation: str = "uint8", weight: str = "stored", transposed: bool = False) -> onnx.ModelProto:
    """Convolution and Relu, depthwise convolution, average, and a classifier; a pair behind each."""
    draw, write = np.random.default_rng(4), Writer()
    values = [draw.normal(0, 0.4, shape) for shape in ((CHANNELS, 3, 3, 3), (CHANNELS, 1, 3, 3), (5, CHANNELS))]
    depthwise = "stored" if weight == "blocks" else weight
    conv = [write.pair("x", activation), write.weight("w1", values[0], weight)]
    step = ACTIVATIONS[activation][2] * np.abs(values[0]).max(axis=(1, 2, 3)) / 127
    conv.append(write.bias("b1", np.full(CHANNELS, 0.25), step, stored=weight == "stored"))
    pads = {"kernel_shape": [3, 3], "pads": [1] * 4}
    write.node("Relu", [write.node("Conv", conv, "c1", **pads)], "r1")
    conv = [write.pair("r1", activation), write.weight("w2", values[1], depthwise)]
    write.node("Conv", conv, "c2", group=CHANNELS, **pads)
    write.node("GlobalAveragePool", [write.pair("c2", activation)], "p")
    flat = write.pair(write.node("Flatten", [write.pair("p", activation)], "f"), activation)
    last, bias = write.weight("w3", values[2], weight), write.constant("b3", np.zeros(5))
    if transposed:
        product = write.node("MatMul", [flat, write.node("Transpose", [last], "w3.t", perm=[1, 0])], "m")
        write.node("Add", [product, bias], "logits")
    else:
        write.node("Gemm", [flat, last, bias], "logits", transB=1)
    write.pair("logits", activation, "y")
    return write.model(["N", 5])
