"""Measuring processes: real ones on a tiny network, fake clocks and files for everything else."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from noise import HERE, source

from edgec.pipeline.bundle.float_network import float_artifact
from edgec.pipeline.bundle.read import open_bundle
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.gate import sampling, worker
from edgec.pipeline.gate.finding import Verdict
from edgec.pipeline.gate.fingerprint import Fingerprint, cgroup_cpus, differences, read_fingerprint
from edgec.pipeline.gate.latency import Limits, judge
from edgec.pipeline.gate.sampling import (
    Contestants,
    MeasurementFailed,
    Process,
    Sampler,
    on_this_machine,
    run_process,
)
from edgec.pipeline.gate.strain import Counters, Strain, read_counters, strain, temperature_c
from edgec.pipeline.gate.worker import Request, count_spikes, slowed, time_turns, turn_order


def test_turns_are_abba_and_rotate() -> None:
    assert turn_order(2, 0) == [0, 1, 1, 0]
    assert turn_order(2, 1) == [1, 0, 0, 1]
    assert turn_order(3, 1) == [1, 2, 0, 0, 2, 1]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_linear_drift_meets_all_contestants_alike(count: int) -> None:
    order = turn_order(count, 4)
    means = [np.mean([place for place, who in enumerate(order) if who == index]) for index in range(count)]
    assert means == [(2 * count - 1) / 2] * count


def test_at_least_ten_blocks_of_each_even_without_time() -> None:
    calls = [0, 0]

    def contestant(index: int) -> worker.Invoke:
        def invoke() -> None:
            calls[index] += 1

        return invoke

    blocks = time_turns([contestant(0), contestant(1)], [20.0, 0.5], turn_s=0.0)
    assert [len(own) for own in blocks] == [10, 10]
    assert [len(own[0]) for own in blocks] == [1, 4]  # one call, or 2 ms
    assert calls == [10, 40]


def test_spikes_are_counted_and_kept() -> None:
    assert count_spikes(np.array([1.0, 1.0, 1.0, 2.5, 9.0])) == 2


def test_slowed_takes_longer_and_one_changes_nothing() -> None:
    assert slowed(time.monotonic, 1.0) is time.monotonic  # type: ignore[arg-type, comparison-overlap]
    called: list[int] = []
    slowed(lambda: called.append(1), 1.5)()
    assert called == [1]


def test_turn_ratios_by_hand() -> None:
    blocks = (np.array([[2.0], [2.0], [8.0], [8.0]]), np.array([[1.0], [1.0], [1.0], [4.0]]))
    ratios = Process(blocks, HERE).turn_log_ratios(0, 1)
    assert np.exp(ratios) == pytest.approx([2.0, 4.0])


def test_two_real_processes(bundle: Path) -> None:
    measure = on_this_machine(Contestants((bundle, bundle), turn_s=0.2), slowdowns=(2.0, 1.0))
    first, second = Sampler(measure, budget_s=600.0)(2)
    assert len(first.blocks[0]) >= 10
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint.cores) == 1
    assert first.fingerprint.device.endswith("cores")
    assert np.median(first.turn_log_ratios(0, 1)) > np.log(1.3)  # twice as long, measured under any load


def test_a_real_process_times_the_float_artifact_twice(bundle: Path) -> None:
    in_float = float_artifact(open_bundle(bundle))
    process = on_this_machine(Contestants((bundle,), in_float=in_float, turn_s=0.05))(False)
    assert [len(own) for own in process.blocks] == [len(process.blocks[0])] * 3
    assert len(process.spikes) == 3


def test_a_process_killed_in_the_middle_fails_the_measurement(bundle: Path) -> None:
    def kill_the_first_child() -> None:
        for _ in range(600):
            for child in psutil.Process().children():
                if "edgec.pipeline.gate.worker" in child.cmdline():
                    child.kill()
                    return
            time.sleep(0.05)

    killer = threading.Thread(target=kill_the_first_child)
    killer.start()
    outcome = judge(Limits((("p50_ms", 1.0),)), Sampler(on_this_machine(Contestants((bundle,), turn_s=60.0)), 120.0))
    killer.join()
    assert outcome.findings[0].verdict is Verdict.INCONCLUSIVE
    assert "killed (SIGKILL)" in outcome.findings[0].reason


def test_a_process_that_hangs_fails_the_measurement(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "START_TIMEOUT_S", 0.05)
    with pytest.raises(MeasurementFailed, match="did not finish"):
        run_process(Request((str(bundle),), (1.0,), 1, turn_s=0.0))


def test_a_process_that_breaks_fails_the_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'out of memory' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(MeasurementFailed, match="status 3: out of memory"):
        run_process(Request(("x",), (1.0,), 1, turn_s=0.0))


def test_a_bundle_that_cannot_be_opened_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(EdgecError) as caught:
        run_process(Request((str(tmp_path),), (1.0,), 1, turn_s=0.0))
    assert caught.value.code == "no-bundle"


def test_time_ends_the_sampling() -> None:
    assert Sampler(lambda reverse: source(2.0)(1)[0], budget_s=0.0)(4) == []


def test_a_machine_that_changes_while_measuring() -> None:
    first, second = source(2.0)(2)
    made = iter([first, replace(second, fingerprint=replace(HERE, governor="powersave"))])
    with pytest.raises(MeasurementFailed, match="governor: performance -> powersave"):
        Sampler(lambda reverse: next(made))(2)


def test_every_other_process_loads_in_reverse() -> None:
    seen: list[bool] = []

    def measure(reverse: bool) -> Process:
        seen.append(reverse)
        return source(2.0)(1)[0]

    Sampler(measure)(3)
    assert seen == [False, True, False]


def test_fingerprint_round_trip_and_differences() -> None:
    from dataclasses import asdict

    mine = read_fingerprint(threads=1)
    assert Fingerprint.of(asdict(mine)) == mine
    assert differences(mine, mine) == []
    assert differences(replace(mine, smt=True), replace(mine, smt=False)) == ["smt: False -> True"]
    assert replace(mine, threads=2).digest != mine.digest


@pytest.mark.parametrize(
    ("membership", "files", "cpus"),
    [
        ("0::/job\n", {"job/cpu.max": "150000 100000"}, 1.5),
        ("0::/job/step\n", {"job/cpu.max": "50000 100000", "job/step/cpu.max": "max 100000"}, 0.5),
        ("0::/job\n", {"job/cpu.max": "max 100000"}, None),
        ("3:cpu,cpuacct:/job\n", {"cpu,cpuacct/job/cpu.cfs_quota_us": "200000"}, 2.0),
        ("1:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.stat": ""}, None),
        ("", {}, None),
    ],
)
def test_cgroup_quota(membership: str, files: dict[str, str], cpus: float | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text)
    (tmp_path / "self").write_text(membership)
    assert cgroup_cpus(tmp_path / "cgroup", tmp_path / "self") == cpus


def fake_machine(root: Path, steal: int, throttled_us: int, events: int) -> tuple[Path, Path]:
    files = {
        "proc/stat": f"cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 1 1 1 1 1 1 900 0 0\ncpu1 1 1 1 1 1 1 1 {steal} 0 0\nintr 5\n",
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/cpu.stat": f"usage_usec 5\nthrottled_usec {throttled_us}\n",
        "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": f"{events}\n",
        "sys/class/thermal/thermal_zone0/temp": "45000\n",
        "sys/class/thermal/thermal_zone1/temp": "71500\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root / "proc", root / "sys"


def test_counters_of_one_core(tmp_path: Path) -> None:
    proc, sys_folder = fake_machine(tmp_path, steal=250, throttled_us=1_500_000, events=4)
    counters = read_counters((1,), proc, sys_folder)
    assert (counters.steal_s, counters.quota_throttled_s, counters.clock_throttled) == (2.5, 1.5, 4)
    assert temperature_c(sys_folder) == 71.5


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (Counters(10.0, 0.4, 0.0, 0), ""),
        (Counters(10.0, 0.6, 0.0, 0), "hypervisor took 6.0 %"),
        (Counters(10.0, 0.0, 0.2, 0), "quota held the process for 2.0 %"),
        (Counters(10.0, 0.0, 0.0, 2), "throttled its clock 2 times"),
    ],
)
def test_strain_above_a_limit_fails_the_measurement(after: Counters, words: str) -> None:
    found = strain(Counters(0.0, 0.0, 0.0, 0), after, num_cores=1)
    assert words in found.too_much
    assert bool(found.too_much) == bool(words)


def test_a_strained_process_does_not_count() -> None:
    from dataclasses import asdict

    answer = {
        "blocks": [[[1.0]]],
        "fingerprint": asdict(HERE),
        "spikes": [0],
        "num_warmup": [8],
        "steady": True,
        "involuntary_switches": 0,
        "strain": asdict(Strain(0.2, 0.0, 0)),
    }
    with pytest.raises(MeasurementFailed, match=r"20\.0 % of the time"):
        Sampler(lambda reverse: sampling._process(answer))(1)
