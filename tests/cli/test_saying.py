"""What a command says while it works and when it refuses: in a pipe, quietly, at length, in JSON."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import click
import onnx
import pytest
from click.shell_completion import ShellComplete

from edgec.pipeline.cli import COMMANDS, group, main
from edgec.pipeline.cli._progress import add_verbosity, progress_bar
from edgec.pipeline.cli.completion import SHELLS
from edgec.pipeline.core.progress import begins, reporter

STAGES = ("export", "simplify", "check", "calibrate", "quantize", "compile")


def quantize(model: Path, images: Path, output: Path, *more: str) -> int:
    given = ("--scheme", "openvino", "--data", str(images), "--output", str(output))
    return main(["quantize", str(model), *given, *more])


def test_a_line_for_each_stage_in_a_pipe(
    colours_toml: Path, tiny_images: Path, tmp_path: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order of the work; of stages that were found only when asked, and never on standard output."""
    assert quantize(colours_toml, tiny_images, tmp_path / "q.onnx") == 0
    told = capsys.readouterr()
    stages = [line.split(" s  ")[1] for line in told.err.splitlines()]
    assert stages == list(dict.fromkeys(stages))
    assert [stage for stage in stages if stage in STAGES] == [stage for stage in STAGES if stage in stages]
    assert {"calibrate", "quantize"} <= set(stages)
    assert not any(" s  " in line for line in told.out.splitlines())
    assert quantize(colours_toml, tiny_images, tmp_path / "q.onnx") == 0
    assert capsys.readouterr().err == ""
    assert quantize(colours_toml, tiny_images, tmp_path / "q.onnx", "--verbose") == 0
    assert "calibrate: found in the store" in capsys.readouterr().err


def test_a_line_stays_whole_in_a_pipe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever COLUMNS says: sentences and tables are for grep there."""
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["models"]) == 0
    assert main(["targets"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert "weights: every model also takes a file, a card, or 'random'" in told
    assert any(line.split()[:3] == ["cpu", "openvino", "openvino"] and "OpenVINO" in line for line in told)


def test_a_free_side_of_an_onnx_file_is_no_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And brackets in a name are no markup."""
    sides = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 3]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "free", sides[:1], sides[1:])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "a[red].onnx")
    assert main(["inspect", str(tmp_path / "a[red].onnx")]) == 0
    told = capsys.readouterr().out
    assert "?x3" in told
    assert "a[red].onnx: onnx," in told


def test_quiet_says_nothing_but_errors(
    colours_toml: Path, tiny_images: Path, tmp_path: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quantize(colours_toml, tiny_images, tmp_path / "q.onnx", "-q") == 0
    told = capsys.readouterr()
    assert (told.err, "written:" in told.out) == ("", True)
    assert quantize(tmp_path / "none.onnx", tiny_images, tmp_path / "q.onnx", "-q") == 1
    assert capsys.readouterr().err.startswith("error[")


def leaves(command: click.Command, name: str) -> list[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        return [(name, command)]
    return [found for part, inner in command.commands.items() for found in leaves(inner, f"{name} {part}")]


def test_every_command_can_be_quiet_or_verbose() -> None:
    context = click.Context(group)
    for name in COMMANDS:
        command = group.get_command(context, name)
        assert command is not None
        for words, leaf in leaves(command, name):
            options = [option for parameter in leaf.params for option in parameter.opts]
            assert len(options) == len(set(options)), f"{words}: {options}"
            assert {"-q", "--quiet", "-v", "--verbose"} <= set(options), words


def test_quiet_and_verbose_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "-q", "-v"]) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_a_terminal_sees_life_before_any_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a terminal: a stream that says it is one."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")

    @click.command()
    def work() -> None:
        with progress_bar():
            begins("calibrate")
            reporter("calibrate")(3, 8)

    add_verbosity(work).main([], standalone_mode=False)
    shown = terminal.getvalue()
    assert "starting" in shown
    assert shown.index("starting") < shown.index("calibrate")
    assert "3/8" in shown


@pytest.mark.parametrize(
    ("line", "status", "code"),
    [
        (["build", "no-such-model", "--target", "cpu", "--json"], 1, "unknown-model"),
        (["build", "mobilenetv2", "--target", "no-such-board", "--json"], 1, "unknown-target"),
        (["verify", "no-such-folder", "--json"], 1, None),
        (["check", "no-such-folder", "--json"], 1, None),
        (["build", "mobilenetv2", "--json"], 2, "usage"),
        (["targets", "--json", "--no-such-option"], 2, "usage"),
    ],
)
def test_refusals_are_json_too(
    line: list[str], status: int, code: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard output, for programs; people read the same on standard error."""
    assert main(line) == status
    told = capsys.readouterr()
    error = json.loads(told.out)["error"]
    assert set(error) == {"code", "message", "hint"}
    assert all(error.values())
    assert code in (None, error["code"])
    assert error["message"].splitlines()[0] in told.err


def test_without_json_a_refusal_leaves_standard_output_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "no-such-model", "--target", "cpu"]) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_is_a_script_that_the_shell_reads(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "_EDGEC_COMPLETE" in script
    if shell == "bash":
        (tmp_path / "edgec.bash").write_text(script)
        done = subprocess.run(["bash", "-n", tmp_path / "edgec.bash"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_completion_knows_commands_and_options() -> None:
    complete = ShellComplete(group, {}, "edgec", "_EDGEC_COMPLETE")
    assert {item.value for item in complete.get_completions([], "qu")} == {"quantize"}
    assert "--scheme" in {item.value for item in complete.get_completions(["quantize"], "--s")}


def test_doctor_says_a_shared_cause_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shared = {"can_build": True, "can_run": False, "facts": "", "missing": "no [driver] here"}
    alone = {"can_build": True, "can_run": True, "facts": "all there", "missing": ""}
    found = {"machine": {}, "targets": [{"target": "a", **shared}, {"target": "b", **alone}, {"target": "c", **shared}]}
    monkeypatch.setattr("edgec.pipeline.diagnosis.diagnose", lambda: found)
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert (told.count("no [driver] here"), told.count("all there")) == (1, 1)
    assert [told.index(f" {name} ") for name in "acb"] == sorted(told.index(f" {name} ") for name in "acb")


def test_quantize_and_sensitivity_take_models_by_name(
    tiny_images: Path, tmp_path: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the options of the network that 'build' has."""
    small = ["--weights", "random", "--width-multiplier", "0.25", "--input-px", "32", "--num-classes", "3"]
    common = ["--scheme", "tflite", "--data", str(tiny_images), "--json"]
    written = tmp_path / "q.onnx"
    assert main(["quantize", "mobilenetv1", *small, *common, "--output", str(written)]) == 0
    assert json.loads(capsys.readouterr().out)["num_images"] > 0
    assert written.is_file()
    assert main(["sensitivity", "mobilenetv1", *small, *common]) == 0
    assert json.loads(capsys.readouterr().out)
