"""onnx2tf: edgec's own float ONNX. Same arguments as its neighbours."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx2tf import onnx2tf


def main(model: str, source: str, images: str, output: str) -> None:
    data = np.load(images).transpose(0, 2, 3, 1)
    onnx2tf.download_test_image_data = lambda: data  # for its own checks; it would fetch pictures from the network
    with tempfile.TemporaryDirectory() as folder:
        calibration = Path(folder) / "images.npy"
        np.save(calibration, data)
        onnx2tf.convert(
            input_onnx_file_path=fixed_batch(source, folder),
            output_folder_path=folder,
            output_integer_quantized_tflite=True,
            custom_input_op_name_np_data_path=[["input", str(calibration), [[[[0.0] * 3]]], [[[[1.0] * 3]]]]],
            non_verbose=True,
        )
        shutil.copyfile(next(Path(folder).glob("*_full_integer_quant.tflite")), output)


def fixed_batch(source: str, folder: str) -> str:
    """The same network for one image: with a symbolic batch onnx2tf loses track of the axes of MobileNetV3."""
    network = onnx.load(source)
    for value in (*network.graph.input, *network.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del network.graph.value_info[:]
    path = Path(folder) / "one.onnx"
    onnx.save(network, path)
    return str(path)


main(*sys.argv[1:])
