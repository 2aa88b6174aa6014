"""Where a bundle's bytes go: python benchmarks/bundle_size.py BUNDLE...

    edgec build mobilenetv3 --target cpu,arm,mcu,jetson --no-measure && python benchmarks/bundle_size.py edgec-out/*

For each bundle the bytes of its artifact, its reference, its golden files, its C sources and everything else, the whole
(the log of the build apart) against three times the artifact and 2 MB, and the packed archive. Prints Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from edgec.pipeline.bundle.archive import pack
from edgec.pipeline.bundle.extras import extras_of
from edgec.pipeline.bundle.read import open_bundle

GROUPS = {"artifact": "artifact", "c-source": "c/", "golden-vector": "golden/"}
GROUPS |= dict.fromkeys(("float-network", "quantized-network"), "reference/")
GROUP_NAMES = ("artifact", "reference/", "golden/", "c/", "everything else")
COLUMNS = ("bundle", *GROUP_NAMES, "whole", "of artifact", "3 x artifact + 2 MB", ".tar.zst")
MB = 1e6


def row(folder: Path) -> str:
    """One bundle, all sizes in MB."""
    manifest = open_bundle(folder).manifest
    total: Counter[str] = Counter()
    for entry in manifest.files:
        total[GROUPS.get(entry.role, "everything else")] += entry.bytes
    total["everything else"] += (folder / "manifest.json").stat().st_size + (folder / "SHA256SUMS").stat().st_size
    whole, allowed = total.total(), 3 * total["artifact"] + 2 * MB
    with tempfile.TemporaryDirectory() as work:
        archive = Path(work) / "bundle.tar.zst"
        pack(folder, archive)
        packed = archive.stat().st_size
    sizes = " | ".join(f"{total[name] / MB:.2f}" for name in GROUP_NAMES)
    kept = f"{allowed / MB:.2f}, {'kept' if whole <= allowed else 'passed'}"
    extras = "".join(f" + {extra}" for extra in extras_of(manifest))
    name = f"{manifest.model.name} for {manifest.target.name}{extras}"
    return f"| {name} | {sizes} | {whole / MB:.2f} | {whole / total['artifact']:.2f}x | {kept} | {packed / MB:.2f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    options = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for folder in options.bundles:
        print(row(folder), flush=True)


if __name__ == "__main__":
    main()
