"""``docs/python.md`` is complete and its examples run; so does the notebook, in a kernel of its own."""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from places import ROOT
from seen_codes import codes_of

import edgec

PAGE = (ROOT / "docs" / "python.md").read_text()
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
LONG = "mobilenet"
"""Examples with these networks take minutes: their calls are held against the signatures instead."""


def blocks() -> list[str]:
    """Python of the page, the reference's signatures apart."""
    found = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    return [block for block in found if not re.match(r"def [\w.]+\(\n", block)]


def test_the_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_store: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one namespace and an empty folder."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    for block in blocks():
        if LONG not in block:
            exec(compile(block, "docs/python.md", "exec"), namespace)
    said = capsys.readouterr().out
    for expected in (
        "<edgec.Bundle '",
        "quantize: 0 of 0",
        "tflite.onnx",
        "unknown-model",
        "pass ['size_bytes']",
        "golden vectors",
    ):
        assert expected in said


def test_calls_of_long_examples_are_right() -> None:
    calls = [call for block in blocks() for call in ast.walk(ast.parse(block)) if isinstance(call, ast.Call)]
    named = [call for call in calls if ast.unparse(call.func).startswith("edgec.") and LONG in ast.unparse(call)]
    assert named
    for call in named:
        function = getattr(edgec, ast.unparse(call.func).removeprefix("edgec."))
        inspect.signature(function).bind(*call.args, **{str(word.arg): word.value for word in call.keywords})


def signatures() -> Iterator[str]:
    """Of all that the package offers, as the reference writes them."""
    for name in sorted(edgec.__all__):
        found = getattr(edgec, name)
        if inspect.isfunction(found):
            yield _signature(found)
            continue
        for member, value in sorted(vars(found).items()):
            if inspect.isfunction(value) and not member.startswith("_"):
                yield _signature(value, f"{name}.")


def _signature(function: Callable[..., Any], owner: str = "") -> str:
    """One argument a line."""
    lines, told = [], inspect.signature(function)
    kinds = [parameter.kind for parameter in told.parameters.values()]
    for index, parameter in enumerate(told.parameters.values()):
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.KEYWORD_ONLY not in kinds[:index]:
            lines.append("    *,")
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        lines.append(f"    {parameter.name}: {parameter.annotation}{default},")
    body = "\n".join(lines)
    return f"def {owner}{function.__name__}(\n{body}\n) -> {told.return_annotation}\n".replace("(\n\n)", "()")


GROUPS = {
    "arguments, images from memory": (("pipeline/api", "pipeline/recipe.py"), "every function"),
    "the network and its weights": (("pipeline/network",), "`build`, `quantize`, `export`"),
    "the data and the task": (
        ("pipeline/data", "pipeline/tasks"),
        "`build`, `quantize`, `check`, `evaluate`, `predict`",
    ),
    "quantization": (("pipeline/quantize", "pipeline/quantize_network.py"), "`build`, `quantize`"),
    "the board, its compiler and runtime": (
        ("pipeline/forms", "pipeline/deliver.py", "targets/openvino", "targets/tflite", "targets/tensorrt"),
        "`build`, and everything of a `Bundle` that runs the artifact",
    ),
    "a device": (("targets/devices",), "`on=`"),
    "a bundle": (("pipeline/bundle", "pipeline/report"), "`build`, `open_bundle` and all of a `Bundle`, `check`"),
    "budgets": (("pipeline/gate",), "`check`, `measure`"),
    "the store and the disk": (("pipeline/core", "pipeline/export_network.py"), "every function"),
}
"""What is wrong, where that is found, and what may find it."""


def errors() -> Iterator[str]:
    """Rows of the table of codes."""
    for what, (places, who) in GROUPS.items():
        codes = sorted({code for place in places for code in codes_of(ROOT / place)})
        yield f"| {what} | {who} | {', '.join(f'`{code}`' for code in codes)} |"


@pytest.mark.parametrize("expected", [*signatures(), *errors()], ids=lambda text: text.split("(")[0][:40])
def test_the_reference_is_complete(expected: str) -> None:
    assert expected in PAGE, f"docs/python.md lacks, word by word:\n{expected}"


def test_every_public_name_has_a_heading() -> None:
    for name in edgec.__all__:
        assert f"\n### `{name}`\n" in PAGE
    for member in vars(edgec.Bundle):
        if not member.startswith("_"):
            assert f"`{member}`" in PAGE or f"def Bundle.{member}(" in PAGE, member


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_store: None) -> None:
    """Every cell, in a kernel; what it keeps shows the same kinds of output."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    kept = [_shown(cell) for cell in notebook.cells]
    monkeypatch.setenv("JUPYTER_PATH", str(_kernel(tmp_path / "jupyter")))
    client = nbclient.NotebookClient(
        notebook, timeout=500, kernel_name="edgec-tests", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    assert [_shown(cell) for cell in notebook.cells] == kept
    assert any("text/html" in kinds for kinds in kept)


def _kernel(folder: Path) -> Path:
    """A kernel of this Python, wherever its own was installed."""
    place = folder / "kernels" / "edgec-tests"
    place.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (place / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "tests", "language": "python"}))
    return folder


def _shown(cell: Any) -> list[str]:
    """What a cell gave, by kind."""
    return sorted(kind for output in cell.get("outputs", ()) for kind in output.get("data", {"text/plain": 0}))
