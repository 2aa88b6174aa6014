"""The file itself: bytes, alignment, signature, metadata, input types; and the readers of anyone's file."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from places import REAL
from qdq_graphs import MICRO, QdqGraph, integers, run_onnx
from seams import settings_of

from edgec.pipeline.cli.inspect import command as inspect_command
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.preprocess import Preprocess
from edgec.targets.inspect import inspect_file
from edgec.targets.tflite.compiler import LABELS, PREPROCESS, compile_model, to_tflite
from edgec.targets.tflite.flatbuffer import read_tflite
from edgec.targets.tflite.format import TfliteFormat
from edgec.targets.tflite.options import TfliteOptions
from edgec.targets.tflite.runner import LiteRtRunner
from edgec.targets.tflite.writer import FlatbufferWriter

PIXELS = Preprocess(crop_px=8, mean=(127.0,) * 3, std=(64.0,) * 3)


def small(padding: int = 0, quantized: bool = True) -> tuple[QdqGraph, str]:
    rng = np.random.default_rng(0)
    g = QdqGraph((1, 3, 8, 8), 4 / 255, -1, quantized=quantized)
    weights = g.weights("w", integers(rng, 6, 3, 3, 3), rng.uniform(0.002, 0.01, 6))
    x = g.op("Conv", [g.x, weights], 0.05, 0, pads=[padding] * 4)
    x = g.op("GlobalAveragePool", [x], 0.02, 0)
    return g, g.op("Flatten", [x], 0.02, 0)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    g, y = small()
    path = tmp_path / "small.tflite"
    path.write_bytes(to_tflite(g.model(y), TfliteOptions(), ["a", "b"], PIXELS))
    return path


def test_equal_arguments_give_equal_bytes() -> None:
    g, y = small()
    assert to_tflite(g.model(y), MICRO) == to_tflite(g.model(y), MICRO)


def test_constants_lie_on_sixteen_bytes(written: Path) -> None:
    """Firmware maps the array and reads weights in place: an unaligned one faults there."""
    from ai_edge_litert import schema_py_generated as schema

    content = written.read_bytes()
    model = schema.Model.GetRootAs(content, 0)
    offsets = []
    for i in range(model.BuffersLength()):
        buffer = model.Buffers(i)
        if buffer.DataLength():
            field = buffer._tab.Offset(4)
            offsets.append(buffer._tab.Vector(field))
    assert len(offsets) > 3
    assert all(offset % 16 == 0 for offset in offsets)


def test_names_signature_and_metadata(written: Path) -> None:
    from ai_edge_litert import interpreter

    file = read_tflite(written.read_bytes())
    names = [tensor.name for tensor in file.tensors]
    assert len(set(names)) == len(names)
    read = {i for op in file.operators for i in (*op.inputs, *op.outputs)}
    assert read | {*file.inputs} == set(range(len(names))), "an unused tensor"
    signatures = interpreter.Interpreter(model_path=str(written)).get_signature_list()
    assert list(signatures) == ["serving_default"]
    assert signatures["serving_default"]["inputs"] == ["input"]
    described = json.loads(file.metadata["edgec"])
    assert described["labels"] == ["a", "b"]
    assert described["preprocess"]["mean"] == [127.0] * 3
    assert file.metadata["min_runtime_version"] == "2.5.0"


def test_a_linked_file_has_nothing_that_nobody_computes_with(tmp_path: Path) -> None:
    """The same answers, inputs, outputs and operators; names, signature and labels are in the sources beside it."""
    g, y = small(padding=1)
    plain, slim = tmp_path / "plain.tflite", tmp_path / "slim.tflite"
    loaded = replace(MICRO, runtime="ai-edge-litert")
    plain.write_bytes(to_tflite(g.model(y), loaded, ["a", "b"], PIXELS))
    slim.write_bytes(to_tflite(g.model(y), MICRO, ["a", "b"], PIXELS))
    assert slim.stat().st_size < 0.8 * plain.stat().st_size
    assert TfliteFormat().contract(slim) == TfliteFormat().contract(plain)
    file = read_tflite(slim.read_bytes())
    public = {*file.inputs, *file.outputs}
    assert {tensor.name for i, tensor in enumerate(file.tensors) if i not in public} == {
        f"#{i}" for i in range(len(file.tensors)) if i not in public
    }
    assert file.metadata == {}
    images = np.random.default_rng(1).normal(size=(4, 3, 8, 8)).astype(np.float32)
    given, same = (LiteRtRunner(path, xnnpack=False, reference=True).predict(images)[0] for path in (plain, slim))
    np.testing.assert_array_equal(given, same)


def test_a_linked_file_says_what_its_tensors_do_not() -> None:
    """What pixels mean, where it takes them."""
    g, y = small()
    content = to_tflite(g.model(y), replace(MICRO, input_type="uint8"), ["a"], PIXELS)
    described = json.loads(read_tflite(content).metadata["edgec"])
    assert (described["labels"], described["preprocess"]["mean"]) == ([], [127.0] * 3)


def test_equal_constants_of_a_linked_file_lie_there_once() -> None:
    from ai_edge_litert import schema_py_generated as schema

    writer = FlatbufferWriter(slim=True)
    fed = writer.tensor("x", (1, 4), "int32")
    same = [writer.tensor(name, (4,), "int32", data=np.arange(4, dtype=np.int32)) for name in ("a", "b")]
    other = writer.tensor("c", (4,), "int32", data=np.ones(4, np.int32))
    model = schema.Model.GetRootAs(writer.finish({"x": fed}, {"c": other}, {"m": b"12"}), 0)
    graph = model.Subgraphs(0)
    buffers = [graph.Tensors(i).Buffer() for i in (fed, *same, other)]
    assert buffers == [0, 1, 1, 2]
    assert [model.Buffers(i).DataLength() for i in range(model.BuffersLength())] == [0, 16, 16, 2]


def test_the_onnx_files_own_description_travels(tmp_path: Path) -> None:
    g, y = small()
    model = g.model(y)
    for key, value in ((LABELS, ["bolt", "nut"]), (PREPROCESS, asdict(PIXELS))):
        model.metadata_props.add(key=key, value=json.dumps(value))
    source, output = tmp_path / "m.onnx", tmp_path / "m.tflite"
    source.write_bytes(model.SerializeToString())
    compile_model(source, output, settings_of("arm"))
    described = json.loads(inspect_file(output).metadata["edgec"])
    assert described["labels"] == ["bolt", "nut"]
    assert described["preprocess"]["std"] == [64.0] * 3


@pytest.mark.parametrize("input_type", ["int8", "uint8", "float32"])
def test_input_types_agree_with_the_reference(input_type: str, tmp_path: Path) -> None:
    """uint8 pixels enter without rounding; int8 and float32 round as the model's own Q does."""
    g, y = small(padding=1)
    path = tmp_path / "m.tflite"
    path.write_bytes(to_tflite(g.model(y), TfliteOptions(input_type=input_type), (), PIXELS))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    batch = PIXELS.normalise(pixels)
    expected = np.concatenate([run_onnx(g.model(y), image[None]) for image in batch])
    runner = LiteRtRunner(path)
    assert runner.interpreter.get_input_details()[0]["dtype"] == np.dtype(input_type)
    (got,) = runner.predict(batch)
    assert got.dtype == np.float32
    assert np.abs(got - expected).max() <= (0.08 if input_type == "uint8" else 0.02 + 1e-6)


