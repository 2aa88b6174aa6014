"""How long ``edgec`` itself takes: ``--help``, a cold and a warm build, its peak memory, and memory against data size.

    python benchmarks/build.py [--runs 5] [--beside PYTHON]
    python benchmarks/build.py --only -- deeplabv3plus-mobilenetv2 --input-px 513 --target cpu --no-measure

Whole processes, timed from outside, medians of several runs; every cold build starts with an empty store. A second
target is ``arm`` in a store that holds the ``cpu`` build. ``--beside`` is the interpreter of an environment of another
edgec: its builds take turns with this one's, so that what disturbs the machine disturbs both.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

EDGEC = ["-m", "edgec.pipeline.cli"]
BUILD = [*EDGEC, "build", "mobilenetv3", "--json"]


def timed(command: list[str], cache: Path) -> tuple[float, float]:
    """(wall seconds, peak resident MB of the process and its children) of one run."""
    program = (
        "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, done.returncode)"
    )
    started = time.perf_counter()
    environment = {**os.environ, "EDGEC_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", program, *command], env=environment, capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - started
    peak_kb, status = map(int, done.stdout.split())
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {status}:\n{done.stderr}")
    return seconds, peak_kb / 1024


def report(name: str, runs: list[tuple[float, float]]) -> float:
    """One line: median, smallest and largest time, largest memory; return the median."""
    seconds = [run[0] for run in runs]
    peak = max(run[1] for run in runs)
    spread = f"({min(seconds):.2f} to {max(seconds):.2f})"
    print(f"{name:<42} {statistics.median(seconds):8.2f} s  {spread}, peak {peak:6.0f} MB", flush=True)
    return statistics.median(seconds)


def whole_builds(runs: int, folder: Path, other: str | None) -> None:
    """``--help``, cold and warm builds of the default model, and what a second target adds."""
    report("edgec --help", [timed([sys.executable, *EDGEC, "--help"], folder / "cache") for _ in range(runs)])
    pythons = {"": sys.executable} | ({"the other edgec: ": other} if other else {})
    kinds = ("cold", "warm", "a second target")
    found: dict[tuple[str, str], list[tuple[float, float]]] = {(who, kind): [] for kind in kinds for who in pythons}
    for run in range(runs):
        for who in list(pythons) if run % 2 == 0 else reversed(pythons):
            cache = folder / "cache"
            shutil.rmtree(cache, ignore_errors=True)
            for kind, target in zip(kinds, ("cpu", "cpu", "arm"), strict=True):
                command = [pythons[who], *BUILD, "--target", target, "--output", str(folder / "bundle")]
                found[who, kind].append(timed(command, cache))
    medians = {key: report(f"{key[0]}edgec build mobilenetv3, {key[1]}", own) for key, own in found.items()}
    for who in pythons:
        share = medians[who, "a second target"] / medians[who, "cold"]
        print(f"{who}a second target takes {100 * share:.0f} % of the first")
    if other:
        for kind in kinds:
            print(f"{kind}: {medians['', kind] / medians['the other edgec: ', kind]:.2f} of the other's time")


def one_build(words: list[str], folder: Path) -> None:
    """One cold build with its largest process."""
    command = [sys.executable, *EDGEC, "build", *words, "--output", str(folder / "bundle")]
    report(f"edgec build {' '.join(words)}, cold", [timed(command, folder / "cache")])


def calibration_memory(folder: Path) -> None:
    """Peak memory of calibrating mobilenetv3-small on 300 and on 3,000 images, each in a process of its own."""
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from edgec.pipeline.data.dataset import open_dataset\n"
        "from edgec.pipeline.data.preprocess import Preprocess\n"
        "from edgec.pipeline.quantize.stages import Calibrate\n"
        "from edgec.pipeline.core.stage import Artifact\n"
        "images = open_dataset(Path(sys.argv[2])).take(int(sys.argv[3]))\n"
        "Calibrate(Preprocess(resize_px=224), images).run(Path(sys.argv[4]), Artifact(Path(sys.argv[1]), ''))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)\n"
    )
    model, images = folder / "small.onnx", folder / "images"
    _export_small(model)
    _noise_images(images, 3000)
    for count in (300, 3000):
        arguments = [str(model), str(images), str(count), str(folder / f"{count}.npz")]
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - started
        peak = f"peak {float(done.stdout):6.0f} MB"
        print(f"calibrate mobilenetv3-small, {count:>4} images: {peak}, {seconds:.1f} s with imports")


def _export_small(path: Path) -> None:
    from edgec.pipeline.network.export import export_onnx
    from edgec.pipeline.network.models.spec import NetworkConfig, build_network

    export_onnx(build_network(NetworkConfig("mobilenetv3-small")), 224, path)


def _noise_images(folder: Path, count: int) -> None:
    from PIL import Image

    folder.mkdir()
    stream = np.random.default_rng(0)
    for index in range(count):
        pixels = stream.integers(0, 255, (28, 28, 3), np.uint8)
        Image.fromarray(pixels).resize((224, 224)).save(folder / f"{index:04d}.jpg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--beside", help="interpreter of an environment with another edgec")
    parser.add_argument("--only", nargs=argparse.REMAINDER, help="what follows 'edgec build': one cold build of that")
    options = parser.parse_args()
    from edgec.pipeline.forms.measure import cpu_model

    print(f"{cpu_model()}; {time.strftime('%Y-%m-%d')}; Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory() as folder:
        if options.only:
            one_build([word for word in options.only if word != "--"], Path(folder))
        else:
            whole_builds(options.runs, Path(folder), options.beside)
            calibration_memory(Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"(this script itself: {peak:.0f} MB)")


if __name__ == "__main__":
    main()
