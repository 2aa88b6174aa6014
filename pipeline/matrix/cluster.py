"""Stages on other machines: a Dask cluster runs each by its key, and the shared store carries what they make.

Equal stages have equal keys, so that Dask runs them once, whoever asks. A worker says what it has, as Dask resources:
its instruction set, and the version of every package. A stage says what its result depends
on, and goes to a worker that has it. A worker that dies loses what it was making, and another makes it.
"""

from __future__ import annotations

import hashlib
import logging
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.foreign import foreign
from edgec.pipeline.core.root import default_root
from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.core.stage import (
    NOT_INSTALLED,
    Artifact,
    Stage,
    installed_version,
    parts_of,
    stage_key,
    stage_name,
)
from edgec.pipeline.core.store import Plan, Store
from edgec.pipeline.forms.form import instruction_set

LOG = logging.getLogger("distributed.edgec")
"""Among what a worker says of itself."""

INSTALL = "pip install 'edgec[cluster]'"
LOCAL = "local"
PLENTY = 1e9
"""Of each resource: it is had or not, and never used up."""
DEATHS = 3
"""Of workers over one stage before it is given up."""
CONNECT_S = 10
PATIENCE_S = 30.0
CONFIG = {"distributed.scheduler.worker-ttl": None, "distributed.scheduler.allowed-failures": DEATHS}
"""A stage computes for minutes and says nothing meanwhile; one that kills whoever runs it is not tried for ever."""


@dataclass(frozen=True)
class Source:
    """A stage's input as another machine finds it.

    Attributes:
        key: of the result that it is, empty for a user's own file or folder.
        path: its own name in the result, or where the user has it.
    """

    key: str
    path: str
    sha256: str

    @classmethod
    def of(cls, artifact: Artifact, root: Path) -> Source:
        """What ``root``'s store keeps goes by its key; anything else by its path."""
        folder = artifact.path.parent
        if artifact.path.is_relative_to(root / "results"):
            return cls(folder.name, artifact.path.name, artifact.sha256)
        return cls("", str(artifact.path.absolute()), artifact.sha256)


@dataclass(frozen=True)
class Order:
    """One stage for whoever has what it needs."""

    stage: Stage
    sources: tuple[Source, ...]
    key: str


@dataclass
class ClusterStore:
    """What ``Build`` runs its stages on: what is kept is found, and the rest is made by the cluster.

    Attributes:
        store: of this machine, where every result is wanted.
        scheduler: of the cluster, ``tcp://HOST:PORT``.
    """

    store: Store
    scheduler: str
    _client: Any = field(default=None, init=False, repr=False)

    def run(self, stage: Stage, *inputs: Artifact) -> Artifact:
        """Return the stage's result, found or made by a worker.

        Raises:
            EdgecError: ``cluster-unreachable``, ``no-such-worker``, ``worker-lost``, ``cluster-differs``,
                ``result-not-shared``, or whatever the store or the stage raises.
        """
        plan = self.store.explain(stage, *inputs)
        if not plan.cached:
            sources = tuple(Source.of(artifact, self.store.root) for artifact in inputs)
            self._order(Order(stage, sources, plan.key), plan)
            if self.store.obtain(plan.key, stage.output) is None:
                raise _not_shared(f"this machine, what a worker made of '{plan.stage}'")
        return self.store.run(stage, *inputs)

    def close(self) -> None:
        """Leave the cluster."""
        if self._client is not None:
            self._client.close()

    def _order(self, order: Order, plan: Plan) -> None:
        wanted = needs(order.stage)
        if self._client is None:
            self._client = connect(self.scheduler)
        with named_failure(self.scheduler):
            _await_worker(self._client, wanted, plan.stage)
            resources = dict.fromkeys(wanted, 1)
            asked = self._client.submit(run_stage, order, key=f"edgec-{order.key}", resources=resources, pure=False)
            error = asked.exception()
        if type(error).__name__ == "KilledWorker":
            hint = "see what the workers said; where memory ran out, start fewer on a machine"
            raise EdgecError("worker-lost", f"{DEATHS + 1} workers died over '{plan.stage}'", hint)
        if error is not None:
            raise error


def run_stage(order: Order) -> None:
    """What a worker does: the stage in its own store, which may find the result.

    Raises:
        EdgecError: ``cluster-differs``, ``result-not-shared``, or whatever store and stage raise.
    """
    store = Store(default_root())
    inputs = tuple(_input(store, source) for source in order.sources)
    key = stage_key(order.stage, inputs)
    if key != order.key:
        message = f"'{socket.gethostname()}' would make something else of '{stage_name(order.stage)}'"
        raise EdgecError("cluster-differs", message, "give all machines the same edgec and the same constraints.txt")
    store.run(order.stage, *inputs)
    ran = store.runs[-1]
    LOG.info("%s %s %s, %.1f s", "found" if ran.cached else "made", ran.stage, ran.key[:16], ran.seconds)


