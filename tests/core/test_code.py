"""The code in a key: what a stage imports decides, whoever changes it, and nothing else does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgec.pipeline.core import code
from edgec.pipeline.core.code import NOTES, code_digests, import_closure

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())
KEYS = """
import json
from edgec.pipeline.core.stage import stage_key
from edgec.pipeline.data.dataset import Dataset
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms.compile import Compile
from edgec.pipeline.forms.compiler import load_compiler
from edgec.pipeline.forms.spec import load_target
from edgec.pipeline.quantize.stages import Calibrate
from pathlib import Path

def compiled(board):
    target = load_target(board)
    return stage_key(Compile(target.compiler, load_compiler(target.compiler).settings(target)), ())

keys = {board: compiled(board) for board in ("arm", "rpi4", "mcu", "cpu", "jetson")}
keys["calibrate"] = stage_key(Calibrate(Preprocess(), Dataset(Path("."), ())), ())
print(json.dumps(keys))
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package under its own name, which a test may change."""
    root = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "api", root / "edgec")  # without its __init__ an installed edgec would go before the copy
    for folder in ("pipeline", "targets"):
        shutil.copytree(ROOT / folder, root / "edgec" / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def keys(tree: Path) -> dict[str, str]:
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run([sys.executable, "-c", KEYS], capture_output=True, text=True, check=True, env=environment)
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def before(tree: Path) -> dict[str, str]:
    return keys(tree)


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("targets/tflite/compiler.py", {"arm", "rpi4", "mcu"}),
        ("targets/tflite/rules.py", {"arm", "rpi4", "mcu"}),
        ("targets/tflite/micro_worker.py", {"arm", "rpi4", "mcu"}),
        ("targets/openvino/compiler.py", {"cpu"}),
        ("targets/tensorrt/build_engine.py", {"jetson"}),
        ("pipeline/quantize/observers.py", {"calibrate"}),
        ("pipeline/core/stage.py", {"arm", "rpi4", "mcu", "cpu", "jetson", "calibrate"}),
        ("pipeline/core/store.py", set()),  # it keeps what a stage makes, and decides none of it
        ("pipeline/cli/build.py", set()),
    ],
)
def test_a_changed_line_changes_the_keys_that_it_decides(
    tree: Path, before: dict[str, str], file: str, changed: set[str]
) -> None:
    path = tree / "edgec" / file
    text = path.read_text()
    path.write_text(f"{text}\nCHANGED = 1\n")
    after = keys(tree)
    path.write_text(text)
    assert {name for name in before if before[name] != after[name]} == changed


def test_boards_that_ask_the_same_of_a_compiler_share_its_key(before: dict[str, str]) -> None:
    assert before["arm"] == before["rpi4"] != before["mcu"]


def test_what_counts_as_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Imports at the top, in functions, of packages around, by name as a script; not those of type checkers."""
    files = {
        "__init__": "from zoo import base",
        "start": "from zoo.top import name\ndef f():\n    import zoo.inner\n    from . import sibling",
        "top": "name = 1",
        "inner": "WORKER = 'worker.py'",
        "worker": "",
        "sibling": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import zoo.typed\n"
        "else:\n    import zoo.run\n"
        "if not TYPE_CHECKING:\n    import zoo.untyped",
        "typed": "",
        "run": "",
        "untyped": "",
        "base": "import os",
        "stranger": "",
    }
    (tmp_path / "zoo").mkdir()
    for name, text in files.items():
        (tmp_path / "zoo" / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    expected = {"zoo"} | {
        f"zoo.{name}" for name in ("start", "top", "inner", "worker", "sibling", "base", "run", "untyped")
    }
    assert import_closure(["zoo.start"]) == expected
    assert set(code_digests(["zoo.start"])) == expected


def test_packages_around_a_module_count_however_edgec_is_installed() -> None:
    """Importing ``edgec.pipeline`` runs code of its own."""
    assert {"edgec.pipeline", "edgec.targets"} <= import_closure(
        ("edgec.pipeline.forms.compile", "edgec.targets.tflite")
    )


NOTED = "import sys; from pathlib import Path; from edgec.pipeline.core import code\n"
NOTED += "code.recall_imports(Path(sys.argv[1])); known = len(code._noted)\n"
NOTED += "parsed = []; plain = code.ast.parse; code.ast.parse = lambda *a: parsed.append(1) or plain(*a)\n"
NOTED += "print(json.dumps(code.code_digests(['edgec.pipeline.quantize.stages']), sort_keys=True))\n"
NOTED += "code.keep_imports(Path(sys.argv[1])); print(known, len(parsed))"


def noted(folder: Path) -> tuple[str, int, int]:
    """(digests, notes found, files parsed) of a new process."""
    done = subprocess.run(
        [sys.executable, "-c", f"import json; {NOTED}", str(folder)], capture_output=True, text=True, check=True
    )
    digests, counts = done.stdout.splitlines()
    found, parsed = map(int, counts.split())
    return digests, found, parsed


def test_notes_spare_the_parsing_and_change_nothing(tmp_path: Path) -> None:
    first, found, parsed = noted(tmp_path)
    assert found == 0
    assert parsed > 20
    again, found, parsed_again = noted(tmp_path)
    assert (again, found, parsed_again) == (first, parsed, 0)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '{"a": 3}', '{"a": "edgec.b"}', '{"a": [3]}', "null", "\udcff"])
def test_notes_that_are_none_are_made_anew(content: str, tmp_path: Path) -> None:
    usual, *_ = noted(tmp_path / "none")
    (tmp_path / NOTES).write_bytes(content.encode("utf-8", "surrogateescape"))
    found, num_notes, parsed = noted(tmp_path)
    assert (found, num_notes) == (usual, 0)
    assert parsed > 20
    assert noted(tmp_path)[2] == 0, "written anew"


def test_a_folder_that_takes_no_notes_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert noted(tmp_path / "file" / "below")[2] > 20


def test_notes_that_no_source_needs_are_forgotten_once_there_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "_noted", {f"rules old {i}": () for i in range(9)})
    monkeypatch.setattr(code, "_kept", set())
    monkeypatch.setattr(code, "_met", {"rules old 3"})
    monkeypatch.setattr(code, "MOST_NOTES", 5)
    code.keep_imports(tmp_path)
    assert json.loads((tmp_path / NOTES).read_text()) == {"rules old 3": []}
