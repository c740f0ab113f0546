"""Requests through replicas that come and go: small cases by hand, and how requests are drawn."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import pytest

from skyfog_core.units import S
from skyfog_sim.machines import Served
from skyfog_sim.requests import Arrivals, Demand, Latencies, Pattern, arrivals, flow

ONE_AT_ONCE = Demand(concurrency=1, deadline_s=100.0)
DAY = 86_400 * S


def served(replica: int, start: float, end: float, abrupt: bool = False) -> Served:
    return Served(replica, "za", "spot", round(start * S), round(end * S), abrupt)


def took(at: list[float], runs: list[float], spans: list[Served], demand: Demand = ONE_AT_ONCE) -> Latencies:
    return flow(Arrivals(demand, at, runs), spans)


def test_who_finds_a_free_replica_takes_as_long_as_it_runs() -> None:
    found = took([0.0, 0.0], [5.0, 7.0], [served(1, 0, 100), served(2, 0, 100)])
    assert (found.p50_s, found.p99_s, found.failed, found.retried) == (7.0, 7.0, 0, 0)


def test_who_finds_none_waits_its_turn() -> None:
    found = took([0.0, 1.0, 2.0], [10.0, 10.0, 10.0], [served(1, 0, 100)])
    assert (found.p50_s, found.p99_s) == (19.0, 28.0)  # 10 - 0, 20 - 1, 30 - 2


def test_a_replica_runs_several_at_once() -> None:
    found = took([0.0, 0.0, 0.0], [10.0] * 3, [served(1, 0, 100)], replace(ONE_AT_ONCE, concurrency=2))
    assert (found.p50_s, found.p99_s) == (10.0, 20.0)


def test_what_runs_on_a_lost_machine_begins_again_before_those_that_wait() -> None:
    spans = [served(1, 0, 5, abrupt=True), served(2, 8, 100)]
    found = took([0.0, 1.0], [10.0, 10.0], spans)
    assert found.retried == 1
    assert (found.p50_s, found.p99_s) == (27.0, 27.0)  # the first ends at 18, the second at 28
    assert found.failed == 0


def test_what_runs_on_a_replica_that_drains_ends_there() -> None:
    found = took([0.0, 1.0], [10.0, 10.0], [served(1, 0, 5), served(2, 8, 100)])
    assert found.retried == 0
    assert (found.p50_s, found.p99_s) == (17.0, 17.0)  # 10; 18 - 1


def test_a_request_is_cancelled_at_its_deadline_and_its_place_is_free_again() -> None:
    demand = replace(ONE_AT_ONCE, deadline_s=20.0)
    found = took([0.0, 5.0], [50.0, 4.0], [served(1, 0, 100)], demand)
    assert found.failed == 1
    assert found.p50_s == 20.0
    assert found.requests == 2  # 20 (cancelled), and 24 - 5


def test_a_request_that_is_cancelled_has_failed_whenever_it_came() -> None:
    at = [i * 1_000.1 for i in range(1, 100)]  # the sum of such a time and the deadline is rounded
    assert took(at, [1_000.0] * 99, [served(1, 0, 2_000_000)]).failed == 99


def test_with_no_replica_everything_fails() -> None:
    found = took([0.0, 50.0], [1.0, 1.0], [])
    assert (found.requests, found.failed, found.p50_s) == (2, 2, 100.0)


def test_requests_before_the_first_start_are_left_out() -> None:
    requests = Arrivals(ONE_AT_ONCE, [1.0, 20.0], [1.0, 1.0])
    assert flow(requests, [served(1, 10, 100)], from_ns=10 * S).requests == 1


def test_a_replica_that_served_for_no_time_at_all_is_no_replica() -> None:
    assert took([0.0], [1.0], [served(1, 5, 5), served(1, 5, 5)]).failed == 1


@pytest.mark.parametrize("pattern", ["poisson", "bursty", "diurnal"])
def test_every_pattern_has_the_mean_rate_and_the_mean_service(pattern: Pattern) -> None:
    found = arrivals(Demand(pattern), 10 * DAY, seed=1)
    assert len(found.at_s) / (10 * 86_400) == pytest.approx(Demand().rate, rel=0.03)
    assert fmean(found.runs_s) == pytest.approx(Demand().service_s, rel=0.02)
    assert list(found.at_s) == sorted(found.at_s)
    assert 0 <= found.at_s[0] < found.at_s[-1] < 10 * 86_400


def spread(pattern: Pattern, window_s: int) -> float:
    """Variance of the counts in a window to their mean; 1 for Poisson."""
    found = arrivals(Demand(pattern), 10 * DAY, seed=2)
    counts = [found.between(start * S, (start + window_s) * S) for start in range(0, 864_000, window_s)]
    mean = fmean(counts)
    return fmean((count - mean) ** 2 for count in counts) / mean


def test_bursts_come_in_minutes_and_days_in_hours() -> None:
    assert spread("poisson", 120) == pytest.approx(1.0, abs=0.1)
    assert spread("bursty", 120) > 3.0
    assert spread("diurnal", 3_600) > 100.0
    assert spread("poisson", 3_600) < 2.0


def test_one_seed_gives_the_same_requests() -> None:
    assert arrivals(Demand(), DAY, 4) == arrivals(Demand(), DAY, 4)
    assert arrivals(Demand(), DAY, 4) != arrivals(Demand(), DAY, 5)
