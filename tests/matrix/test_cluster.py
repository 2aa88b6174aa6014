"""A real Dask cluster of processes: equal stages run once, workers die and nothing is lost, the rest has a code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cluster_stages import Deadly, Double, Refuse

from edgec.pipeline.build import build
from edgec.pipeline.bundle.read import open_bundle
from edgec.pipeline.cli import main
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import Artifact, source, stage_key, tree_sha256
from edgec.pipeline.core.store import Store
from edgec.pipeline.forms.answer import Answer
from edgec.pipeline.forms.compile import Compile
from edgec.pipeline.forms.form import reference_form
from edgec.pipeline.matrix import cluster
from edgec.pipeline.matrix.cell import recipe_of
from edgec.pipeline.matrix.cluster import (
    ClusterStore,
    Order,
    Source,
    abilities,
    cluster_of,
    connect,
    needs,
    num_workers_of,
    run_stage,
    work_for,
)
from edgec.pipeline.matrix.plan import Cell, Options

HERE = Path(__file__).parent


def code(error: pytest.ExceptionInfo[EdgecError]) -> str:
    assert error.value.hint
    return error.value.code


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[str]:
    """Two processes with one store, and a shared cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEC_CACHE", str(tmp_path_factory.mktemp("workers")))
        patch.setenv("EDGEC_SHARED_CACHE", str(shared))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]))
        with cluster_of("local", 2) as (address, num_workers):
            assert num_workers == 2
            yield address


@pytest.fixture
def store(tmp_path: Path, shared: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterStore]:
    """Of a machine that the workers share nothing with but the shared cache."""
    monkeypatch.setenv("EDGEC_SHARED_CACHE", str(shared))
    found = ClusterStore(Store(tmp_path / "store"), scheduler)
    yield found
    found.close()


@pytest.fixture
def word(tmp_path: Path) -> Artifact:
    path = tmp_path / "word.txt"
    path.write_text(f"edge {tmp_path}")
    return source(path)


def test_results_of_workers_are_inputs_of_workers(store: ClusterStore, word: Artifact, tmp_path: Path) -> None:
    double = Double(str(tmp_path / "log"))
    twice = store.run(double, store.run(double, word))
    assert twice.path.read_text() == word.path.read_text() * 4
    assert twice.path.is_relative_to(tmp_path / "store")
    assert store.run(double, word).path.read_text() == word.path.read_text() * 2
    assert len((tmp_path / "log").read_text().split()) == 2


def test_equal_stages_run_once_whoever_asks(store: ClusterStore, word: Artifact, tmp_path: Path) -> None:
    double, rivals = Double(str(tmp_path / "log")), [store]
    rivals += [ClusterStore(Store(tmp_path / f"store{i}"), store.scheduler) for i in range(5)]
    with ThreadPoolExecutor(len(rivals)) as pool:
        found = list(pool.map(lambda one: one.run(double, one.run(double, word)).sha256, rivals))
    for rival in rivals:
        rival.close()
    assert len(set(found)) == 1
    assert len((tmp_path / "log").read_text().split()) == 2


def test_a_killed_worker_loses_nothing(store: ClusterStore, tmp_path: Path) -> None:
    made = store.run(Deadly(str(tmp_path / "log"), 2))
    assert made.path.read_text() == "whole"
    assert (tmp_path / "log").read_text() == "xxx"


def test_a_stage_that_kills_every_worker_is_given_up(store: ClusterStore, tmp_path: Path) -> None:
    with pytest.raises(EdgecError) as caught:
        store.run(Deadly(str(tmp_path / "log"), 99))
    assert code(caught) == "worker-lost"
    assert (tmp_path / "log").read_text() == "x" * (cluster.DEATHS + 1)


def test_a_refusal_is_the_stage_s_own(store: ClusterStore) -> None:
    with pytest.raises(EdgecError) as caught:
        store.run(Refuse(breaks=False))
    assert code(caught) == "bad-output"
    with pytest.raises(ZeroDivisionError):
        store.run(Refuse(breaks=True))


def test_nobody_waits_for_a_worker_that_does_not_come(store: ClusterStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PATIENCE_S", 0.0)
    monkeypatch.setattr(cluster, "needs", lambda stage: frozenset({"pluggy 0.0"}))
    with pytest.raises(EdgecError, match=r"it takes pluggy 0\.0") as caught:
        store.run(Refuse(breaks=True))
    assert code(caught) == "no-such-worker"


def test_results_that_are_not_shared(store: ClusterStore, word: Artifact, tmp_path: Path) -> None:
    alone = ClusterStore(Store(tmp_path / "alone", shared=None), store.scheduler)
    try:
        with pytest.raises(EdgecError, match="this machine") as caught:
            alone.run(Double(str(tmp_path / "log")), word)
        assert code(caught) == "result-not-shared"
        kept = alone.store.run(Double(str(tmp_path / "log")), word)
        with pytest.raises(EdgecError, match="worker") as caught:
            alone.run(Double(str(tmp_path / "again")), kept)
        assert code(caught) == "result-not-shared"
    finally:
        alone.close()


def test_data_that_a_worker_does_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path / "store"))
    with pytest.raises(EdgecError) as caught:
        run_stage(Order(Double("log"), (Source("", "/nowhere/word.txt", "0" * 64),), "0" * 64))
    assert code(caught) == "no-such-file"


