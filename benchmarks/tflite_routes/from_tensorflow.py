"""TensorFlow's converter: the Keras network of the same name. Arguments: MODEL FLOAT.onnx IMAGES.npy OUT."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

applications = tf.keras.applications
NETWORKS = {
    "mobilenetv1": lambda px: applications.MobileNet(input_shape=(px, px, 3), weights=None),
    "mobilenetv2": lambda px: applications.MobileNetV2(input_shape=(px, px, 3), weights=None),
    "mobilenetv3": lambda px: applications.MobileNetV3Large((px, px, 3), weights=None, include_preprocessing=False),
    "mobilenetv3-small": lambda px: applications.MobileNetV3Small(
        (px, px, 3), weights=None, include_preprocessing=False
    ),
    "xception": lambda px: applications.Xception(input_shape=(px, px, 3), weights=None),
}


def main(model: str, source: str, images: str, output: str) -> None:
    data = np.load(images).transpose(0, 2, 3, 1)

    def representative() -> Iterator[list[np.ndarray]]:
        for image in data:
            yield [image[None]]

    converter = tf.lite.TFLiteConverter.from_keras_model(NETWORKS[model](data.shape[1]))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    Path(output).write_bytes(converter.convert())


main(*sys.argv[1:])
