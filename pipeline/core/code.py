"""Which code decides a result: the sources that a module imports, directly or not, each with its digest.

To parse a hundred sources takes longer than all else that a warm build does, so that what each imports is noted in the
store's folder.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

from edgec.pipeline.core.disk import write_whole

NOTES = "imports.json"
MOST_NOTES = 4_000

_noted: dict[str, tuple[str, ...]] = {}
"""What each source imports, by the digest of the rules, package and digest."""
_kept: set[str] = set()
"""Of the notes, those that lie in the store."""
_met: set[str] = set()
"""Of the notes, those that this process asked for."""


def code_digests(modules: Iterable[str]) -> dict[str, str]:
    """sha256 of each source in the modules' import closure, by module: a changed line in any of them shows."""
    return {name: _source_sha256(name) for name in sorted(import_closure(modules))}


def import_closure(modules: Iterable[str]) -> frozenset[str]:
    """The modules, the packages around them and what they import, as far as it is edgec's or their own package's.

    Imports inside functions count, those for type checkers alone do not. A module that runs as a process of its own
    counts by its name as a string (``"edgec.targets.tflite.micro_worker"``, ``"build_engine.py"``). What is loaded by a
    name that only a run knows is not seen: it must be one of ``modules`` (``loads``, see ``stage_modules``).
    """
    waiting, found = list(modules), set[str]()
    own = {"edgec"} | {name.partition(".")[0] for name in waiting}
    while waiting:
        name = waiting.pop()
        if name in found or name.partition(".")[0] not in own or _source(name) is None:
            continue
        found.add(name)
        waiting += [*_around(name), *_imports(name)]
    return frozenset(found)


def recall_imports(root: Path) -> None:
    """Take over what a store's folder knows of sources, so that an unchanged file is not parsed again."""
    try:
        known = json.loads((root / NOTES).read_bytes())
    except (OSError, ValueError):
        return
    if not isinstance(known, dict) or not all(_are_names(names) for names in known.values()):
        return
    _noted.update((key, tuple(names)) for key, names in known.items())
    _kept.update(known)


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def keep_imports(root: Path) -> None:
    """Write what was learnt since ``recall_imports``, and forget sources never met here once there are many.

    A folder that cannot be written is left as it is: the next process parses again.
    """
    if _noted.keys() <= _kept:
        return
    notes = _noted if len(_noted) < MOST_NOTES else {key: _noted[key] for key in _met}
    with suppress(OSError):
        write_whole(root / NOTES, partial(Path.write_text, data=json.dumps(notes), encoding="utf-8"))
    _kept.update(_noted)


def _around(name: str) -> Iterator[str]:
    """Packages whose ``__init__`` runs before ``name``."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


@cache
def _imports(name: str) -> tuple[str, ...]:
    """Modules, or names inside modules, that the source of ``name`` imports or starts."""
    source = _source(name)
    if source is None:
        return ()
    package = name if source.name == "__init__.py" else name.rpartition(".")[0]
    key = f"{_source_sha256(__name__)} {package} {_source_sha256(name)}"  # of these rules, and of what they read
    _met.add(key)
    if key not in _noted:
        _noted[key] = tuple(dict.fromkeys(_named(ast.parse(source.read_bytes()), package)))
    return _noted[key]


def _named(tree: ast.AST, package: str) -> Iterator[str]:
    """Without recursion: a warm build reads a hundred files, and spends a good part of its time here."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                yield from _started(node.value, package)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package.split(".")[: 1 - node.level or None]) if node.level else ""
            base = f"{above}.{node.module or ''}".strip(".")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and _is_for_type_checkers(node):
            waiting += node.orelse
        else:
            waiting += _children(node)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """As ``ast.iter_child_nodes``, less the contexts ``Load`` and ``Store``, which are a third of all nodes."""
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            yield from (each for each in value if isinstance(each, ast.AST))
        elif isinstance(value, ast.AST) and name != "ctx":
            yield value


def _is_for_type_checkers(node: ast.If) -> bool:
    test = node.test
    name = test.id if isinstance(test, ast.Name) else test.attr if isinstance(test, ast.Attribute) else ""
    return name == "TYPE_CHECKING"


def _started(text: str, package: str) -> Iterator[str]:
    """A module that a string names: one that runs as a process of its own."""
    if text.startswith("edgec."):
        yield text
    elif text.endswith(".py") and text.removesuffix(".py").isidentifier():
        yield f"{package}.{text.removesuffix('.py')}"


@cache
def _source(name: str) -> Path | None:
    """The Python file of a module, found without importing it; None for names that are no modules."""
    around, _, last = name.rpartition(".")
    if not last.isidentifier():
        return None
    inside = _found(name) if _is_top(name) else ()
    beside = [path for folder in _folders(around) for path in (folder / f"{last}.py", folder / last / "__init__.py")]
    return next((path for path in (*(folder / "__init__.py" for folder in inside), *beside) if path.is_file()), None)


def _folders(package: str) -> tuple[Path, ...]:
    """Where the modules of a package lie; several places for a namespace package."""
    if not package:
        return tuple(map(Path, sys.path))
    if _is_top(package):
        return _found(package)
    around, _, last = package.rpartition(".")
    return tuple(folder / last for folder in _folders(around) if (folder / last).is_dir())


def _is_top(package: str) -> bool:
    """It lies where an installer put it; ``edgec`` itself is a name that several installations may share."""
    return package.count(".") <= (package.partition(".")[0] == "edgec")


@cache
def _found(package: str) -> tuple[Path, ...]:
    """By the import system, which knows how the distribution was installed; a top-level package loads nothing heavy."""
    try:
        spec = find_spec(package)
    except ValueError:  # a program, ``__main__``, may have none
        return ()
    return tuple(map(Path, spec.submodule_search_locations or ())) if spec else ()


@cache
def _source_sha256(name: str) -> str:
    source = _source(name)
    return hashlib.sha256(source.read_bytes()).hexdigest() if source else ""
