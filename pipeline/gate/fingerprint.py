"""What a latency depends on beside the artifact. Times from unequal fingerprints are never compared."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from edgec.pipeline.forms.measure import cpu_model

CPU = Path("/sys/devices/system/cpu")
RUNTIMES = ("onnxruntime", "openvino", "ai-edge-litert", "tensorrt", "numpy")


@dataclass(frozen=True)
class Fingerprint:
    """A machine's state as far as it decides times; None where the machine does not say.

    Attributes:
        device: as ``Latency.device`` names it.
        cores: that the measuring process is pinned to.
        governor: of the first core's clock.
        clock_limit_mhz: what that clock may rise to.
        turbo: whether the clock may rise above its base.
        smt: whether two hardware threads share a core.
        cgroup_cpus: CPU quota of the control group, in cores.
        libraries: versions of the runtimes.
    """

    device: str
    machine: str
    kernel: str
    cores: tuple[int, ...]
    threads: int
    governor: str | None
    turbo: bool | None
    smt: bool | None
    cgroup_cpus: float | None
    python: str
    libraries: Mapping[str, str] = field(default_factory=dict)
    clock_limit_mhz: float | None = None

    @cached_property
    def digest(self) -> str:
        """Twelve hex digits of the sha256 over all fields: a name to group by, never the comparison itself."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    def words(self) -> dict[str, str]:
        """Each field as text and each library by its name; what the machine does not say is left out."""
        known = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "libraries"} | dict(self.libraries)
        known["cores"] = ", ".join(map(str, self.cores))
        return {name: str(value) for name, value in known.items() if value is not None}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Fingerprint:
        """The fingerprint that ``asdict`` wrote.

        Raises:
            TypeError, KeyError: the record is none.
        """
        return cls(**{**record, "cores": tuple(record["cores"])})


def read_fingerprint(threads: int, device: str | None = None) -> Fingerprint:
    """This process's own, so it is read after pinning; ``device`` is the whole one, named before."""
    return Fingerprint(
        device=device or cpu_model(),
        machine=platform.machine(),
        kernel=platform.release(),
        cores=tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else (),
        threads=threads,
        governor=_text(CPU / "cpu0/cpufreq/scaling_governor"),
        turbo=_turbo(),
        smt=_flag(CPU / "smt/active"),
        cgroup_cpus=cgroup_cpus(),
        python=platform.python_version(),
        libraries={name: _version(name) for name in RUNTIMES},
        clock_limit_mhz=_clock_limit_mhz(),
    )


def differences(ours: Fingerprint, theirs: Fingerprint) -> list[str]:
    """Fields that differ, as ``governor: powersave -> performance``; empty where times may be compared."""
    return [
        f"{f.name}: {getattr(theirs, f.name)} -> {getattr(ours, f.name)}"
        for f in fields(Fingerprint)
        if getattr(ours, f.name) != getattr(theirs, f.name)
    ]


def cgroup_cpus(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """CPU quota of this process's control group in cores, version 2 or 1; None without a quota."""
    for folder in control_groups("cpu", root, membership):
        quota = (_text(folder / "cpu.max") or "").split()
        if len(quota) != 2:
            quota = [_text(folder / "cpu.cfs_quota_us") or "max", _text(folder / "cpu.cfs_period_us") or "100000"]
        if quota[0] not in ("max", "-1"):
            return int(quota[0]) / int(quota[1])
    return None


def control_groups(controller: str, root: Path, membership: Path) -> list[Path]:
    """Folders of this process's group and its parents, for one controller, nearest first."""
    for line in (_text(membership) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = root if not controllers else root / controllers if (root / controllers).is_dir() else root / controller
        here = base / path.strip("/")
        found = [folder for folder in (here, *here.parents) if folder.is_relative_to(base)]
        if any((folder / name).is_file() for folder in found for name in ("cpu.max", "cpu.cfs_quota_us", "cpu.stat")):
            return found
    return []


def _turbo() -> bool | None:
    """Intel's driver says ``no_turbo``, the others ``boost``."""
    no_turbo = _flag(CPU / "intel_pstate/no_turbo")
    return not no_turbo if no_turbo is not None else _flag(CPU / "cpufreq/boost")


def _clock_limit_mhz() -> float | None:
    text = _text(CPU / "cpu0/cpufreq/scaling_max_freq")
    return float(text) / 1000 if text and text.isdigit() else None


def _flag(path: Path) -> bool | None:
    text = _text(path)
    return None if text is None else text == "1"


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"
