"""``edgec check --on ssh://``: the gate's own turns on a board, which is a real sshd on loopback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
from boards import Board, Network, refused

from edgec.pipeline.bundle.read import open_bundle
from edgec.pipeline.cli import main
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.device import open_device
from edgec.pipeline.forms.measure import DeviceTurns, Turns
from edgec.pipeline.gate import draft, strain, there, worker
from edgec.pipeline.gate.finding import Verdict
from edgec.pipeline.gate.latency import Limits, judge
from edgec.pipeline.gate.sampling import Contestants, MeasurementFailed, Process, Sampler
from edgec.targets.tensorrt.device import DeviceEngine
from edgec.targets.tflite import board_runner
from edgec.targets.tflite.inference import describe, named, time_turns

pytest_plugins = ["device_fixtures"]


@pytest.fixture(scope="session")
def arm_bundle(
    tmp_path_factory: pytest.TempPathFactory,
    colours_toml: Path,
    tiny_images: Path,
    store_of_bundles: Path,
    once: Callable[[str, Callable[[Path], None]], Path],
) -> Path:
    """The tiny network for ``arm``, built once."""

    def fill(folder: Path) -> None:
        given = ["build", colours_toml, "--target", "arm", "--data", tiny_images, "--output", folder]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EDGEC_CACHE", str(store_of_bundles))
            assert main([*map(str, given), "--no-measure", "--with", "float"]) == 0

    return once("there-arm", fill)


@pytest.fixture
def address(board: Board) -> str:
    return f"{board.device().name}{board.bin}/python3"


def budget(device: str, limits: str) -> str:
    head = f'model = "colours"\ntarget = "arm"\ndevice = "{device}"\nowner = "o"\nreason = "r"\n'
    return f"[[budget]]\n{head}[budget.limits]\n{limits}\n"


def turns(**changed: object) -> DeviceTurns:
    """Of two artifacts, one twice as slow."""
    calm = Turns((((2.0, 2.0),) * 10, ((1.0, 1.0),) * 10), (8, 8), True, 0, 0.0, 0, 2400.0, (3,))
    of_turns = {name: changed.pop(name) for name in list(changed) if name in {one.name for one in fields(Turns)}}
    board = DeviceTurns(calm, "a board, 4 cores", "aarch64", "6.6", "performance", "3.11", (), 1500.0, 50.0, {"r": "2"})
    return replace(board, turns=replace(calm, **of_turns), **changed)


# ---- on the board


def test_a_budget_is_written_and_held_on_the_board(
    arm_bundle: Path,
    address: str,
    board: Board,
    own_cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``budget init --on`` names the board and its milliseconds; ``check --on`` finds them by its name."""
    monkeypatch.setattr(draft, "MOST_SPREAD", 1e9)  # other tests share the machine, and the network is tiny
    monkeypatch.setattr(strain, "MAX_STEAL", 1.0)
    bundle, budgets = tmp_path / "bundle", tmp_path / "budgets.toml"
    shutil.copytree(arm_bundle, bundle)
    given = ["budget", "init", bundle, "--owner", "o", "--on", address, "--output", budgets, "--budget-s", "600"]
    assert main([*map(str, given), "--latency-margin", "100"]) == 0
    text, name = budgets.read_text(), named(board.device(), describe(board.device())[0])
    assert f'device = "{name}"' in text
    assert "p50_ms" in text
    capsys.readouterr()
    given = ["check", bundle, "--budgets", budgets, "--on", address, "--budget-s", "600", "--record", "--json"]
    assert main(list(map(str, given))) == 0
    (found,) = json.loads(capsys.readouterr().out)["measured"]
    assert found["device"] == name
    assert found["fingerprint"]["cores"] == [max(found["fingerprint"]["cores"])]  # pinned to one, as here
    assert found["fingerprint"]["libraries"]
    assert found["latency"]["num_processes"] >= 6
    recorded = open_bundle(bundle).manifest.latency
    assert recorded.device == name
    assert recorded.fingerprint["kernel"]


def test_one_process_there_times_a_file_as_often_as_it_is_named(network: Network, board: Board) -> None:
    found = time_turns(board.device(), [network.path] * 3, turn_s=0.2, reverse=True)
    turns_ = found.turns
    assert len({len(own) for own in turns_.blocks_ms}) == 1
    assert len(turns_.blocks_ms[0]) >= 2 * worker.MIN_TURNS
    assert turns_.cores == (max(turns_.cores),)
    process = there.process_of(found, 1)
    assert abs(float(process.turn_log_ratios(1, 2).mean())) < 1.0  # the same file


def test_an_emulated_core_has_no_times_for_a_gate(aarch64: None, network: Network) -> None:
    with refused("emulated-latency"):
        time_turns(open_device("qemu:cortex-a76"), [network.path])


def test_engines_are_not_timed_by_turns(board: Board, tmp_path: Path) -> None:
    engine = DeviceEngine(board.device(), tmp_path)
    for ask in (engine.device_name, lambda: engine.turns([], 1.0, False)):
        with refused("cannot-time-there"):
            ask()


