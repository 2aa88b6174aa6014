"""edgec's quantizer, NNCF and ONNX Runtime side by side on real ImageNet weights and photographs, in one run.

    python benchmarks/quantizers.py [--models mobilenetv2 ...] [--tools edgec nncf onnxruntime] [--levels fast accurate]
        [--splits 3] [--no-latency] [--limit 20] [--json FILE]

Reads ``../shared/real`` (``--real``). All tools get the same float ONNX and the same decoded calibration images; half
of the photographs calibrate, the other half test. Split 0 is edgec's own (``Dataset.halves``), every further split
halves the photographs in another seeded order. Figures of several splits are pooled: each quantized network answers for
its own test half. A photograph can stand in the test half of several splits, so pooled pairs are not independent, and
the p-values of a pooled McNemar test are somewhat too small.

Every quantizer runs in a process of its own, NNCF in a virtual environment that is made once under ``--cache``. Wall
and CPU seconds are those of one whole quantization, edgec's calibration included, without imports and image decoding;
the peak memory includes the imports. Files for OpenVINO answer through OpenVINO with ``INFERENCE_PRECISION_HINT`` f32,
all others through ONNX Runtime exactly as their Q/DQ nodes are written. The OpenVINO files of a network (split 0) are
timed at the end, interleaved round by round in this process on one thread: what disturbs the machine disturbs all of
them alike, and the ratios stand.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from quantizer_rows import FLOAT, Answers, Comparison, Cost, Tool, pool, show

from edgec.pipeline.data.dataset import Dataset, batches, open_dataset
from edgec.pipeline.network.models.weights import Weights, resolve_weights
from edgec.pipeline.tasks import metrics

ROOT = Path(__file__).resolve().parents[1]
ROUTES = ROOT / "benchmarks" / "quantizer_routes"
CARDS = {
    "mobilenetv1": "mobilenetv1_1.0_224.toml",
    "mobilenetv2": "mobilenetv2_1.0_224.toml",
    "mobilenetv3-small": "mobilenetv3_small_1.0_224.toml",
}
SCHEMES = ("openvino", "tflite", "tensorrt")
LEVELS = ("fast", "accurate", "best")
PRESETS = ("default", "mixed", "full-bias-correction")
METHODS = ("min-max", "entropy", "percentile")
REQUIREMENTS = {
    "nncf": ["nncf==3.4.0", f"openvino=={version('openvino')}"],
    "modelopt": ["nvidia-modelopt[onnx]==0.47.0"],
}
"""Of the tools that get an environment of their own; NNCF beside this process's own OpenVINO version."""
WARM_UP_ROUNDS = 10

Images = npt.NDArray[np.float32]


def main() -> None:
    options = _arguments()
    python = {"edgec": sys.executable, "onnxruntime": sys.executable}
    if "nncf" in options.tools:
        python["nncf"] = options.nncf_python or environment("nncf", options.cache)
    setup = machine(python)
    report: dict[str, Any] = {**setup, "models": {}}
    print("; ".join(setup.values()), flush=True)
    for model in options.models:
        with tempfile.TemporaryDirectory() as folder:
            comparison = compare(model, options, python, Path(folder))
        show(model, comparison)
        report["models"][model] = asdict(comparison)
        if options.json:
            options.json.write_text(json.dumps(report, indent=1))


def compare(model: str, options: argparse.Namespace, python: dict[str, str], folder: Path) -> Comparison:
    """All selected tools on all splits of one network."""
    from edgec.pipeline.network import models

    weights = resolve_weights(str(options.real / "weights" / CARDS[model]), models.get(model))
    source, tools = float_onnx(weights, folder), selected(options)
    photographs = open_dataset(options.real / "imagenet")
    answers: list[Answers] = []
    for split in range(options.splits):
        calibration, test = (half.take(options.limit or len(half)) for half in halves(photographs, split))
        np.save(folder / "images.npy", read(calibration, weights))
        images, labels = read(test, weights), test.labels
        if labels is None:
            raise SystemExit(f"'{photographs.root}' is unlabelled")
        reference = predict(source, images)
        for tool in tools:
            output = folder / f"{split} {tool.label}"
            cost = quantize(tool, python[tool.name], source, output)
            if cost is not None:
                logits = predict(output if tool.is_openvino else output.with_suffix(".onnx"), images)
                answers.append(Answers(tool, split, logits, reference, labels, cost))
                print(f"{model}, split {split}: {tool.label} in {cost.seconds:.1f} s", file=sys.stderr, flush=True)
    done = list(dict.fromkeys(answer.tool for answer in answers))
    files = {tool: folder / f"0 {tool.label}" for tool in done if tool.is_openvino}
    timed = {} if options.no_latency else {tool: file for tool, file in files.items() if file.is_dir()}
    p50_ms = latencies(source, timed, images[:1], options.rounds)
    rows = tuple(pool([a for a in answers if a.tool == tool], p50_ms.get(tool)) for tool in done)
    return Comparison(rows, tuple(pool([answer]) for answer in answers), p50_ms.get(FLOAT))


def selected(options: argparse.Namespace) -> list[Tool]:
    """The tools and settings of this run, edgec's first."""
    variants = {
        "edgec": [f"{scheme} {level}" for scheme in options.schemes for level in options.levels],
        "nncf": options.presets,
        "onnxruntime": options.methods,
    }
    return [Tool(name, variant) for name in variants if name in options.tools for variant in variants[name]]


