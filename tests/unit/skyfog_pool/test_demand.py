"""How many replicas a load needs, and when that is followed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from skyfog_core.config.pool import ReplicaPolicyConfig
from skyfog_core.units import S
from skyfog_pool.lifecycle import State
from skyfog_pool.policy.demand import Demand
from skyfog_pool.policy.hysteresis import Hysteresis
from skyfog_pool.policy.view import Load, Replica


def demand(**config: Any) -> Demand:
    defaults = {"min_replicas": 1, "max_replicas": 10, "upscale_delay_seconds": 0, "downscale_delay_seconds": 0}
    return Demand(ReplicaPolicyConfig(**(defaults | config)))


def ready(count: int) -> list[Replica]:
    return [Replica(i, "a", "spot", 1, State.READY, 0, 0) for i in range(count)]


def load(**values: Any) -> Load:
    return Load(60 * S, **values)


@pytest.mark.parametrize(("requests", "wanted"), [(0, 1), (60, 1), (121, 2), (600, 5), (6_000, 10)])
def test_by_request_rate(requests: int, wanted: int) -> None:
    assert demand(target_qps_per_replica=2.0).target(load(requests=requests), [], 0) == wanted


def test_of_several_kinds_of_machines_the_weakest_must_do() -> None:
    assert demand(target_qps_per_replica={"L4": 1.0, "A100": 5.0}).target(load(requests=240), [], 0) == 4


def test_by_queue_and_the_largest_wish_counts() -> None:
    scaling = demand(target_qps_per_replica=1.0, target_queue_per_replica=4)
    assert scaling.target(load(requests=60, queued=13), [], 0) == 4
    assert scaling.target(load(requests=420, queued=13), [], 1) == 7


def test_without_reports_the_target_stays() -> None:
    scaling = demand(target_qps_per_replica=1.0)
    scaling.target(load(requests=240), [], 0)
    assert scaling.target(None, [], 10**15) == 4


def test_a_missed_objective_raises_in_proportion_but_not_before_the_last_step_is_ready() -> None:
    scaling = demand(slo_ms=100, min_replicas=4, max_replicas=20)
    late = load(requests=600, p99_ms=150.0, over_slo=0.05)
    assert scaling.target(late, ready(4), 0) == 6
    assert scaling.target(late, ready(4), 1) == 6
    assert scaling.target(late, ready(6), 2) == 9
    much = load(requests=600, p99_ms=5_000.0, over_slo=0.9)
    assert scaling.target(much, ready(9), 3) == 18, "never more than twice as many at once"


def test_a_met_objective_lowers_only_as_far_as_the_model_allows() -> None:
    scaling = demand(slo_ms=100, min_replicas=1, max_replicas=20)
    scaling.target(load(requests=600, p99_ms=190.0), ready(1), 0)
    scaling.target(load(requests=600, p99_ms=190.0), ready(2), 1)
    scaling.target(load(requests=600, p99_ms=190.0), ready(4), 2)
    fine = load(requests=600, p99_ms=80.0, over_slo=0.001)
    assert scaling.target(fine, ready(8), 3) == 8, "no service time is told: nothing is known of fewer"
    # 10 a second of 200 ms: two replicas are busy all the time; 0.7 of 3 are 2.1.
    assert scaling.target(load(requests=600, p99_ms=210.0, service_ms=200.0), ready(8), 4) > 8
    scaling = demand(slo_ms=400, min_replicas=1, max_replicas=20, target_queue_per_replica=1)
    scaling.target(load(requests=600, queued=8), ready(1), 0)
    assert scaling.target(load(requests=600, p99_ms=210.0, service_ms=200.0), ready(8), 1) == 3
    assert scaling.target(load(requests=600, p99_ms=390.0, service_ms=200.0), ready(3), 2) == 3


def test_to_zero_and_at_once_back() -> None:
    scaling = demand(min_replicas=0, target_qps_per_replica=1.0, upscale_delay_seconds=300, downscale_delay_seconds=60)
    assert scaling.target(load(requests=0), [], 0) == 0
    assert scaling.target(load(requests=90), [], 1) == 2, "somebody waits: no delay"
    assert scaling.target(load(requests=0), [], 2) == 2
    assert scaling.target(load(requests=0), [], 30 * S) == 2
    assert scaling.target(load(requests=0), [], 90 * S) == 0


def test_new_bounds_hold_at_once() -> None:
    scaling = demand(target_qps_per_replica=1.0)
    scaling.target(load(requests=480), [], 0)
    scaling.reconfigure(ReplicaPolicyConfig(min_replicas=1, max_replicas=3, target_qps_per_replica=1.0))
    assert scaling.target(None, [], 1) == 3


def test_wishes_under_older_bounds_do_not_lower_the_target_below_newer_ones() -> None:
    scaling = demand(target_qps_per_replica=1.0, min_replicas=1, downscale_delay_seconds=100)
    for at_s in range(0, 300, 50):
        scaling.target(load(requests=0), [], at_s * S)
    scaling.reconfigure(ReplicaPolicyConfig(min_replicas=3, max_replicas=9, target_qps_per_replica=1.0))
    assert scaling.target(load(requests=0), [], 300 * S) == 3


def follow(hysteresis: Hysteresis, wishes: list[tuple[float, int]]) -> list[int]:
    """Wishes by second, to targets."""
    return [hysteresis.follow(wish, round(at_s * S)) for at_s, wish in wishes]


def test_a_wish_must_hold_for_its_delay() -> None:
    assert follow(Hysteresis(2, 300 * S, 1_200 * S), [(0, 5), (150, 5), (299, 5), (300, 5)]) == [2, 2, 2, 5]
    assert follow(Hysteresis(5, 300 * S, 1_200 * S), [(0, 2), (600, 2), (1_199, 2), (1_200, 2)]) == [5, 5, 5, 2]


def test_one_sample_off_does_not_begin_anew() -> None:
    wishes = [(at, 2 if at == 150 else 5) for at in range(0, 301, 10)]
    assert follow(Hysteresis(2, 300 * S, 1_200 * S), wishes)[-1] == 5


def test_a_load_that_is_high_half_of_the_time_raises_nothing() -> None:
    wishes = [(at, 5 if at // 60 % 2 else 2) for at in range(0, 1_200, 10)]
    assert set(follow(Hysteresis(2, 300 * S, 1_200 * S), wishes)) == {2}


def test_of_wishes_that_differ_the_one_that_nearly_all_reach_counts() -> None:
    wishes = [(at, 9 if at % 20 else 4) for at in range(0, 301, 10)]
    assert follow(Hysteresis(2, 300 * S, 1_200 * S), wishes)[-1] == 4


def test_a_change_begins_the_windows_anew() -> None:
    hysteresis = Hysteresis(3, 10 * S, 100 * S)
    follow(hysteresis, [(at, 3) for at in range(0, 200, 10)])
    assert follow(hysteresis, [(200, 6), (210, 6), (220, 6), (230, 6)]) == [3, 6, 6, 6], (
        "low wishes of before do not count"
    )


def test_the_timer_rings_when_a_wish_has_held() -> None:
    hysteresis = Hysteresis(2, 300 * S, 1_200 * S)
    hysteresis.follow(5, 7 * S)
    assert hysteresis.next_timer_ns() == 307 * S
    assert hysteresis.follow(5, 307 * S) == 5
    assert hysteresis.next_timer_ns() is None


def test_a_restart_forgets_no_wish() -> None:
    hysteresis = Hysteresis(2, 300 * S, 1_200 * S)
    hysteresis.follow(5, 1_000 * S)
    state = json.loads(json.dumps(hysteresis.snapshot(1_200 * S)))
    other = Hysteresis(1, 300 * S, 1_200 * S)
    other.restore(state, 0)
    assert other.follow(5, 99 * S) == 2
    assert other.follow(5, 100 * S) == 5
