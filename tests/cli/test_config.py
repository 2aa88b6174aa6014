"""Options from ``edgec.toml``: below command line and environment, above defaults; ``edgec explain`` tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

from edgec.pipeline.cli import main

FULL = """\
cache = "kept"
data = "photos"
threads = 3

[build]
target = ["cpu", "arm"]
calibration_samples = 12
no-measure = true
output-stride = 16
weights = "own/my.safetensors"

[check]
baseline = ["main=before", "after"]
latency = 1
"""
"""With one key that no command has."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def written(folder: Path, text: str, name: str = "edgec.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


GOOD = FULL.replace("latency = 1\n", "")


class Explain:
    """``edgec explain ... --json`` by option."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *words: str, before: tuple[str, ...] = ()) -> dict[str, tuple[Any, str, str | None]]:
        assert main([*before, "explain", "--json", *words]) == 0, self.capsys.readouterr().err
        found = json.loads(self.capsys.readouterr().out)
        rows = (*found["options"], *found["boards"])
        return {row["name"]: (row["value"], row["source"], row["where"]) for row in rows}

    def refusal(self, *words: str) -> str:
        assert main(list(words)) == 1
        return self.capsys.readouterr().err


@pytest.fixture
def explain(capsys: pytest.CaptureFixture[str]) -> Explain:
    return Explain(capsys)


def test_the_nearer_source_wins(here: Path, explain: Explain, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("build", "net", "--target", "onnxruntime")
    assert explain(*words)["--calibration-samples"] == (256, "default", None)
    written(here, GOOD)
    assert explain(*words)["--calibration-samples"] == (12, "file", "edgec.toml:7")
    monkeypatch.setenv("EDGEC_BUILD_CALIBRATION_SAMPLES", "13")
    assert explain(*words)["--calibration-samples"] == (13, "environment", "EDGEC_BUILD_CALIBRATION_SAMPLES")
    monkeypatch.setenv("EDGEC_BUILD_TARGET", "arm mcu")
    assert explain("build", "net")["--target"] == (["arm", "mcu"], "environment", "EDGEC_BUILD_TARGET")
    given = explain(*words, "--calibration-samples", "14")
    assert given["--calibration-samples"] == (14, "command line", None)
    assert given["--target"] == (["onnxruntime"], "command line", None)


def test_flags_lists_paths_and_common_options(here: Path, explain: Explain, monkeypatch: pytest.MonkeyPatch) -> None:
    written(here, GOOD)
    found = explain("build", "net")
    assert found["MODEL"] == ("net", "command line", None)
    assert found["--target"] == (["cpu", "arm"], "file", "edgec.toml:6")
    assert found["--no-measure"] == (True, "file", "edgec.toml:8")
    assert found["--output-stride"] == ("16", "file", "edgec.toml:9")
    assert found["--data"] == ("photos", "file", "edgec.toml:2")
    assert found["--threads"] == (3, "file", "edgec.toml:3")
    assert explain("build", "net", "--measure")["--no-measure"] == (False, "command line", None)
    monkeypatch.setenv("EDGEC_BUILD_NO_MEASURE", "0")
    assert explain("build", "net")["--no-measure"] == (False, "environment", "EDGEC_BUILD_NO_MEASURE")
    assert explain("evaluate", "B")["--data"] == ("photos", "file", "edgec.toml:2")
    assert explain("check", "B")["--data"] == (None, "default", None)  # there it would ask for more work


def test_a_list_leaves_commands_alone_that_take_one(here: Path, explain: Explain) -> None:
    written(here, 'target = ["cpu", "arm"]\n[search]\npx = [96, 128]\n')
    found = explain("search", "net", "--target", "cpu")
    assert found["--target"] == ("cpu", "command line", None)
    assert found["--px"] == ([96, 128], "file", "edgec.toml:3")


def test_paths_are_relative_to_the_file(here: Path, explain: Explain) -> None:
    """Names stay names; beside the working folder's own file nothing is changed."""
    (here.parent / "other").mkdir()
    path = written(here.parent / "other", GOOD + '[quantize]\nscheme = "tflite"\noutput = "q.onnx"\n')
    before = ("--config", str(path))
    found = explain("build", "net", before=before)
    assert found["--data"][0] == str(path.parent / "photos")
    assert found["--weights"][0] == str(path.parent / "own/my.safetensors")
    assert found["--target"][0] == ["cpu", "arm"]
    assert found["--data"][2] == f"{path}:2"
    assert explain("check", "B", before=before)["--baseline"][0] == [
        f"main={path.parent}/before",
        f"{path.parent}/after",
    ]
    assert explain("quantize", "net", before=before)["--scheme"][0] == "tflite"
    relative = ("--config", "../other/edgec.toml")
    assert explain("build", "net", before=relative)["--data"][0] == "../other/photos"


