"""A smaller arena: strips and wider windows give the same integers, and TFLite Micro needs less memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdq_graphs import QdqGraph, integers
from seams import settings_of

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.spec import load_target
from edgec.targets.ethosu.options import settings as ethosu_settings
from edgec.targets.tflite.arena import MAX_MORE_MACS, cost, smaller_arena, widened
from edgec.targets.tflite.compiler import _prepared, check, to_tflite
from edgec.targets.tflite.flatbuffer import read_tflite
from edgec.targets.tflite.graph import Graph
from edgec.targets.tflite.lowering import Lowering
from edgec.targets.tflite.micro import run_micro
from edgec.targets.tflite.options import settings as tflite_settings
from edgec.targets.tflite.rules import RULES
from edgec.targets.tflite.runner import open_interpreter
from edgec.targets.tflite.strips import Run, can_strip, in_strips

MCU = settings_of("mcu")
WHOLE = replace(MCU, smaller_arena=False)
micro = pytest.mark.skipif(find_spec("tflite_micro") is None, reason="tflite-micro is not installed")


@dataclass(frozen=True)
class Layer:
    """A convolution and what is behind it.

    Attributes:
        pads: ``same`` (TensorFlow's), ``torch`` (half the kernel at each side), ``valid``, ``top`` (above and left),
            ``bottom`` (SAME across, all below).
        behind: ``add`` of the layer's own input where shapes allow, ``pool``, or an operator of single values.
    """

    kernel: int
    stride: int
    pads: str
    depthwise: bool
    behind: str

    def attributes(self) -> dict[str, Any]:
        half = self.kernel // 2
        pads = {
            "torch": [half] * 4,
            "valid": [0] * 4,
            "top": [half, half, 0, 0],
            "bottom": [0, half, self.kernel - 1, half],
        }
        return {"auto_pad": "SAME_UPPER"} if self.pads == "same" else {"pads": pads[self.pads]}


LAYERS = st.builds(
    Layer,
    st.sampled_from((1, 2, 3, 5, 7)),
    st.sampled_from((1, 2)),
    st.sampled_from(("same", "same", "torch", "torch", "valid", "top", "bottom")),
    st.booleans(),
    st.sampled_from(("", "add", "pool", "HardSwish", "Relu", "gate")),
)


def network(layers: list[Layer], height: int, width: int, dtype: type = np.int8, seed: int = 0) -> QdqGraph:
    """The layers over 3 channels, as far as maps have rows; ``graph.model(graph.last)``."""
    rng, zero = np.random.default_rng(seed), 0 if dtype is np.int16 else -5
    g = QdqGraph((1, 3, height, width), 1e-4 if dtype is np.int16 else 0.05, zero, dtype=dtype)
    step = 1e-4 if dtype is np.int16 else 0.06
    x = g.x
    for place, layer in enumerate(layers):
        inputs = 1 if layer.depthwise else 3
        w = g.weights(f"w{place}", integers(rng, 3, inputs, layer.kernel, layer.kernel), rng.uniform(0.003, 0.01, 3))
        b = g.weights(f"b{place}", rng.integers(-900, 900, 3).astype(np.int32), np.full(3, 1e-4))
        group, source = 3 if layer.depthwise else 1, x
        x = g.op("Conv", [x, w, b], step, zero, group=group, strides=[layer.stride] * 2, **layer.attributes())
        if layer.behind == "add" and layer.stride == 1 and layer.kernel % 2 and layer.pads in ("same", "torch"):
            x = g.op("Add", [x, source], step, zero)
        elif layer.behind == "pool" and dtype is np.int8:
            x = g.op("MaxPool", [x], step, zero, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
        elif layer.behind in ("HardSwish", "Relu") and not (layer.behind == "HardSwish" and dtype is np.int16):
            x = g.op(layer.behind, [x], step, zero)
        elif layer.behind == "gate":
            x = g.op("Mul", [x, g.op("Sigmoid", [x], 1 / 256 if zero else 1 / 32768, -128 if zero else 0)], step, zero)
    g.last = x  # type: ignore[attr-defined]
    return g


def prepared(g: QdqGraph) -> Graph:
    return _prepared(g.model(g.last), WHOLE)  # type: ignore[attr-defined]


def lowered(graph: Graph) -> bytes:
    return Lowering(graph, WHOLE).run(RULES, {})


def answers(content: bytes, images: np.ndarray) -> np.ndarray:
    """Of LiteRT's reference kernels, for ``(N, H, W, C)``."""
    interpreter = open_interpreter(content, 1, xnnpack=False, reference=True)
    found = []
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return np.concatenate(found)


def images_for(content: bytes, count: int = 2) -> np.ndarray:
    file = read_tflite(content)
    fed, limits = file.tensors[file.inputs[0]], np.iinfo(file.tensors[file.inputs[0]].dtype)
    shape = (count, *fed.shape[1:])
    return np.random.default_rng(7).integers(limits.min, limits.max, shape, endpoint=True).astype(fed.dtype)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(LAYERS, min_size=1, max_size=4),
    st.integers(9, 24),
    st.integers(9, 24),
    st.sampled_from((np.int8, np.int16)),
    st.data(),
)
def test_any_run_in_strips_gives_the_same_integers(
    layers: list[Layer], height: int, width: int, dtype: type, data: st.DataObject
) -> None:
    try:
        graph = prepared(network(layers, height, width, dtype))
    except EdgecError:  # a map without rows
        return
    wide = widened(graph, WHOLE)
    can = [can_strip(wide, node) for node in wide.nodes]
    last = data.draw(st.integers(0, len(can) - 1), "last")
    first = data.draw(st.integers(0, last), "first")
    inner = {node.output for node in wide.nodes[first:last]}
    behind = {name for node in wide.nodes[last + 1 :] for name in node.inputs}
    if not all(can[first : last + 1]) or inner & behind:
        return
    count = data.draw(st.integers(2, min(5, wide.tensors[wide.nodes[last].output].shape[2])), "strips")
    whole = lowered(graph)
    images = images_for(whole)
    np.testing.assert_array_equal(
        answers(lowered(in_strips(wide, Run(first, last, count))), images), answers(whole, images)
    )


