"""Figures of the hand-off, measured: python benchmarks/handoff.py BUNDLE [--mutations 10000] [--corruptions 200]

On a bundle of a bundled model (``edgec build mobilenetv3-small --target mcu``), whose stages the store still has:
seconds to write, verify and pack it, size and first paint of its page, refusals of damaged copies, and the size of the
C sources' sections on each processor. Prints JSON. Needs Chromium and playwright for the first paint, Debian's cross
compilers for the sections; what is missing is left out and named.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from edgec.pipeline.build import build
from edgec.pipeline.bundle.archive import pack, unpack
from edgec.pipeline.bundle.integrity import read_checked_manifest
from edgec.pipeline.bundle.manifest_json import parse_manifest
from edgec.pipeline.bundle.read import Bundle, open_bundle
from edgec.pipeline.bundle.release import release_of
from edgec.pipeline.bundle.verify import verify
from edgec.pipeline.bundle.verify_standalone import Refused, checked_manifest
from edgec.pipeline.bundle.write import write_bundle
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.root import default_root
from edgec.pipeline.core.store import Store
from edgec.pipeline.report.page import render_report
from edgec.pipeline.reproduce import Material, recipe_of

REPEATS = 5
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
SECTIONS = {
    "x86-64": ("gcc", ["-O2"]),
    "aarch64": ("aarch64-linux-gnu-gcc", ["-O2"]),
    "Cortex-M4": ("arm-none-eabi-gcc", ["-Os", "-mcpu=cortex-m4", "-mthumb", "-ffreestanding"]),
}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--corruptions", type=int, default=200)
    arguments = parser.parse_args()
    folder: Path = arguments.bundle
    bundle = open_bundle(folder)
    manifest = bundle.manifest
    with tempfile.TemporaryDirectory() as work:
        archive = Path(work) / "bundle.tar.zst"
        found: dict[str, Any] = {
            "model": f"{manifest.model.name} for {manifest.target.name}",
            "bundle_bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
            "write_s": write_seconds(bundle, Path(work) / "new"),
            "verify_s": seconds(lambda: verify(folder)),
            "verify_command_s": command_seconds("verify", str(folder)),
            "verify_files_only_s": seconds(lambda: verify(folder, run=False)),
            "pack_s": seconds(lambda: pack(folder, archive)),
            "archive_bytes": archive.stat().st_size,
            "report_s": seconds(lambda: render_report([(folder, manifest)])),
            "report_bytes": (folder / "report.html").stat().st_size,
            "first_paint_ms": first_paint_ms(folder / "report.html"),
            "sections": sections(folder / "c"),
            "corruptions": corruptions(folder, Path(work) / "copy", arguments.corruptions),
            "mutated_manifests": mutated_manifests(Path(work) / "copy", arguments.mutations // 2),
            "mutated_archives": mutated_archives(archive, Path(work), arguments.mutations // 2),
        }
    print(json.dumps(found, indent=1))
    return 0


def seconds(work: Callable[[], object]) -> dict[str, float]:
    """Median and range of a few runs, the first one (imports, caches) apart; and the processor's seconds.

    Those count the child processes too, and say on a busy machine what the clock cannot.
    """
    times, spent = [], []
    for _ in range(REPEATS + 1):
        started, cpu = time.perf_counter(), cpu_seconds()
        work()
        times.append(time.perf_counter() - started)
        spent.append(round(cpu_seconds() - cpu, 4))
    first, *rest = (round(value, 4) for value in times)
    clock = {"first": first, "median": statistics.median(rest), "min": min(rest), "max": max(rest)}
    return {**clock, "cpu_first": spent[0], "cpu_min": min(spent[1:])}


def cpu_seconds() -> float:
    """Of this process and the children that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def command_seconds(*words: str) -> dict[str, float]:
    """A command as a user starts it: interpreter, imports and all."""
    command = [sys.executable, "-m", "edgec.pipeline.cli", *words]
    return seconds(lambda: subprocess.run(command, capture_output=True, check=True))


def write_seconds(bundle: Bundle, work: Path) -> dict[str, float]:
    """``write_bundle`` on the same build, out of the store: everything beside stages and measuring."""
    store = Store(default_root())
    release = release_of(build(recipe_of(bundle, Material()), store))
    return seconds(lambda: write_bundle(work / "written", release, render_report))


