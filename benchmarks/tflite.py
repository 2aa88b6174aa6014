"""edgec's INT8 .tflite against other routes and against its own float file: latency, delegate pieces, conversion.

    python benchmarks/tflite.py [--models mobilenetv2 ...] [--routes tensorflow ...] [--rounds 60] [--json FILE]

Every other route gets a virtual environment of its own under ``--cache`` (made once, several GB in all). The files of a
network are then timed in one process, interleaved round by round, on one thread of LiteRT with XNNPACK: what disturbs
the machine disturbs all of them alike, and the ratios stand. A file that XNNPACK refuses runs without it and says so.
Weights are untrained: latency does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import venv
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("mobilenetv1", "mobilenetv2", "mobilenetv3-small", "mobilenetv3", "xception")
ROUTES = {
    "tensorflow": ["tensorflow-cpu==2.21.0"],
    "litert_torch": ["torch==2.13.0", "litert-torch==0.10.0", "ai-edge-quantizer==0.10.0", f"--no-deps {ROOT}"],
    "onnx2tf": ["onnx2tf==1.29.24"],
}
NUM_IMAGES = 16


@dataclass
class Row:
    """One file of one network."""

    route: str
    convert_s: float
    peak_mb: float
    size_bytes: int
    pieces: int
    p50_ms: float = 0.0


def main() -> None:
    arguments = _arguments()
    os.environ["OMP_NUM_THREADS"] = "1"
    report = {}
    for model in arguments.models:
        folder = arguments.cache / "files" / model
        folder.mkdir(parents=True, exist_ok=True)
        rows = edgec_rows(model, folder)
        for route in arguments.routes:
            row = other_row(route, model, folder, arguments.cache)
            rows += [row] if row else []
        interleave(rows, folder, arguments.rounds)
        report[model] = [asdict(row) for row in rows]
        show(model, rows)
    if arguments.json:
        machine = {"machine": platform.processor() or platform.machine(), "python": platform.python_version()}
        arguments.json.write_text(json.dumps({**machine, "models": report}, indent=1))


def edgec_rows(model: str, folder: Path) -> list[Row]:
    """Export, quantize and lower."""
    import onnx
    import onnxsim
    import torch

    from edgec.pipeline import models
    from edgec.pipeline.export import export_onnx
    from edgec.pipeline.models.initialise import initialise, settle_batch_norm
    from edgec.pipeline.models.spec import NetworkConfig, build_network
    from edgec.pipeline.quantize.calibrate import collect
    from edgec.pipeline.quantize.quantizer import quantize
    from edgec.pipeline.quantize.scheme import load_scheme

    px = models.get(model).input_px
    images = np.random.default_rng(0).normal(size=(NUM_IMAGES, 3, px, px)).astype(np.float32)
    np.save(folder / "images.npy", images)
    torch.manual_seed(0)
    network = build_network(NetworkConfig(model))
    initialise(network)
    settle_batch_norm(network, px)
    path = folder / "float.onnx"
    export_onnx(network, px, path)
    simple = onnxsim.simplify(onnx.load(path))[0]
    onnx.save(simple, path)
    qdq = quantize(simple, collect(path, lambda: [images]), load_scheme("tflite"), "fast", lambda: [images]).model
    return [_lowered("edgec", qdq, folder), _lowered("edgec float", simple, folder)]


def _lowered(route: str, model: onnx.ModelProto, folder: Path) -> Row:
    """Lower in a process of its own, which loads no torch; the second call is timed."""
    from edgec.targets.tflite.delegate import delegate_coverage

    source, output = folder / f"{route}.onnx", folder / f"{route}.tflite"
    source.write_bytes(model.SerializeToString())
    program = (
        "import resource, sys, time; from pathlib import Path; import onnx\n"
        "from edgec.targets.tflite.compiler import to_tflite\n"
        "from edgec.targets.tflite.options import TfliteOptions\n"
        "model = onnx.load(sys.argv[1]); to_tflite(model, TfliteOptions()); started = time.perf_counter()\n"
        "Path(sys.argv[2]).write_bytes(to_tflite(model, TfliteOptions()))\n"
        "print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    command = [sys.executable, "-c", program, str(source), str(output)]
    seconds, peak = map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    content = output.read_bytes()
    return Row(route, seconds, peak, len(content), delegate_coverage(content).pieces)


def other_row(route: str, model: str, folder: Path, cache: Path) -> Row | None:
    """Convert in the route's own environment; None, with its last words, where the route fails."""
    from edgec.targets.tflite.delegate import delegate_coverage

    output = folder / f"{route}.tflite"
    script = ROOT / "benchmarks" / "tflite_routes" / f"from_{route}.py"
    command = [
        environment(route, cache),
        str(script),
        model,
        str(folder / "float.onnx"),
        str(folder / "images.npy"),
        str(output),
    ]
    program = (
        "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024); sys.exit(done.returncode)"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        print(f"{model}: {route} failed: {done.stderr.strip().splitlines()[-1][:200]}")
        return None
    content = output.read_bytes()
    return Row(route, seconds, float(done.stdout.split()[-1]), len(content), delegate_coverage(content).pieces)


def environment(route: str, cache: Path) -> str:
    """The interpreter of the route's virtual environment, made at first use."""
    folder = cache / "venv" / route
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        for requirement in ROUTES[route]:
            pip = [str(python), "-m", "pip", "install", "--quiet", *requirement.split()]
            subprocess.run(pip, check=True)
        (folder / "ready").touch()
    return str(python)


def interleave(rows: list[Row], folder: Path, rounds: int) -> None:
    """One file after the other, round by round; the median of each file's rounds."""
    calls = [_invocation((folder / f"{row.route}.tflite").read_bytes()) for row in rows]
    samples: list[list[float]] = [[] for _ in rows]
    for done in range(rounds + 5):
        for call, times in zip(calls, samples, strict=True):
            started = time.perf_counter()
            call()
            if done >= 5:
                times.append(1e3 * (time.perf_counter() - started))
    for row, times in zip(rows, samples, strict=True):
        row.p50_ms = statistics.median(times)


def _invocation(content: bytes) -> Any:
    from edgec.pipeline.errors import EdgecError
    from edgec.targets.tflite.runner import open_interpreter

    try:
        interpreter = open_interpreter(content, 1, xnnpack=True)
    except EdgecError:
        interpreter = open_interpreter(content, 1, xnnpack=False)
    details = interpreter.get_input_details()[0]
    noise = np.random.default_rng(0).integers(-100, 100, details["shape"])
    interpreter.set_tensor(details["index"], noise.astype(details["dtype"]))
    return interpreter.invoke


def show(model: str, rows: list[Row]) -> None:
    """A table, and the two ratios that count."""
    print(f"\n{model:<18} {'p50 ms':>9} {'pieces':>7} {'MB':>7} {'convert s':>10} {'peak MB':>8}")
    for row in rows:
        numbers = (
            f"{row.p50_ms:9.3f} {row.pieces:7d} {row.size_bytes / 1e6:7.2f} {row.convert_s:10.2f} {row.peak_mb:8.0f}"
        )
        print(f"  {row.route:<16} {numbers}")
    mine, own_float, *others = rows
    print(f"  INT8 / own float {mine.p50_ms / own_float.p50_ms:.3f}")
    if others:
        best = min(others, key=lambda row: row.p50_ms)
        print(f"  INT8 / best other route ({best.route}) {mine.p50_ms / best.p50_ms:.3f}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--routes", nargs="*", choices=sorted(ROUTES), default=sorted(ROUTES))
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "edgec-benchmarks")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
