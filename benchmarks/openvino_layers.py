"""Where the time of an INT8 network goes in OpenVINO: by kind of layer and precision, beside float and NNCF's network.

    python benchmarks/openvino_layers.py --data PHOTOS --weights mobilenetv3-small=CARD.toml [mobilenetv2=CARD.toml ...]
        [--nncf-python PYTHON] [--rounds 200]

One thread. The networks are timed call by call in turns, as they are; the tables come from ``PERF_COUNT``, which slows
a network a little, so that their sums are larger. The floor is what the multiplications would take if every layer ran
at the best rate that any layer of its class reached here (dense or depthwise, INT8 or float, of at least
``LEAST_MACS``): two rates a precision, and nothing for anything else.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from quantizers import environment

from edgec.pipeline.bundle.float_network import float_artifact, float_network
from edgec.pipeline.bundle.read import open_bundle
from edgec.pipeline.data.dataset import batches, open_dataset
from edgec.targets.openvino.runner import OpenVinoRunner, compile_for_cpu

PROFILED_RUNS, WARM_UP_ROUNDS = 100, 20
LEAST_MACS = 1_000_000
NNCF_ROUTE = Path(__file__).parent / "quantizer_routes" / "from_nncf.py"
NO_WORK = ("Const", "Input", "Output")


@dataclass(frozen=True)
class Layer:
    """One executed node.

    Attributes:
        kind: ``layerType`` of the plugin; a grouped convolution with one channel a group is ``Depthwise``.
        precision: that it runs in.
        macs: of a convolution or a matrix product, else 0.
    """

    kind: str
    precision: str
    us: float
    macs: int

    @property
    def rate_class(self) -> tuple[str, str]:
        """(dense or depthwise, int8 or float)."""
        precision = "int8" if self.precision in ("i8", "u8") else "float"
        return ("depthwise" if self.kind == "Depthwise" else "dense"), precision


def main() -> None:
    options = _arguments()
    networks: dict[str, dict[str, Path]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for entry in options.weights:
            name, _, card = entry.partition("=")
            networks[name] = made(name, card, options, Path(folder) / name)
        profiles = {(name, tool): layers(ir) for name, irs in networks.items() for tool, ir in irs.items()}
        rates = best_rates([layer for found in profiles.values() for layer in found])
        print("best rates, GMAC/s: " + ", ".join(f"{' '.join(c)} {rate:.0f}" for c, rate in sorted(rates.items())))
        for name, irs in networks.items():
            show(name, {tool: profiles[name, tool] for tool in irs}, in_turns(irs, options.rounds), rates)


def show(
    name: str,
    profiles: Mapping[str, list[Layer]],
    p50_ms: Mapping[str, float],
    rates: Mapping[tuple[str, str], float],
) -> None:
    """Both tables of one network."""
    heads = ("tool", "p50 ms", "of float", "of NNCF", "floor ms", "p50 over floor")
    print(f"\n### {name}\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for tool, found in profiles.items():
        floor, own = floor_ms(found, rates), p50_ms[tool]
        ratios = [f"{own / p50_ms[other]:.2f}" if other in p50_ms else "-" for other in ("float", "nncf")]
        print(f"| {tool} | {own:.3f} | {' | '.join(ratios)} | {floor:.3f} | {own / floor:.2f} |")
    columns = ["kind, precision", *(f"{tool} ms (layers)" for tool in profiles)]
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    print("\n".join(by_kind(profiles)))


def made(name: str, card: str, options: argparse.Namespace, folder: Path) -> dict[str, Path]:
    """IR folders of float, edgec's INT8 and NNCF's default, all from the same float ONNX and photographs."""
    bundle = folder / "bundle"
    words = ["build", name, "--weights", card, "--target", "cpu", "--data", options.data, "--no-measure"]
    subprocess.run(["edgec", *map(str, words), "--output", str(bundle)], check=True, stdout=subprocess.DEVNULL)
    opened = open_bundle(bundle)
    found = {"float": float_artifact(opened), "edgec": opened.artifact}
    if options.nncf_python is not None or options.nncf:
        calibration, _ = open_dataset(options.data).halves()
        np.save(folder / "images.npy", np.concatenate(list(batches(calibration, opened.preprocess))))
        python = options.nncf_python or environment("nncf", options.cache)
        command = [python, NNCF_ROUTE, float_network(opened), folder / "images.npy", options.preset, folder / "nncf"]
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found["nncf"] = folder / "nncf"
    return found


def layers(ir: Path) -> list[Layer]:
    """Mean time of each executed node, with its multiplications."""
    compiled = compile_for_cpu(ir, 1, "f32", profiled=True)
    facts = {node.get_friendly_name(): node for node in compiled.get_runtime_model().get_ordered_ops()}
    macs = macs_by_name(ir)
    request, total = compiled.create_infer_request(), Counter[str]()
    for run in range(PROFILED_RUNS + WARM_UP_ROUNDS):
        request.infer()
        for entry in request.profiling_info if run >= WARM_UP_ROUNDS else ():
            if entry.status == entry.Status.EXECUTED:
                total[entry.node_name] += entry.real_time.total_seconds() * 1e6
    found = []
    for name, us in total.items():
        if (node := facts.get(name)) is None:
            continue
        told = node.get_rt_info()
        kind, precision = (told[key].astype(str) for key in ("layerType", "runtimePrecision"))
        if kind in NO_WORK:
            continue
        originals = told["originalLayersNames"].astype(str).split(",")
        count, depthwise = max(macs.get(one, (0, False)) for one in originals)
        found.append(Layer("Depthwise" if depthwise else kind, precision, us / PROFILED_RUNS, count))
    return found


def macs_by_name(ir: Path) -> dict[str, tuple[int, bool]]:
    """(multiplications for one image, whether it is depthwise) of each convolution and matrix product of an IR."""
    import openvino

    found = {}
    for node in openvino.Core().read_model(ir / "model.xml").get_ordered_ops():
        kind = node.get_type_name()
        if kind not in ("Convolution", "GroupConvolution", "MatMul"):
            continue
        out, weight = node.output(0).get_partial_shape(), node.input_value(1).get_partial_shape()
        positions = int(np.prod([d.get_length() for d in list(out)[2:]])) if kind != "MatMul" else 1
        size = int(np.prod([d.get_length() for d in weight]))
        depthwise = kind == "GroupConvolution" and [d.get_length() for d in list(weight)[1:3]] == [1, 1]
        found[node.get_friendly_name()] = (positions * size, depthwise)
    return found


def best_rates(found: list[Layer]) -> dict[tuple[str, str], float]:
    """GMAC/s by class."""
    rates: dict[tuple[str, str], float] = defaultdict(float)
    for layer in found:
        if layer.macs >= LEAST_MACS and layer.us:
            rates[layer.rate_class] = max(rates[layer.rate_class], layer.macs / layer.us / 1e3)
    return dict(rates)


def floor_ms(found: list[Layer], rates: Mapping[tuple[str, str], float]) -> float:
    """All multiplications at the best rates of their classes."""
    counted = [layer for layer in found if layer.macs and layer.rate_class in rates]
    return sum(layer.macs / rates[layer.rate_class] / 1e6 for layer in counted)


def in_turns(irs: Mapping[str, Path], rounds: int) -> dict[str, float]:
    """Median milliseconds of single calls, one network after the other, round by round."""
    image = np.random.default_rng(0).standard_normal(_input_shape(irs["float"])).astype(np.float32)
    calls = {tool: OpenVinoRunner(ir, 1).single(image) for tool, ir in irs.items()}
    samples: dict[str, list[float]] = {tool: [] for tool in calls}
    for turn in range(WARM_UP_ROUNDS + rounds):
        for tool in list(calls) if turn % 2 else reversed(calls):
            started = time.perf_counter()
            calls[tool]()
            samples[tool].append(1e3 * (time.perf_counter() - started))
    return {tool: statistics.median(times[WARM_UP_ROUNDS:]) for tool, times in samples.items()}


def _input_shape(ir: Path) -> tuple[int, ...]:
    import openvino

    shape = openvino.Core().read_model(ir / "model.xml").input(0).get_partial_shape()
    return tuple(d.get_length() if d.is_static else 1 for d in shape)


def by_kind(profiles: Mapping[str, list[Layer]]) -> list[str]:
    """Markdown rows, the most expensive kind of edgec's network first."""
    sums: dict[tuple[str, str], dict[str, tuple[float, int]]] = defaultdict(dict)
    for tool, found in profiles.items():
        for layer in found:
            ms, count = sums[layer.kind, layer.precision].get(tool, (0.0, 0))
            sums[layer.kind, layer.precision][tool] = (ms + layer.us / 1e3, count + 1)
    ordered = sorted(sums.items(), key=lambda item: -max(ms for ms, _ in item[1].values()))
    rows = []
    for (kind, precision), own in ordered:
        cells = [f"{own[tool][0]:.3f} ({own[tool][1]})" if tool in own else "-" for tool in profiles]
        rows.append(f"| {kind}, {precision} | {' | '.join(cells)} |")
    return rows


def _arguments() -> argparse.Namespace:
    from platformdirs import user_cache_path

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", nargs="+", required=True, metavar="MODEL=CARD.toml")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--nncf", action="store_true", help="beside NNCF's network, in an environment that is made")
    parser.add_argument("--nncf-python", help="interpreter of an environment that has NNCF, instead of one made here")
    parser.add_argument("--preset", default="mixed", choices=["default", "mixed", "full-bias-correction"])
    parser.add_argument("--cache", type=Path, default=user_cache_path("edgec") / "benchmarks")
    return parser.parse_args()


if __name__ == "__main__":
    main()