def first_paint_ms(page: Path) -> float | str:
    """First contentful paint in headless Chromium, median of a few fresh tabs."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        return "not measured: no Chromium"
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return "not measured: no playwright"
    paints = []
    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        for _ in range(REPEATS):
            tab = browser.new_context().new_page()
            tab.goto(page.resolve().as_uri())
            while (paint := tab.evaluate(FIRST_PAINT)) is None:  # the page's own policy forbids waiting for a script
                tab.wait_for_timeout(5)
            paints.append(paint)
        browser.close()
    return float(statistics.median(paints))


def sections(sources: Path) -> dict[str, Any]:
    """text, data and bss bytes of each source on each processor that has a compiler here; none without sources."""
    found: dict[str, Any] = {}
    if not sources.is_dir():
        return found
    for processor, (compiler, options) in SECTIONS.items():
        if shutil.which(compiler) is None:
            found[processor] = f"not measured: no {compiler}"
            continue
        found[processor] = {}
        for name in ("model.S", "model_io.c", "selftest.c"):
            with tempfile.NamedTemporaryFile(suffix=".o") as output:
                subprocess.run([compiler, *options, "-I..", "-c", name, "-o", output.name], cwd=sources, check=True)
                size = subprocess.run(
                    [compiler.replace("gcc", "size"), output.name], capture_output=True, text=True, check=True
                )
            text, data, bss = (int(word) for word in size.stdout.splitlines()[1].split()[:3])
            found[processor][name] = {"text_bytes": text, "data_bytes": data, "bss_bytes": bss}
    return found


def corruptions(folder: Path, copy: Path, count: int) -> dict[str, int]:
    """One random byte of one random file each time."""
    shutil.copytree(folder, copy)
    files = sorted(path for path in copy.rglob("*") if path.is_file() and path.stat().st_size)
    stream, refused, refused_alone = np.random.default_rng(1), 0, 0
    for _ in range(count):
        path = files[stream.integers(len(files))]
        whole = path.read_bytes()
        changed = bytearray(whole)
        changed[stream.integers(len(whole))] ^= 1 << stream.integers(8)
        path.write_bytes(changed)
        try:
            read_checked_manifest(copy)
        except EdgecError:
            refused += 1
        try:
            checked_manifest(str(copy))
        except (Refused, ValueError, KeyError, TypeError):
            refused_alone += 1
        path.write_bytes(whole)
    return {"tried": count, "refused": refused, "refused_by_verify_py": refused_alone}


def mutated_manifests(folder: Path, count: int) -> dict[str, int]:
    """Any exception but a refusal ends the run with its traceback; what parses is refused for ``SHA256SUMS``."""
    whole, stream, refused = (folder / "manifest.json").read_bytes(), np.random.default_rng(2), 0
    for _ in range(count):
        content = mutated(whole, stream)
        try:
            parse_manifest(content, "mutated")
            (folder / "manifest.json").write_bytes(content)
            read_checked_manifest(folder)
        except EdgecError:
            refused += 1
    return {"tried": count, "refused": refused}


def mutated_archives(archive: Path, work: Path, count: int) -> dict[str, int]:
    """Half with changed compressed bytes, half with a changed tar inside; what is accepted must be whole."""
    whole = archive.read_bytes()
    tar = zstandard.ZstdDecompressor().stream_reader(archive.open("rb")).read()
    stream, refused, target = np.random.default_rng(3), 0, work / "deep" / "out"
    before = {path.name for path in work.iterdir()}
    for i in range(count):
        content = mutated(whole, stream) if i % 2 else zstandard.ZstdCompressor(level=1).compress(mutated(tar, stream))
        (work / "m.tar.zst").write_bytes(content)
        try:
            unpack(work / "m.tar.zst", target)
            read_checked_manifest(target)
        except EdgecError:
            refused += 1
        left = {path.name for path in target.parent.iterdir()} | {path.name for path in work.iterdir()}
        if not left <= before | {"out", "m.tar.zst", "deep"}:
            raise SystemExit(f"a mutated archive wrote outside its folder: {sorted(left - before)}")
    return {"tried": count, "refused": refused}


def mutated(content: bytes, stream: np.random.Generator) -> bytes:
    """Replace, insert, delete or cut at a random place; half of the places lie near the beginning."""
    end = len(content) if stream.integers(2) else min(len(content), 1 << 14)
    at, length = int(stream.integers(end)), int(stream.integers(1, 40))
    noise = stream.integers(0, 256, length, np.uint8).tobytes()
    kind = int(stream.integers(4))
    if kind == 0:
        return content[:at] + noise + content[at + length :]
    if kind == 1:
        return content[:at] + noise + content[at:]
    return content[:at] + content[at + length :] if kind == 2 else content[:at]


if __name__ == "__main__":
    sys.exit(main())