def test_another_board_is_no_judge(
    arm_bundle: Path, address: str, own_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A board without a budget is an error; one that another's budget was asked for decides nothing."""
    budgets = tmp_path / "budgets.toml"
    budgets.write_text(budget("Raspberry Pi 5, 4 cores", "p50_ms = 5.0"))
    given = list(map(str, ["check", arm_bundle, "--budgets", budgets, "--on", address]))
    assert main(given) == 1
    assert "error[no-budget]" in capsys.readouterr().err
    assert main([*given, "--device", "Raspberry Pi 5, 4 cores"]) == 4
    assert "not 'Raspberry Pi 5, 4 cores'" in " ".join(capsys.readouterr().out.split())
    assert main([*given, "--no-device"]) == 2


# ---- what a board tells


class Told:
    """A stand-in for a board that answers what it is given."""

    def __init__(self, *answers: DeviceTurns | EdgecError) -> None:
        self.answers = list(answers)
        self.reversed: list[bool] = []

    def turns(self, others: list[Path], turn_s: float, reverse: bool) -> DeviceTurns:
        self.reversed.append(reverse)
        answer = self.answers.pop(0)
        if isinstance(answer, EdgecError):
            raise answer
        return answer


def sampled(arm_bundle: Path, monkeypatch: pytest.MonkeyPatch, board: Told) -> list[Process]:
    monkeypatch.setattr(there, "on_device", lambda *_: board)
    return Sampler(there.on_board(Contestants((arm_bundle, arm_bundle)), "ssh://x@y"), 600.0)(len(board.answers))


def test_its_blocks_are_a_process_like_any_other(arm_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Told(turns(), turns(governor="powersave"))
    with pytest.raises(MeasurementFailed, match="governor: performance -> powersave"):
        sampled(arm_bundle, monkeypatch, board)
    assert board.reversed == [False, True]
    (process,) = sampled(arm_bundle, monkeypatch, Told(turns()))
    assert process.turn_log_ratios(0, 1) == pytest.approx([0.6931] * 5, abs=1e-3)
    assert process.fingerprint.libraries == {"r": "2"}
    assert process.fingerprint.clock_limit_mhz == 2400.0
    assert process.strain.temperature_c == 50.0


def test_twice_as_slow_as_its_baseline_fails(arm_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Told(*[turns()] * 6)
    monkeypatch.setattr(there, "on_device", lambda *_: board)
    measure = there.on_board(Contestants((arm_bundle, arm_bundle)), "ssh://x@y")
    (finding,) = judge(Limits((("max_slowdown", 0.5),)), Sampler(measure, 600.0)).findings
    assert finding.verdict is Verdict.FAIL
    assert finding.value == pytest.approx(1.0)
    assert not board.answers  # the least that are measured


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (turns(held=("under-voltage", "throttled")), "holds its clock down: under-voltage, throttled"),
        (turns(clock_throttled=2), "throttled its clock 2 times"),
        (turns(steal=0.2), "hypervisor took 20.0 %"),
        (turns(clock_mhz=1200.0), "clock changed from 1500 to 1200 MHz"),
        (EdgecError("connection-lost", "the line broke", "try again"), "the line broke"),
    ],
)
def test_what_disturbs_it_fails_the_measurement(
    answer: DeviceTurns | EdgecError, words: str, arm_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MeasurementFailed, match=words):
        sampled(arm_bundle, monkeypatch, Told(turns(), answer))


def test_a_board_that_refuses_is_the_users_error(arm_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with refused("missing-remote-runtime"):
        sampled(arm_bundle, monkeypatch, Told(EdgecError("missing-remote-runtime", "no numpy", "install it")))


def test_answers_that_are_no_times(board: Board, network: Network) -> None:
    """Whatever a board prints, it becomes no latency."""
    board_ = {"model": "m", "machine": "a", "num_cores": 1, "kernel": "k", "governor": None, "python": "3"}
    after = {"clock_mhz": None, "temperature_c": None, "throttled": None}
    calm = {"num_warmup": [1], "cores": [0], "steady": True, "involuntary_switches": 0, "steal": 0}
    calm |= {"clock_throttled": 0, "clock_limit_mhz": None}

    def answer(blocks: object) -> str:
        told = {"board": {**board_, "runtime": "r 1"}, "after": after, "turns": {**calm, "blocks_ms": blocks}}
        return f"echo '{json.dumps(told)}'"

    lies: list[object] = [
        [],
        [[]],
        [[[]]],
        [[[1.0]]],
        [[[1.0], [0.0]]],
        [[[1.0], [-1.0]]],
        [[[1.0], [1.0]]] * 2,
        "x",
        [[1]],
        [[[1.0], [1.0, 2.0]]],
    ]
    for blocks in lies:
        board.install("liar", answer(blocks))
        with refused("remote-failed"):
            time_turns(board.device("liar"), [network.path])
    board.install("liar", answer([[[1.0], [2.0]]]))
    assert time_turns(board.device("liar"), [network.path]).device == "m, 1 cores"


# ---- one protocol


def test_boards_and_this_machine_take_the_same_turns() -> None:
    for name in ("BLOCK_MS", "MIN_BLOCK_CALLS", "MIN_TURNS", "WARM_UP_S"):
        assert getattr(board_runner, name) == getattr(worker, name)
    for contestants in range(1, 6):
        for turn in range(7):
            assert board_runner.turn_order(contestants, turn) == worker.turn_order(contestants, turn)


def test_a_board_pins_itself_and_reads_what_was_stolen(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[list[int]] = []
    monkeypatch.setattr(board_runner.os, "sched_getaffinity", lambda _: set(pinned[-1]) if pinned else {0, 1, 2, 3})
    monkeypatch.setattr(board_runner.os, "sched_setaffinity", lambda _, cores: pinned.append(list(cores)))
    assert board_runner.pin(2) == [2, 3]
    stat = "cpu  9 9 9 9 9 9 9 900 0 0\ncpu2 1 2 3 4 5 6 7 80 0 0\ncpu3 1 2 3 4 5 6 7 20 0 0\nintr 5"
    monkeypatch.setattr(board_runner, "read_text", lambda path: stat if path == "/proc/stat" else None)
    ticks = board_runner.os.sysconf("SC_CLK_TCK")
    assert board_runner.steal_s([2, 3]) == pytest.approx(100 / ticks)
    assert board_runner.clock_throttled([2, 3]) == 0
