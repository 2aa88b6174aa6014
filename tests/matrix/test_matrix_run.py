"""Cells are kept, tried again and refused one by one; a process that dies takes only its own cell along."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgec.pipeline.bundle.manifest import MANIFEST
from edgec.pipeline.bundle.provenance import git_commit
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.matrix import cell as cell_module
from edgec.pipeline.matrix import run as run_module
from edgec.pipeline.matrix.cell import build_cell, is_kept, recipe_of, wants_quiet
from edgec.pipeline.matrix.plan import Cell, Options
from edgec.pipeline.matrix.run import Outcome, Plan, WorkApart, Works, run, work_here

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers import Once

REAL = ("-m", "edgec.pipeline.cli._cell")


@pytest.fixture
def cell(tiny_onnx: Path, tiny_images: Path) -> Cell:
    return Cell("tiny-onnxruntime", str(tiny_onnx), "onnxruntime", None, str(tiny_images), Options(measure=False))


@pytest.fixture
def bundle(cell: Cell, once: Once, store_of_bundles: Path) -> Path:
    """Of the cell; read only."""

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EDGEC_CACHE", str(store_of_bundles))
            build_cell(cell, folder)

    return once("matrix-cell", make)


def kept(cell: Cell, folder: Path) -> bool:
    return is_kept(cell, recipe_of(cell), folder)


def test_a_bundle_of_the_same_request_is_kept_and_any_other_is_not(
    cell: Cell, bundle: Path, tiny_images: Path, crowded_onnx: Path, tmp_path: Path
) -> None:
    assert kept(cell, bundle)
    assert not kept(cell, tmp_path)
    fewer = shutil.copytree(tiny_images, tmp_path / "fewer")
    next((fewer / "red").iterdir()).unlink()
    for other in (
        replace(cell, model=str(crowded_onnx)),
        replace(cell, data=str(fewer)),
        replace(cell, target="cpu"),
        replace(cell, options=replace(cell.options, calibration_samples=3)),
        replace(cell, options=replace(cell.options, quantizer="accurate")),
        replace(cell, options=replace(cell.options, model_version="1.0.1")),
        replace(cell, options=replace(cell.options, max_drop_pp=9.0)),
        replace(cell, options=replace(cell.options, sensitivity=True)),
        replace(cell, options=replace(cell.options, stability=True)),
        replace(cell, options=replace(cell.options, measure=True)),
        replace(cell, options=replace(cell.options, on="ssh://board")),
        replace(cell, options=replace(cell.options, extras=("float",))),
    ):
        assert not kept(other, bundle), other


def test_a_renamed_bundle_is_the_same_and_a_damaged_one_is_made_again(
    cell: Cell, bundle: Path, shared_store: None, tmp_path: Path
) -> None:
    folder = tmp_path / cell.name
    shutil.copytree(bundle, folder)
    assert kept(cell, folder)
    plan = Plan(tmp_path, 1, 0, work_here, print)
    assert [one.how for one in run([cell], plan)] == ["kept"]
    (folder / "labels.txt").write_text("changed")
    assert [one.how for one in run([cell], plan)] == ["built"]
    assert kept(cell, folder)


def test_sources_that_no_commit_names_must_be_older_than_the_bundle(cell: Cell, bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bundle, tmp_path / "copy")
    os.utime(folder / MANIFEST, (0, 0))
    commit = git_commit()
    assert kept(cell, folder) == (commit != "unknown" and not commit.endswith("+dirty"))


def test_another_machine_or_number_of_threads_measures_anew(
    cell: Cell, shared_store: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = replace(cell, options=replace(cell.options, measure=True, threads=1))
    build_cell(timed, tmp_path / "timed")
    assert wants_quiet(timed, recipe_of(timed))
    assert not wants_quiet(cell, recipe_of(cell))
    assert kept(timed, tmp_path / "timed")
    assert not kept(replace(timed, options=replace(timed.options, threads=2)), tmp_path / "timed")
    assert not kept(cell, tmp_path / "timed")  # it asks for a bundle without times
    monkeypatch.setattr(cell_module, "cpu_model", lambda: "another processor")
    assert not kept(timed, tmp_path / "timed")


class Refusing:
    """Refuses a cell as often as it is told, then builds nothing and is content."""

    def __init__(self, **codes: list[str]) -> None:
        self.codes = codes
        self.calls: list[tuple[str, bool]] = []

    def __call__(self, cell: Cell, folder: Path, only_stages: bool) -> None:
        self.calls.append((cell.name, only_stages))
        if codes := self.codes.get(cell.name):
            raise EdgecError(codes.pop(0), "it failed", "try again")


def outcomes(cells: Sequence[Cell], work: Works, folder: Path, jobs: int = 1, retries: int = 0) -> dict[str, Outcome]:
    said: list[str] = []
    return {one.cell.name: one for one in run(cells, Plan(folder, jobs, retries, work, said.append))}


@pytest.mark.parametrize(
    ("codes", "retries", "how", "tries"),
    [
        (["connection-lost"], 2, "built", 2),
        (["offline", "download-failed"], 2, "built", 3),
        (["remote-timeout", "remote-timeout"], 1, "failed", 2),
        (["connection-lost"], 0, "failed", 1),
        (["unsupported-operator"], 2, "failed", 1),  # no other try would end otherwise
    ],
)
def test_what_can_pass_is_tried_again(
    codes: list[str], retries: int, how: str, tries: int, cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "FIRST_WAIT_S", 0.0)
    last = codes[-1]
    found = outcomes([cell], Refusing(**{cell.name: list(codes)}), tmp_path, retries=retries)[cell.name]
    assert (found.how, found.tries) == (how, tries)
    assert (found.error is None) == (how == "built")
    assert found.error is None or found.error.code == last


def test_waits_double(cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    waits: list[float] = []
    monkeypatch.setattr(run_module.time, "sleep", waits.append)
    work = Refusing(**{cell.name: ["connection-lost"] * 3})
    assert [one.how for one in run([cell], Plan(tmp_path, 1, 3, work, said.append))] == ["built"]
    assert waits == [2.0, 4.0, 8.0]
    assert said[0] == "tiny-onnxruntime: connection-lost, try 2 of 4 in 2 s"


def test_side_by_side_nothing_is_measured(cell: Cell, tmp_path: Path) -> None:
    """Stages of all first; then those that measure, one by one, in the file's order."""
    timed = [replace(cell, name=name, options=replace(cell.options, measure=True)) for name in ("c", "b")]
    refused = replace(timed[0], name="refused")
    work = Refusing(refused=["unsupported-operator"])
    found = outcomes([*timed, cell, refused], work, tmp_path, jobs=2)
    assert {name: one.how for name, one in found.items()} == {
        "c": "built",
        "b": "built",
        cell.name: "built",
        "refused": "failed",
    }
    assert sorted(work.calls[:4]) == [("b", True), ("c", True), ("refused", True), (cell.name, False)]
    assert work.calls[4:] == [("c", False), ("b", False)]


KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize(
    ("program", "says"),
    [
        (KILLED, "killed by SIGKILL"),
        ("raise MemoryError('too much')", "ended with status 1: MemoryError: too much"),
        ("print('{}'); raise SystemExit(7)", "ended with status 7: it said nothing"),
        ("print('no JSON')", "ended with status 0"),
        ("", "ended with status 0"),
    ],
)
def test_a_process_that_dies_is_a_failed_cell_with_its_name(
    program: str, says: str, cell: Cell, tmp_path: Path
) -> None:
    found = outcomes([cell], WorkApart(("-c", program)), tmp_path)[cell.name]
    assert found.error is not None
    assert found.error.code == "cell-crashed"
    assert f"the process of '{cell.name}'" in found.error.message
    assert says in found.error.message


def test_processes_of_their_own(cell: Cell, shared_store: None, tmp_path: Path) -> None:
    """One builds, one is refused, one is killed: each is told, and the good one is whole."""
    cells = [cell, replace(cell, name="killed"), replace(cell, name="refused", target="nowhere")]

    def work(one: Cell, folder: Path, only_stages: bool) -> None:
        WorkApart(("-c", KILLED) if one.name == "killed" else REAL)(one, folder, only_stages)

    found = outcomes(cells, work, tmp_path, jobs=2)
    assert {name: one.error and one.error.code for name, one in found.items()} == {
        cell.name: None,
        "killed": "cell-crashed",
        "refused": "unknown-target",
    }
    refusal = found["refused"].error
    assert refusal is not None
    assert "nowhere" in refusal.message
    assert kept(cell, tmp_path / cell.name)
