"""One count of multiply-accumulates: worked by hand, the same for ONNX, torch, .tflite, IR and TensorRT."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from qdq_graphs import QdqGraph

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.network import models
from edgec.pipeline.network.cost import NetworkCost, layer_macs, network_cost
from edgec.pipeline.network.export import export_onnx
from edgec.pipeline.network.models.complexity import count_complexity
from edgec.pipeline.network.models.spec import NetworkConfig, build_network
from edgec.targets.inspect import inspect_file
from edgec.targets.tensorrt.roofline import kernels


def one_layer(op: str, image: tuple, weight: tuple, output: tuple, **attributes: Any) -> onnx.ModelProto:
    weights = numpy_helper.from_array(np.ones(weight, np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"], ["y"], "layer", **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


LAYERS = {
    "dense": (("Conv", ("N", 3, 8, 8), (6, 3, 3, 3), ("N", 6, 6, 6)), {}, 6 * 6 * 6 * 27),
    "stride": (("Conv", (1, 3, 9, 9), (6, 3, 3, 3), (1, 6, 4, 4)), {"strides": [2, 2]}, 6 * 4 * 4 * 27),
    "grouped": (("Conv", (1, 8, 8, 8), (6, 4, 3, 3), (1, 6, 6, 6)), {"group": 2}, 6 * 6 * 6 * 4 * 9),
    "depthwise": (("Conv", (1, 8, 8, 8), (16, 1, 3, 3), (1, 16, 6, 6)), {"group": 8}, 16 * 6 * 6 * 9),
    "one axis": (("Conv", (1, 3, 10), (5, 3, 3), (1, 5, 8)), {}, 5 * 8 * 9),
    "transposed": (
        ("ConvTranspose", ("N", 8, 16, 16), (8, 4, 2, 2), ("N", 4, 32, 32)),
        {"strides": [2, 2]},
        8 * 4 * 2 * 2 * 16 * 16,
    ),
    "transposed grouped": (
        ("ConvTranspose", (1, 8, 16, 16), (8, 1, 3, 3), (1, 8, 33, 33)),
        {"strides": [2, 2], "group": 8},
        8 * 3 * 3 * 16 * 16,
    ),
    "gemm": (("Gemm", ("N", 7), (7, 5), ("N", 5)), {}, 35),
    "gemm, transposed weight": (("Gemm", (1, 7), (5, 7), (1, 5)), {"transB": 1}, 35),
    "product": (("MatMul", (1, 4, 7), (7, 5), (1, 4, 5)), {}, 4 * 35),
    "product with a vector": (("MatMul", (1, 4, 7), (7,), (1, 4)), {}, 4 * 7),
    "batched product": (("MatMul", (2, 3, 4, 7), (2, 3, 7, 5), (2, 3, 4, 5)), {}, 2 * 3 * 4 * 35),
}


@pytest.mark.parametrize(("layer", "attributes", "expected"), LAYERS.values(), ids=LAYERS)
def test_known_answers(layer: tuple, attributes: dict, expected: int, tmp_path: Path) -> None:
    model = one_layer(*layer, **attributes)
    onnx.checker.check_model(model, full_check=True)
    assert network_cost(model) == NetworkCost(expected, prod(layer[2]))
    onnx.save(model, tmp_path / "m.onnx")
    assert inspect_file(tmp_path / "m.onnx").macs == expected
    dense = attributes.get("group", 1) == 1  # TensorRT's model takes grouped convolutions as traffic
    assert [kernel.macs for kernel in kernels(model)] == [expected if dense else 0]


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_a_product_for_every_multiplication_that_happens(data: st.DataObject) -> None:
    """With ones everywhere and no padding, the outputs of a layer sum to its multiply-accumulates."""
    transposed = data.draw(st.booleans())
    groups, per_in, per_out, kernel, stride, side = (data.draw(st.integers(1, 4)) for _ in range(6))
    kind = torch.nn.ConvTranspose2d if transposed else torch.nn.Conv2d
    side += kernel
    layer = kind(groups * per_in, groups * per_out, kernel, stride, groups=groups, bias=False)
    torch.nn.init.ones_(layer.weight)
    image = torch.ones(1, groups * per_in, side, side)
    result = layer(image)
    op = "ConvTranspose" if transposed else "Conv"
    shapes = {"x": tuple(image.shape), "w": tuple(layer.weight.shape), "y": tuple(result.shape)}
    happened = round(float(result.detach().sum()))
    assert layer_macs(op, ("x", "w"), "y", shapes) == happened
    before = torch.nn.Conv2d(3, groups * per_in, 1)
    assert count_complexity(torch.nn.Sequential(before, layer), side).macs == happened + 3 * image.numel()


@pytest.mark.parametrize("name", models.names())
def test_torch_and_onnx_agree_on_every_registered_network(name: str, tmp_path: Path) -> None:
    network = build_network(NetworkConfig(name, 0.25, 64))
    export_onnx(network, 64, tmp_path / "m.onnx")
    assert network_cost(onnx.load(tmp_path / "m.onnx")).macs == count_complexity(network, 64).macs


def depthwise_separable(quantized: bool) -> onnx.ModelProto:
    stream = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return stream.integers(-127, 128, shape).astype(np.int8)

    g = QdqGraph((1, 3, 12, 12), quantized=quantized)
    bias = g.weights("b0", np.arange(8, dtype=np.int32), np.float32(1e-3))
    y = g.op("Conv", [g.x, g.weights("w0", weights(8, 3, 3, 3), [0.01] * 8), bias], 0.05, strides=[2, 2])
    y = g.op("Conv", [y, g.weights("w1", weights(8, 1, 3, 3), [0.01] * 8)], 0.05, group=8, pads=[1] * 4)
    y = g.op("Flatten", [g.op("GlobalAveragePool", [y], 0.05)], 0.05)
    return g.model(g.op("Gemm", [y, g.weights("w2", weights(5, 8), 0.01)], 0.05, transB=1))


EXPECTED = NetworkCost(25 * 8 * 27 + 25 * 8 * 9 + 40, 8 * 27 + 8 + 8 * 9 + 40)


@pytest.mark.parametrize("quantized", [False, True], ids=["float", "qdq"])
def test_qdq_and_its_tflite_count_as_the_float_network(quantized: bool, tmp_path: Path) -> None:
    from edgec.targets.tflite.compiler import to_tflite
    from edgec.targets.tflite.options import TfliteOptions

    model = depthwise_separable(quantized)
    assert network_cost(model) == EXPECTED
    (tmp_path / "m.tflite").write_bytes(to_tflite(model, TfliteOptions()))
    onnx.save(model, tmp_path / "m.onnx")
    assert inspect_file(tmp_path / "m.tflite").macs == inspect_file(tmp_path / "m.onnx").macs == EXPECTED.macs


@pytest.mark.parametrize(
    ("code", "shapes", "onnx_layer"),
    [
        # TFLite's weights are (out, h, w, in), or (1, h, w, channels) for depthwise ones; images are NHWC.
        ("CONV_2D", [(1, 9, 9, 4), (6, 3, 3, 2), (1, 7, 7, 6)], ("Conv", (1, 4, 9, 9), (6, 2, 3, 3), (1, 6, 7, 7))),
        (
            "DEPTHWISE_CONV_2D",
            [(1, 9, 9, 4), (1, 3, 3, 8), (1, 7, 7, 8)],
            ("Conv", (1, 4, 9, 9), (8, 1, 3, 3), (1, 8, 7, 7)),
        ),
        (
            "TRANSPOSE_CONV",
            [(4,), (4, 2, 2, 8), (1, 16, 16, 8), (1, 32, 32, 4)],
            ("ConvTranspose", (1, 8, 16, 16), (8, 4, 2, 2), (1, 4, 32, 32)),
        ),
        ("FULLY_CONNECTED", [(1, 1, 1, 7), (5, 7), (1, 5)], ("MatMul", (1, 7), (7, 5), (1, 5))),
        ("FULLY_CONNECTED", [(1, 3, 7), (5, 7), (1, 3, 5)], ("MatMul", (1, 3, 7), (7, 5), (1, 3, 5))),
        ("BATCH_MATMUL", [(2, 4, 7), (2, 7, 5), (2, 4, 5)], ("MatMul", (2, 4, 7), (2, 7, 5), (2, 4, 5))),
    ],
)
def test_tflite_operators_count_as_their_onnx_twins(code: str, shapes: list, onnx_layer: tuple, tmp_path: Path) -> None:
    from edgec.targets.tflite.writer import B, FlatbufferWriter

    writer = FlatbufferWriter()
    numbers = [writer.tensor(f"t{i}", shape, "float32") for i, shape in enumerate(shapes)]
    writer.operator(getattr(B, code), numbers[:-1], numbers[-1:])
    (tmp_path / "m.tflite").write_bytes(writer.finish({"x": numbers[0]}, {"y": numbers[-1]}, {}))
    from edgec.targets.tflite.flatbuffer import read_tflite

    op, image, weight, output = onnx_layer
    expected = layer_macs(op, ("x", "w"), "y", {"x": image, "w": weight, "y": output})
    assert read_tflite((tmp_path / "m.tflite").read_bytes()).macs == expected


def test_openvinos_own_file_counts_as_the_onnx(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    for number, name in enumerate(("dense", "grouped", "transposed", "transposed grouped", "batched product")):
        layer, attributes, expected = LAYERS[name]
        path = tmp_path / f"{number}.onnx"
        onnx.save(one_layer(*layer, **attributes), path)
        model = openvino.Core().read_model(path)
        shape = model.input(0).partial_shape
        shape[0] = 2 if name == "batched product" else 1
        model.reshape({model.input(0): shape})
        openvino.save_model(model, path.with_suffix(".xml"), compress_to_fp16=False)
        assert inspect_file(path.with_suffix(".xml")).macs == expected, name


def test_shapes_that_nobody_knows_are_refused() -> None:
    model = one_layer("Conv", (1, 3, 8, 8), (6, 3, 3, 3), (1, 6, 6, 6))
    unknown = helper.make_node("Unknown", ["x"], ["z"], domain="elsewhere")
    model.graph.node.insert(0, unknown)
    model.opset_import.append(helper.make_opsetid("elsewhere", 1))
    model.graph.node[1].input[0] = "z"
    model.graph.output[0].type.tensor_type.ClearField("shape")
    with pytest.raises(EdgecError) as refused:
        network_cost(model)
    assert refused.value.code == "no-count"
    assert "layer" in refused.value.message


@pytest.mark.parametrize(
    ("op", "weights", "attributes"),
    [
        ("Einsum", {"w": (7, 5)}, {"equation": "abc,cd->abd"}),
        ("GRU", {"w": (1, 12, 7), "r": (1, 12, 4)}, {"hidden_size": 4}),
    ],
)
def test_what_multiplies_and_is_not_counted_is_refused(op: str, weights: dict, attributes: dict) -> None:
    """Zero would pass any limit."""
    model = one_layer("MatMul", (3, 1, 7), (7, 5), (3, 1, 5))
    constants = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()]
    model.graph.initializer.extend(constant for constant in constants if constant.name != "w")
    model.graph.node.append(helper.make_node(op, ["x", *weights], ["z"], "odd", **attributes))
    model.graph.initializer[0].CopyFrom(constants[0])
    del model.graph.node[0]
    with pytest.raises(EdgecError) as refused:
        network_cost(model)
    assert (refused.value.code, "odd" in refused.value.message) == ("no-count", True)


def test_a_side_that_is_not_known_is_not_one() -> None:
    """The batch is; a picture of any height has no count."""
    with pytest.raises(EdgecError) as refused:
        network_cost(one_layer("Conv", ("N", 3, "H", 8), (6, 3, 3, 3), ("N", 6, "K", 6)))
    assert refused.value.code == "no-count"
