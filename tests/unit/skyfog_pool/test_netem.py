"""One direction of an emulated link."""

from __future__ import annotations

from typing import Any

import pytest

from skyfog_core.opportunities import Opportunities
from skyfog_core.units import MS
from skyfog_pool.provider.netem.link import Link
from skyfog_pool.provider.netem.network import CLEAR, CUT, Impairment, address

SIZE = 1_500
NEVER, AVERAGE = 0.999, 0.0  # draws: of a packet that is not lost, and of one with the mean delay


def _link(**how: Any) -> Link:
    link = Link()
    link.shape(Impairment(**how), None, 0)
    return link


def test_a_clear_link_passes_everything_on_at_once() -> None:
    assert Link().admit(SIZE, 5 * MS, chance=0.0, deviation=3.0) == 5 * MS


def test_a_delay_is_added_and_jitter_goes_both_ways_but_never_back_in_time() -> None:
    assert _link(delay_ms=200).admit(SIZE, 7, NEVER, AVERAGE) == 200 * MS + 7
    assert _link(delay_ms=20, jitter_ms=5).admit(SIZE, 0, NEVER, 1.0) == 25 * MS
    assert _link(delay_ms=20, jitter_ms=5).admit(SIZE, 0, NEVER, -9.0) == 0


def test_packets_keep_their_order_whatever_the_jitter() -> None:
    link = _link(delay_ms=20, jitter_ms=5)
    first = link.admit(SIZE, 0, NEVER, 2.0)
    assert link.admit(SIZE, 1, NEVER, -2.0) == first == 30 * MS


def test_loss_takes_the_share_that_it_says() -> None:
    link = _link(loss=0.05)
    assert link.admit(SIZE, 0, 0.049, AVERAGE) is None
    assert link.admit(SIZE, 0, 0.051, AVERAGE) == 0
    assert (link.carried, link.dropped) == (1, 1)


def test_a_cut_link_passes_nothing_on_and_a_healed_one_does() -> None:
    link = Link()
    link.shape(CUT, None, 0)
    assert link.admit(SIZE, 0, NEVER, AVERAGE) is None
    link.shape(CLEAR, None, 9)
    assert link.admit(SIZE, 9, NEVER, AVERAGE) == 9


def test_a_limited_rate_spaces_packets_and_drops_what_would_wait_too_long() -> None:
    link = _link(rate_mbit=12)  # 1,500 bytes a millisecond
    assert [link.admit(SIZE, 0, NEVER, AVERAGE) for _ in range(3)] == [1 * MS, 2 * MS, 3 * MS]
    assert link.admit(SIZE, 10 * MS, NEVER, AVERAGE) == 11 * MS  # idle since: no credit is saved up
    waiting = sum(link.admit(SIZE, 10 * MS, NEVER, AVERAGE) is not None for _ in range(1_000))
    assert waiting == CLEAR.queue_ms  # those behind the first
    assert link.dropped == 1_000 - waiting


TRACE = Opportunities([1 * MS, 2 * MS, 2 * MS, 10 * MS], 11 * MS)


def _traced(now_ns: int = 0, **how: Any) -> Link:
    link = Link()
    link.shape(Impairment(trace="a file", **how), TRACE, now_ns)
    return link


def _admit(link: Link, now_ns: int, size: int = SIZE) -> int | None:
    return link.admit(size, now_ns, NEVER, AVERAGE)


def test_packets_leave_at_the_opportunities_of_a_trace_which_repeats() -> None:
    link = _traced()
    assert [_admit(link, 0) for _ in range(6)] == [1 * MS, 2 * MS, 2 * MS, 10 * MS, 12 * MS, 13 * MS]


def test_an_opportunity_that_finds_nothing_to_carry_is_gone() -> None:
    link = _traced()
    assert _admit(link, 2 * MS) == 2 * MS
    assert _admit(link, 3 * MS) == 10 * MS


def test_small_packets_share_an_opportunity_and_large_ones_take_several() -> None:
    link = _traced()
    assert [_admit(link, 0, 500) for _ in range(4)] == [1 * MS, 1 * MS, 1 * MS, 2 * MS]
    assert _admit(link, 0, 1_001) == 2 * MS  # the rest of the second opportunity and one byte of the third
    assert _admit(link, 0, 1_500) == 10 * MS
    assert _admit(link, 0, 4_000) == 13 * MS  # three, in the next round
    assert (link.carried, link.carried_bytes) == (7, 8_501)


def test_delay_and_loss_come_on_top_of_a_trace() -> None:
    link = _traced(delay_ms=30, loss=0.5)
    assert link.admit(SIZE, 0, 0.4, AVERAGE) is None
    assert _admit(link, 0) == 31 * MS  # what was lost has used nothing


def test_a_trace_begins_when_it_is_told_to() -> None:
    assert _admit(_traced(now_ns=100 * MS), 100 * MS) == 101 * MS
    running = _traced(now_ns=100 * MS, trace_begins_ns=95 * MS)  # began 5 ms ago
    assert _admit(running, 100 * MS) == 105 * MS
    waiting = _traced(now_ns=100 * MS, trace_begins_ns=109 * MS)  # the end of the round before that
    assert [_admit(waiting, 100 * MS) for _ in range(3)] == [100 * MS, 100 * MS, 108 * MS]


def test_a_queue_is_bounded_in_time() -> None:
    link = _traced(queue_ms=5)
    assert [_admit(link, 0) for _ in range(5)] == [1 * MS, 2 * MS, 2 * MS, None, None]
    assert _admit(link, 0, 1) is None
    assert _admit(link, 5 * MS) == 10 * MS
    assert (link.carried, link.dropped) == (4, 3)


@pytest.mark.parametrize("how", [{"trace": "a file"}, {"rate_mbit": 12}])
def test_a_queue_is_bounded_in_bytes(how: dict[str, Any]) -> None:
    link = Link()
    link.shape(Impairment(queue_bytes=3_000, **how), TRACE if "trace" in how else None, 0)
    assert [_admit(link, 0) for _ in range(3)] == [1 * MS, 2 * MS, None]
    assert _admit(link, 1 * MS) is not None  # the first has left
    assert _admit(link, 1 * MS, 1) is None


def test_what_waits_leaves_as_foreseen_and_what_comes_after_a_change_leaves_after_it() -> None:
    link = _traced()
    assert [_admit(link, 0) for _ in range(3)][-1] == 2 * MS
    link.shape(Impairment(trace="a file", trace_begins_ns=-10 * MS), TRACE, 1 * MS)
    assert _admit(link, 1 * MS) == 2 * MS
    link.shape(Impairment(rate_mbit=12), None, 1 * MS)
    assert _admit(link, 1 * MS) == 3 * MS


@pytest.mark.parametrize("wrong", [{"delay_ms": -1}, {"loss": 1.5}, {"rate_mbit": -1}, {"queue_bytes": -1}])
def test_an_impossible_impairment_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        Impairment(**wrong)  # type: ignore[arg-type]


def test_a_link_has_a_rate_or_a_trace() -> None:
    with pytest.raises(ValueError, match="either"):
        Impairment(rate_mbit=1, trace="a file")


def test_zones_have_addresses_in_their_order() -> None:
    assert [address(["robot", "a"], zone) for zone in ("robot", "a")] == ["198.18.0.1", "198.18.0.2"]
    assert address(["home", "a"], "a", subnet=7) == "198.18.7.2"
