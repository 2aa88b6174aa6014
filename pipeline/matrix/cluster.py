"""Stages on other machines: a Dask cluster runs each by its key, and the shared store carries what they make.

Equal stages have equal keys, so that Dask runs them once, whoever asks. A worker says what it has, as Dask resources:
its instruction set, and the version of every package that edgec can depend on. A stage says what its result depends
on, and goes to a worker that has it. A worker that dies loses what it was making, and another makes it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.foreign import foreign
from edgec.pipeline.core.root import default_root
from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.core.stage import Artifact, Stage, stage_key, stage_name
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

T = TypeVar("T")


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
        made: stage and worker of everything that was made for this store.
    """

    store: Store
    scheduler: str
    made: list[tuple[str, str]] = field(default_factory=list)
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
        if worker := asked.result():
            self.made.append((plan.stage, worker))


def run_stage(order: Order) -> str:
    """What a worker does: the stage in its own store; returns its name, empty where it found the result.

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
    return "" if ran.cached else f"{socket.gethostname()}:{os.getpid()}"


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
    """What this machine has, as Dask resources."""
    named = {re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in metadata.requires("edgec") or ()}
    return {**{_versioned(name): PLENTY for name in named if _version(name)}, _machine(instruction_set()): PLENTY}


def needs(stage: Stage) -> frozenset[str]:
    """What a worker must have so that it makes what this machine would: its key says the same."""
    found = {_versioned(name) for name in stage.toolchain if _version(name)}
    return frozenset(found | {_machine(who) for who in _identities(stage) if "simd" in who})


def _identities(value: object) -> Iterator[Mapping[str, str]]:
    """Of every form among the fields of a stage: who answers."""
    if isinstance(getattr(value, "identity", None), Mapping):
        yield value.identity  # type: ignore[attr-defined]
    if dataclasses.is_dataclass(value):
        for one in dataclasses.fields(value):
            yield from _identities(getattr(value, one.name))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _identities(item)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _versioned(name: str) -> str:
    return f"{re.sub(r'[-_.]+', '-', name).lower()} {_version(name)}"


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
def cluster_of(address: str, num_workers: int) -> Iterator[str]:
    """The address of a cluster that lives as long as the block: the one named, or ``local`` processes.

    Raises:
        EdgecError: ``missing-distributed``, ``cluster-unreachable``.
    """
    distributed = _distributed()
    if address != LOCAL:
        connect(address).close()
        yield address
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
        yield str(cluster.scheduler_address)


def num_workers_of(address: str) -> int:
    """Workers that have joined."""
    client = connect(address)
    try:
        with named_failure(address):
            return len(client.scheduler_info(n_workers=-1)["workers"])
    finally:
        client.close()


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
