"""The roofline: what is one kernel, what it reads and multiplies, and published figures within the stated factor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from seams import settings_of

from edgec.pipeline.forms.spec import Gpu, load_target, names
from edgec.pipeline.quantize.calibrate import collect
from edgec.pipeline.quantize.quantizer import quantize
from edgec.targets.tensorrt import estimate
from edgec.targets.tensorrt.dialect import to_tensorrt
from edgec.targets.tensorrt.roofline import FACTOR, Constants, Kernel, estimate_latency, kernel_seconds, kernels

GPU = Gpu(int8_tops=2.0, fp16_tflops=1.0, bandwidth_gb_s=1.0)
IDEAL = Constants(launch_us=0.0, compute_efficiency=1.0, memory_efficiency=1.0)


@pytest.mark.parametrize(
    ("kernel", "seconds"),
    [
        (Kernel("c", macs=10**12, bytes=0, integer=True), 1.0),  # 2 operations each at 2 TOPS
        (Kernel("c", macs=10**12, bytes=0, integer=False), 2.0),
        (Kernel("depthwise", macs=0, bytes=3 * 10**9, integer=True), 3.0),
        (Kernel("both", macs=10**12, bytes=10**9, integer=False), 2.0),
    ],
)
def test_the_longer_of_arithmetic_and_traffic(kernel: Kernel, seconds: float) -> None:
    assert kernel_seconds([kernel], GPU, "int8", IDEAL) == [pytest.approx(seconds)]
    launched = kernel_seconds([kernel], GPU, "int8", replace(IDEAL, launch_us=1e6))
    assert launched == [pytest.approx(seconds + 1)]


def test_kernels_of_a_small_network(tiny_onnx: Path) -> None:
    float_model = onnx.load(tiny_onnx)
    float_model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    found = kernels(float_model)
    assert [kernel.name for kernel in found] == ["first", "depthwise", "pool", "classify"]
    assert [kernel.macs for kernel in found] == [6 * 3 * 9 * 32 * 32, 0, 0, 18]
    assert found[0].bytes == 2 * (3 * 32 * 32 + 6 * 3 * 9 + 6 + 6 * 32 * 32)
    images = [np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)]
    scheme = replace(load_target("jetson").scheme, min_channels=0, whole_depthwise=False)
    statistics = collect(tiny_onnx, lambda: images)
    stored = kernels(to_tensorrt(quantize(float_model, statistics, scheme, "fast", lambda: images).model))
    assert [kernel.integer for kernel in stored] == [True, True, False, True]
    assert stored[0].bytes < found[0].bytes


def test_no_rates_no_estimate(tiny_onnx: Path) -> None:
    model = onnx.load(tiny_onnx)
    assert estimate_latency(model, Gpu(), "int8") is None
    assert estimate_latency(model, replace(GPU, int8_tops=None), "int8") is None
    found = estimate_latency(model, replace(GPU, int8_tops=None), "fp16")
    assert found is not None
    assert found.high_ms / found.low_ms == pytest.approx(FACTOR**2)


def test_boards_without_rates_stay_without_an_estimate(jetson_bundle: Path) -> None:
    boards = [load_target(name) for name in names() if load_target(name).compiler == "tensorrt"]
    assert len(boards) == 8
    known = {board.name for board in boards if estimate(jetson_bundle / "tensorrt", settings_of(board))}
    assert known == {"jetson", "jetson-orin-nano", "jetson-orin-nx", "jetson-agx-orin", "jetson-nano"}
    assert all(board.device.gpu and board.device.gpu.source for board in boards)


PUBLISHED_MOBILENETV2_MS = {("fp16", 1): 0.850, ("fp16", 8): 3.925}
"""Orin Nano 8GB, MAXN_SUPER, TensorRT 10.3 (onnxsim, scripts/nvidia/README.md)."""


@pytest.mark.parametrize(("precision", "batch"), PUBLISHED_MOBILENETV2_MS)
def test_published_figures_lie_in_the_range(precision: str, batch: int, tmp_path: Path) -> None:
    from edgec.pipeline.network.export import export_onnx
    from edgec.pipeline.network.models.spec import NetworkConfig, build_network

    export_onnx(build_network(NetworkConfig("mobilenetv2")), 224, tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    gpu = load_target("jetson").device.gpu
    assert gpu is not None
    found = estimate_latency(model, gpu, precision)
    assert found is not None
    assert found.low_ms < PUBLISHED_MOBILENETV2_MS[precision, batch] < found.high_ms
