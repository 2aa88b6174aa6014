"""What Vela makes of the bundled networks: operators left to the processor, SRAM, flash and time, all as it estimates.

python benchmarks/ethosu.py [--models mobilenetv2 ...] [--boards ethos-u55 ...]
"""

from __future__ import annotations

import argparse
import json

from edgec.pipeline.build import Build
from edgec.pipeline.core.root import default_root
from edgec.pipeline.core.store import Store
from edgec.pipeline.network.models import get, names
from edgec.pipeline.network.models.weights import bundled
from edgec.pipeline.recipe import Choices, DataFolders, make_recipe
from edgec.targets.ethosu import placement
from edgec.targets.ethosu.vela import Summary, summary_file

COLUMNS = "network | board | on the processor | SRAM KiB | DRAM KiB | flash KiB | ms, estimated | Vela's options"
SAMPLES = 64


def row(model: str, board: str, store: Store) -> str:
    """One line; equal schemes share one quantized network."""
    recipe = make_recipe(model, board, DataFolders(), Choices(), SAMPLES)
    artifact = Build(recipe, store).binary.path
    counts, expected = placement(artifact, recipe.settings), Summary(**json.loads(summary_file(artifact).read_text()))
    sizes = " | ".join(f"{n / 1024:.0f}" for n in (expected.sram_bytes, expected.dram_bytes, expected.flash_bytes))
    configuration = f"{expected.accelerator}, {expected.system_config}, {expected.memory_mode}"
    head = f"{model} {get(model).input_px} px | {board} | {counts.num_cpu_operators}"
    return f"| {head} | {sizes} | {expected.inference_ms:.1f} | {configuration} |"


def main() -> None:
    classifiers = [name for name in names() if bundled(name)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=classifiers, choices=classifiers)
    parser.add_argument("--boards", nargs="+", default=["ethos-u55", "ethos-u65", "ethos-u85"])
    options = parser.parse_args()
    print(f"| {COLUMNS} |\n|{'---|' * (COLUMNS.count('|') + 1)}")
    store = Store(default_root())
    for model in options.models:
        for board in options.boards:
            print(row(model, board, store), flush=True)


if __name__ == "__main__":
    main()