def test_the_store(here: Path, explain: Explain, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    written(here, GOOD)
    assert explain("build", "net")["cache"] == (str(own_cache), "environment", "EDGEC_CACHE")
    monkeypatch.delenv("EDGEC_CACHE")
    assert explain("build", "net")["cache"] == ("kept", "file", "edgec.toml:1")
    assert explain("doctor", before=("--no-config",))["cache"][1] == "default"  # and nothing of the file is left behind
    assert main(["cache", "path"]) == 0
    assert explain.capsys.readouterr().out == "kept\n"


def test_the_shared_cache(here: Path, explain: Explain, monkeypatch: pytest.MonkeyPatch) -> None:
    assert explain("build", "net", "--target", "cpu")["shared-cache"][1] == "default"
    written(here, 'shared-cache = "s3://ours/edgec"\n')
    assert explain("build", "net", "--target", "cpu")["shared-cache"] == ("s3://ours/edgec", "file", "edgec.toml:1")
    assert main(["cache", "path", "--shared"]) == 0
    assert explain.capsys.readouterr().out == "s3://ours/edgec\n"
    monkeypatch.setenv("EDGEC_SHARED_CACHE", "/mnt/team")
    assert explain("build", "net", "--target", "cpu")["shared-cache"] == (
        "/mnt/team",
        "environment",
        "EDGEC_SHARED_CACHE",
    )
    monkeypatch.delenv("EDGEC_SHARED_CACHE")
    written(here, "shared-cache = 3\n")
    assert main(["cache", "path"]) == 1
    assert "shared-cache: expected text" in explain.capsys.readouterr().err
    monkeypatch.setenv("HOME", "/home/ann")
    written(here, 'shared-cache = "~/team"\ndata = "~/photos"\n')
    assert explain("build", "net", "--target", "cpu")["shared-cache"][0] == "/home/ann/team"
    assert explain("build", "net", "--target", "cpu")["--data"][0] == "/home/ann/photos"
    written(here, 'shared-cache = "team"\n')
    assert main(["--config", "edgec.toml", "cache", "path", "--shared"]) == 0
    assert explain.capsys.readouterr().out == "team\n"


def test_one_of_rivals_makes_way(here: Path, explain: Explain, monkeypatch: pytest.MonkeyPatch) -> None:
    """What says where images lie on the command line puts out what the file says of them, and so on."""
    written(here, 'data = "photos"\n[search]\ntest-data = "t"\ncalibration-data = "c"\n')
    found = explain("build", "net", "--target", "cpu", "--test-data", "t", "--calibration-data", "c")
    assert [found[name][0] for name in ("--data", "--test-data", "--calibration-data")] == [None, "t", "c"]
    found = explain("search", "net", "--target", "cpu")
    assert [found[name][0] for name in ("--data", "--test-data", "--calibration-data")] == [None, "t", "c"]
    found = explain("search", "net", "--target", "cpu", "--data", "d")
    assert [found[name][0] for name in ("--data", "--test-data", "--calibration-data")] == ["d", None, None]
    monkeypatch.setenv("EDGEC_BUILD_TEST_DATA", "e")
    found = explain("build", "net", "--target", "cpu")
    assert [found[name][0] for name in ("--data", "--test-data")] == [None, "e"]
    found = explain("build", "net", "--target", "cpu", "--data", "d")
    assert [found[name][0] for name in ("--data", "--test-data")] == ["d", None]


def test_pyproject(here: Path, explain: Explain) -> None:
    written(
        here,
        '[project]\nname = "x"\n[tool.edgec]\ndata = "photos"\n[tool.edgec.build]\ninput_px = 64\n',
        "pyproject.toml",
    )
    found = explain("build", "net", "--target", "cpu")
    assert found["--data"] == ("photos", "file", "pyproject.toml:4")
    assert found["--input-px"] == (64, "file", "pyproject.toml:6")
    assert explain("build", "net", "--target", "cpu", before=("--no-config",))["--data"] == (None, "default", None)
    written(here, "threads = 1\n")
    assert "[tool.edgec] of 'pyproject.toml' both state options" in explain.refusal("targets")
    chosen = explain("build", "net", "--target", "cpu", before=("--config", "pyproject.toml"))
    assert chosen["--data"] == ("photos", "file", "pyproject.toml:4")
    written(here, "[tool.other]\nedgec = 1\n", "pyproject.toml")
    assert explain("build", "net", "--target", "cpu")["--threads"] == (1, "file", "edgec.toml:1")


def test_the_file_of_the_documents(here: Path, explain: Explain) -> None:
    written(here, (ROOT / "docs" / "config.md").read_text().split("```toml\n")[1].split("```")[0])
    assert explain("build", "net", "--target", "jetson", "--measure")["--max-drop-pp"] == (1.0, "file", "edgec.toml:9")
    assert explain("budget", "init", "B")["--owner"][0] == "vision team"


def test_subcommands_have_tables_of_their_own(here: Path, explain: Explain, monkeypatch: pytest.MonkeyPatch) -> None:
    written(here, '[budget.init]\nowner = "ann"\n')
    assert explain("budget", "init", "B")["--owner"] == ("ann", "file", "edgec.toml:2")
    monkeypatch.setenv("EDGEC_BUDGET_INIT_OWNER", "bob")
    assert explain("budget", "init", "B")["--owner"] == ("bob", "environment", "EDGEC_BUDGET_INIT_OWNER")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (FULL, "'edgec.toml:14': no option 'check.latency'"),
        ("targe = 'cpu'", "'edgec.toml:1': no option 'targe'\nhint: did you mean 'target'?"),
        ("[biuld]\ninput-px = 64", "no option 'biuld'\nhint: did you mean 'build'?"),
        ("[build]\ninput-pixels = 64", "no option 'build.input-pixels'\nhint: did you mean 'input-px'?"),
        ("weights = 'random'", "'edgec.toml:1': no option 'weights'"),  # of some commands, never common
        ("cache = 3", "cache: expected text, got 3"),
        ("[build]\ninput-px = '64'", "'edgec.toml:2': build.input-px: expected a number, got '64'"),
        ("[build]\ninput-px = true", "build.input-px: expected a number, got true"),
        ("[build]\ninput-px = 8", "build.input-px: 8 is not in the range x>=32"),
        ("[build]\nmax-drop-pp = '1'", "build.max-drop-pp: expected a number, got '1'"),
        ("[build]\nno-measure = 'yes'", "build.no-measure: expected true or false, got 'yes'"),
        ("[build]\nno-measure = 1", "build.no-measure: expected true or false, got 1"),
        ("[build]\nweights = 3", "build.weights: expected text, got 3"),
        ("[build]\nquantizer = 'quick'", "'quick' is not one of"),
        ("[build]\noutput-stride = 7", "'7' is not one of"),
        ("[build]\ntask = ['a']", "build.task takes one value, got a list"),
        ("[build]\ntask = {a = 1}", "build.task: expected text, got a table"),
        ("[build]\ntarget = [3]", "build.target: expected text, got 3"),
        ("[search]\npx = [8]", "'edgec.toml:2': search.px: "),
        ("[build]\ninput-px = 64\ninput_px = 64", "input_px and input-px are one option"),
        ("[budget]\ninit = 3", "no option 'budget.init'"),
        ("[build", "'edgec.toml' is not TOML"),
    ],
)
def test_what_is_wrong_is_named(text: str, says: str, here: Path, explain: Explain) -> None:
    written(here, text)
    error = explain.refusal("targets")
    assert says in error
    assert error.partition("error[")[2].partition("]")[0] == "bad-config"


