"""Time-out and retry over several ROS 2 servers."""

from __future__ import annotations

import pytest

from skyfog_bench.baselines.timeout_retry import TimeoutRetry

TRY = 100


def test_a_silent_server_costs_a_time_out_and_the_next_is_asked() -> None:
    retry = TimeoutRetry(servers=3, try_ns=TRY, max_tries=3)
    assert retry.on_call(1, 0) == 0
    assert retry.on_timer(TRY - 1) == []
    assert retry.on_timer(TRY) == [(1, 1)]
    assert retry.on_answer(1, 1)
    assert retry.on_call(2, 150) == 1  # a dead server costs one time-out, not one a call


def test_a_late_answer_of_an_earlier_try_counts_once() -> None:
    retry = TimeoutRetry(servers=2, try_ns=TRY, max_tries=3)
    retry.on_call(1, 0)
    retry.on_timer(TRY)
    assert retry.on_answer(1, 0)
    assert not retry.on_answer(1, 1)
    assert retry.on_call(2, 200) == 0
    assert retry.next_timer_ns() == 200 + TRY


def test_calls_that_wait_for_the_same_dead_server_move_on_together() -> None:
    retry = TimeoutRetry(servers=3, try_ns=TRY, max_tries=3)
    retry.on_call(1, 0)
    retry.on_call(2, 10)
    assert retry.on_timer(TRY + 10) == [(1, 1), (2, 1)]
    assert retry.on_call(3, 200) == 1


def test_after_the_last_try_it_is_given_up() -> None:
    retry = TimeoutRetry(servers=2, try_ns=TRY, max_tries=2)
    retry.on_call(1, 0)
    assert retry.on_timer(TRY) == [(1, 1)]
    assert retry.on_timer(2 * TRY) == [(1, None)]
    assert not retry.on_answer(1, 1)
    assert retry.next_timer_ns() is None


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        TimeoutRetry(servers=0, try_ns=TRY, max_tries=1)
