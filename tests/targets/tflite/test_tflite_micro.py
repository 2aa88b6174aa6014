"""TFLite Micro: bit-exact against the reference kernels, arena measured, limits held."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from qdq_graphs import QdqGraph, integers, run_int8

from edgec.pipeline.errors import EdgecError
from edgec.targets.spec import Device, load_target
from edgec.targets.tflite.compiler import to_tflite
from edgec.targets.tflite.micro import memory_fit, run_micro
from edgec.targets.tflite.options import options_of

MCU = options_of(load_target("mcu"))
micro = pytest.mark.skipif(find_spec("tflite_micro") is None, reason="tflite-micro is not installed")


def network() -> tuple[QdqGraph, str]:
    rng = np.random.default_rng(0)
    g = QdqGraph((1, 3, 16, 16))
    x = g.op(
        "Conv", [g.x, g.weights("w1", integers(rng, 8, 3, 3, 3), rng.uniform(0.002, 0.01, 8))], 0.1, 0, strides=[2, 2]
    )
    x = g.op("HardSwish", [x], 0.08, -120)
    y = g.op("Conv", [x, g.weights("w2", integers(rng, 8, 1, 3, 3), np.float32(0.01))], 0.1, 0, group=8, pads=[1] * 4)
    x = g.op("Add", [x, y], 0.15, -10)
    x = g.op("MaxPool", [x], 0.15, -10, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    x = g.op("GlobalAveragePool", [x], 0.1, 0)
    x = g.op("Flatten", [x], 0.1, 0)
    return g, g.op("Gemm", [x, g.weights("w3", integers(rng, 10, 8), rng.uniform(0.002, 0.01, 10))], 0.1, 0, transB=1)


@micro
def test_a_network_is_bit_exact_and_its_arena_measured() -> None:
    g, y = network()
    images = np.stack([integers(np.random.default_rng(i), 3, 16, 16) for i in range(4)])
    run = run_micro(to_tflite(g.model(y), MCU), np.ascontiguousarray(images.transpose(0, 2, 3, 1)))
    expected = np.concatenate([run_int8(g.model(y), image[None], MCU) for image in images])
    np.testing.assert_array_equal(run.outputs, expected)
    assert 3 * 16 * 16 < run.arena_bytes < 200_000
    assert run.arena_with_margin_bytes >= 1.1 * run.arena_bytes
    assert run.arena_with_margin_bytes % 16 == 0


@micro
def test_what_tflite_micro_says_is_passed_on() -> None:
    g, y = network()
    content = bytearray(to_tflite(g.model(y), MCU))
    with pytest.raises(EdgecError) as refused:
        run_micro(bytes(content), np.zeros((1, 5, 5, 3), np.int8))
    assert refused.value.code == "micro-refuses"


def test_limits_and_what_would_fit() -> None:
    device = Device(ram_bytes=512 * 1024, flash_bytes=2 * 1024 * 1024)
    assert memory_fit(bytes(1000), 500_000, device, 1.0, 224).over == ()
    over = memory_fit(bytes(1000), 700_000, device, 1.0, 224)
    assert "700,000 bytes of 524,288 bytes RAM" in over.over[0]
    assert over.would_fit == ("--input-px 192", "--width-multiplier 0.5")
    flash = memory_fit(bytes(3_000_000), 500_000, device, 1.0, 224)
    assert "flash" in flash.over[0]
    assert flash.would_fit == ("--width-multiplier 0.75",)
    both = memory_fit(bytes(30_000_000), 6_000_000, device, 1.0, 224)
    assert len(both.over) == 2
    assert both.would_fit == ("--width-multiplier 0.25 --input-px 128",)
    assert memory_fit(bytes(1000), 10**9, device, 1.0, 32).would_fit == ()
    assert memory_fit(bytes(9_000_000), 10**9, Device(), 1.0, 224).over == ()