def _input(store: Store, source: Source) -> Artifact:
    if source.key:
        found = store.obtain(source.key, source.path)
        if found is None:
            raise _not_shared(f"the worker on '{socket.gethostname()}' '{source.key[:16]}'")
        return found
    if not Path(source.path).exists():
        message = f"the worker on '{socket.gethostname()}' has no '{source.path}'"
        raise EdgecError("no-such-file", message, "keep data and networks where all machines see them")
    return Artifact(Path(source.path), source.sha256)


def _not_shared(what: str) -> EdgecError:
    hint = "set EDGEC_SHARED_CACHE to the same place here and for every worker"
    return EdgecError("result-not-shared", f"nothing brings to {what}", hint)


def abilities() -> dict[str, float]:
    """What this machine has, as Dask resources: every package in its version, and the instruction set."""
    packages = {_package(one.metadata["Name"], one.version) for one in metadata.distributions()}
    return dict.fromkeys({*packages, _machine(instruction_set())}, PLENTY)


def needs(stage: Stage) -> frozenset[str]:
    """What a worker must have so that it makes what this machine would: its key says the same."""
    installed = {name: installed_version(name) for name in stage.toolchain}
    packages = {_package(name, version) for name, version in installed.items() if version != NOT_INSTALLED}
    who = (getattr(part, "identity", None) for part in parts_of(stage))
    return frozenset(packages | {_machine(one) for one in who if isinstance(one, Mapping) and "simd" in one})


def _package(name: str, version: str) -> str:
    from packaging.utils import canonicalize_name

    return f"{canonicalize_name(name)} {version}"


def _machine(identity: Mapping[str, str]) -> str:
    """Machines that answer alike have the same name."""
    said = f"{identity.get('machine')} {identity.get('simd')}"
    return f"{identity.get('machine')} {hashlib.sha256(said.encode()).hexdigest()[:12]}"


def _await_worker(client: Any, wanted: frozenset[str], stage: str) -> None:
    """Without an end Dask waits for a worker that nobody may ever start; one that died is back in a moment."""
    end = time.monotonic() + PATIENCE_S
    while True:
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        if any(wanted <= {*worker["resources"]} for worker in workers):
            return
        if time.monotonic() > end:
            break
        time.sleep(0.5)
    had = {name for worker in workers for name in worker["resources"]}
    missing = ", ".join(sorted(wanted - had)) or "all of it on one machine"
    message = f"none of {len(workers)} workers can run '{stage}': it takes {missing}"
    raise EdgecError("no-such-worker", message, "start one with 'edgec worker' on such a machine")


def connect(scheduler: str) -> Any:
    """A ``distributed.Client``.

    Raises:
        EdgecError: ``missing-distributed``, ``cluster-unreachable``.
    """
    distributed = _distributed()
    with named_failure(scheduler):
        return distributed.Client(scheduler, timeout=CONNECT_S, set_as_default=False)


@contextmanager
def named_failure(scheduler: str) -> Iterator[None]:
    """Whatever Dask raises is told of the cluster."""
    hint = "check the address, and that 'dask scheduler' runs there with the same version"
    where = f"cannot use the cluster '{scheduler}'"
    with foreign(lambda said: EdgecError("cluster-unreachable", f"{where}: {said}", hint)):
        yield


@contextmanager
def cluster_of(address: str, num_workers: int) -> Iterator[tuple[str, int]]:
    """Address and number of workers of a cluster: of the one named, or of ``local``, which lives as long as the block.

    Args:
        num_workers: of ``local``.

    Raises:
        EdgecError: ``missing-distributed``, ``cluster-unreachable``.
    """
    distributed = _distributed()
    if address != LOCAL:
        yield address, num_workers_of(address)
        return
    import dask

    with (
        scratch("cluster") as folder,
        dask.config.set(CONFIG),
        distributed.LocalCluster(
            n_workers=num_workers,
            threads_per_worker=1,
            resources=abilities(),
            local_directory=str(folder),
            dashboard_address=None,
            silence_logs="CRITICAL",
        ) as cluster,
    ):
        yield str(cluster.scheduler_address), num_workers


def num_workers_of(address: str) -> int:
    """Workers that have joined.

    Raises:
        EdgecError: ``missing-distributed``, ``cluster-unreachable``.
    """
    with closing(connect(address)) as client, named_failure(address):
        return len(client.scheduler_info(n_workers=-1)["workers"])


def work_for(address: str) -> None:
    """Be a worker, one stage at a time, until the scheduler ends or a signal comes.

    Raises:
        EdgecError: ``missing-distributed``, ``cluster-unreachable``.
    """
    import asyncio

    import dask

    distributed = _distributed()

    async def serve(folder: Path) -> None:
        async with distributed.Nanny(
            address,
            nthreads=1,
            resources=abilities(),
            memory_limit=0,
            local_directory=str(folder),
            dashboard=False,
        ) as nanny:
            await nanny.finished()

    connect(address).close()  # a worker would wait for a scheduler that is not there
    with scratch("worker") as folder, dask.config.set(CONFIG), named_failure(address):
        asyncio.run(serve(folder))


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise EdgecError("missing-distributed", "a cluster needs Dask's distributed", INSTALL) from None
    return distributed
