"""A restarted controller goes on from plain data; steady time has begun anew."""

from __future__ import annotations

import json
from math import inf

import pytest

from skyfog_core.units import S
from skyfog_pool.lifecycle import State
from skyfog_pool.policy.actions import Drain, Launch, Terminate
from skyfog_pool.policy.demand import Fixed
from skyfog_pool.policy.market import Notice, Prices
from skyfog_pool.policy.place import PLACEMENTS
from skyfog_pool.policy.pool import PoolPolicy
from skyfog_pool.policy.restart import UnknownFormat
from support.kind_cloud import PRICES, ZONES, KindCloud, launches


def restarted(cloud: KindCloud, now_ns: int, asleep_ns: int = 0) -> PoolPolicy:
    old = cloud.policy
    state = json.loads(json.dumps(old.snapshot(cloud.now_ns)))
    cloud.policy = PoolPolicy(old.config, ZONES, PLACEMENTS["spothedge"](ZONES), Fixed(old.target), version=old.version)
    cloud.policy.restore(state, now_ns, asleep_ns)
    cloud.now_ns = now_ns
    cloud.policy.check()
    if not asleep_ns:
        assert cloud.policy.snapshot(now_ns) == state
    return cloud.policy


def test_everything_is_as_before_though_time_begins_anew() -> None:
    cloud = KindCloud(target=3, drain_seconds=30)
    cloud.ready(seconds=1_000)
    cloud.do("on_notice", 1, Notice("interruption", cloud.now_ns + 120 * S))
    cloud.do("on_failed", 2, State.FAILED)
    cloud.wait(10)
    before = cloud.states()
    policy = restarted(cloud, 7 * S)
    assert cloud.states() == before
    assert policy.resume(cloud.now_ns) == [
        Drain(1, 20 * S, "decided before the restart"),
        Terminate(2, "decided before the restart"),
        Launch(4, *_of(policy, 4), 1, "decided before the restart"),
        Launch(5, *_of(policy, 5), 1, "decided before the restart"),
    ]
    assert Terminate(1, "its time to drain is over") in cloud.wait(21)
    cloud.do("on_terminated", 2)
    cloud.ready()
    assert sorted(cloud.states()) == [3, 4, 5]


def test_a_replica_that_serves_on_after_its_notice_is_drained_in_time_by_the_successor() -> None:
    cloud = KindCloud(target=2, drain_seconds=30, on_notice="serve")
    cloud.ready(seconds=1_000)
    cloud.do("on_notice", 1, Notice("interruption", cloud.now_ns + 120 * S))
    policy = restarted(cloud, 7 * S, asleep_ns=50 * S)
    assert cloud.states()[1] is State.READY
    assert not [action for action in policy.resume(cloud.now_ns) if action.replica == 1]
    assert not cloud.wait(39)
    assert cloud.wait(2) == [Drain(1, 30 * S, "the cloud takes its machine")]


def _of(policy: PoolPolicy, replica: int) -> tuple[str, str]:
    who = policy.replicas[replica]
    return who.zone, who.market


def test_back_off_and_the_memory_of_zones_survive() -> None:
    cloud = KindCloud(target=1, prices={"a": PRICES["a"], "b": Prices(inf, 1.0)})
    cloud.do("on_launch_failed", 1, "quota")
    policy = restarted(cloud, 0)
    assert launches(cloud.do("on_prices", {"a": PRICES["a"]})) == []
    assert policy.prices["b"].spot == inf
    assert launches(cloud.wait(301)) == [("a", "spot")]


def test_time_asleep_ages_what_was_and_is_paid_for() -> None:
    cloud = KindCloud(target=1)
    cloud.ready()
    restarted(cloud, 0, asleep_ns=3_600 * S)
    cloud.policy.settle(0)
    assert cloud.policy.ledger.books.total().usd == pytest.approx(0.30)
    cloud.policy.check()


def test_ids_are_never_used_twice() -> None:
    cloud = KindCloud(target=1)
    cloud.do("on_launch_failed", 1, "capacity")
    (second,) = cloud.policy.replicas
    cloud.do("on_launch_failed", second, "capacity")
    policy = restarted(cloud, 0)
    assert policy.ledger.next_replica > second


def test_a_snapshot_of_another_format_is_refused() -> None:
    cloud = KindCloud(target=1, prices=None)
    with pytest.raises(UnknownFormat, match="format 99"):
        cloud.policy.restore(cloud.policy.snapshot(0) | {"format": 99}, 0)
