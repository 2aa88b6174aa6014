"""A build is the same whatever holds the network and the images; the functions do what the commands do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from tiny import TINY_PX
from torch import nn

import edgec
from edgec.pipeline.cli import main
from edgec.pipeline.network.export import trace

pytestmark = pytest.mark.usefixtures("shared_store")

PREPROCESS = {"resize_px": 40, "mean": (127.5, 120.0, 110.0), "std": (127.5, 60.0, 57.0)}
LABELS = ("blue", "green", "red")
LOG = {"result.json", "result.json.sha256"}  # paths and times of one build
NAMED = {"manifest.json", "SHA256SUMS", "predictions.csv", "report.html", "README.md", "sbom.cdx.json"}
"""What says how images are called, and the digests of that."""


class Colours(nn.Sequential):
    """Tells blue, green and red apart."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(3)
        first, last = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 3)
        with torch.no_grad():
            first.weight.copy_(torch.randn(first.weight.shape, generator=generator) * 0.03)
            last.weight.zero_()
            for channel in range(6):
                first.weight[channel, channel % 3, 1, 1] = 1.0
                last.weight[2 - channel % 3, channel] = 4.0
            first.bias.fill_(0.5)
            last.bias.zero_()
        super().__init__(first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)


def build(model: Any, data: Any, output: Path, **more: Any) -> edgec.Bundle:
    return edgec.build(
        model,
        "onnxruntime",
        data=data,
        output=output,
        calibration_samples=4,
        name="colours",
        preprocess=PREPROCESS,
        labels=LABELS,
        no_measure=True,
        **more,
    )


def files(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if name not in LOG}


def test_one_network_and_one_set_of_images_whatever_holds_them(tiny_images: Path, tmp_path: Path) -> None:
    """A module, its ONNX in memory and as a file give the same bytes; so do images from memory, but for their names."""
    network, heard = Colours(), list[tuple[str, int, int]]()
    path = tmp_path / "colours.onnx"
    with torch.no_grad():
        trace(network.eval(), torch.zeros(1, 3, TINY_PX, TINY_PX), path, ("output",))
    bundle = build(network, tiny_images, tmp_path / "a", input_px=TINY_PX, progress=lambda *step: heard.append(step))
    expected = files(bundle.path)
    assert {"calibrate", "answer"} <= {step for step, _, _ in heard}
    assert {("simplify", 0, 0), ("calibrate", 4, 4)} <= {*heard}
    assert bundle.accuracy.float == bundle.accuracy.target == 100.0
    assert json.loads((bundle.path / "result.json").read_text())["weights"] == "a torch.nn.Module (Colours)"
    assert files(build(onnx.load(path), tiny_images, tmp_path / "b").path) == expected
    assert files(build(path, str(tiny_images), tmp_path / "c").path) == expected

    pictures = sorted(tiny_images.rglob("*.png"))
    held = edgec.Images((Image.open(file) for file in pictures), [file.parent.name for file in pictures])
    found = build(path, held, tmp_path / "d")
    assert found.manifest.origin == bundle.manifest.origin
    named = {name for name, content in files(found.path).items() if content != expected[name]}
    assert named <= NAMED
    assert found.accuracy == bundle.accuracy


def test_a_build_is_refused_with_a_code_and_leaves_nothing(tiny_onnx: Path, tmp_path: Path) -> None:
    images = np.zeros((4, 40, 40, 3), np.uint8)
    for more, code in (({"task": "segmentation"}, "wrong-task"), ({"weights": "random"}, "option-not-for-onnx")):
        with pytest.raises(edgec.EdgecError) as refusal:
            edgec.build(tiny_onnx, "onnxruntime", data=images, output=tmp_path / "out", **more)  # type: ignore[arg-type]
        assert refusal.value.code == code
    assert not (tmp_path / "out").exists()


def test_what_a_callback_raises_ends_the_build(
    tiny_onnx: Path, tiny_images: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a store of its own: where every stage is found nothing is told."""
    monkeypatch.setenv("EDGEC_CACHE", str(own_cache))

    def enough(step: str, done: int, total: int) -> None:
        raise TimeoutError(step)

    with pytest.raises(TimeoutError):
        edgec.build(tiny_onnx, "onnxruntime", data=tiny_images, output=tmp_path / "out", progress=enough)
    assert not (tmp_path / "out").exists()


def test_quantize_is_the_command(
    tiny_onnx: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["quantize", tiny_onnx, "--scheme", "tflite", "--data", tiny_images, "--output", tmp_path / "a.onnx"]
    assert main([*map(str, arguments), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    pictures = sorted(tiny_images.rglob("*.png"))
    images = edgec.Images([np.asarray(Image.open(file)) for file in pictures], [file.parent.name for file in pictures])
    found = edgec.quantize(onnx.load(tiny_onnx), "tflite", images=images, output=tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert (found.num_calibration, found.num_images) == (12, 12)
    assert (found.top1_float, found.reference.agreement) == (said["top1_float"], said["reference"]["agreement"])
    with pytest.raises(edgec.EdgecError) as refusal:
        edgec.quantize(tiny_onnx, "tflite", data=tiny_images, input_px=32)
    assert refusal.value.code == "option-not-for-onnx"


def test_export_is_the_command(tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["export", str(tiny_onnx), "--output", str(tmp_path / "a" / "tiny.onnx")]) == 0
    monkeypatch.chdir(tmp_path)
    found = edgec.export(onnx.load(tiny_onnx), name="tiny")
    assert found.output == "edgec-out/tiny.onnx"
    for name in ("tiny.onnx", "tiny.toml"):
        assert (tmp_path / "edgec-out" / name).read_bytes() == (tmp_path / "a" / name).read_bytes()
