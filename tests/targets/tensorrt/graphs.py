"""Hand-made QDQ networks, node by node."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

CHANNELS = 16


class Builder:
    """A QDQ network; every tensor has ``CHANNELS`` channels."""

    def __init__(self, seed: int = 1) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.weights: list[str] = []
        self.stream = np.random.default_rng(seed)

    def add(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def pair(self, source: str, zero_point: int = 0, scale: Any = 0.05, dtype: type = np.int8) -> str:
        self.constants |= {f"{source}.s": np.float32(scale), f"{source}.z": np.full(np.shape(scale), zero_point, dtype)}
        axis = {"axis": 1} if np.ndim(scale) else {}
        self.add("QuantizeLinear", [source, f"{source}.s", f"{source}.z"], f"{source}.q", **axis)
        return self.add("DequantizeLinear", [f"{source}.q", f"{source}.s", f"{source}.z"], f"{source}.dq", **axis)

    def conv(
        self, source: str, name: str, stored: bool = True, channels: int = CHANNELS, depthwise: bool = False
    ) -> str:
        groups = {"group": CHANNELS} if depthwise else {}
        channels = 1 if depthwise else channels
        weight = self.stream.integers(-127, 128, (CHANNELS, channels, 1, 1)).astype(np.int8)
        scale = self.stream.uniform(1e-3, 1e-2, CHANNELS).astype(np.float32)
        self.constants[f"{name}.b"] = self.stream.integers(-999, 999, CHANNELS).astype(np.int32)
        self.constants |= {f"{name}.w": weight, f"{name}.s": scale, f"{name}.z": np.zeros(CHANNELS, np.int8)}
        self.constants |= {f"{name}.bs": scale * np.float32(0.05), f"{name}.bz": np.zeros(CHANNELS, np.int32)}
        if not stored:
            self.constants[f"{name}.w"] = weight.astype(np.float32)
            return self.add("Conv", [source, f"{name}.w"], name, **groups)
        self.weights.append(name)
        weights = self.add("DequantizeLinear", [f"{name}.w", f"{name}.s", f"{name}.z"], f"{name}.wd", axis=0)
        bias = self.add("DequantizeLinear", [f"{name}.b", f"{name}.bs", f"{name}.bz"], f"{name}.bd", axis=0)
        return self.add("Conv", [source, weights, bias], name, **groups)

    def nodes_of(self, op: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if node.op_type == op]

    def scale(self, source: str, op: str, name: str = "") -> str:
        """A constant per channel, in ``NAME.c``; ``Sub-from`` is ``constant - x``."""
        name = name or op
        self.constants[f"{name}.c"] = self.stream.uniform(0.5, 3, (1, CHANNELS, 1, 1)).astype(np.float32)
        if op == "BatchNormalization":
            given = [f"{name}.{part}" for part in ("scale", "bias", "mean", "var")]
            self.constants |= {part: self.stream.uniform(0.5, 2, CHANNELS).astype(np.float32) for part in given}
            return self.add(op, [source, *given], name)
        inputs = [f"{name}.c", source] if op == "Sub-from" else [source, f"{name}.c"]
        return self.add(op.removesuffix("-from"), inputs, name)

    def block(self, source: str, op: str, name: str) -> str:
        """What may stand between a convolution and a scale."""
        self.constants |= {f"{name}.half": np.float32(0.5), f"{name}.six": np.float32(6)}
        if op == "squeeze":
            gate = self.add("Sigmoid", [self.add("GlobalAveragePool", [source], f"{name}.pool")], f"{name}.gate")
            return self.add("Mul", [source, gate], name)
        if op == "pair":
            return self.pair(source)
        if op == "half":
            return self.add("Mul", [source, f"{name}.half"], name)
        if op == "Clip":
            return self.add(op, [source, "", f"{name}.six"], name)
        window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]} if op in ("MaxPool", "AveragePool") else {}
        return self.add(op, [source], name, **window)

    def model(self, output: str) -> onnx.ModelProto:
        self.nodes[-1].output[0] = output
        shapes = {"input": ["N", CHANNELS, 8, 8], output: ["N", CHANNELS, "H", "W"]}
        values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shapes[name]) for name in shapes]
        constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, "g", values[:1], values[1:], constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def float_classifier() -> onnx.ModelProto:
    """A float network of the same shape."""
    net = Builder()
    first = net.add("HardSwish", [net.conv("input", "first", stored=False)], "hs")
    pooled = net.add(
        "GlobalAveragePool", [net.add("Add", [first, net.conv(first, "second", stored=False)], "add")], "p"
    )
    net.conv(pooled, "last", stored=False)
    for name in ("first.w", "second.w", "last.w"):
        net.constants[name] /= 300
    return net.model("logits")


def classifier() -> onnx.ModelProto:
    """Integer convolutions around a hard-swish, a residual Add, and a last layer that stays in float."""
    net = Builder()
    first = net.add("HardSwish", [net.conv(net.pair("input"), "first")], "hs")
    stored = net.pair(first)
    second = net.pair(net.conv(stored, "second"))
    summed = net.pair(net.add("Add", [stored, second], "add"))
    net.conv(net.add("GlobalAveragePool", [net.conv(summed, "third")], "pool"), "last", stored=False)
    return net.model("logits")


def several_outputs() -> onnx.ModelProto:
    """``classifier`` with a vector, rows, class indices, and a tensor in the middle that an integer layer reads too."""
    net = Builder()
    first = net.add("HardSwish", [net.conv(net.pair("input"), "first")], "hs")
    middle = net.pair(net.conv(net.pair(first), "second"))
    last = net.conv(middle, "third")
    net.constants |= {"rows.shape": np.array([0, CHANNELS, -1]), "half": np.float32(0.5)}
    net.add("Reshape", [last, "rows.shape"], "rows")
    net.add("ArgMax", [last], "winner", axis=1, keepdims=0)
    net.add("Mul", [middle, "half"], "halved")
    net.add("GlobalAveragePool", [net.add("Add", [last, "halved"], "sum")], "pool")
    model = net.model("logits")
    kinds = {"rows": ("FLOAT", [CHANNELS, 64]), "winner": ("INT64", [8, 8]), middle: ("FLOAT", [CHANNELS, 8, 8])}
    for name, (kind, sides) in kinds.items():
        kind_of = onnx.TensorProto.DataType.Value(kind)
        model.graph.output.append(helper.make_tensor_value_info(name, kind_of, ["N", *sides]))
    return model
