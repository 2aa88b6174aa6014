"""The commands that only tell, and how the command line ends."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.types import FloatParamType

from edgec.pipeline import cli
from edgec.pipeline.cli import COMMANDS, main
from edgec.pipeline.cli._config import command_of


def out(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    text = out(capsys, "--help")
    assert all(f"  {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert out(capsys, name, "--help").startswith(f"Usage: edgec {name}")


def test_usage_errors_end_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "mobilenetv2"]) == 2
    assert "--target" in capsys.readouterr().err
    assert main(["no-such-command"]) == 2


def test_targets(capsys: pytest.CaptureFixture[str]) -> None:
    listed = json.loads(out(capsys, "targets", "--json"))
    assert {"cpu", "onnxruntime"} <= {target["name"] for target in listed}
    shown = out(capsys, "targets")
    assert "openvino" in shown
    assert all(target["name"] in shown for target in listed), "no name is cut short where there is no terminal"


def test_doctor_speaks_for_every_target(capsys: pytest.CaptureFixture[str]) -> None:
    diagnosis = json.loads(out(capsys, "doctor", "--json"))
    assert {entry["target"] for entry in diagnosis["targets"]} >= {"cpu", "onnxruntime"}
    assert all(entry["can_run"] or entry["missing"] for entry in diagnosis["targets"])
    assert diagnosis["machine"]["torch"].startswith("2.")
    assert "onnxruntime" in out(capsys, "doctor")


def test_a_hint_with_an_extra_is_shown_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("edgec.targets.openvino.compiler.find_spec", lambda _: None)
    assert "pip install 'edgec[cpu]'" in out(capsys, "doctor")


def test_cache(capsys: pytest.CaptureFixture[str], own_cache: Path) -> None:
    assert out(capsys, "cache", "path").strip() == str(own_cache)
    assert "0 results" in out(capsys, "cache", "list")
    assert "deleted 0" in out(capsys, "cache", "clear")
    assert "deleted 0" in out(capsys, "cache", "trim", "--max-bytes", "1GB")


@pytest.mark.parametrize("size", ["-1", "much", "1 XB", "", "500,5GB", "1.2.3 GB", "10%", "1 GB or so"])
def test_a_size_that_is_none(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "trim", "--max-bytes", size]) == 2
    assert "is no size" in capsys.readouterr().err


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.group, "main", interrupt)
    assert main([]) == 130
    assert "continues" in capsys.readouterr().err


def float_options() -> list[click.Option]:
    commands = [command_of(name) for name in COMMANDS]
    commands += [below for one in commands for below in getattr(one, "commands", {}).values()]
    options = [option for one in commands for option in one.params if isinstance(option, click.Option)]
    return [option for option in options if isinstance(option.type, FloatParamType)]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
def test_no_number_is_infinite(value: str) -> None:
    assert len(float_options()) > 10
    for option in float_options():
        with pytest.raises(click.BadParameter):
            option.type.convert(value, option, None)


@pytest.mark.parametrize("empty", ["", " ", "=", "main=", "=folder"])
def test_a_baseline_has_a_name_and_a_path(empty: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As where a variable of a CI job is not set."""
    assert main(["check", "nothing", "--baseline", empty]) == 2
    assert "empty name or path" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [("--owner", ""), ("--reason", " "), ("--baseline", ""), ("--device", ""), ("--accuracy-margin-pp", "1e308")],
)
def test_a_budget_is_not_drafted_of_nothing(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["budget", "init", "nothing", "--owner", "ann", option, value]) == 2
    assert f"Invalid value for '{option}'" in capsys.readouterr().err
