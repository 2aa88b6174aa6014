"""Hand-built QDQ graphs and ways to execute them: ONNX Runtime as written, and TFLite's reference kernels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgec.targets.tflite.compiler import to_tflite
from edgec.targets.tflite.flatbuffer import read_tflite
from edgec.targets.tflite.options import TfliteOptions
from edgec.targets.tflite.runner import open_interpreter

MICRO = TfliteOptions(xnnpack=False, runtime="tflite-micro")


@dataclass
class QdqGraph:
    """Adds operators whose outputs pass through a Q/DQ pair; ``quantized=False`` builds the float twin.

    Attributes:
        dtype: of the pairs; int16 has zero points of 0.
    """

    shape: tuple[int, ...]
    scale: float = 0.05
    zero_point: int = 3
    quantized: bool = True
    dtype: type = np.int8
    nodes: list[Any] = field(default_factory=list)
    initializers: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.x = self.quantize("input", self.scale, self.zero_point)

    def constant(self, name: str, data: np.ndarray) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(data), name))
        return name

    def quantize(self, name: str, scale: float, zero_point: int, dtype: type | None = None) -> str:
        if not self.quantized:
            return name
        s = self.constant(f"{name}.scale", np.float32(scale))
        z = self.constant(f"{name}.zero_point", np.asarray(zero_point, dtype or self.dtype))
        self.nodes.append(helper.make_node("QuantizeLinear", [name, s, z], [f"{name}.q"]))
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{name}.q", s, z], [f"{name}.dq"]))
        return f"{name}.dq"

    def weights(self, name: str, data: np.ndarray, scale: Any) -> str:
        """Integers behind a DequantizeLinear: int8 weights or an int32 bias, per channel on axis 0."""
        scale = np.asarray(scale, np.float32)
        if not self.quantized:
            return self.constant(name, (data * scale.reshape([-1] + [1] * (data.ndim - 1))).astype(np.float32))
        zero_point = np.zeros(scale.shape, data.dtype)
        inputs = [
            self.constant(f"{name}.i", data),
            self.constant(f"{name}.s", scale),
            self.constant(f"{name}.z", zero_point),
        ]
        axis = {"axis": 0} if scale.ndim else {}
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [name], **axis))
        return name

    def op(self, op: str, inputs: list[str], scale: float | None = None, zero_point: int = 0, **attributes: Any) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name if scale is None else self.quantize(name, scale, zero_point)

    def model(self, *outputs: str, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(o, dtype, None) for o in outputs],
            self.initializers,
        )
        opset, ir = (21, 10) if self.dtype is np.int16 else (17, 9)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def integers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-128, 128, shape).astype(np.int8)


def run_int8(
    model: onnx.ModelProto, x: np.ndarray, options: TfliteOptions = MICRO, reference: bool = True
) -> np.ndarray:
    """int8 ``(N, C, H, W)`` in, the file's integers out, as the model orders them."""
    content = to_tflite(model, options)
    interpreter = open_interpreter(content, 1, xnnpack=options.xnnpack, reference=reference)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], to_nhwc(x))
    interpreter.invoke()
    given = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return given if read_tflite(content).outputs_in_model_order else to_nchw(given)


def run_onnx(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """ONNX Runtime with every Q and DQ as written, float in and out."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": x})[0]


def steps_from_onnx(
    graph: QdqGraph, output: str, x: np.ndarray, got: np.ndarray, scale: float, zero_point: int
) -> float:
    """Largest difference, in integer steps, between a file's int8 output and the QDQ model's."""
    real = (x.astype(np.float32) - graph.zero_point) * np.float32(graph.scale)
    expected = run_onnx(graph.model(output), real)
    return float(np.abs(got.astype(np.float64) - zero_point - np.rint(expected / np.float32(scale))).max())


def to_nhwc(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x


def to_nchw(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x
