"""When a replica is ready, and when it has failed."""

from __future__ import annotations

from skyfog_core.config.pool import ReadinessProbe
from skyfog_core.units import S
from skyfog_pool.lifecycle import State
from skyfog_pool.readiness import Readiness

PROBE = ReadinessProbe(initial_delay_seconds=100.0, consecutive_failure_threshold_timeout=30.0)


def starting(*, needs_token: bool = False) -> Readiness:
    return Readiness(PROBE, 0, 0, state=State.STARTING, needs_token=needs_token)


def test_ready_by_a_probe_and_not_ready_by_one() -> None:
    readiness = starting()
    assert readiness.verdict(1) is None
    readiness.on_probe(False, "refused", 1 * S)
    assert readiness.verdict(1 * S) is None  # not up yet is no news
    assert readiness.why == "refused"
    readiness.on_probe(True, "", 2 * S)
    assert readiness.verdict(2 * S) is State.READY
    readiness.on_probe(False, "HTTP 503", 3 * S)
    assert readiness.verdict(3 * S) is State.NOT_READY


def test_never_ready_in_time_fails_from_the_machines_start_on() -> None:
    readiness = starting()
    assert readiness.verdict(100 * S - 1) is None
    assert readiness.verdict(100 * S) is State.FAILED_INITIAL_DELAY


def test_silence_fails_after_the_threshold_and_any_answer_before_it_does_not() -> None:
    readiness = starting()
    readiness.on_probe(True, "", 10 * S)
    readiness.verdict(10 * S)
    readiness.on_probe(False, "", 20 * S)
    assert readiness.verdict(39 * S) is State.NOT_READY
    readiness.on_probe(True, "", 39 * S)
    assert readiness.verdict(39 * S) is State.READY
    readiness.on_probe(False, "", 41 * S)
    assert readiness.verdict(68 * S) is State.NOT_READY
    assert readiness.verdict(69 * S) is State.FAILED_PROBING


def test_a_token_is_needed_where_the_fleet_is_watched_and_its_loss_fails_nobody() -> None:
    readiness = starting(needs_token=True)
    readiness.on_probe(True, "", 1 * S)
    assert readiness.verdict(1 * S) is None
    assert readiness.why == "holds no liveliness token"
    readiness.on_token(True)
    assert readiness.verdict(2 * S) is State.READY
    readiness.on_token(False)
    assert readiness.verdict(1_000 * S) is State.NOT_READY


def test_after_a_restart_a_ready_replica_is_believed_for_a_while() -> None:
    readiness = Readiness(PROBE, -500 * S, 0, state=State.READY, needs_token=True, grace_ns=15 * S)
    assert readiness.verdict(14 * S) is None
    assert readiness.verdict(15 * S) is State.NOT_READY
    readiness.on_probe(True, "", 16 * S)
    readiness.on_token(True)
    assert readiness.verdict(16 * S) is State.READY
    gone = Readiness(PROBE, -500 * S, 0, state=State.READY, needs_token=True, grace_ns=15 * S)
    gone.on_token(True)
    gone.on_token(False)  # seen to be dropped: no more belief
    assert gone.verdict(1 * S) is State.NOT_READY


def test_a_restart_does_not_begin_the_initial_delay_anew() -> None:
    readiness = Readiness(PROBE, -90 * S, 0, state=State.STARTING, needs_token=False, grace_ns=15 * S)
    assert readiness.verdict(9 * S) is None
    assert readiness.verdict(10 * S) is State.FAILED_INITIAL_DELAY
