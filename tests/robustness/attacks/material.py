"""What attacks spoil: a small network, its weights, pictures, bundles, an archive and a filled store."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from attacks.forked import Forks
from attacks.trial import Trial

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


def make_material(folder: Path, forks: Forks) -> Path:
    """Fill ``folder`` unless this edgec has filled it; return it."""
    version = _version()
    if (folder / "version").exists() and (folder / "version").read_text() == version:
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
        given = ("--target", target, "--data", folder / "data", "--output", folder / target)
        _edgec(folder, forks, "build", folder / "model.toml", *given, "--no-measure")
    _edgec(folder, forks, "pack", folder / "mcu", "--output", folder / "mcu.tar.zst")
    (folder / "version").write_text(version)
    return folder


def _version() -> str:
    """Of everything that bundles and results name."""
    from edgec.pipeline.bundle.provenance import git_commit
    from edgec.pipeline.core.code import code_digests

    names = [name for name in sys.modules if name.startswith("edgec.")]
    return hashlib.sha256(json.dumps([git_commit(), code_digests(names)]).encode()).hexdigest()


def _weights(folder: Path) -> None:
    """A state dict of a narrow MobileNet V1, in two formats."""
    from safetensors.torch import save_file
    from torch import save

    from edgec.pipeline.network.models.spec import NetworkConfig, build_network

    state = build_network(NetworkConfig("mobilenetv1", num_classes=3, width_multiplier=0.25)).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "weights.safetensors")
    save(state, folder / "weights.pth")


def _edgec(folder: Path, forks: Forks, *arguments: object) -> None:
    trial = Trial(folder, folder / "work", random.Random(0), forks, {"EDGEC_CACHE": str(folder / "store")})
    trial.prepare()
    done = trial.run(*arguments)
    if done.status:
        raise RuntimeError(f"edgec {arguments[0]} ended with {done.status}: {done.err}")
    shutil.rmtree(trial.folder)
