"""TFLite Micro: bit-exact against the reference kernels, arena measured, limits held."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from qdq_graphs import QdqGraph, integers, run_int8
from seams import settings_of

from edgec.pipeline.core.errors import EdgecError
from edgec.targets.tflite.compiler import to_tflite
from edgec.targets.tflite.flatbuffer import read_tflite
from edgec.targets.tflite.micro import run_micro

MCU = settings_of("mcu")
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
    np.testing.assert_array_equal(run.outputs[0], expected)
    assert 3 * 16 * 16 < run.arena_bytes < 200_000


@micro
def test_what_tflite_micro_says_is_passed_on() -> None:
    g, y = network()
    content = bytearray(to_tflite(g.model(y), MCU))
    with pytest.raises(EdgecError) as refused:
        run_micro(bytes(content), np.zeros((1, 5, 5, 3), np.int8))
    assert refused.value.code == "micro-refuses"


@micro
@pytest.mark.parametrize("count", [10, 11, 25, 101])
@pytest.mark.parametrize("axis", [1, 2])
def test_any_number_of_tensors_is_joined_ten_at_a_time(count: int, axis: int) -> None:
    """DenseNet's last blocks join 24; parts of different lengths, so that a wrong order shows."""
    g = QdqGraph((1, 3, 4, 5))
    weights = integers(np.random.default_rng(1), count, 3, 1, 1)
    parts = []
    for i in range(count):
        w = g.weights(f"w{i}", weights[i : i + 1].repeat(1 + i % 3 * (axis == 1), 0), np.float32(0.01))
        parts.append(g.op("Conv", [g.x, w], 0.2, 0))
    y = g.op("Concat", parts, 0.2, 0, axis=axis)
    content = to_tflite(g.model(y), MCU)
    assert max(len(op.inputs) for op in read_tflite(content).operators if op.kind == "CONCATENATION") <= 10
    image = integers(np.random.default_rng(2), 1, 3, 4, 5)
    run = run_micro(content, np.ascontiguousarray(image.transpose(0, 2, 3, 1)))
    expected = run_int8(g.model(y), image, MCU)
    found = run.outputs[0]
    assert np.array_equal(found if found.shape == expected.shape else found.transpose(0, 3, 1, 2), expected)