def test_folded_normalisation_is_exact_to_the_bias_rounding(tmp_path: Path) -> None:
    """A mean that is no integer goes into the bias; with no padding the convolution's result is the same."""
    g = QdqGraph((1, 3, 8, 8), 1 / 63.5, 0)
    rng = np.random.default_rng(0)
    y = g.op("Conv", [g.x, g.weights("w", integers(rng, 6, 3, 3, 3), np.float32(0.004))], 0.06, 0)
    preprocess = Preprocess(mean=(120.25, 127.5, 130.0), std=(64.0,) * 3)
    path = tmp_path / "m.tflite"
    path.write_bytes(to_tflite(g.model(y), TfliteOptions(input_type="uint8"), (), preprocess))
    pixels = rng.integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    batch = preprocess.normalise(pixels)
    float_twin = QdqGraph((1, 3, 8, 8), quantized=False)
    rng = np.random.default_rng(0)
    z = float_twin.op(
        "Conv", [float_twin.x, float_twin.weights("w", integers(rng, 6, 3, 3, 3), np.float32(0.004))], 1.0
    )
    expected = np.clip(np.concatenate([run_onnx(float_twin.model(z), i[None]) for i in batch]), -128 * 0.06, 127 * 0.06)
    assert np.abs(LiteRtRunner(path).predict(batch)[0] - expected).max() <= 0.06 * 0.51 + 0.001


def test_float_model_becomes_a_float_file(tmp_path: Path) -> None:
    g, y = small(quantized=False)
    path = tmp_path / "f.tflite"
    path.write_bytes(to_tflite(g.model(y), TfliteOptions(input_type="uint8")))
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    expected = np.concatenate([run_onnx(g.model(y), image[None]) for image in x])
    np.testing.assert_allclose(LiteRtRunner(path).predict(x)[0], expected, atol=1e-5)


def test_runner_ways_agree(written: Path) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    (plain,) = LiteRtRunner(written).predict(x)
    for runner in (
        LiteRtRunner(written, 2),
        LiteRtRunner(written, xnnpack=False),
        LiteRtRunner(written, reference=True),
    ):
        assert np.abs(runner.predict(x)[0] - plain).max() <= 0.0201
    LiteRtRunner(written).single(x[:1])()


