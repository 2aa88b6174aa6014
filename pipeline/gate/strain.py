"""What disturbed a measurement: stolen time, a throttled quota, a throttled clock. Two readings of counters tell."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from edgec.pipeline.gate.fingerprint import control_groups

MAX_STEAL = 0.05
"""Share of wall time that the hypervisor may take: above it a 5 % slowdown could be the neighbour's."""

MAX_QUOTA_THROTTLED = 0.01
"""Share of wall time that the control group may hold the process."""


@dataclass(frozen=True)
class Counters:
    """One reading; 0 where the machine does not count.

    Attributes:
        steal_s: of the given cores, together.
        quota_throttled_s: of the control group.
        clock_throttled: thermal events of the given cores.
    """

    wall_s: float
    steal_s: float
    quota_throttled_s: float
    clock_throttled: int


@dataclass(frozen=True)
class Strain:
    """What happened between two readings.

    Attributes:
        steal: share of the cores' time that the hypervisor gave to others.
        quota_throttled: share of the time that the control group was held.
        clock_throttled: thermal throttling events.
        temperature_c: of the hottest sensor at the end; None where there is none.
        held: what a board's firmware says holds the clock down at the end.
        clock_mhz: of the first core at the end; None where it is not read.
    """

    steal: float
    quota_throttled: float
    clock_throttled: int
    temperature_c: float | None = None
    held: tuple[str, ...] = ()
    clock_mhz: float | None = None

    @property
    def too_much(self) -> str:
        """Why the measurement does not count; empty where it does."""
        if self.steal > MAX_STEAL:
            return f"the hypervisor took {100 * self.steal:.1f} % of the time (limit {100 * MAX_STEAL:g} %)"
        if self.quota_throttled > MAX_QUOTA_THROTTLED:
            return (
                f"the CPU quota held the process for {100 * self.quota_throttled:.1f} % of the time "
                f"(limit {100 * MAX_QUOTA_THROTTLED:g} %)"
            )
        if self.clock_throttled:
            return f"the processor throttled its clock {self.clock_throttled} times"
        if self.held:
            return f"the board holds its clock down: {', '.join(self.held)}"
        return ""


CALM = Strain(0.0, 0.0, 0)


def read_counters(cores: tuple[int, ...], proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> Counters:
    """Read the machine's counters for ``cores``."""
    return Counters(
        time.monotonic(),
        sum(_steal_s(line, cores) for line in _lines(proc / "stat")),
        _quota_throttled_s(sys / "fs/cgroup", proc / "self/cgroup"),
        sum(_clock_throttled(sys / f"devices/system/cpu/cpu{core}/thermal_throttle") for core in cores),
    )


def strain(before: Counters, after: Counters, num_cores: int, temperature_c: float | None = None) -> Strain:
    """What the counters say about the time between two readings."""
    wall_s = max(after.wall_s - before.wall_s, 1e-9)
    return Strain(
        (after.steal_s - before.steal_s) / (wall_s * max(num_cores, 1)),
        (after.quota_throttled_s - before.quota_throttled_s) / wall_s,
        after.clock_throttled - before.clock_throttled,
        temperature_c,
    )


def temperature_c(sys: Path = Path("/sys")) -> float | None:
    """Of the hottest thermal zone (thousandths of a degree in sysfs)."""
    found = [int(_lines(zone)[0]) / 1000 for zone in sys.glob("class/thermal/thermal_zone*/temp") if _lines(zone)]
    return max(found, default=None)


def _steal_s(line: str, cores: tuple[int, ...]) -> float:
    """Eighth number of a ``cpuN`` line of /proc/stat (proc(5)), in clock ticks."""
    name, _, numbers = line.partition(" ")
    if not name.startswith("cpu") or name[3:] not in {str(core) for core in cores}:
        return 0.0
    return int(numbers.split()[7]) / os.sysconf("SC_CLK_TCK")


def _quota_throttled_s(root: Path, membership: Path) -> float:
    """``throttled_usec`` of cgroup version 2, ``throttled_time`` (ns) of version 1, of the group that has a quota."""
    for folder in control_groups("cpu", root, membership):
        counts = dict(line.split() for line in _lines(folder / "cpu.stat") if len(line.split()) == 2)
        if "throttled_usec" in counts:
            return int(counts["throttled_usec"]) / 1e6
        if "throttled_time" in counts:
            return int(counts["throttled_time"]) / 1e9
    return 0.0


def _clock_throttled(folder: Path) -> int:
    return sum(int(line) for line in _lines(folder / "core_throttle_count"))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
