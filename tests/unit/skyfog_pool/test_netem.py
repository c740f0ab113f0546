"""One direction of an emulated link."""

from __future__ import annotations

from typing import Any

import pytest

from skyfog_core.units import MS
from skyfog_pool.provider.netem.network import CUT, QUEUE_NS, Impairment, Link, address

SIZE = 1_500
NEVER, AVERAGE = 0.999, 0.0  # draws: of a packet that is not lost, and of one with the mean delay


def _link(**how: Any) -> Link:
    link = Link()
    link.impairment = Impairment(**how)
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
    link.impairment = CUT
    assert link.admit(SIZE, 0, NEVER, AVERAGE) is None
    link.impairment = Impairment()
    assert link.admit(SIZE, 9, NEVER, AVERAGE) == 9


def test_a_limited_rate_spaces_packets_and_drops_what_would_wait_too_long() -> None:
    link = _link(rate_mbit=12)  # 1,500 bytes a millisecond
    assert [link.admit(SIZE, 0, NEVER, AVERAGE) for _ in range(3)] == [1 * MS, 2 * MS, 3 * MS]
    assert link.admit(SIZE, 10 * MS, NEVER, AVERAGE) == 11 * MS  # idle since: no credit is saved up
    waiting = sum(link.admit(SIZE, 10 * MS, NEVER, AVERAGE) is not None for _ in range(1_000))
    assert waiting == QUEUE_NS // MS  # those behind the first
    assert link.dropped == 1_000 - waiting


@pytest.mark.parametrize("wrong", [{"delay_ms": -1}, {"loss": 1.5}, {"rate_mbit": -1}])
def test_an_impossible_impairment_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        Impairment(**wrong)  # type: ignore[arg-type]


def test_zones_have_addresses_in_their_order() -> None:
    assert [address(["robot", "a"], zone) for zone in ("robot", "a")] == ["198.18.0.1", "198.18.0.2"]
    assert address(["home", "a"], "a", subnet=7) == "198.18.7.2"
