"""The .tflite files of ``tflite.py``: edgec's own and those of other routes, each made once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import venv
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
OWN = ("edgec", "edgec float")
ROUTES = {
    "tensorflow": ["tensorflow-cpu==2.21.0"],
    "litert_torch": ["torch==2.13.0", "litert-torch==0.10.0", "ai-edge-quantizer==0.10.0"],
    "onnx2tf": ["onnx2tf==1.29.24"],
}
NUM_IMAGES = 16
TIME_LIMIT_S = 1800.0

LOWERING = """
import json, statistics, sys, time
from pathlib import Path
import onnx
from edgec.targets.tflite.compiler import to_tflite
from edgec.targets.tflite.options import TfliteOptions
model, seconds = onnx.load(sys.argv[1]), []
for _ in range(6):
    started = time.perf_counter()
    content = to_tflite(model, TfliteOptions())
    seconds.append(time.perf_counter() - started)
Path(sys.argv[2]).write_bytes(content)
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peak_mb = int(status["VmHWM"].split()[0]) / 1024  # ru_maxrss would begin with the parent's
print(json.dumps({"seconds": statistics.median(seconds[1:]), "peak_mb": peak_mb}))
"""

CONVERTING = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[2:], stdout=subprocess.DEVNULL, timeout=float(sys.argv[1]), check=False)
print(json.dumps(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024))
sys.exit(done.returncode)
"""


@dataclass(frozen=True)
class Conversion:
    """What making a file took; why there is none."""

    seconds: float | None = None
    peak_mb: float | None = None
    error: str = ""


def edgec_files(model: str, px: int, folder: Path) -> None:
    """Export and quantize once, into ``edgec float.onnx`` and ``edgec.onnx``, and lower both."""
    import onnx
    import onnxsim
    import torch

    from edgec.pipeline.forms.scheme import load_scheme
    from edgec.pipeline.network import models
    from edgec.pipeline.network.export import export_onnx
    from edgec.pipeline.network.models.initialise import initialise, settle_batch_norm
    from edgec.pipeline.network.models.spec import NetworkConfig, build_network
    from edgec.pipeline.network.simplify import with_batch
    from edgec.pipeline.quantize.calibrate import collect
    from edgec.pipeline.quantize.quantizer import quantize

    source, quantized = folder / "edgec float.onnx", folder / "edgec.onnx"
    if not quantized.exists():
        images = np.random.default_rng(0).normal(size=(NUM_IMAGES, 3, px, px)).astype(np.float32)
        np.save(folder / "images.npy", images)
        torch.manual_seed(0)
        network = build_network(NetworkConfig(model, num_classes=models.get(model).num_classes))
        initialise(network)
        settle_batch_norm(network, px)
        export_onnx(network, px, source)
        simple = onnxsim.simplify(with_batch(onnx.load(source), 1))[0]  # as a build does: shapes fold away
        onnx.save(simple, source)
        one_by_one = np.split(images, NUM_IMAGES)  # a segmentation network's activations are gigabytes
        seen = collect(source, lambda: one_by_one)
        qdq = quantize(simple, seen, load_scheme("tflite"), "fast", lambda: one_by_one)
        onnx.save(qdq.model, quantized)
    for route in OWN:
        (folder / f"{route}.json").write_text(json.dumps(asdict(lower(folder, route))))


def lower(folder: Path, route: str) -> Conversion:
    """Lower in a process of its own, which loads no torch; the median of five calls after the first."""
    files = [str(folder / f"{route}.{suffix}") for suffix in ("onnx", "tflite")]
    command = [sys.executable, "-c", LOWERING, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Conversion(**json.loads(done.stdout))


def convert_by(route: str, model: str, folder: Path, cache: Path) -> Conversion:
    """Convert with the route's own script in its own environment; its last words where it fails."""
    output = folder / f"{route}.tflite"
    script = ROOT / "benchmarks" / "tflite_routes" / f"from_{route}.py"
    source, images = folder / "edgec float.onnx", folder / "images.npy"
    command = [environment(route, cache), str(script), model, str(source), str(images), str(output)]
    started = time.perf_counter()
    watched = [sys.executable, "-c", CONVERTING, str(TIME_LIMIT_S), *command]
    done = subprocess.run(watched, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode or not output.exists():
        words = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
        return Conversion(seconds, error=words[-1][:300])
    return Conversion(seconds, json.loads(done.stdout))


def environment(route: str, cache: Path) -> str:
    """The interpreter of the route's virtual environment, made at first use; edgec is there as it is here."""
    folder = cache / "venv" / route
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *ROUTES[route]], check=True)
        (folder / "ready").touch()
    packages = next(folder.glob("lib/python*/site-packages")) / "edgec"
    packages.mkdir(exist_ok=True)
    for part in ("pipeline", "targets", "calib_data"):
        link = packages / part
        link.unlink(missing_ok=True)
        link.symlink_to(ROOT / part)
    return str(python)
