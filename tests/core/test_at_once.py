"""Work on several things at once: order, errors, and what is borrowed comes back."""

from __future__ import annotations

import os
import threading

import pytest

from edgec.pipeline.core.at_once import MOST_AT_ONCE, Crew, each_at_once, num_cores, side_by_side


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_results_are_in_order(at_once: int) -> None:
    assert each_at_once(lambda x: x * x, range(20), at_once) == [x * x for x in range(20)]
    assert each_at_once(lambda x: x, [], at_once) == []


def test_two_run_side_by_side() -> None:
    """Each waits for the other."""
    meeting = threading.Barrier(2, timeout=30)
    assert sorted(each_at_once(lambda _: meeting.wait(), [0, 1], 2)) == [0, 1]


def test_an_error_is_raised_and_nothing_waits_for_what_it_held() -> None:
    made: list[str] = []
    crew = Crew(lambda: made.append("made") or ["the only one"])  # type: ignore[func-returns-value]

    def work(number: int) -> int:
        with crew.one():
            if number == 1:
                raise ValueError(number)
            return number

    with pytest.raises(ValueError, match="1"):
        each_at_once(work, range(8), 3)
    with crew.one() as thing:
        assert thing == "the only one"
    assert made == ["made"], "once, whoever came first"


def test_cores_are_those_that_this_process_may_use() -> None:
    if not hasattr(os, "sched_getaffinity"):
        assert num_cores() == os.cpu_count()
        return
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert num_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(
    ("threads", "shared"),
    [(0, (1, 1)), (1, (1, 1)), (2, (2, 1)), (8, (8, 1)), (12, (6, 2)), (15, (7, 2)), (20, (6, 3)), (64, (8, 8))],
)
def test_threads_are_shared_by_a_bounded_number_of_images(threads: int, shared: tuple[int, int]) -> None:
    assert side_by_side(threads) == shared


@pytest.mark.parametrize("threads", range(1, 200))
def test_nearly_all_threads_are_used_and_none_twice(threads: int) -> None:
    at_once, each = side_by_side(threads)
    assert at_once <= MOST_AT_ONCE
    assert 0.8 * threads < at_once * each <= threads
