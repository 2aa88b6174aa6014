"""``edgec matrix``: every cell in one table, what is there already kept, the worst cell's status."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest

from edgec.pipeline.cli import main
from edgec.pipeline.cli._config import command_of
from edgec.pipeline.cli.matrix import NOT_OF_A_CELL
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.matrix import cell as cell_module
from edgec.pipeline.matrix import run as run_module
from edgec.pipeline.matrix.plan import LEAST, STRIDES, Options


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def matrix(model: Path, images: Path, *targets: str, more: str = "") -> str:
    text = f'models = ["{model}"]\ntargets = {json.dumps(targets)}\ndata = ["{images}"]\n[options]\nmeasure = false\n'
    Path("m.toml").write_text(text + more)
    return "m.toml"


def rows(folder: Path = Path("edgec-out/m")) -> dict[str, dict[str, Any]]:
    found = json.loads((folder / "matrix.json").read_text())
    assert found["schema"] == "edgec-matrix-1"
    return {row["cell"]: row for row in found["cells"]}


def test_good_cells_stand_beside_a_refused_one_and_are_kept_the_next_time(
    tiny_onnx: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = matrix(tiny_onnx, tiny_images, "cpu", "nowhere", "onnxruntime")
    assert main(["matrix", file]) == 1
    said = capsys.readouterr()
    assert "[2/3] tiny-nowhere: refused: unknown-target" in said.err
    assert "tiny-nowhere: error[unknown-target]: no target named 'nowhere'" in said.out
    found = rows()
    assert [row["verdict"] for row in found.values()] == ["built", "refused: unknown-target", "built"]
    good = found["tiny-cpu"]
    assert good["float"] == good["artifact"] == 100.0
    assert (good["precision"], good["p50_ms"], good["latency_note"]) == ("int8", None, "not asked for")
    assert good["size_bytes"] > 0
    assert good["options"]["calibration_samples"] == 256
    assert found["tiny-nowhere"]["error"]["hint"]
    log = json.loads((Path(found["tiny-onnxruntime"]["bundle"]) / "result.json").read_text())
    assert "calibrate" in {stage.lower() for stage in log["cached_stages"]}  # one calibration for all
    written_ns = (Path(good["bundle"]) / "result.json").stat().st_mtime_ns
    assert main(["matrix", file, "--json", "--quiet"]) == 1
    said = capsys.readouterr()
    again = json.loads(said.out)
    assert [row["is_kept"] for row in again["cells"]] == [True, False, True]
    assert said.err == ""
    assert (Path(good["bundle"]) / "result.json").stat().st_mtime_ns == written_ns
    table = Path("edgec-out/m/matrix.md").read_text()
    assert "| tiny.onnx | cpu | int8 |" in table.replace(f"{tiny_onnx.parent}/", "")
    assert "- tiny-nowhere: no target named 'nowhere'" in table


def test_a_cell_over_its_boards_limit_is_status_3_and_a_refusal_is_worse(
    tiny_onnx: Path, tiny_images: Path, here: Path, shared_store: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "small.toml").write_text('extends = "mcu"\n[device]\nflash_bytes = 100\n')
    assert main(["matrix", matrix(tiny_onnx, tiny_images, "small.toml"), "--output", "out"]) == 3
    assert "over the board's limit" in capsys.readouterr().out
    assert main(["matrix", matrix(tiny_onnx, tiny_images, "small.toml", "nowhere"), "--output", "out"]) == 1
    found = rows(Path("out"))
    assert found["tiny-small"]["is_kept"]
    assert found["tiny-small"]["verdict"] == "over the board's limit"


def test_a_lost_connection_is_tried_again(
    tiny_onnx: Path,
    tiny_images: Path,
    shared_store: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    deliver, tries = cell_module.deliver, []

    def losing(*words: Any) -> dict[str, Any]:
        tries.append(words)
        if len(tries) < 3:
            raise EdgecError("connection-lost", "the board went away", "run again")
        return deliver(*words)

    monkeypatch.setattr(cell_module, "deliver", losing)
    monkeypatch.setattr(run_module, "FIRST_WAIT_S", 0.0)
    file = matrix(tiny_onnx, tiny_images, "onnxruntime")
    assert main(["matrix", file, "--retries", "1"]) == 1
    assert "connection-lost, try 2 of 2" in capsys.readouterr().err
    assert rows()["tiny-onnxruntime"]["tries"] == 2
    assert main(["matrix", file]) == 0
    assert rows()["tiny-onnxruntime"]["verdict"] == "built"


@pytest.mark.parametrize(
    ("end", "jobs", "measure"),
    [(signal.SIGKILL, 1, "false"), (signal.SIGINT, 2, "true")],  # cells that measure are finished one by one
)
def test_what_was_finished_is_kept_whatever_ended_the_run(
    end: signal.Signals, jobs: int, measure: str, tiny_onnx: Path, tiny_images: Path, shared_store: None
) -> None:
    file = matrix(tiny_onnx, tiny_images, "onnxruntime", "cpu")
    Path(file).write_text(Path(file).read_text().replace("measure = false", f"measure = {measure}"))
    command = [sys.executable, "-m", "edgec.pipeline.cli", "matrix", file, "--jobs", str(jobs)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any(line.startswith("[1/2] tiny-onnxruntime: built") for line in process.stderr)
    process.send_signal(end)
    _, said = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGINT: 130}.get(end, -end)
    assert ("finished stages are kept" in said) == (end == signal.SIGINT)
    assert [row["verdict"] for row in rows().values()] == ["built", "not built"]
    assert main(["matrix", file]) == 0
    assert [(row["verdict"], row["is_kept"]) for row in rows().values()] == [("built", True), ("built", False)]


def test_what_a_file_of_options_says_of_builds_holds_for_cells(
    tiny_onnx: Path, tiny_images: Path, here: Path, shared_store: None
) -> None:
    common = f'data = "{tiny_images}"\ncalibration-samples = 5\n'
    (here / "edgec.toml").write_text(common + "[build]\nno-measure = true\n[matrix]\noutput = 'found'\n")
    Path("m.toml").write_text(f'models = ["{tiny_onnx}"]\ntargets = ["onnxruntime"]\n')
    assert main(["matrix", "m.toml"]) == 0
    (row,) = rows(Path("found")).values()
    assert (row["data"], row["options"]["calibration_samples"], row["options"]["measure"]) == (
        str(tiny_images),
        5,
        False,
    )


def test_nothing_of_anybody_else_is_replaced(
    tiny_onnx: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out").mkdir()
    Path("out/matrix.json").write_text('{"mine": true}')
    assert main(["matrix", matrix(tiny_onnx, tiny_images, "onnxruntime"), "--output", "out"]) == 1
    assert "error[output-exists]" in capsys.readouterr().err
    assert Path("out/matrix.json").read_text() == '{"mine": true}'


def test_a_file_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", "none.toml"]) == 1
    assert "error[no-such-file]" in capsys.readouterr().err
    Path("m.toml").write_text("models = []\n")
    assert main(["matrix", "m.toml"]) == 1
    assert "error[bad-matrix]: 'm.toml' has no cell" in capsys.readouterr().err
    assert main(["matrix", "m.toml", "--jobs", "0"]) == 2


def test_a_cell_can_ask_for_whatever_a_build_can() -> None:
    named = {parameter.name for parameter in command_of("build").params} - set(NOT_OF_A_CELL)
    assert named - {"model", "data", "precision"} == {field.name for field in fields(Options)} - {"measure"}


def test_a_cell_has_the_bounds_of_a_build() -> None:
    """The least value of each option's range is taken, and what lies below is refused."""
    options = {option.name or "": option.type for option in command_of("build").params}
    assert options["output_stride"].choices == tuple(map(str, STRIDES))  # type: ignore[attr-defined]
    ranges = {name: bounds for name, bounds in options.items() if isinstance(bounds, click.IntRange | click.FloatRange)}
    assert len(ranges) == len(LEAST) + 1
    for name, bounds in ranges.items():
        least = bounds.min or 0
        Options(**{name: least + bounds.min_open})
        with pytest.raises(ValueError, match=name):
            Options(**{name: least - (not bounds.min_open)})
        for odd in (math.nan, math.inf):
            with pytest.raises(ValueError, match=name):
                Options(**{name: odd})
