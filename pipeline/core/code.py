"""Which code decides a result: the sources that a module imports, directly or not, each with its digest."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path


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
    return tuple(dict.fromkeys(_named(ast.parse(source.read_bytes()), package)))


def _named(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from _named(ast.Module(node.orelse, []), package)
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package.split(".")[: 1 - node.level or None]) if node.level else ""
            base = f"{above}.{node.module or ''}".strip(".")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value.startswith("edgec."):
                yield node.value
            elif node.value.removesuffix(".py").isidentifier() and node.value.endswith(".py"):
                yield f"{package}.{node.value.removesuffix('.py')}"
        yield from _named(node, package)


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