@pytest.mark.parametrize("damage", [b"", b"not a flatbuffer", "half"])
def test_damaged_file(damage: bytes | str, written: Path) -> None:
    content = written.read_bytes()
    written.write_bytes(content[: len(content) // 2] if damage == "half" else damage)  # type: ignore[arg-type]
    with pytest.raises(EdgecError) as refused:
        read_tflite(written.read_bytes())
    assert refused.value.code == "corrupt-tflite"


def test_inspect_tflite(written: Path) -> None:
    found = inspect_file(written)
    assert found.counts == {"CONV_2D": 1, "MEAN": 1}
    assert found.macs == 6 * 6 * 6 * 27
    assert found.pieces == 1
    assert found.macs_delegated_percent == 100.0
    assert found.operators[0].scale == pytest.approx(0.05)
    result = CliRunner().invoke(inspect_command, [str(written)])
    assert result.exit_code == 0
    assert "1 delegate pieces" in result.output
    as_json = json.loads(CliRunner().invoke(inspect_command, ["--json", str(written)]).output)
    assert as_json["macs"] == found.macs


def test_inspect_onnx(tmp_path: Path) -> None:
    g, y = small()
    path = tmp_path / "m.onnx"
    path.write_bytes(g.model(y).SerializeToString())
    found = inspect_file(path)
    assert found.macs == 6 * 6 * 6 * 27
    row = next(row for row in found.operators if row.kind == "Conv")
    assert (row.scale, row.zero_point, row.weight_bytes) == (pytest.approx(0.05), 0, 6 * 27)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(EdgecError) as refused:
        inspect_file(path)
    assert refused.value.code == "corrupt-onnx"


def port(number: int, precision: str, *shape: int) -> str:
    return f'<port id="{number}" precision="{precision}">' + "".join(f"<dim>{side}</dim>" for side in shape) + "</port>"


IR = f"""<net name="m" version="11"><layers>
<layer id="0" name="x" type="Parameter"><output>{port(0, "FP32", 1, 3, 8, 8)}</output></layer>
<layer id="1" name="w" type="Const"><data size="162"/><output>{port(0, "I8", 6, 3, 3, 3)}</output></layer>
<layer id="2" name="c" type="Convolution">
<input>{port(0, "FP32", 1, 3, 8, 8)}{port(1, "I8", 6, 3, 3, 3)}</input>
<output>{port(2, "FP32", 1, 6, 6, 6)}</output></layer></layers>
<edges><edge from-layer="0" to-layer="2"/><edge from-layer="1" to-layer="2"/></edges></net>"""


def test_inspect_openvino(tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_text(IR)
    (tmp_path / "model.bin").write_bytes(bytes(162))
    found = inspect_file(path)
    assert found.macs == 6 * 6 * 6 * 27
    assert found.counts == {"Parameter": 1, "Convolution": 1}
    assert found.operators[1].weight_bytes == 162
    assert found.size_bytes == len(IR) + 162
    for text in ("<net", "<net/>"):
        path.write_text(text)
        with pytest.raises(EdgecError) as refused:
            inspect_file(path)
        assert refused.value.code == "corrupt-ir"


def test_inspect_refuses_other_files(tmp_path: Path) -> None:
    """By what they hold: a name promises nothing."""
    for name in ("model.pb", "model.tflite", "model.onnx"):
        (tmp_path / name).write_bytes(b"PK\3\4 and so on")
        with pytest.raises(EdgecError) as refused:
            inspect_file(tmp_path / name)
        assert refused.value.code == "unknown-format"
    with pytest.raises(EdgecError) as refused:
        inspect_file(tmp_path / "missing.tflite")
    assert refused.value.code == "no-such-file"


def test_inspect_takes_any_name(written: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "weights.bin"
    renamed.write_bytes(written.read_bytes())
    assert inspect_file(renamed).format == "tflite"


@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/real is absent")
def test_inspect_reads_the_publishers_files() -> None:
    v2 = inspect_file(REAL / "vendor" / "mobilenetv2_1.0_224_vendor_int8.tflite")
    assert v2.pieces == 1
    assert v2.macs == pytest.approx(300.8e6, rel=0.001)
    v3 = inspect_file(REAL / "vendor" / "mobilenetv3_small_1.0_224_vendor_int8.tflite")
    assert v3.counts["HARD_SWISH"] == 19
    assert v3.pieces == 0
    assert "XNNPACK" in v3.refusal


def test_standard_error_holds_everything_but_the_announcement(written: Path) -> None:
    """In a process of its own: LiteRT announces its delegate once."""
    program = (
        "import os, sys; from pathlib import Path; from edgec.targets.tflite import runner\n"
        "runner.LiteRtRunner(Path(sys.argv[1]))\n"
        "with runner._unannounced(): os.write(2, b'kept\\n' + runner.ANNOUNCEMENT)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(written)], capture_output=True, text=True, check=True)
    assert done.stderr == "kept\n"
