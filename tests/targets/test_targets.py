"""Conformance over the boards: a new TOML file is tested by what is already here."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from importlib import import_module
from pathlib import Path

import pytest

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.compiler import load_compiler
from edgec.pipeline.forms.spec import load_target, names

OWN_BOARD = """
description = "mine"
compiler = "openvino"
[scheme]
extends = "openvino"
name = "mine"
weight_granularity = "per_tensor"
"""


@pytest.mark.parametrize("name", names())
def test_board_is_complete_and_its_compiler_is_there(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert target.description
    compiler = load_compiler(target.compiler)  # all members of the protocol are there
    assert isinstance(compiler.TOOLCHAIN, tuple)
    assert is_dataclass(compiler.settings(target))


@pytest.mark.parametrize("name", names())
def test_probe_answers_or_says_what_is_missing(name: str) -> None:
    probe = load_compiler(load_target(name).compiler).probe()
    assert probe.can_run or probe.missing


def refused(name: str) -> EdgecError:
    with pytest.raises(EdgecError) as caught:
        load_target(name)
    return caught.value


def test_unknown_board_names_the_nearest() -> None:
    error = refused("cpi")
    assert error.code == "unknown-target"
    assert "'cpu'" in error.hint


def test_own_board(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(OWN_BOARD)
    target = load_target(str(tmp_path / "mine.toml"))
    assert target.name == "mine"
    assert target.scheme.weight_granularity == "per_tensor"


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("description = ", "is not TOML"),
        (OWN_BOARD.replace('compiler = "openvino"', ""), "compiler: Field required"),
        (OWN_BOARD + "[device]\nram = 3\n", "device.ram: "),
        ('description = "x"\ncompiler = "openvino"\nscheme = 3\n', "scheme is 3"),
        ('name = "another"\n' + OWN_BOARD, "name of its own"),
        (OWN_BOARD + "[device]\nram_bytes = -5\n", "ram_bytes is -5"),
        (OWN_BOARD + "[device]\nflash_bytes = 0\n", "flash_bytes is 0"),
        (OWN_BOARD + "[device.gpu]\nint8_tops = -1.0\n", "int8_tops is -1.0"),
        (OWN_BOARD + "[device.gpu]\ndla_cores = -1\n", "dla_cores is -1"),
        ('precision = "fp16"\n' + OWN_BOARD, "precision is 'fp16', precisions begins with 'int8'"),
        ("precisions = []\n" + OWN_BOARD, "precisions begins with 'none'"),
        ('precision = "fp16"\nprecisions = ["fp16", "int8"]\n' + OWN_BOARD, "precision is 'fp16'"),
        ('precision = "fp16"\nprecisions = ["fp16"]\n' + OWN_BOARD, "the scheme has integer_operators"),
        (OWN_BOARD.replace("openvino", "tensorrt") + "[options]\nworkspace_mib = 0\n", "workspace_mib is 0"),
        (OWN_BOARD.replace("openvino", "tensorrt") + "[options]\nmax_reformats = -1\n", "max_reformats is -1"),
    ],
)
def test_bad_boards(tmp_path: Path, text: str, fragment: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    error = refused(str(tmp_path / "bad.toml"))
    assert error.code == "bad-board"
    assert fragment in error.message


def board(path: Path, compiler: str, options: str) -> str:
    path.write_text(f'description = "x"\ncompiler = "{compiler}"\nscheme = "tflite"\n[options]\n{options}\n')
    return str(path)


COMPILERS = sorted({load_target(name).compiler for name in names()})


@pytest.mark.parametrize("compiler", COMPILERS)
def test_an_option_that_the_compiler_does_not_have(tmp_path: Path, compiler: str) -> None:
    """Refused when the board is read, and when a target that was made in Python is used."""
    error = refused(board(tmp_path / "mine.toml", compiler, "no_such_option = 1"))
    assert error.code == "bad-board"
    assert "mine.toml': options.no_such_option: " in error.message
    made = replace(load_target(board(tmp_path / "fine.toml", compiler, "")), options={"no_such_option": 1})
    with pytest.raises(EdgecError) as caught:
        load_compiler(compiler).settings(made)
    assert caught.value.code == "bad-board"


EVERY_OPTION = [
    (name, field.name)
    for name in COMPILERS
    for kind, found in vars(import_module(f"edgec.targets.{name}.options")).items()
    if kind.endswith("Options")
    for field in fields(found)
]


@pytest.mark.parametrize(("compiler", "option"), EVERY_OPTION)
def test_a_mistyped_option_is_told_the_nearest_name(tmp_path: Path, compiler: str, option: str) -> None:
    error = refused(board(tmp_path / "mine.toml", compiler, f"{option[:-2]}{option[-1]} = 1"))
    assert (error.code, error.hint) == ("bad-board", f"did you mean '{option}'?")


@pytest.mark.parametrize(("compiler", "option"), EVERY_OPTION)
def test_an_option_with_a_value_of_another_kind(tmp_path: Path, compiler: str, option: str) -> None:
    error = refused(board(tmp_path / "mine.toml", compiler, f'{option} = ["nonsense"]'))
    assert error.code == "bad-board"
    assert f"options.{option}: " in error.message


@pytest.mark.parametrize("compiler", COMPILERS)
def test_hard_swish_is_the_schemes_alone(tmp_path: Path, compiler: str) -> None:
    error = refused(board(tmp_path / "mine.toml", compiler, 'hard_swish = "native"'))
    assert error.code == "bad-board"
    assert "options.hard_swish" in error.message
    assert "[scheme] hard_swish" in error.hint


def test_a_mistyped_field_deep_inside_is_told_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(OWN_BOARD + "[device.gpu]\ndla_core = 3\n")
    error = refused(str(tmp_path / "bad.toml"))
    assert "device.gpu.dla_core: " in error.message
    assert error.hint == "did you mean 'dla_cores'?"
    (tmp_path / "bad.toml").write_text(OWN_BOARD + "hard_swich = 3\n")
    error = refused(str(tmp_path / "bad.toml"))
    assert (error.code, error.hint) == ("bad-scheme", "did you mean 'hard_swish'?")
    assert "scheme.hard_swich: " in error.message


def test_missing_board_file(tmp_path: Path) -> None:
    assert refused(str(tmp_path / "gone.toml")).code == "no-such-file"
