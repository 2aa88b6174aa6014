"""Whole networks at reduced width and resolution, through the project's own quantizer; real weights where they are."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxsim
import pytest
import torch
from qdq_graphs import run_onnx

from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.forms.scheme import load_scheme
from edgec.pipeline.network.export import export_onnx
from edgec.pipeline.network.models.initialise import initialise, settle_batch_norm
from edgec.pipeline.network.models.spec import NetworkConfig, build_network
from edgec.pipeline.quantize.calibrate import collect
from edgec.pipeline.quantize.quantizer import quantize
from edgec.pipeline.tasks.metrics import sqnr_db
from edgec.targets.tflite.compiler import to_tflite
from edgec.targets.tflite.delegate import delegate_coverage
from edgec.targets.tflite.flatbuffer import read_tflite
from edgec.targets.tflite.options import TfliteOptions
from edgec.targets.tflite.runner import LiteRtRunner

NETWORKS = {"mobilenetv1": 32, "mobilenetv2": 32, "mobilenetv3": 32, "mobilenetv3-small": 32, "xception": 79}
CASES = [*((name, "torch") for name in NETWORKS), ("mobilenetv2", "tf-same"), ("mobilenetv3-small", "tf-same")]
torch.set_num_threads(1)


def smooth_noise(count: int, px: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    coarse = rng.normal(size=(count, 3, px // 16 + 1, px // 16 + 1)).repeat(16, 2).repeat(16, 3)[..., :px, :px]
    return (coarse + 0.25 * rng.normal(size=(count, 3, px, px))).astype(np.float32)


@cache
def exported(name: str, padding: str, folder: Path) -> Path:
    """Float ONNX of an untrained network."""
    torch.manual_seed(0)
    width = 0.25 if name != "xception" else 0.125
    network = build_network(NetworkConfig(name, width, NETWORKS[name], 16, padding))
    initialise(network)
    settle_batch_norm(network, NETWORKS[name])
    raw, path = folder / "raw.onnx", folder / f"{name}-{padding}.onnx"
    export_onnx(network, NETWORKS[name], raw)
    onnx.save(onnxsim.simplify(onnx.load(raw), skipped_optimizers=["fuse_bn_into_conv"])[0], path)
    return path


def quantized(path: Path, px: int) -> onnx.ModelProto:
    """The quantizer's own explicit QDQ."""
    images = smooth_noise(8, px)
    calibration = collect(path, lambda: [images])
    return quantize(onnx.load(path), calibration, load_scheme("tflite"), "fast", lambda: [images]).model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


@pytest.mark.parametrize(("name", "padding"), CASES)
def test_network_is_one_delegate_piece_and_answers_like_the_reference(name: str, padding: str, folder: Path) -> None:
    qdq = quantized(exported(name, padding, folder), NETWORKS[name])
    content = to_tflite(qdq, TfliteOptions())
    assert to_tflite(qdq, TfliteOptions()) == content
    coverage, file = delegate_coverage(content), read_tflite(content)
    assert (coverage.pieces, coverage.operators_percent, coverage.macs_percent) == (1, 100.0, 100.0)
    assert file.inner_conversions == (11 if name == "xception" else 0)  # its pre-activations
    kinds = {operator.kind for operator in file.operators}
    assert not kinds & {"TRANSPOSE", "DEQUANTIZE", "HARD_SWISH", "PADV2"}
    if padding == "tf-same":
        assert "PAD" not in kinds
    path = folder / "m.tflite"
    path.write_bytes(content)
    onnx.save(qdq, folder / "m.onnx")
    x = smooth_noise(12, NETWORKS[name])[8:]
    (expected,) = OrtRunner(folder / "m.onnx", as_written=True).predict(x)
    (answer,) = LiteRtRunner(path).predict(x)
    if name == "xception":  # XNNPACK rounds the ratio of a QUANTIZE's two scales to 1/256
        assert sqnr_db(expected, answer) > 10.0
    else:
        np.testing.assert_array_equal(answer, expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_float_network(name: str, folder: Path) -> None:
    model = onnx.load(exported(name, "torch", folder))
    content = to_tflite(model, TfliteOptions())
    assert delegate_coverage(content).pieces == 1
    path = folder / "f.tflite"
    path.write_bytes(content)
    x = smooth_noise(2, NETWORKS[name])
    expected = np.concatenate([run_onnx(model, image[None]) for image in x])
    np.testing.assert_allclose(LiteRtRunner(path).predict(x)[0], expected, atol=1e-4 * np.abs(expected).max())
