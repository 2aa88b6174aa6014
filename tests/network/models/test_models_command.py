"""``edgec models``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgec.pipeline.cli import main
from edgec.pipeline.network import models
from edgec.pipeline.network.export import export_onnx
from edgec.pipeline.network.models.spec import NetworkConfig, build_network


def test_json_has_every_model_and_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert tuple(rows) == models.names()
    assert rows["mobilenetv1"]["macs"] == 568_740_352
    assert rows["xception"]["params"] == rows["xception"]["published_params"] == 22_855_952
    assert rows["mobilenetv3"]["published_top1"] == 75.2
    assert all("random" in row["weights"] and row["published_source"] for row in rows.values())


def test_table_names_every_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in models.names())
    assert "8.6x" in shown  # depthwise-separable saving of MobileNetV1


class TestExplain:
    def test_json_adds_up(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["models", "--explain", "mobilenetv1", "--json", "--target", "jetson-orin-nano"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["macs"] == sum(layer["macs"] for layer in found["layers"]) == 568_740_352
        assert found["params"] == sum(kind["params"] for kind in found["kinds"])
        assert found["roofline"]["gmacs_s"] == 16_750
        assert {layer["limit"] for layer in found["layers"]} == {"memory"}

    def test_table_and_options_of_the_network(self, capsys: pytest.CaptureFixture[str]) -> None:
        options = [
            "--groups",
            "8",
            "--no-residual",
            "--width-multiplier",
            "0.25",
            "--input-px",
            "64",
            "--padding",
            "tf-same",
        ]
        assert main(["models", "--explain", "xception", "--intermediate-activation", "relu", *options]) == 0
        shown = capsys.readouterr().out
        assert "grouped 3x3 / 8" in shown
        assert "skip" not in shown
        assert "xception at 64 x 64 px" in shown

    @pytest.mark.parametrize("suffix", ["svg", "png"])
    def test_plot_is_written_and_repeats(self, suffix: str, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        first, second = tmp_path / "new" / f"1.{suffix}", tmp_path / f"2.{suffix}"
        for path in (first, second):
            arguments = ["--explain", "mobilenetv3-small", "--target", "jetson"]
            assert main(["models", *arguments, "--plot", str(path)]) == 0
        assert first.read_bytes() == second.read_bytes()
        assert len(first.read_bytes()) > 10_000

    def test_an_onnx_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        export_onnx(build_network(NetworkConfig("mobilenetv2", 0.25)), 64, tmp_path / "mine.onnx")
        assert main(["models", "--explain", str(tmp_path / "mine.onnx"), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["name"], found["input_px"]) == ("mine.onnx", [64, 64])
        assert main(["models", "--explain", str(tmp_path / "mine.onnx"), "--groups", "2"]) == 2

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (["--explain", "mobilenetv9"], "unknown-model"),
            (["--explain", "mobilenetv2", "--target", "rpi4"], "no-board-rates"),
            (["--explain", "mobilenetv2", "--output-stride", "8"], "invalid-network-option"),
            (["--explain", "mobilenetv2", "--plot", "layers.pdf"], "bad-plot-format"),
            (["--explain", "missing.onnx"], "no-such-file"),
        ],
    )
    def test_refusals(self, arguments: list[str], code: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["models", *arguments]) == 1
        assert f"error[{code}]" in capsys.readouterr().err

    def test_options_without_explain_are_a_usage_error(self) -> None:
        assert main(["models", "--groups", "2"]) == 2
        assert main(["models", "--target", "jetson"]) == 2