def float_onnx(weights: Weights, folder: Path) -> Path:
    """Export and simplify, as a build does."""
    from edgec.pipeline.core.stage import Artifact
    from edgec.pipeline.network.export import export_onnx
    from edgec.pipeline.network.models.spec import build_network
    from edgec.pipeline.network.models.weights import load_weights
    from edgec.pipeline.network.simplify import Simplify

    network = build_network(weights.network_config())
    load_weights(network, weights)
    exported, simplified = folder / "exported.onnx", folder / "float.onnx"
    export_onnx(network, weights.preprocess.crop_px, exported)
    Simplify().run(simplified, Artifact(exported, ""))
    return simplified


def halves(photographs: Dataset, split: int) -> tuple[Dataset, Dataset]:
    """(calibration, test): edgec's own for split 0, the halves of another order for every further one."""
    if split == 0:
        return photographs.halves()
    order = np.random.default_rng(split).permutation(len(photographs))
    return Dataset(photographs.root, tuple(photographs.samples[i] for i in order), photographs.classes).halves()


def read(dataset: Dataset, weights: Weights) -> Images:
    """All images ``(N, 3, H, W)``, preprocessed as the weights' card says."""
    return np.concatenate(list(batches(dataset, weights.preprocess)))


def quantize(tool: Tool, python: str, source: Path, output: Path) -> Cost | None:
    """Quantize ``source`` on the ``images.npy`` beside it; None, with its last words, where the tool fails."""
    script = ROUTES / f"from_{tool.name}.py"
    command = [python, str(script), str(source), str(source.with_name("images.npy")), tool.variant, str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last_words = "; ".join(done.stderr.strip().splitlines()[-2:]) or f"exit status {done.returncode}"
        print(f"{output.name} failed: {last_words[:300]}", flush=True)
        return None
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def predict(artifact: Path, images: Images) -> metrics.Logits:
    """Logits ``(N, classes)`` of an IR in OpenVINO, or of an ONNX file executed as written; one thread."""
    from edgec.pipeline.forms.ort import OrtRunner
    from edgec.targets.openvino.runner import OpenVinoRunner

    if artifact.is_dir():
        return OpenVinoRunner(artifact, threads=1).predict(images)[0]
    runner = OrtRunner(artifact, as_written=True)
    return np.concatenate([runner.predict(images[start : start + 20])[0] for start in range(0, len(images), 20)])


def latencies(source: Path, artifacts: dict[Tool, Path], image: Images, rounds: int) -> dict[Tool, float]:
    """Median milliseconds of each IR and of the float network: one call each, round by round."""
    from edgec.pipeline.forms.spec import load_target
    from edgec.targets.openvino import compile_model, settings
    from edgec.targets.openvino.runner import OpenVinoRunner

    if not artifacts:
        return {}
    folder = source.with_suffix("")
    compile_model(source, folder, settings(load_target("cpu")))
    calls = {name: OpenVinoRunner(path, threads=1).single(image) for name, path in {FLOAT: folder, **artifacts}.items()}
    samples: dict[Tool, list[float]] = {name: [] for name in calls}
    for _ in range(WARM_UP_ROUNDS + rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            samples[name].append(1e3 * (time.perf_counter() - started))
    return {name: statistics.median(times[WARM_UP_ROUNDS:]) for name, times in samples.items()}


def environment(tool: str, cache: Path) -> str:
    """The interpreter of the tool's virtual environment, made at first use; torch, where it needs one, is edgec's."""
    folder = cache / "venv" / tool
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        pinned = ["-c", str(ROOT / "constraints.txt")]
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *pinned, *REQUIREMENTS[tool]], check=True)
        (folder / "ready").touch()
    return str(python)


def machine(python: dict[str, str]) -> dict[str, str]:
    """Where, when and with what: values that read as words of their own."""
    from edgec.pipeline.forms.measure import cpu_model

    own = ", ".join(f"{name} {version(name)}" for name in ("edgec", "openvino", "onnxruntime", "torch", "numpy"))
    facts = {"machine": cpu_model(), "date": time.strftime("%Y-%m-%d"), "versions": own}
    if "nncf" in python:
        program = "from importlib.metadata import version as v; print('nncf', v('nncf'), 'on openvino', v('openvino'))"
        done = subprocess.run([python["nncf"], "-c", program], capture_output=True, text=True, check=True)
        facts["nncf"] = done.stdout.strip()
    return facts


def _arguments() -> argparse.Namespace:
    from platformdirs import user_cache_path

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choices = {
        "models": tuple(CARDS),
        "tools": ("edgec", "nncf", "onnxruntime"),
        "schemes": SCHEMES,
        "levels": LEVELS,
        "presets": PRESETS,
        "methods": METHODS,
    }
    for name, values in choices.items():
        parser.add_argument(f"--{name}", nargs="+", choices=values, default=values)
    parser.add_argument("--splits", type=int, default=1, help="how many disjoint calibration/test halves to pool")
    parser.add_argument("--limit", type=int, help="images per half, for a smoke test; accuracy then says nothing")
    parser.add_argument("--rounds", type=int, default=200, help="timed rounds of the latency comparison")
    parser.add_argument("--no-latency", action="store_true")
    parser.add_argument("--real", type=Path, default=ROOT.parent / "shared" / "real")
    parser.add_argument("--cache", type=Path, default=user_cache_path("edgec") / "benchmarks")
    parser.add_argument("--nncf-python", help="interpreter of an environment that has NNCF, instead of one made here")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
