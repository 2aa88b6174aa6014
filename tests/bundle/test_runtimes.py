"""Which runtime reads which artifact."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.pipeline.bundle.runtimes import runtime_of


@pytest.mark.parametrize(
    ("name", "runtime"),
    [
        ("model.tflite", "LiteRT"),
        ("openvino/model.xml", "OpenVINO"),
        ("model.onnx", "ONNX Runtime"),
        ("tensorrt/engine_spec.json", "TensorRT"),
    ],
)
def test_runtime_by_format(tmp_path: Path, name: str, runtime: str) -> None:
    if runtime == "OpenVINO":
        pytest.importorskip("openvino")
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"")
    found = runtime_of(file.parent if "/" in name else file)
    assert runtime in found.name
    assert found.versions.startswith(">=")
