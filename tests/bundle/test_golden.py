"""Contract, integer preprocessing and golden vectors."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.pipeline.bundle.read import open_bundle
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms.compiler import load_compiler
from edgec.pipeline.forms.format import Contract, TensorContract
from edgec.pipeline.forms.golden import distances, judge, read_golden
from edgec.pipeline.forms.golden_inputs import as_batch, gradient, noise, to_real, to_tensor
from edgec.pipeline.forms.integer_preprocess import ALL_PIXELS, fold, quantized

INT8 = TensorContract("input", "int8", (1, 32, 32, 3), "NHWC", float(np.float32(0.0187)), -14)


def test_classes_are_equal_or_not() -> None:
    """A pixel that is class 20 instead of 1 is one pixel; a tolerance of 20 steps would let all of them pass."""
    one, other = np.array([[[1, 1], [2, 3]]], np.int32), np.array([[[20, 1], [2, 4]]], np.int32)
    classes = TensorContract("classes", "int32", (1, 2, 2), "other")
    assert classes.is_index
    assert distances(one, other, classes).tolist() == [2.0]
    assert distances(one, other, INT8).tolist() == [19.0]
    judged = judge((), {"reference": (one,), "target": (other,)}, Contract((), (classes,), {}), ["target"])
    assert (judged.steps, judged.spread_steps, judged.tolerance_steps) == ((1.0,), {"reference / target": 2}, 3)


def test_contract_of_both_formats(mcu_bundle: Path, cpu_bundle: Path) -> None:
    for folder, dtype, layout in ((mcu_bundle, "int8", "NHWC"), (cpu_bundle, "float32", "NCHW")):
        bundle = open_bundle(folder)
        contract = load_compiler(bundle.target.compiler).FORMAT.contract(bundle.artifact)
        assert contract == bundle.manifest.contract
        assert (contract.inputs[0].dtype, contract.inputs[0].layout) == (dtype, layout)
        assert contract.inputs[0].spatial == (32, 32, 3)
        assert contract.outputs[0].shape == (1, 3)
        assert sum(contract.operators.values()) >= 5
    source = open_bundle(mcu_bundle).manifest.contract.inputs[0]
    assert source.scale == float(np.float32(source.scale))


@given(
    st.tuples(*[st.floats(0, 255)] * 3),
    st.tuples(*[st.floats(1, 255)] * 3),
    st.floats(1e-3, 0.5),
    st.integers(-128, 127),
)
@settings(max_examples=60, deadline=None)
def test_integer_form_is_within_one_step_of_the_float_formula(
    mean: tuple[float, float, float], std: tuple[float, float, float], scale: float, zero_point: int
) -> None:
    preprocess = Preprocess(mean=mean, std=std)
    tensor = replace(INT8, scale=float(np.float32(scale)), zero_point=zero_point)
    form = fold(preprocess, tensor)
    assert form is not None
    pixels = np.repeat(ALL_PIXELS[:, None], 3, axis=1)
    distance = np.abs(form.apply(pixels) - quantized(preprocess, tensor, pixels))
    assert int(distance.max()) == form.max_difference_steps <= 1
    assert int(np.count_nonzero(distance)) == form.differences
    sums = pixels.astype(np.int64) * np.array(form.multiplier) + np.array(form.offset)
    assert np.abs(sums).max() < 2**31  # what an int32 holds


def test_integer_form_of_usual_preprocessing_is_exact() -> None:
    form = fold(Preprocess(), INT8)
    assert form is not None
    assert form.differences == 0
    assert fold(Preprocess(), replace(INT8, scale=None, zero_point=None, dtype="float32")) is None
    pixels = fold(Preprocess(), replace(INT8, dtype="uint8"))
    assert pixels is not None
    np.testing.assert_array_equal(pixels.apply(ALL_PIXELS[:, None].repeat(3, 1))[:, 0], ALL_PIXELS)


def test_patterns() -> None:
    assert gradient(4, 8, 3, axis=1)[0, :, 0].tolist() == [0, 36, 72, 109, 145, 182, 218, 255]
    assert gradient(4, 8, 3, axis=0)[:, 0, 0].tolist() == [0, 85, 170, 255]
    assert noise(1, 2, 3).ravel().tolist() == [(state >> 24) & 255 for state in _lcg(2026, 6)]


def _lcg(state: int, count: int) -> list[int]:
    states = []
    for _ in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        states.append(state)
    return states


@pytest.mark.parametrize("bundle", ["mcu_bundle", "cpu_bundle"])
def test_files_say_the_same_thing_twice(bundle: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(bundle) / "golden"
    golden = read_golden(folder)
    names = [vector.name for vector in golden.vectors]
    assert len(names) == len(set(names)) >= 8
    assert {"zeros", "saturated-low", "saturated-high", "gradient-x", "image-1"} <= set(names)
    for array in folder.glob("*.npy"):
        if array.name != "pixels.npy":
            assert array.with_suffix(".bin").read_bytes() == np.load(array).tobytes()
    (inputs,) = folder.glob("inputs.*.npy")
    assert [zlib.crc32(row.tobytes()) for row in np.load(inputs)] == [vector.input_crc32 for vector in golden.vectors]
    assert golden.expected in golden.kernel_sets


def test_integers_and_real_values_are_the_same_numbers(mcu_bundle: Path) -> None:
    contract, folder = open_bundle(mcu_bundle).manifest.contract, mcu_bundle / "golden"
    for name in read_golden(folder).kernel_sets:
        integers = np.load(folder / f"outputs.{name}.int8.npy")
        real = np.load(folder / f"real-outputs.{name}.float32.npy")
        np.testing.assert_array_equal(to_tensor(real, contract.outputs[0]), integers)
    feature_map = TensorContract("y", "int8", (1, 2, 2, 3), "NHWC", 0.5, 3)
    values = np.arange(12, dtype=np.int8).reshape(1, 2, 2, 3)
    nchw = to_real(np.ascontiguousarray(values.transpose(0, 3, 1, 2)), feature_map)
    np.testing.assert_array_equal(to_tensor(nchw, feature_map), values)


def test_tolerance_comes_from_the_kernels_that_the_board_may_run(mcu_bundle: Path) -> None:
    contract = open_bundle(mcu_bundle).manifest.contract
    step = contract.outputs[0].scale
    assert step is not None
    zeros = np.zeros((2, 3), np.float32)
    answers = {"reference": (zeros + 9 * step,), "target": (zeros,), "xnnpack": (zeros + 2 * step,)}
    found = judge((), answers, contract, ["target", "xnnpack"])
    assert found.spread_steps == {"reference / target": 9, "reference / xnnpack": 7, "target / xnnpack": 2}
    assert (found.tolerance_steps, found.tolerance) == (3, "measured")
    micro = judge((), answers | {"tflite-micro": (zeros,)}, contract, ["target", "tflite-micro"])
    assert micro.tolerance_steps == 1
    alone = judge((), {"reference": (zeros,)}, contract, [])
    assert (alone.tolerance, alone.expected) == ("assumed", "reference")


def test_the_worst_of_several_outputs_counts(mcu_bundle: Path) -> None:
    first = open_bundle(mcu_bundle).manifest.contract
    step = first.outputs[0].scale
    assert step is not None
    contract = replace(first, outputs=(first.outputs[0], replace(first.outputs[0], name="boxes", scale=0.5)))
    zeros = np.zeros((2, 3), np.float32)
    answers = {"reference": (zeros, zeros), "target": (zeros + 2 * step, zeros + 2.5)}
    found = judge((), answers, contract, ["target"])
    assert found.steps == (step, 0.5)
    assert found.spread_steps == {"reference / target": 5}


def test_arena_is_measured_where_tflite_micro_is_installed(mcu_bundle: Path) -> None:
    pytest.importorskip("tflite_micro")
    stated = open_bundle(mcu_bundle).manifest.memory.arena_with_margin_bytes
    assert stated is not None
    assert stated > 32 * 32 * 3
    assert f"COLOURS_ARENA_BYTES {stated}u" in (mcu_bundle / "c" / "model_io.h").read_text()
    assert "tflite-micro" in json.loads((mcu_bundle / "golden" / "golden.json").read_text())["kernel_sets"]


def test_uint8_inputs_are_pixels() -> None:
    """Their normalisation is part of the artifact, and the other forms of the network get it from the preprocessing."""
    preprocess = Preprocess(mean=(120.0, 127.0, 130.0), std=(64.0, 64.0, 64.0))
    pixels = noise(4, 4, 3)[None]
    tensor = replace(INT8, dtype="uint8", shape=(1, 4, 4, 3), scale=1 / 64, zero_point=126)
    np.testing.assert_array_equal(as_batch(pixels, tensor, preprocess), preprocess.normalise(pixels))
