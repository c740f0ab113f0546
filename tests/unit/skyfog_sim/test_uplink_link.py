"""The bottleneck on courses that are known, and the readers of traces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skyfog_core.units import MS, S
from skyfog_sim.uplink_link import (
    Bottleneck,
    CourseError,
    Downlink,
    RttModel,
    fixed_rtt,
    of_function,
    of_rates,
    of_times,
    read_course,
)


def test_an_opportunity_without_a_message_is_lost_and_a_queue_uses_all() -> None:
    link = Bottleneck(of_times("t", [10, 20, 30, 100]), fixed_rtt(0))
    assert link.carry(1500, 11 * MS) == 20 * MS
    assert link.carry(700, 11 * MS) == 30 * MS
    assert link.carry(800, 11 * MS) == 30 * MS  # shares it
    assert link.carry(1, 11 * MS) == 100 * MS
    assert link.carry(1500, 101 * MS) == 110 * MS  # the course begins again; what was left at 100 ms is lost


def test_half_the_round_trip_is_added_and_order_is_kept() -> None:
    rtt = fixed_rtt(50)
    link, back = Bottleneck(of_rates("r", [8e6]), rtt), Downlink(rtt)
    assert link.carry(1_000, 0) == 25 * MS
    link.late_ns = 100 * MS
    assert link.carry(1_000, 0) == 126 * MS
    link.late_ns = 0
    assert link.carry(1_000, 0) == 126 * MS  # does not overtake
    assert back.carry(S) == S + 25 * MS


def test_full_buffer_loses_and_a_broken_session_forgets() -> None:
    link = Bottleneck(of_rates("r", [8e6]), fixed_rtt(0), buffer_bytes=10_000)
    assert link.carry(9_000, 0) == 8 * MS
    assert link.carry(9_000, 0) is None
    assert (link.lost, link.queued_bytes(0)) == (1, 9_000)
    link.forget(0)
    assert link.carry(9_000, 0) == 8 * MS


def test_rates_are_carried_out_exactly() -> None:
    course = of_rates("r", [1e6, 3e6], step_ms=500)
    assert course.mean_bps == pytest.approx(2e6)
    assert course.bps(0, 500 * MS) == pytest.approx(1e6)
    assert course.rates_bps(500) == pytest.approx([1e6, 3e6])
    ramp = of_function("f", lambda t: 1e6 * t, 2.0)
    assert ramp.bps(S, 2 * S) == pytest.approx(1.5e6, rel=0.01)


def test_outages_can_be_put_in() -> None:
    course = of_rates("r", [8e6]).without([(S, 2 * S)], 3 * S)
    assert course.bps(S, 2 * S) == 0
    assert Bottleneck(course, fixed_rtt(0)).carry(1_000, 1_500 * MS) == 2 * S


def test_rtt_keeps_the_quantiles_it_is_given_and_comes_in_spells() -> None:
    rtts = RttModel(20, 32, 109).draw(7_200 * S, seed=3).rtts_ms
    assert np.quantile(rtts, [0.5, 0.99]) == pytest.approx([32, 109], rel=0.08)
    assert rtts.min() > 20
    assert np.corrcoef(rtts[:-1], rtts[1:])[0, 1] > 0.8


@pytest.mark.parametrize("text", ["", "3\n2\n", "-1\n", "a\n", "1e3\n", "9" * 30])
def test_rubbish_is_refused_with_the_name_of_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.up"
    path.write_text(text)
    with pytest.raises(CourseError, match=r"bad\.up"):
        read_course(path)


def test_no_capacity_is_refused() -> None:
    with pytest.raises(CourseError):
        of_rates("none", [0.0])
    with pytest.raises(CourseError):
        read_course(Path("/nonexistent/x.up"))