def inverted_residuals(dtype: type = np.int8, px: int = 32, channels: int = 8, then_int8: bool = False) -> QdqGraph:
    """A stem and inverted residuals, padded as PyTorch pads: the map inside the first is the largest.

    Args:
        then_int8: the first block alone has ``dtype``.
    """
    rng, zero = np.random.default_rng(3), 0 if dtype is np.int16 else -5
    step = 1e-4 if dtype is np.int16 else 0.06
    g = QdqGraph((1, 3, px, px), step, zero, dtype=dtype)

    def conv(x: str, inputs: int, outputs: int, kernel: int, stride: int = 1, group: int = 1) -> str:
        name = f"w{len(g.nodes)}"
        w = g.weights(name, integers(rng, outputs, inputs // group, kernel, kernel), rng.uniform(0.002, 0.004, outputs))
        pads = [kernel // 2] * 4
        return g.op("Conv", [x, w], step, zero, group=group, strides=[stride] * 2, pads=pads)

    x = conv(g.x, 3, channels, 3)
    for stride in (1, 2, 1):
        wide = conv(x, channels, 6 * channels, 1)
        y = conv(conv(wide, 6 * channels, 6 * channels, 3, stride, 6 * channels), 6 * channels, channels, 1)
        x = g.op("Add", [x, y], step, zero) if stride == 1 else y
        if then_int8 and g.dtype is np.int16:
            g.dtype, step, zero = np.int8, 0.03, -5
            x = g.quantize(x, step, zero)
    g.last = conv(x, channels, 10, 3, 2)  # type: ignore[attr-defined]
    g.dtype = dtype
    return g


@micro
@pytest.mark.parametrize(
    ("dtype", "px", "then_int8"),
    [(np.int8, 32, False), (np.int16, 32, False), (np.int16, 32, True), (np.int8, 31, False)],
)
def test_tflite_micro_takes_less_and_answers_the_same(dtype: type, px: int, then_int8: bool) -> None:
    model = (g := inverted_residuals(dtype, px, then_int8=then_int8)).model(g.last)  # type: ignore[attr-defined]
    whole, small = to_tflite(model, WHOLE), to_tflite(model, MCU)
    images = images_for(whole)
    before, after = run_micro(whole, images), run_micro(small, images)
    np.testing.assert_array_equal(after.outputs[0], before.outputs[0])
    np.testing.assert_array_equal(after.outputs[0], answers(whole, images))
    assert len(np.unique(before.outputs[0])) > 20
    assert after.arena_bytes < 0.75 * before.arena_bytes
    graph = _prepared(model, MCU)
    for content, reckoned, measured in ((whole, graph, before), (small, smaller_arena(graph, MCU), after)):
        assert cost(reckoned, MCU).macs == read_tflite(content).macs
        assert cost(reckoned, MCU).arena_bytes == pytest.approx(measured.arena_bytes, rel=0.1)
    assert read_tflite(small).macs <= (1 + MAX_MORE_MACS) * read_tflite(whole).macs


def test_strips_share_their_weights() -> None:
    graph = prepared(inverted_residuals())
    content = lowered(in_strips(graph, Run(0, 3, 4)))
    file = read_tflite(content)
    kernels = [operator.inputs[1] for operator in file.operators if "CONV" in operator.kind]
    assert len(kernels) == len(graph.nodes) - 2 + 3 * 4  # two additions; four layers are there three more times
    assert len(set(kernels)) == len(graph.nodes) - 2


def test_what_gains_too_little_stays_as_it_is() -> None:
    graph = prepared(inverted_residuals(px=4, channels=16))
    assert smaller_arena(graph, MCU) is graph
    assert not check((g := inverted_residuals(px=4, channels=16)).model(g.last), MCU)  # type: ignore[attr-defined]


def test_the_price_is_told_before_a_build() -> None:
    model = (g := inverted_residuals()).model(g.last)  # type: ignore[attr-defined]
    (told,) = check(model, MCU)
    assert "in strips where that saves arena: the same answers" in told
    assert "more multiplications" in told
    assert check(model, WHOLE) == ()


@pytest.mark.parametrize("px", [16, 15])
@pytest.mark.parametrize("kernel", [3, 5])
def test_wider_windows_pad_as_same_does(px: int, kernel: int) -> None:
    """PyTorch's windows at stride 2 over an even size; over an odd one they are SAME as they are."""
    g = QdqGraph((1, 4, px, px))
    w = g.weights("w", integers(np.random.default_rng(0), 4, 1, kernel, kernel), np.full(4, 0.01))
    y = g.op("Conv", [g.x, w], 0.1, 3, group=4, strides=[2, 2], pads=[kernel // 2] * 4)
    graph = _prepared(g.model(y), WHOLE)
    wide = widened(graph, WHOLE)
    assert wide.tensors[wide.nodes[0].inputs[1]].shape[2:] == ((kernel + 1 - px % 2,) * 2)
    whole, without = lowered(graph), lowered(wide)
    assert ("PAD" in [op.kind for op in read_tflite(whole).operators]) is (px == 16)
    assert [op.kind for op in read_tflite(without).operators] == ["DEPTHWISE_CONV_2D"]
    images = images_for(whole)
    np.testing.assert_array_equal(answers(without, images), answers(whole, images))


def test_what_goes_to_vela_is_never_in_strips() -> None:
    board = load_target("ethos-u55")
    assert ethosu_settings(board).smaller_arena is False
    with pytest.raises(EdgecError) as refused:
        ethosu_settings(replace(board, options={**board.options, "smaller_arena": True}))
    assert refused.value.code == "bad-board"


def test_it_is_about_tflite_micro_alone() -> None:
    board = load_target("arm")
    with pytest.raises(EdgecError, match="TFLite Micro") as refused:
        tflite_settings(replace(board, options={**board.options, "smaller_arena": True}))
    assert refused.value.code == "bad-board"
