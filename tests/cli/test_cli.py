"""The commands that only tell, and how the command line ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgec.pipeline import cli
from edgec.pipeline.cli import COMMANDS, main


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
