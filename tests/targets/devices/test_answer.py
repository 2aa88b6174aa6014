"""What a board prints: bounded, printable, and checked before it is read."""

from __future__ import annotations

import json
import resource
from typing import Any

import pytest
from boards import refused
from hypothesis import given
from hypothesis import strategies as st

from edgec.pipeline.core.errors import EdgecError, printable
from edgec.targets.devices.answer import KEPT_COMPLAINT_BYTES, MAX_LINE_BYTES, Transcript
from edgec.targets.tflite.inference import RUNNER, describe, measure_latency

BOARD = {"model": "x", "machine": "m", "num_cores": 1, "kernel": "k", "governor": None, "python": "3", "runtime": None}
STATE = {"clock_mhz": None, "temperature_c": None, "throttled": None}
TIMES = {"board": BOARD, "before": STATE, "after": STATE, "samples_ms": [1.0, 2.0, 3.0], "num_warmup": 1}


class Says:
    """A device whose scripts answer what it was told."""

    name = "ssh://board"

    def __init__(self, answer: object) -> None:
        self._line = json.dumps(answer).encode() + b"\n"

    def push(self, path: object, progress: object = None) -> str:
        return "/home/x"

    def run(self, script: object, arguments: object, timeout_s: float, progress: object = None) -> dict[str, Any]:
        assert script == RUNNER
        transcript = Transcript(self.name)
        transcript.feed(self._line)
        return transcript.answer(0)


def test_a_good_answer_in_any_pieces() -> None:
    line = b'chatter\n{"done": 1, "total": 2}\n' + json.dumps(TIMES).encode()
    for size in (1, 7, len(line)):
        seen: list[tuple[int, int]] = []
        transcript = Transcript("x", lambda *step, seen=seen: seen.append(step))  # type: ignore[misc]
        for at in range(0, len(line), size):
            transcript.feed(line[at : at + size])
        assert transcript.answer(0) == TIMES
        assert seen == [(1, 2)]


@given(
    st.lists(
        st.binary(max_size=60) | st.sampled_from([b"\n", b"{}", b"[" * 9999, b"9" * 6000, b"NaN", b'{"a": 1e999}'])
    )
)
def test_any_bytes(pieces: list[bytes]) -> None:
    transcript, refusals = Transcript("x", lambda *step: None), []
    try:
        for piece in pieces:
            transcript.feed(piece)
            transcript.complain(piece)
        transcript.answer(0)
    except EdgecError as error:
        refusals.append(error)
    assert all(error.code == "remote-failed" for error in refusals)
    assert not any(c < " " and c not in "\n\t" for error in refusals for c in error.message)


def test_endless_output_takes_no_memory() -> None:
    transcript, piece = Transcript("x"), b"x" * (1 << 16)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(4096):
        transcript.complain(piece)
        transcript.feed(piece[:-1] + b"\n")
    assert len(transcript._complaint) == KEPT_COMPLAINT_BYTES
    with refused("remote-failed"):
        for _ in range(2 * MAX_LINE_BYTES // len(piece)):
            transcript.feed(piece)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # kB


def test_terminals_are_not_commanded() -> None:
    assert printable("a\x1b[31mb\x07\r\x9bc\nd\té") == "a\ufffd[31mb\ufffd\ufffd\ufffdc\nd\té"
    board, _ = describe(Says({"board": BOARD | {"model": "\x1b[31m\x00"}, "state": STATE}))
    assert board.model == "\ufffd[31m\ufffd"


@pytest.mark.parametrize("name", sorted(TIMES.keys() - {"samples_ms", "num_warmup"}))
@pytest.mark.parametrize("value", [None, 5, [], {}, "x"])
def test_fields_of_another_shape(name: str, value: object, tmp_path: Any) -> None:
    with refused("remote-failed") as caught:
        measure_latency(Says(TIMES | {name: value}), tmp_path)
    assert name in caught.value.message


@pytest.mark.parametrize("samples", [[], [0.0], [-1.0], ["x"], {}, None, 7])
def test_times_that_are_none(samples: object, tmp_path: Any) -> None:
    with refused("remote-failed"):
        measure_latency(Says(TIMES | {"samples_ms": samples}), tmp_path)


@pytest.mark.parametrize("answer", [{"a": 1}, {"board": [], "state": []}, {"board": BOARD, "state": {}}, {"error": []}])
def test_no_facts(answer: object) -> None:
    with refused("remote-failed"):
        describe(Says(answer))
