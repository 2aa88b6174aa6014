"""``edgec build --target cpu,arm``: a bundle each, a refused one does not stop the rest, the worst status counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgec.pipeline.cli import main
from edgec.pipeline.cli._tables import print_builds


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("words", [("--target", "cpu,onnxruntime"), ("--target", "cpu", "--target", "onnxruntime")])
def test_each_board_gets_a_bundle(
    words: tuple[str, ...], tiny_onnx: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--data", str(tiny_images), "--no-measure")
    assert main(["build", str(tiny_onnx), *words, *given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["builds"]
    assert [result["target"] for result in found] == ["cpu", "onnxruntime"]
    for result in found:
        assert Path(result["bundle"]) == tmp_path / "edgec-out" / f"tiny-{result['target']}"
        assert main(["verify", result["bundle"]]) == 0
    assert "calibrate" in {stage.lower() for stage in found[1]["cached_stages"]}  # one calibration for all
    capsys.readouterr()
    print_builds([found[0], {**found[1], "poor": {"reasons": ["it has 1.0 dB"]}}])
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == ["verdict", "built", "poor"]


def test_what_is_refused_stops_nothing(
    tiny_onnx: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "all"
    targets = "nowhere,onnxruntime,cpu"
    given = ("--data", str(tiny_images), "--no-measure", "--output", str(output))
    assert main(["build", str(tiny_onnx), "--target", targets, *given]) == 1
    said = capsys.readouterr()
    assert "nowhere: error[unknown-target]" in said.err
    boards = [line for line in said.err.splitlines() if line.startswith("[")]
    assert boards == ["[1/3] nowhere", "[2/3] onnxruntime", "[3/3] cpu"]
    assert "refused: unknown-target" in said.out
    assert sorted(path.name for path in output.iterdir()) == ["tiny-cpu", "tiny-onnxruntime"]
    assert main(["build", str(tiny_onnx), "--target", targets, *given, "--json"]) == 1
    refused, *built = json.loads(capsys.readouterr().out)["builds"]
    assert refused["error"]["code"] == "unknown-target"
    assert all("error" not in result for result in built)


def test_too_little_memory_is_the_worst_of_what_was_built(
    tiny_onnx: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = tmp_path / "small.toml"
    board.write_text('extends = "mcu"\n[device]\nflash_bytes = 100\n')
    given = ("--data", str(tiny_images), "--no-measure")
    assert main(["build", str(tiny_onnx), "--target", f"{board},onnxruntime", *given]) == 3
    assert "over the board's limit" in capsys.readouterr().out


def test_a_name_counts_once(
    tiny_onnx: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--data", str(tiny_images), "--no-measure", "--json", "--output", str(tmp_path / "one"))
    assert main(["build", str(tiny_onnx), "--target", "onnxruntime, onnxruntime,", *given]) == 0
    assert json.loads(capsys.readouterr().out)["bundle"] == str(tmp_path / "one")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--target", ","), "expected the name of a board"),
        (("--target", "cpu,arm", "--on", "qemu:cortex-a76"), "--on is one device"),
    ],
)
def test_usage(words: tuple[str, ...], says: str, tiny_onnx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(tiny_onnx), *words]) == 2
    assert says in capsys.readouterr().err
