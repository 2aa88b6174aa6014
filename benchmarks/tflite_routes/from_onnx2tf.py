"""onnx2tf: edgec's own float ONNX. Same arguments as its neighbours."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx2tf


def main(model: str, onnx: str, images: str, output: str) -> None:
    data = np.load(images).transpose(0, 2, 3, 1)
    with tempfile.TemporaryDirectory() as folder:
        calibration = Path(folder) / "images.npy"
        np.save(calibration, data)
        onnx2tf.convert(
            input_onnx_file_path=onnx,
            output_folder_path=folder,
            batch_size=1,
            output_integer_quantized_tflite=True,
            custom_input_op_name_np_data_path=[["input", str(calibration), [[[[0.0] * 3]]], [[[[1.0] * 3]]]]],
            non_verbose=True,
        )
        shutil.copyfile(next(Path(folder).glob("*_full_integer_quant.tflite")), output)


main(*sys.argv[1:])
