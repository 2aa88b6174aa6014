"""Conformance over the boards: a new TOML file is tested by what is already here."""

from __future__ import annotations

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
    adapter = load_compiler(target.compiler)
    assert isinstance(adapter.ARTIFACT, str)
    assert isinstance(adapter.TOOLCHAIN, tuple)
    for function in ("check", "compile_model", "open_runner", "probe"):
        assert callable(getattr(adapter, function))


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
    ],
)
def test_bad_boards(tmp_path: Path, text: str, fragment: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    error = refused(str(tmp_path / "bad.toml"))
    assert error.code == "bad-board"
    assert fragment in error.message


def test_missing_board_file(tmp_path: Path) -> None:
    assert refused(str(tmp_path / "gone.toml")).code == "no-such-file"
