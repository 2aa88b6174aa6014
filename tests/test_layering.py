"""Imports run one way, heavy packages load late, and only the command line prints."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from places import ROOT

PACKAGES = {
    "api": "edgec",
    "pipeline": "edgec.pipeline",
    "targets": "edgec.targets",
    "calib_data": "edgec.calib_data",
}

# Lower rows know nothing of higher ones. A module belongs to the longest prefix that fits.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("edgec.pipeline.core.errors",),
    ("edgec.pipeline.core",),
    ("edgec.pipeline.data", "edgec.calib_data"),
    ("edgec.pipeline.tasks",),
    ("edgec.pipeline.forms",),
    ("edgec.pipeline.network",),
    ("edgec.pipeline.quantize",),
    ("edgec.targets.boards", "edgec.targets.schemes"),
    ("edgec.targets.devices",),
    ("edgec.targets",),  # compilers, formats and runners: found by name, imported by nothing above or below
    ("edgec.pipeline.recipe",),
    ("edgec.pipeline.build",),
    ("edgec.pipeline.bundle",),
    ("edgec.pipeline.report",),
    ("edgec.pipeline.firmware",),
    ("edgec.pipeline.gate",),
    ("edgec.pipeline.train",),
    ("edgec.pipeline",),
    ("edgec.pipeline.cli",),
    ("edgec.pipeline.api",),  # takes the names, bounds and defaults of the command line's options
    ("edgec",),
)
HEAVY = (
    "torch",
    "onnx",
    "onnxruntime",
    "openvino",
    "ai_edge_litert",
    "tensorrt",
    "scipy",
    "pydantic",
    "PIL",
    "numpy",
    "rich",
)


def modules() -> list[tuple[str, Path]]:
    found = []
    for folder, package in PACKAGES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join((package, *parts)).removesuffix(".__init__")
            found.append((name, path))
    return found


KNOWN = {name for name, _ in modules()}


def layer(module: str) -> int:
    fits = [
        (len(prefix), row)
        for row, prefixes in enumerate(LAYERS)
        for prefix in prefixes
        if f"{module}.".startswith(f"{prefix}.")
    ]
    return max(fits)[1]


def imported(path: Path) -> set[str]:
    """Modules of edgec that a file names in an import, except those for type checking only."""
    tree = ast.parse(path.read_text())
    typing_only = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    names = set()
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("edgec"):
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= named & KNOWN or {node.module}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.startswith("edgec")}
    return names & KNOWN


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_point_down(module: str, path: Path) -> None:
    upward = sorted(name for name in imported(path) if layer(name) > layer(module))
    assert not upward, f"{module} imports from above: {upward}"


def test_errors_imports_nothing_of_edgec() -> None:
    assert not imported(ROOT / "pipeline" / "core" / "errors.py")


SPEAKERS = {
    "edgec.pipeline.bundle.verify_standalone": "shipped with a bundle and run by hand",
    "edgec.pipeline.gate.worker": "a process of its own: its answer is one JSON line",
    "edgec.targets.tensorrt.build_engine": "shipped to a device: its answers are JSON lines",
    "edgec.pipeline.network.import_onnx": "run as a module it says what is wrong with the answers to one image",
    "edgec.targets.openvino.board_runner": "what an emulated core runs for edgec prints JSON lines",
    "edgec.targets.tflite.board_runner": "shipped to a device: its answers are JSON lines",
    "edgec.targets.tflite.constraints": "run as a module it writes the table of docs/tflite.md",
}
"""Modules outside the command line that write to standard output or standard error, and why."""

CATCHERS = {
    "edgec.pipeline.bundle.archive": "a refusal of an unpacked folder names the archive",
    "edgec.pipeline.bundle.float_network": "a network that cannot be counted or made again is one that is left out",
    "edgec.pipeline.bundle.golden_worker": "a process of its own: the refusal travels in its answer",
    "edgec.pipeline.deliver": "a precision that gains nothing takes no part where all are weighed",
    "edgec.pipeline.diagnosis": "a shared cache that does not answer is a finding",
    "edgec.pipeline.core.foreign": "a refusal of ours passes where another package's code may raise anything",
    "edgec.pipeline.core.shared": "a protocol whose package is missing is told from one that cannot be reached",
    "edgec.pipeline.core.store": "a build goes on without a shared cache that cannot be reached",
    "edgec.pipeline.gate.there": "of a board that does not answer nothing is known, which is a verdict",
    "edgec.pipeline.gate.draft": "a speedup that cannot be measured is no limit, and the draft says why",
    "edgec.targets.tensorrt.device": "a float engine that the device refuses is not timed beside the artifact's",
    "edgec.targets.tflite.device": "a board that two networks are too much for times one",
    "edgec.targets.tflite.inference": "a board without a Python runtime has no first answer",
    "edgec.pipeline.gate.check": "a count that cannot be had here leaves its limit open",
    "edgec.pipeline.gate.proxies": "a count that cannot be had here is not known, and hides no other",
    "edgec.pipeline.gate.worker": "a process of its own: the refusal travels in its answer",
    "edgec.pipeline.matrix.run": "a cell that is refused does not stop the others",
    "edgec.pipeline.search.judge": "a point that makes no network is noted, and the search goes on",
    "edgec.targets.devices.ssh": "a lost connection is tried again",
    "edgec.targets.devices.userland": "a failed download becomes missing-qemu, with its hint",
    "edgec.targets.tflite.delegate": "a file that XNNPACK refuses is one without delegate",
}
"""Modules outside the command line that catch an EdgecError, and what for."""


def _speaks(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func)
    return called == "print" or called.startswith(("sys.stdout.", "sys.stderr."))


def _catches(node: ast.AST) -> bool:
    names = ast.walk(node.type) if isinstance(node, ast.ExceptHandler) and node.type else ()
    suppressed = node.args if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress") else ()
    return any(ast.unparse(name).endswith("EdgecError") for name in (*names, *suppressed))


@pytest.mark.parametrize(("does", "listed"), [(_speaks, SPEAKERS), (_catches, CATCHERS)], ids=["print", "catch"])
def test_only_the_command_line_prints_and_catches_edgec_errors(
    does: Callable[[ast.AST], bool], listed: dict[str, str]
) -> None:
    """Others are listed with their reason, and the list names none that no longer does."""
    found = {module for module, path in modules() if any(map(does, ast.walk(ast.parse(path.read_text()))))}
    assert {name for name in found if not name.startswith("edgec.pipeline.cli")} == listed.keys()
    assert any(name.startswith("edgec.pipeline.cli") for name in found)


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; from edgec.pipeline.cli import main; main(['--help']); "
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


BROAD = {
    ("edgec.pipeline.cli", "Exception"),  # the one place that makes error[internal]
    ("edgec.pipeline.core.foreign", "(Exception, SystemExit)"),  # the one place that runs code of other packages
}


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_no_bare_or_broad_except(module: str, path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "everything"
            if (module, caught) in BROAD:
                continue
            broad = {"everything", "Exception", "BaseException"} & set(re.findall(r"\w+", caught))
            assert not broad, f"{module}:{node.lineno} catches {caught}"
