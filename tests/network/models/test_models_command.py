"""``edgec models``."""

from __future__ import annotations

import json

import pytest

from edgec.pipeline.cli import main
from edgec.pipeline.network import models


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
