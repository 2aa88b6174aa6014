"""What files answer, through their runtimes alone: nothing here is edgec's, so that its figures can be checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.float32]
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def read_pictures(paths: list[Path], px: int) -> Images:
    """``(N, 3, px, px)``: stretched and normalised."""
    from PIL import Image

    def read(path: Path) -> npt.NDArray[np.float32]:
        with Image.open(path) as picture:
            values = np.asarray(picture.convert("RGB").resize((px, px), Image.Resampling.BILINEAR), np.float32) / 255
        return ((values - np.float32(MEAN)) / np.float32(DEVIATION)).transpose(2, 0, 1)

    return np.stack([read(path) for path in paths]).astype(np.float32)


def onnx_answers(path: Path, images: Images) -> Images:
    """An ONNX file in ONNX Runtime with nothing fused: Q and DQ compute what is written."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in images])


def openvino_answers(path: Path, images: Images) -> Images:
    """An IR in OpenVINO, integers as they are and the rest in float32."""
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.concatenate([np.array(compiled(image[None])[0]) for image in images])


def tflite_answers(path: Path, images: Images, like: tuple[int, ...]) -> Images:
    """A .tflite file in LiteRT; feature maps come back as NCHW, of the shape ``like`` of one image."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    answers = []
    for image in images:
        interpreter.set_tensor(source["index"], _encoded(image.transpose(1, 2, 0)[None], source))
        interpreter.invoke()
        answer = _decoded(interpreter.get_tensor(result["index"]), result)
        answers.append(answer if answer.shape[1:] == like else answer.transpose(0, 3, 1, 2))
    return np.concatenate(answers)


def _encoded(values: Images, tensor: dict[str, Any]) -> npt.NDArray[Any]:
    scale, zero_point = tensor["quantization"]
    if not scale:
        return values
    limits = np.iinfo(tensor["dtype"])
    return np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max).astype(tensor["dtype"])


def _decoded(values: npt.NDArray[Any], tensor: dict[str, Any]) -> Images:
    scale, zero_point = tensor["quantization"]
    return ((values.astype(np.float32) - zero_point) * scale if scale else values).astype(np.float32)


def decibels(answers: Images, reference: Images) -> float:
    """Signal to noise of all values of all images."""
    signal, noise = np.square(reference, dtype=np.float64).sum(), np.square(answers - reference, dtype=np.float64).sum()
    return float(10 * np.log10(signal / max(noise, 1e-30)))


def decibels_between(answers: Images, reference: Images) -> float:
    """The same of what tells images apart: the mean over all images taken away from both.

    Untrained networks answer all images nearly alike, and what is common to them hides the noise.
    """
    return decibels(answers - answers.mean(0), reference - reference.mean(0))
