"""The two ablations of Xception's paper, and its spectrum of groups, on the bundled parts.

python benchmarks/ablations.py --output ablations.json

Each variant is trained from scratch with several seeds. A seed fixes the first weights and the order of the pictures,
so that a variant is compared with the published network seed by seed. What is done is kept in the output and not done
again. Small networks on small pictures: what holds here need not hold for the paper's network on its data.
Figure 9 of arXiv 1610.02357: without residuals. Figure 10: an activation between depthwise and pointwise. Section 1.2:
from one group, a plain convolution, to one for each channel.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from edgec.calib_data.splits import LABELS, generated_dir, parts_dir
from edgec.pipeline.core.root import default_root
from edgec.pipeline.data.dataset import open_dataset
from edgec.pipeline.network.models.complexity import count_complexity
from edgec.pipeline.network.models.spec import NetworkConfig, build_network, shape_network
from edgec.pipeline.train.augment import ANY_SIDE_UP
from edgec.pipeline.train.objective import CLASSIFICATION
from edgec.pipeline.train.pictures import Pictures, read_pictures
from edgec.pipeline.train.recipe import Phase, TrainingRecipe
from edgec.pipeline.train.train import figure_percent, train

PUBLISHED = "as published"
VARIANTS: dict[str, dict[str, Any]] = {
    PUBLISHED: {},
    "without residuals": {"residual": False},
    "ReLU between": {"intermediate_activation": "relu"},
    "ELU between": {"intermediate_activation": "elu"},
    "8 groups": {"groups": 8},
    "2 groups": {"groups": 2},
    "plain (1 group)": {"groups": 1},
}


@dataclass(frozen=True)
class Settings:
    """What all runs have in common."""

    model: str
    width: float
    px: int
    images: int
    epochs: int
    learning_rate: float
    threads: int

    def config(self, variant: str) -> NetworkConfig:
        return NetworkConfig(self.model, self.width, self.px, len(LABELS), **VARIANTS[variant])


@cache
def test_pictures(px: int) -> Pictures:
    """The stored test pictures, read once."""
    return read_pictures(open_dataset(parts_dir("test")), px, CLASSIFICATION)


def run(settings: Settings, variant: str, seed: int) -> dict[str, float]:
    """Train once; top-1 on the stored test pictures, and how long it took."""
    started = time.perf_counter()
    training = open_dataset(generated_dir("train", default_root(), settings.images))
    torch.manual_seed(seed)
    recipe = TrainingRecipe(
        (Phase(settings.px, settings.epochs, settings.learning_rate),), batch_size=32, augment=ANY_SIDE_UP, seed=seed
    )
    watched = replace(training, samples=training.samples[:32])  # only looked at
    network = train(build_network(settings.config(variant)), training, watched, recipe).network
    top1 = figure_percent(network, test_pictures(settings.px), CLASSIFICATION)
    return {"top1": round(top1, 2), "seconds": round(time.perf_counter() - started, 1)}


def interval(values: list[float]) -> str:
    """Mean and half the width of its 95 % interval, by Student's t over the seeds."""
    if len(values) < 2:
        return f"{np.mean(values):+.2f}"
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f"{np.mean(values):+.2f} ± {half:.2f}"


def table(settings: Settings, runs: dict[str, dict[str, dict[str, float]]]) -> str:
    """Markdown: cost, top-1, and the difference to the published network seed by seed."""
    lines = ["| variant | MACs M | params k | seeds | top-1 % | minus published, pp |", "|---|---|---|---|---|---|"]
    for variant, by_seed in runs.items():
        cost = count_complexity(shape_network(settings.config(variant)), settings.px)
        shared = [seed for seed in by_seed if seed in runs.get(PUBLISHED, {})]
        drops = [by_seed[seed]["top1"] - runs[PUBLISHED][seed]["top1"] for seed in shared]
        top1 = interval([found["top1"] for found in by_seed.values()]).lstrip("+")
        against = interval(drops) if drops and variant != PUBLISHED else ""
        figures = f"{cost.macs / 1e6:.1f} | {cost.params / 1e3:.0f} | {len(by_seed)} | {top1} | {against}"
        lines.append(f"| {variant} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    """Do what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("ablations.json"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--px", type=int, default=64)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = Settings(
        "xception", options.width, options.px, options.images, options.epochs, options.learning_rate, options.threads
    )
    kept = (
        json.loads(options.output.read_text())
        if options.output.exists()
        else {"settings": asdict(settings), "runs": {}}
    )
    if kept["settings"] != asdict(settings):
        parser.error(f"{options.output} holds runs with {kept['settings']}: name another --output")
    for seed in range(options.seeds):
        for variant in options.only:
            done = kept["runs"].setdefault(variant, {})
            if str(seed) not in done:
                done[str(seed)] = run(settings, variant, seed)
                options.output.write_text(json.dumps(kept, indent=2) + "\n")
                print(f"{variant}, seed {seed}: {done[str(seed)]}", flush=True)
    print(table(settings, kept["runs"]))


if __name__ == "__main__":
    main()
