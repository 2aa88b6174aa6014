"""For the type checker alone: every compiler offers every function of the seam, as it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgec.pipeline.forms.compiler import Compiler
    from edgec.targets import ethosu, onnxruntime, openvino, tensorrt, tflite

    _ethosu: Compiler = ethosu
    _onnxruntime: Compiler = onnxruntime
    _openvino: Compiler = openvino
    _tensorrt: Compiler = tensorrt
    _tflite: Compiler = tflite
