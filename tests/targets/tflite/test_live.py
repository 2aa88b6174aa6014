"""What the arena holds, operator by operator: by hand, and against what TFLite Micro's own planner says."""

from __future__ import annotations

import re
from importlib.util import find_spec

import numpy as np
import pytest
from qdq_graphs import QdqGraph, integers
from seams import settings_of

from edgec.targets.tflite.compiler import to_tflite
from edgec.targets.tflite.flatbuffer import FileOperator, FileTensor, TfliteFile, read_tflite
from edgec.targets.tflite.live import memory_steps, planned_bytes


def tensor(name: str, count: int, constant_bytes: int = 0, dtype: str = "int8") -> FileTensor:
    return FileTensor(name, (1, count), dtype, (), 0, constant_bytes)


def test_by_hand() -> None:
    """A chain with a branch around it: 100 bytes take 112, int16 twice as much, constants nothing."""
    tensors = (tensor("in", 100), tensor("w", 5000, 5000), tensor("a", 32), tensor("b", 16, dtype="int16"),
               tensor("sum", 48), tensor("unused", 160), tensor("early", 16))  # fmt: skip
    operators = (
        FileOperator("CONV_2D", (0, 1, -1), (2, 6), 0),  # in 112, a 32, early 16
        FileOperator("HARD_SWISH", (2,), (3,), 0),  # a 32, b 32, early 16
        FileOperator("SPLIT", (3,), (5,), 0),  # a 32, b 32, unused 160, early 16
        FileOperator("ADD", (2, 3), (4,), 0),  # a 32, b 32, sum 48, early 16
    )
    steps = memory_steps(TfliteFile(tensors, operators, (0,), (4, 6), {}))
    assert [step.live_bytes for step in steps] == [160, 80, 240, 128]
    assert [step.operator for step in steps] == ["CONV_2D", "HARD_SWISH", "SPLIT", "ADD"]
    assert steps[3].shape == (1, 48)


def test_an_input_that_nobody_reads_lives_during_the_first_operator() -> None:
    tensors = (tensor("in", 16), tensor("idle", 64), tensor("a", 16), tensor("b", 16))
    operators = (FileOperator("RELU", (0,), (2,), 0), FileOperator("RELU", (2,), (3,), 0))
    assert [s.live_bytes for s in memory_steps(TfliteFile(tensors, operators, (0, 1), (3,), {}))] == [96, 32]


def head_bytes(content: bytes, capfd: pytest.CaptureFixture[str]) -> int:
    """How much of the arena tensors take, as TFLite Micro's recorder says."""
    from tflite_micro import runtime  # type: ignore[import-untyped]

    interpreter = runtime.Interpreter.from_bytes(content, arena_size=1 << 20)
    interpreter.invoke()
    capfd.readouterr()
    interpreter.print_allocations()
    found = re.search(r"Arena allocation head (\d+) bytes", capfd.readouterr().err)
    assert found is not None
    return int(found.group(1))


@pytest.mark.skipif(find_spec("tflite_micro") is None, reason="tflite-micro is not installed")
def test_the_peak_is_what_tflite_micro_plans(capfd: pytest.CaptureFixture[str]) -> None:
    """The plan of this network has no gaps."""
    rng = np.random.default_rng(0)
    g = QdqGraph((1, 3, 16, 16))
    x = g.op("Conv", [g.x, g.weights("w1", integers(rng, 8, 3, 3, 3), np.float32(0.01))], 0.1, 0, strides=[2, 2])
    y = g.op("HardSwish", [x], 0.08, -120)
    y = g.op("Conv", [y, g.weights("w2", integers(rng, 8, 1, 3, 3), np.float32(0.01))], 0.1, 0, group=8, pads=[1] * 4)
    content = to_tflite(g.model(g.op("Add", [x, y], 0.15, -10)), settings_of("mcu"))
    file = read_tflite(content)
    assert max(step.live_bytes for step in memory_steps(file)) == head_bytes(content, capfd) == planned_bytes(file)


@pytest.mark.skipif(find_spec("tflite_micro") is None, reason="tflite-micro is not installed")
@pytest.mark.parametrize("seed", range(6))
def test_gaps_are_planned_as_tflite_micro_plans_them(seed: int, capfd: pytest.CaptureFixture[str]) -> None:
    """Sums of maps that are kept for long, some of equal size: two of these plans have gaps."""
    rng = np.random.default_rng(seed)
    g = QdqGraph((1, 3, 8, 8))
    maps: list[tuple[str, int]] = [(g.x, 3)]
    for place in range(12):
        source, inputs = maps[rng.integers(len(maps))]
        outputs = int(rng.choice((4, 4, 8, 24)))
        w = g.weights(f"w{place}", integers(rng, outputs, inputs, 1, 1), np.float32(0.01))
        maps.append((g.op("Conv", [source, w], 0.1, 0), outputs))
    y = g.op("Concat", [name for name, _ in maps[-5:]], 0.1, 0, axis=1)
    content = to_tflite(g.model(y), settings_of("mcu"))
    assert planned_bytes(read_tflite(content)) == head_bytes(content, capfd)
