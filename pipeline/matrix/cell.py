"""One cell: its request, whether its bundle is there already, and the build."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from edgec.pipeline.build import build
from edgec.pipeline.bundle.extras import extras_of
from edgec.pipeline.bundle.manifest import MANIFEST, Manifest
from edgec.pipeline.bundle.read import Bundle, open_bundle
from edgec.pipeline.bundle.records import SENSITIVITY
from edgec.pipeline.bundle.write import origin_of
from edgec.pipeline.core.root import default_root
from edgec.pipeline.core.store import Store
from edgec.pipeline.deliver import Judging, deliver
from edgec.pipeline.forms.compiler import load_compiler
from edgec.pipeline.forms.measure import cpu_model
from edgec.pipeline.forms.spec import BOARDS, with_precision
from edgec.pipeline.matrix.cluster import ClusterStore
from edgec.pipeline.matrix.plan import Cell
from edgec.pipeline.recipe import Choices, DataFolders, Recipe, make_recipe

SOURCES = (Path(__file__).parents[1], BOARDS.parent)
"""Edgec's own files, of which a commit that is not clean says nothing."""


def recipe_of(cell: Cell) -> Recipe:
    """What ``edgec build`` would make of the same options.

    Raises:
        EdgecError: what ``make_recipe`` raises.
    """
    asked = cell.options
    choices = Choices(
        asked.weights,
        asked.width_multiplier,
        asked.input_px,
        asked.num_classes,
        asked.padding,
        asked.output_stride,
        asked.argmax,
    )
    data, calibration, test = (
        Path(folder) if folder else None for folder in (cell.data, asked.calibration_data, asked.test_data)
    )
    return make_recipe(
        cell.model,
        cell.target,
        DataFolders(data, calibration, test),
        choices,
        asked.calibration_samples,
        asked.quantizer,
        cell.precision,
        asked.max_drop_pp,
        asked.task,
        asked.learn_minutes,
    )


def judging_of(cell: Cell) -> Judging:
    """How the cell is judged; all cores where it names no number of threads."""
    asked = cell.options
    return Judging(
        threads=asked.threads or os.cpu_count() or 1,
        on=asked.on,
        timed=asked.measure,
        ranked=asked.sensitivity,
        halved=asked.stability,
        weigh_precisions=cell.precision == "auto",
        extras=tuple(dict.fromkeys(asked.extras)),
    )


def build_cell(cell: Cell, folder: Path) -> None:
    """The bundle, at ``folder``.

    Raises:
        EdgecError: what ``make_recipe`` and ``deliver`` raise.
    """
    deliver(recipe_of(cell), folder, judging_of(cell), cell.options.model_version)


def prepare_cell(cell: Cell, scheduler: str | None = None) -> None:
    """Run the stages and measure nothing: the bundle is then a matter of seconds, on a quiet machine.

    Args:
        scheduler: of a cluster that runs them; this process where None.

    Raises:
        EdgecError: what ``make_recipe``, ``build`` and ``ClusterStore`` raise.
    """
    store = Store(default_root())
    if scheduler is None:
        build(recipe_of(cell), store)
        return
    with closing(ClusterStore(store, scheduler)) as cluster:
        build(recipe_of(cell), cluster)


def wants_quiet(cell: Cell, recipe: Recipe) -> bool:
    """A device works for it, or this machine's clock: no other cell may run beside it then."""
    return cell.options.on is not None or _is_timed_here(cell, recipe)


def is_kept(cell: Cell, recipe: Recipe, folder: Path) -> bool:
    """The bundle at ``folder`` is whole, and is what this edgec would make of the cell.

    Raises:
        EdgecError: ``corrupt-bundle`` and what else opening a bundle raises.
    """
    if not (folder / MANIFEST).is_file():
        return False
    bundle = open_bundle(folder)
    manifest = bundle.manifest
    same = (manifest.model.name, manifest.model.version, bundle.preprocess, manifest.labels)
    asked = (recipe.name, cell.options.model_version, recipe.preprocess, recipe.labels)
    return same == asked and _is_of(cell, recipe, bundle) and _is_judged(cell, recipe, bundle)


def _is_of(cell: Cell, recipe: Recipe, bundle: Bundle) -> bool:
    """Made from the same material, for the same board, by the same edgec."""
    manifest = bundle.manifest
    precisions = recipe.target.precisions if cell.precision == "auto" else (recipe.target.precision,)
    weighed = bool(manifest.weighed or manifest.candidates)
    if weighed != (cell.precision == "auto") or manifest.target.precision not in precisions:
        return False
    shipped = replace(recipe, target=with_precision(recipe.target, bundle.target.precision))
    return manifest.origin == origin_of(shipped) and _is_of_these_sources(bundle)


def _is_of_these_sources(bundle: Bundle) -> bool:
    """A clean commit says it; otherwise no file of edgec may be younger than the bundle."""
    commit = bundle.manifest.origin.git_commit
    if commit != "unknown" and not commit.endswith("+dirty"):
        return True
    made = (bundle.folder / MANIFEST).stat().st_mtime
    files = (file for folder in SOURCES for file in folder.rglob("*") if file.suffix in (".py", ".toml", ".j2"))
    return all(file.stat().st_mtime < made for file in files)


def _is_judged(cell: Cell, recipe: Recipe, bundle: Bundle) -> bool:
    """Ranked, halved and measured as asked, on this machine or the same device."""
    manifest, judging = bundle.manifest, judging_of(cell)
    asked = (judging.on, judging.ranked, judging.halved)
    found = (manifest.evaluated_on, (bundle.folder / SENSITIVITY).is_file(), manifest.stability is not None)
    asked_for, there = set(judging.extras), set(extras_of(manifest))
    if there - asked_for - {"c"} or asked_for - there:  # a board may get C sources unasked
        return False
    return asked == found and (judging.on is not None or _latency_fits(cell, recipe, manifest))


def _latency_fits(cell: Cell, recipe: Recipe, manifest: Manifest) -> bool:
    latency = manifest.latency
    if not _is_timed_here(cell, recipe):
        return latency.p50_ms is None
    return (latency.threads, latency.device) == (judging_of(cell).threads, cpu_model())


def _is_timed_here(cell: Cell, recipe: Recipe) -> bool:
    target = recipe.target
    here = cell.options.on is None and target.device.is_this_machine
    return cell.options.measure and here and load_compiler(target.compiler).probe(recipe.settings).can_run
