"""Exported networks in OpenCV's DNN module, as pipelines around LabVIEW and OpenCV load them, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from edgec.pipeline.network import models
from edgec.pipeline.network.export import export_onnx
from edgec.pipeline.network.models.initialise import settle_batch_norm
from edgec.pipeline.network.models.spec import NetworkConfig, build_network

cv2 = pytest.importorskip("cv2")

ENGINES = (cv2.dnn.ENGINE_CLASSIC, cv2.dnn.ENGINE_NEW)
SEGMENTING = [name for name in models.names() if models.get(name).task == "segmentation"]
CLASSIFYING = [name for name in models.names() if name not in SEGMENTING]


def exported(config: NetworkConfig, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Write the network; a picture, and ONNX Runtime's answer to it."""
    torch.manual_seed(0)
    network, px = build_network(config), config.input_px or 64
    settle_batch_norm(network, px)
    export_onnx(network, px, path, "classes" if config.argmax else "logits")
    picture = np.random.default_rng(0).standard_normal((1, 3, px, px)).astype(np.float32)
    return picture, onnxruntime.InferenceSession(str(path)).run(None, {"input": picture})[0]


def in_opencv(path: Path, picture: np.ndarray, engine: int) -> np.ndarray:
    network = cv2.dnn.readNetFromONNX(str(path), engine=engine)
    network.setInput(picture)
    return np.array(network.forward())


@pytest.mark.parametrize("model", CLASSIFYING)
def test_a_classifier_agrees_in_both_engines(model: str, tmp_path: Path) -> None:
    picture, expected = exported(NetworkConfig(model, 0.25, 64, 5), tmp_path / "m.onnx")
    for engine in ENGINES:
        found = in_opencv(tmp_path / "m.onnx", picture, engine)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 1e-4 * np.ptp(expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("model", "px"), [*((name, 65) for name in SEGMENTING), (SEGMENTING[0], 64)])
def test_deeplab_agrees_in_both_engines(model: str, px: int, engine: int, tmp_path: Path) -> None:
    """Corners on corners at 65 px, centres between them at 64."""
    picture, expected = exported(NetworkConfig(model, 0.25, px, 5), tmp_path / "m.onnx")
    found = in_opencv(tmp_path / "m.onnx", picture, engine)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-4 * np.ptp(expected)


@pytest.mark.parametrize("engine", ENGINES)
def test_argmax_agrees_in_both_engines(engine: int, tmp_path: Path) -> None:
    config = NetworkConfig("deeplabv3plus-mobilenetv2", 0.25, 65, 5, argmax=True)
    picture, expected = exported(config, tmp_path / "m.onnx")
    found = in_opencv(tmp_path / "m.onnx", picture, engine)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert np.mean(found == expected) > 0.999