def test_another_edgec_makes_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path / "store"))
    with pytest.raises(EdgecError) as caught:
        run_stage(Order(Refuse(breaks=True), (), "0" * 64))
    assert code(caught) == "cluster-differs"
    assert stage_key(Refuse(breaks=True), ()) != "0" * 64


def test_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 1)
    for ask in (connect, num_workers_of, work_for):
        with pytest.raises(EdgecError) as caught:
            ask("tcp://127.0.0.1:9")
        assert code(caught) == "cluster-unreachable"
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(EdgecError) as caught:
        connect("tcp://127.0.0.1:9")
    assert code(caught) == "missing-distributed"


@pytest.fixture(scope="module")
def cells(tiny_onnx: Path, tiny_images: Path) -> list[Cell]:
    options = Options(measure=False, calibration_samples=8)
    return [Cell(f"tiny-{name}", str(tiny_onnx), name, None, str(tiny_images), options) for name in ("cpu", "arm")]


def test_a_machine_can_what_its_own_stages_need(cells: list[Cell], tmp_path: Path) -> None:
    """Every stage of a build is for workers like this one, and answers go to the same instruction set alone."""
    asked = []

    class Asking(Store):
        def run(self, stage, *inputs):  # type: ignore[no-untyped-def]
            asked.append(stage)
            return super().run(stage, *inputs)

    built = build(recipe_of(cells[0]), Asking(tmp_path / "store"))
    assert built.accuracy.path.exists()
    had = {*abilities()}
    assert asked
    assert all(needs(stage) <= had for stage in asked)
    machines = {name for name in had if name.startswith(os.uname().machine)}
    assert len(machines) == 1
    assert all(machines <= needs(stage) for stage in asked if isinstance(stage, Answer))
    assert any(name.startswith("openvino ") for stage in asked if isinstance(stage, Compile) for name in needs(stage))
    assert reference_form().identity["simd"]


def test_a_matrix_on_workers_of_their_own(
    tiny_onnx: Path, tiny_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the outside: a scheduler, two workers with a store each, one of them killed; the bytes of one machine."""
    (tmp_path / "m.toml").write_text(
        f'models = ["{tiny_onnx}"]\ntargets = ["cpu", "arm"]\ndata = ["{tiny_images}"]\n'
        "[options]\nmeasure = false\ncalibration_samples = 8\n"
    )
    monkeypatch.setenv("EDGEC_SHARED_CACHE", str(tmp_path / "shared"))
    edgec = [sys.executable, "-m", "edgec.pipeline.cli"]
    address_file = tmp_path / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    there = {**os.environ, "DASK_TEMPORARY_DIRECTORY": str(tmp_path)}
    started = [subprocess.Popen([*command, "--no-dashboard", "--scheduler-file", str(address_file)], env=there)]
    try:
        address = wait_for_address(address_file)
        for name in ("one", "other"):
            environment = {**os.environ, "EDGEC_CACHE": str(tmp_path / name)}
            started.append(subprocess.Popen([*edgec, "worker", address], env=environment))
        wait_for(lambda: num_workers_of(address) == 2)
        monkeypatch.setenv("EDGEC_CACHE", str(tmp_path / "asking"))
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(
                main, ["matrix", str(tmp_path / "m.toml"), "--scheduler", address, "--output", str(tmp_path / "far")]
            )
            wait_for(lambda: any((tmp_path / "shared").rglob("*.tar.zst")))
            started[1].send_signal(signal.SIGTERM)
            assert asked.result(timeout=240) == 0
    finally:
        for process in reversed(started):
            process.kill()
            process.wait()
    monkeypatch.delenv("EDGEC_SHARED_CACHE")
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path / "here"))
    assert main(["matrix", str(tmp_path / "m.toml"), "--output", str(tmp_path / "near")]) == 0
    for name in ("tiny-cpu", "tiny-arm"):
        far, near = (open_bundle(tmp_path / place / name) for place in ("far", "near"))
        assert tree_sha256(far.artifact) == tree_sha256(near.artifact)
        assert far.manifest.accuracy == near.manifest.accuracy


def wait_for_address(path: Path) -> str:
    wait_for(lambda: path.is_file() and path.stat().st_size > 0)
    return str(json.loads(path.read_text())["address"])


def wait_for(condition) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)
