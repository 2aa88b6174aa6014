"""One network for three targets: edgec against the chain of the runtimes' own tools, on the same images.

    python benchmarks/three_targets.py [--model mobilenetv3] [--samples 256] [--runs 3] [--sides artifacts peers]
        [--peers nncf litert_torch onnxruntime] [--modelopt max] [--data FOLDER] [--cache FOLDER] [--json FILE]

Wall time and peak memory of whole processes, imports and all. The sides take turns (A B C A B C ...), every time in an
empty folder, and medians are compared:

artifacts  edgec as far as the artifacts of ``cpu``, ``arm`` and ``jetson``, in one process on an empty store: export,
           simplification and its proof, one calibration, three quantizations, three compilations. No command ends
           there: ``three_routes/from_edgec.py`` asks for the same stages as a build.
build      ``edgec build MODEL --target cpu,arm,jetson`` on an empty store: all that, and what the float network, each
           reference and each artifact that runs here answer to every test image, golden vectors, the latency of the IR
           beside float's, and three bundles with their reports.
peers      One process after the other, since their packages do not go together. torch writes the float network and
           reads the images, once for all. NNCF makes the IR, litert-torch with ai-edge-quantizer the .tflite, NVIDIA
           ModelOpt the QDQ file of which TensorRT builds its engine. Each by its own defaults; nothing is judged.

The peers have virtual environments of their own under ``--cache``, made once (several GB), outside the time. One that
cannot be installed is named and left out, and the sum is smaller by it. ``--peers`` with ``onnxruntime`` takes ONNX
Runtime's static quantization in place of ModelOpt: a smaller claim, since that file is not made for TensorRT.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import quantizers
import tflite_files
from build import EDGEC, report, timed

from edgec.pipeline.network.models import names
from edgec.pipeline.network.models.weights import bundled

HERE = Path(__file__).resolve().parent
TARGETS = ("cpu", "arm", "jetson")
SIDES = ("artifacts", "build", "peers")
PEERS = {
    "nncf": ("default", "nncf/model.xml"),
    "litert_torch": ("", "litert_torch.tflite"),
    "modelopt": ("default", "modelopt.onnx"),
    "onnxruntime": ("min-max", "onnxruntime.onnx"),
}
"""Variant, and the file that it ends as."""

Run = tuple[float, float]
"""Seconds and peak MB."""


def main() -> None:
    from edgec.pipeline.forms.measure import cpu_model

    options = _arguments()
    python = interpreters(options.peers, options.cache) if "peers" in options.sides else {}
    said = f"{cpu_model()}; {time.strftime('%Y-%m-%d')}; {options.model}, {options.samples} images calibrate"
    print(f"{said}; peers: {', '.join(map(requirements, python)) or 'none'}", flush=True)
    runs: dict[str, list[Run]] = {side: [] for side in options.sides}
    steps: dict[str, list[Run]] = {}
    for number in range(options.runs):
        for side in options.sides:
            with tempfile.TemporaryDirectory() as folder:
                took = one_run(side, python, Path(folder), options)
            for name, run in took.items():
                steps.setdefault(name, []).append(run)
            runs[side].append((sum(run[0] for run in took.values()), max(run[1] for run in took.values())))
            print(f"run {number + 1}, {side}: {runs[side][-1][0]:.1f} s", file=sys.stderr, flush=True)
    show(runs, steps)
    if options.json:
        options.json.write_text(json.dumps({"setup": said, "runs": runs, "steps": steps}, indent=1))


def one_run(side: str, python: dict[str, str], folder: Path, options: argparse.Namespace) -> dict[str, Run]:
    """What each process of a side took; ``folder`` is empty and gets the store and all files."""
    data = str(options.data or "")
    asked = [options.model, str(options.samples), data]
    if side == "artifacts":
        route = [sys.executable, str(HERE / "three_routes" / "from_edgec.py")]
        return {"edgec, artifacts alone": timed([*route, *asked, *TARGETS], folder / "store")}
    if side == "build":
        command = [sys.executable, *EDGEC, "build", options.model, "--target", ",".join(TARGETS), "--json", "--quiet"]
        command += ["--calibration-samples", str(options.samples), *(["--data", data] if data else [])]
        took = {"edgec build": timed([*command, "--output", str(folder / "bundles")], folder / "store")}
        check(folder / "bundles" / f"{options.model}-{target}" / "manifest.json" for target in TARGETS)
        return took
    route = [sys.executable, str(HERE / "three_routes" / "from_torch.py")]
    took = {"float network and images": timed([*route, *asked, str(folder)], folder / "store")}
    for peer, interpreter in python.items():
        took[peer] = timed([interpreter, *peer_words(peer, folder, options)], folder / "store")
        check([folder / PEERS[peer][1]])
    return took


def peer_words(peer: str, folder: Path, options: argparse.Namespace) -> list[str]:
    """The peer's route with its arguments."""
    source, images = str(folder / "float.onnx"), str(folder / "images.npy")
    variant, file = PEERS[peer]
    if peer == "litert_torch":
        route = HERE / "tflite_routes" / "from_litert_torch.py"
        return [str(route), options.model, source, images, str(folder / file), str(folder / "network.pt")]
    variant = options.modelopt if peer == "modelopt" else variant
    return [str(HERE / "quantizer_routes" / f"from_{peer}.py"), source, images, variant, str(folder / peer)]


def check(files: Iterable[Path]) -> None:
    """Whoever ends without a fault has made its file."""
    for file in files:
        if not file.is_file():
            raise SystemExit(f"{file.name} was not made")


def interpreters(peers: list[str], cache: Path) -> dict[str, str]:
    """Of each peer that installs."""
    found = {}
    for peer in peers:
        try:
            if peer == "onnxruntime":
                found[peer] = sys.executable
            elif peer == "litert_torch":
                found[peer] = tflite_files.environment(peer, cache)
            else:
                found[peer] = quantizers.environment(peer, cache)
        except subprocess.CalledProcessError:
            print(f"{peer} cannot be installed here ({requirements(peer)}): its artifact is left out", flush=True)
    return found


def requirements(peer: str) -> str:
    """What is installed for it, in words; ONNX Runtime is here already."""
    known = {**quantizers.REQUIREMENTS, **tflite_files.ROUTES}
    return " ".join(known.get(peer) or [f"{peer}=={version(peer)}"])


def show(runs: dict[str, list[Run]], steps: dict[str, list[Run]]) -> None:
    """Each process, the peers' sum, and how many times longer the peers took than edgec."""
    for name, took in steps.items():
        report(name, took)
    if "peers" not in runs:
        return
    report("peers, all of these", runs["peers"])
    theirs = statistics.median(seconds for seconds, _ in runs["peers"])
    for side in (side for side in runs if side != "peers"):
        own = statistics.median(seconds for seconds, _ in runs[side])
        print(f"{f'peers / {side}':<34} {theirs / own:8.2f} x")


def _arguments() -> argparse.Namespace:
    from platformdirs import user_cache_path

    shipped = [name for name in names() if bundled(name)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilenetv3", choices=shipped)
    parser.add_argument("--samples", type=int, default=256, help="images that calibrate, as many as a build's default")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=["nncf", "litert_torch", "modelopt"])
    parser.add_argument("--modelopt", choices=("default", "max"), default="default", help="its ranges: entropy, or max")
    parser.add_argument("--data", type=Path, help="images to calibrate and test instead of the bundled ones")
    parser.add_argument("--cache", type=Path, default=user_cache_path("edgec") / "benchmarks")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.cache = options.cache.resolve()
    options.data = options.data and options.data.resolve()
    return options


if __name__ == "__main__":
    main()
