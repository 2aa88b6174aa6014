"""A matrix file becomes cells: a product of axes, less what is excluded, with what is included; the rest is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from places import ROOT

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.matrix.plan import Cell, read_matrix


def cells(folder: Path, text: str, base: dict[str, Any] | None = None) -> tuple[Cell, ...]:
    (folder / "m.toml").write_text(text)
    return read_matrix(folder / "m.toml", base)


TWO_BY_TWO = 'models = ["mobilenetv1", "mobilenetv2"]\ntargets = ["cpu", "arm"]\n'


def test_a_product_in_the_files_order(tmp_path: Path) -> None:
    text = TWO_BY_TWO + 'precisions = ["int8", "fp16"]\ndata = ["a", "b/c"]\n'
    found = cells(tmp_path, text)
    assert len(found) == 16
    assert [cell.name for cell in found[:5]] == [
        "mobilenetv1-cpu-int8-a",
        "mobilenetv1-cpu-int8-c",
        "mobilenetv1-cpu-fp16-a",
        "mobilenetv1-cpu-fp16-c",
        "mobilenetv1-arm-int8-a",
    ]
    assert (found[1].precision, found[1].data) == ("int8", str(tmp_path / "b/c"))


def test_without_precisions_and_data_these_are_left_to_board_and_network(tmp_path: Path) -> None:
    found = cells(tmp_path, TWO_BY_TWO)
    assert [cell.name for cell in found] == ["mobilenetv1-cpu", "mobilenetv1-arm", "mobilenetv2-cpu", "mobilenetv2-arm"]
    assert {(cell.precision, cell.data) for cell in found} == {(None, None)}


def test_files_are_beside_the_matrix_and_names_are_names(tmp_path: Path) -> None:
    text = 'models = ["net.onnx", "mobilenetv1"]\ntargets = ["my.toml", "cpu"]\n[options]\nweights = "w.pth"\n'
    found = cells(tmp_path, text + 'test_data = "t"\ncalibration_data = "/c"\n')
    assert [(cell.model, cell.target) for cell in found] == [
        (str(tmp_path / "net.onnx"), str(tmp_path / "my.toml")),
        (str(tmp_path / "net.onnx"), "cpu"),
        ("mobilenetv1", str(tmp_path / "my.toml")),
        ("mobilenetv1", "cpu"),
    ]
    assert found[0].name == "net-my"
    options = found[0].options
    assert (options.weights, options.test_data, options.calibration_data) == (
        str(tmp_path / "w.pth"),
        str(tmp_path / "t"),
        "/c",
    )


def test_the_file_of_the_documents(tmp_path: Path) -> None:
    block = (ROOT / "docs" / "matrix.md").read_text().split("```toml\n")[1].split("```")[0]
    found = {cell.name: cell for cell in cells(tmp_path, block)}
    assert list(found) == [
        "mobilenetv1-cpu-int8",
        "mobilenetv3-small-cpu-int8",
        "mobilenetv3-small-arm-int8",
        "detector-cpu-int8",
        "detector-arm-int8",
        "half-mcu",
    ]
    assert found["detector-arm-int8"].options.on == "qemu:cortex-a76"
    assert found["half-mcu"].options.width_multiplier == 0.5


def test_exclude(tmp_path: Path) -> None:
    found = cells(tmp_path, TWO_BY_TWO + '[[exclude]]\nmodel = "mobilenetv1"\ntarget = "arm"\n')
    assert [cell.name for cell in found] == ["mobilenetv1-cpu", "mobilenetv2-cpu", "mobilenetv2-arm"]


def test_include_gives_options_to_cells_that_fit_and_else_is_a_cell_of_its_own(tmp_path: Path) -> None:
    text = TWO_BY_TWO + "[options]\nmeasure = false\ncalibration_samples = 9\n"
    text += '[[include]]\ntarget = "arm"\non = "qemu:cortex-a76"\nmeasure = true\n'
    text += '[[include]]\nmodel = "mobilenetv3"\ntarget = "mcu"\nname = "small"\nwidth_multiplier = 0.5\n'
    found = {cell.name: cell for cell in cells(tmp_path, text)}
    assert list(found) == ["mobilenetv1-cpu", "mobilenetv1-arm", "mobilenetv2-cpu", "mobilenetv2-arm", "small"]
    assert found["mobilenetv1-arm"].options.on == "qemu:cortex-a76"
    assert [cell.options.measure for cell in found.values()] == [False, True, False, True, False]
    assert found["small"].options.width_multiplier == 0.5
    assert {cell.options.calibration_samples for cell in found.values()} == {9}


def test_only_included_cells(tmp_path: Path) -> None:
    (cell,) = cells(tmp_path, '[[include]]\nmodel = "mobilenetv1"\ntarget = "cpu"\nprecision = "fp16"\n')
    assert (cell.name, cell.precision) == ("mobilenetv1-cpu-fp16", "fp16")


def test_what_holds_elsewhere_holds_where_the_file_is_silent(tmp_path: Path) -> None:
    base = {"data": "d", "precision": "int8", "calibration_samples": 7, "threads": 2, "output_stride": "16"}
    assert {(cell.data, cell.precision, cell.options.threads) for cell in cells(tmp_path, TWO_BY_TWO, base)} == {
        ("d", "int8", 2)
    }
    text = TWO_BY_TWO + 'precisions = ["fp16"]\n[options]\ntest_data = "t"\ncalibration_data = "c"\nthreads = 3\n'
    (first, *_) = cells(tmp_path, text, base)
    assert (first.data, first.precision, first.options.threads) == (None, "fp16", 3)
    assert (first.options.calibration_samples, first.options.output_stride) == (7, 16)
    (first, *_) = cells(tmp_path, TWO_BY_TWO + 'data = ["e"]\n', {"test_data": "t", "calibration_data": "c"})
    assert (first.data, first.options.test_data) == (str(tmp_path / "e"), None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no cell"),
        ('models = ["a"]\n', "has no cell"),
        (TWO_BY_TWO + '[[exclude]]\ntarget = "cpu"\n[[exclude]]\ntarget = "arm"\n', "has no cell"),
        ('models = ["a", "a"]\ntargets = ["cpu"]\n', "'a' is named twice as model"),
        ('models = ["a"]\ntargets = ["cpu", "cpu"]\n', "'cpu' is named twice as target"),
        ('models = ["a/net.onnx", "b/net.onnx"]\ntargets = ["cpu"]\n', "two cells are called 'net-cpu'"),
        (TWO_BY_TWO + '[[exclude]]\ntarget = "mcu"\n', "exclude fits no cell: target = 'mcu'"),
        (TWO_BY_TWO + '[[exclude]]\nboard = "cpu"\n', "exclude: no axis 'board'"),
        (TWO_BY_TWO + '[[include]]\ntarget = "mcu"\nthreads = 1\n', "include fits no cell"),
        (TWO_BY_TWO + '[[include]]\ntarget = "cpu"\n', "include changes nothing: target = 'cpu'"),
        (TWO_BY_TWO + "[[include]]\nthreads = 1\n", "include fits no cell: threads = 1"),
        (TWO_BY_TWO + '[[include]]\ntarget = "cpu"\nthread = 1\n', "options.thread: "),
        (TWO_BY_TWO + "[options]\nthreads = 0\n", "threads is 0, expected 1 or more"),
        (TWO_BY_TWO + "[options]\nmax_drop_pp = -0.5\n", "max_drop_pp is -0.5, expected 0 or more"),
        (TWO_BY_TWO + "[options]\noutput_stride = 4\n", "output_stride is 4, expected one of (8, 16)"),
        (TWO_BY_TWO + "[options]\ninput_px = 'large'\n", "options.input_px: "),
        (TWO_BY_TWO + "precisions = ['int4']\n", "precisions.0: "),
        (TWO_BY_TWO + "presicions = ['int8']\n", "did you mean 'precisions'?"),
        ('models = "mobilenetv1"\ntargets = ["cpu"]\n', "models: "),
        ('[[include]]\nmodel = "a"\ntarget = "cpu"\nname = "../out"\n', "'../out' is no name of a folder"),
        ('[[include]]\nmodel = "a"\ntarget = 3\n', "target: "),
    ],
)
def test_what_is_wrong_is_named(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(EdgecError, match=r"m\.toml") as error:
        cells(tmp_path, text)
    assert error.value.code == "bad-matrix"
    assert says in str(error.value)


def test_an_entry_twice_is_one_cell_twice(tmp_path: Path) -> None:
    once = '[[include]]\nmodel = "a"\ntarget = "cpu"\nname = "x"\n'
    with pytest.raises(EdgecError, match="two cells are called 'x'") as error:
        cells(tmp_path, once + once.replace('"cpu"', '"arm"'))
    assert error.value.hint.startswith("name one of them")
