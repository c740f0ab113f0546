"""Pools whose target follows the load: diurnal requests, scaled by their rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from skyfog_bench.pool.markets import Course
from skyfog_bench.pool.play import CONTESTANTS, DRAIN_S, OURS, OURS_SERVES, PUBLISHED, PUBLISHED_SERVES
from skyfog_core.config.pool import ReplicaPolicyConfig
from skyfog_pool.policy.demand import Demand as DemandScaling
from skyfog_sim.pool_replay import PoolResult, PoolScenario, replay
from skyfog_sim.requests import Demand, arrivals

LEAST, MOST = 2, 12
QPS_PER_REPLICA = 0.14  # a replica that runs four requests of 20 s at once is then busy to 0.7
RATE = 0.8
WHO = ("on demand only", PUBLISHED, PUBLISHED_SERVES, OURS, OURS_SERVES)


def autoscaling_rows(courses: Iterable[Course], seed: int, say: Callable[[str], None]) -> list[Mapping[str, Any]]:
    """One line a market and policy."""
    rows = []
    for course in courses:
        requests = arrivals(replace(Demand("diurnal"), rate=RATE), course.market.length_ns, seed)
        scenario = PoolScenario(course.market, scaling=DemandScaling, requests=requests)
        for who in CONTESTANTS:
            if who.name not in WHO or who.placer is None:
                continue
            config = ReplicaPolicyConfig(
                min_replicas=LEAST,
                max_replicas=MOST,
                target_qps_per_replica=QPS_PER_REPLICA,
                num_overprovision=who.over,
                spot_placer=who.placer,
                on_notice=who.on_notice,
                drain_seconds=DRAIN_S,
            )
            result = replay(who.placer, replace(scenario, config=config), seed)
            say(f"{course.name}, autoscaling, {who.name}: {100 * result.at_target:.2f} % at target")
            rows.append(_row(course, who.name, result))
    return rows


def _row(course: Course, name: str, result: PoolResult) -> Mapping[str, Any]:
    ends = [*(sample.at_ns for sample in result.series[1:]), result.length_ns]
    weights = [end - sample.at_ns for sample, end in zip(result.series, ends, strict=True)]
    seen = result.latencies
    assert seen is not None
    targets = [sample.target for sample in result.series]
    mean_target = sum(target * weight for target, weight in zip(targets, weights, strict=True)) / result.length_ns
    return {
        "autoscaled": course.name,
        "policy": name,
        "target": f"{min(targets)} to {max(targets)}, mean {mean_target:.1f}",
        "percent_at_target": 100 * result.at_target,
        "cost_to_on_demand": result.relative_cost,
        "p50_s": seen.p50_s,
        "p90_s": seen.p90_s,
        "p99_s": seen.p99_s,
        "failed": seen.failed,
    }
