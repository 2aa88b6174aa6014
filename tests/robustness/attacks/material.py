"""What attacks spoil: a small network, its weights, pictures, bundles, an archive and a filled store."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

TESTS = Path(__file__).resolve().parents[2]
COLOURS = {"blue": (30, 40, 200), "green": (40, 190, 50), "red": (210, 40, 30)}
TOML = """\
onnx = "tiny.onnx"
labels = ["blue", "green", "red"]
[preprocess]
resize_px = 40
crop_px = 32
mean = [127.5, 120.0, 110.0]
std = [127.5, 60.0, 57.0]
"""
BOARD = 'extends = "mcu"\n[device]\ndescription = "small"\nram_bytes = 262144\nflash_bytes = 1048576\n'


def make_material(folder: Path) -> Path:
    """Fill ``folder`` unless it is filled; return it."""
    if (folder / "complete").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sys.path.insert(0, str(TESTS))
    from tiny import TINY_PX, tiny_network

    onnx.save(tiny_network(), folder / "tiny.onnx")
    (folder / "model.toml").write_text(TOML)
    (folder / "board.toml").write_text(BOARD)
    stream = np.random.default_rng(7)
    for name, colour in COLOURS.items():
        (folder / "data" / name).mkdir(parents=True)
        for index in range(8):
            pixels = np.asarray(colour) + stream.normal(0, 25, (TINY_PX + 8, TINY_PX + 8, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "data" / name / f"{index}.png")
    _weights(folder)
    for target in ("mcu", "cpu"):
        _edgec(folder, "build", "model.toml", "--target", target, "--data", "data", "--output", target, "--no-measure")
    _edgec(folder, "pack", "mcu", "--output", "mcu.tar.zst")
    (folder / "complete").touch()
    return folder


def _weights(folder: Path) -> None:
    """A state dict of a narrow MobileNet V1, in two formats."""
    from safetensors.torch import save_file
    from torch import save

    from edgec.pipeline.network.models.spec import NetworkConfig, build_network

    state = build_network(NetworkConfig("mobilenetv1", num_classes=3, width_multiplier=0.25)).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "weights.safetensors")
    save(state, folder / "weights.pth")


def _edgec(folder: Path, *arguments: str) -> None:
    environment = {**os.environ, "EDGEC_CACHE": str(folder / "store")}
    command = [sys.executable, "-m", "edgec.pipeline.cli", *arguments]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