def test_a_common_option_of_a_wrong_type_is_refused_where_it_is_taken(here: Path, explain: Explain) -> None:
    written(here, "threads = 'all'")
    assert "'edgec.toml:1': threads: expected a number, got 'all'" in explain.refusal("explain", "measure", "B")


def test_choosing(here: Path, explain: Explain, capsys: pytest.CaptureFixture[str]) -> None:
    assert "error[no-such-file]" in explain.refusal("--config", "none.toml", "targets")
    written(here, "[broken")
    assert main(["--no-config", "targets"]) == 0
    assert main(["--help"]) == 0
    assert main(["--no-config", "--config", "edgec.toml", "targets"]) == 2
    assert "exclude each other" in capsys.readouterr().err
    written(here, "[tool]\nedgec = 3", "pyproject.toml")
    assert "tool.edgec is no table" in explain.refusal("--config", "pyproject.toml", "targets")


def test_the_table_for_people(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(here, GOOD)
    (here / "mine.toml").write_text('extends = "mcu"\n[device]\nflash_bytes = 1000\n')
    assert main(["explain", "build", "net", "--target", "mine.toml"]) == 0
    lines = {line.split("  ")[0].strip(): line.split() for line in capsys.readouterr().out.splitlines()}
    assert lines["--target"][1:] == ["mine.toml", "command", "line"]
    assert lines["--calibration-samples"][1:] == ["12", "edgec.toml:7"]
    assert lines["--argmax"][1:] == ["-", "default"]
    assert lines["mine: device.flash_bytes"][2:] == ["1000", "mine.toml:3"]
    assert lines["mine: compiler"][2] == "tflite"
    assert "/mcu.toml:" in lines["mine: compiler"][3]  # of the board that it extends


@pytest.mark.parametrize(
    "words", [["build"], ["budget"], ["budget", "inti"], ["build", "m", "--target", "cpu", "--px"]]
)
def test_what_the_command_would_not_take_is_not_explained(words: list[str], here: Path) -> None:
    assert main(["explain", *words]) == 2


def test_a_file_of_options_leaves_no_trace(
    here: Path, tiny_onnx: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bundle says what was asked for, never where that was written; and stages are explained with the same values."""
    words = ["--target", "onnxruntime", "--data", str(tiny_images), "--calibration-samples", "4", "--no-measure"]
    assert main(["build", str(tiny_onnx), *words, "--output", "one"]) == 0
    common = f'data = "{tiny_images}"\ntarget = "onnxruntime"\n'
    written(here, common + '[build]\ncalibration-samples = 4\nno-measure = true\noutput = "two"\n')
    capsys.readouterr()
    assert main(["explain", str(tiny_onnx), "--json"]) == 0
    assert all(plan["cached"] for plan in json.loads(capsys.readouterr().out))
    assert main(["build", str(tiny_onnx)]) == 0
    assert (here / "one" / "manifest.json").read_bytes() == (here / "two" / "manifest.json").read_bytes()
    one, two = (json.loads((here / name / "result.json").read_text()) for name in ("one", "two"))
    assert {key for key in one if one[key] != two[key]} <= {"bundle", "build_seconds", "cached_stages"}
