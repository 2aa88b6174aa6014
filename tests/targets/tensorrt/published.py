"""Pythons with TensorRT's published bindings, and the names that these have.

``python3.10 tests/targets/tensorrt/published.py FOLDER`` makes ``FOLDER/<version>/bin/python`` unless it is there, each
with ``import tensorrt``. 8.6.0 is the whole wheel, for Python 3.10 only, 819 MB: a minute. Of 10.3 and 11.4 only the
bindings are fetched, 1 MB each, and nothing behind them. ``FOLDER/libraries`` holds libraries that do nothing, for the
loader: those behind the bindings, and cuBLAS and cuDNN of 8.6.0's plugins.

``python tests/targets/tensorrt/published.py FOLDER --record``, afterwards and in edgec's own environment, writes
``published_api.json`` again from them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

PACKAGES = {
    "8.6.0": "tensorrt==8.6.0",
    "10.3.0": "tensorrt_cu12_bindings==10.3.0",
    "11.4.0": "tensorrt_cu13_bindings==11.4.0.106",
}
RECORDED = Path(__file__).with_name("published_api.json")

LIBRARIES = (
    *("libcublas.so.12", "libcublasLt.so.12", "libcudnn.so.8"),
    *(f"{name}.so.{major}" for name in ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser") for major in (10, 11)),
)
FUNCTIONS = (
    *("createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL"),
    *("createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getNvOnnxParserVersion"),
    *("getBuilderPluginRegistry", "getPluginRegistry", "initLibNvInferPlugins"),
)
"""What the bindings must find when they are imported."""

STARTUP = "import os, sys; sys.setdlopenflags(os.RTLD_LAZY)\n"
"""8.6.0's plugins name functions of cuBLAS and cuDNN, which are looked up only when they are called."""

LISTING = """
import json, sys, tensorrt
classes = {name: getattr(tensorrt, name, None) for name in sys.argv[1:]}
members = {name: sorted(m for m in dir(kind) if not m.startswith("_")) for name, kind in classes.items() if kind}
print(json.dumps({"version": tensorrt.__version__, "members": members}))
"""


def environment(folder: Path) -> dict[str, str]:
    """For a Python of ``folder``."""
    inherited = os.environ.get("LD_LIBRARY_PATH", "")
    return {**os.environ, "LD_LIBRARY_PATH": f"{folder / 'libraries'}:{inherited}"}


def listing(folder: Path, version: str, classes: Iterable[str]) -> dict[str, list[str]]:
    """Members of each of ``classes`` that this version has, without those that start with an underscore."""
    command = [str(folder / version / "bin" / "python"), "-c", LISTING, *sorted(classes)]
    done = subprocess.run(command, env=environment(folder), capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["version"].startswith(version), found["version"]
    members: dict[str, list[str]] = found["members"]
    return members


def make_python(folder: Path, version: str) -> None:
    """A virtual environment; it appears under its name when it is complete."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        made = Path(work) / version
        subprocess.run([sys.executable, "-m", "venv", str(made)], check=True)
        install = ["-m", "pip", "install", "-q", "--no-deps", "--no-cache-dir", PACKAGES[version]]
        subprocess.run([str(made / "bin" / "python"), *install], check=True)
        (packages,) = made.glob("lib/python*/site-packages")
        (packages / "lazy.pth").write_text(STARTUP)
        if (packages / "tensorrt_bindings").is_dir():
            (packages / "tensorrt").symlink_to("tensorrt_bindings")
        shutil.move(made, folder / version)


def make_libraries(folder: Path) -> None:
    source = folder / "nothing.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in FUNCTIONS))
    (folder / "libraries").mkdir(exist_ok=True)
    for name in LIBRARIES:
        output = folder / "libraries" / name
        subprocess.run(["cc", "-shared", "-fPIC", "-w", f"-Wl,-soname,{name}", "-o", output, source], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Pythons with TensorRT's published bindings.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--record", action="store_true", help="write published_api.json")
    options = parser.parse_args()
    folder = options.folder.expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    make_libraries(folder)
    for version in PACKAGES:
        if not (folder / version).exists():
            make_python(folder, version)
    if options.record:
        from test_api import CLASSES

        recorded = {version: listing(folder, version, CLASSES) for version in PACKAGES}
        RECORDED.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main()
