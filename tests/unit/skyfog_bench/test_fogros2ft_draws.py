"""Episodes, paired draws and bills of `skyfog bench fogros2ft`."""

from __future__ import annotations

import pytest

from skyfog_bench.fogros2ft.conditions import (
    ALWAYS_BAD,
    ALWAYS_GOOD,
    BOTH,
    CONTENTION,
    GOOD_PATH,
    NETWORK,
    SLOW_PATH,
    Episodes,
    Weather,
    draw_episodes,
    draw_weather,
)
from skyfog_bench.fogros2ft.draws import MOST_REPLICAS, Recording, World, draw_world
from skyfog_bench.fogros2ft.prices import MACHINE, PRICES, reserved_usd, used_usd
from skyfog_bench.fogros2ft.record import slowdowns
from skyfog_core.rng import stream
from skyfog_core.units import MS, S

RUNS = tuple(tuple(100.0 * query + run for run in range(5)) for query in (1, 2))
RECORDING = Recording("detection", RUNS, (4.0, 5.0), request_bytes=50_000, reply_bytes=500, can_stop=False)


def world(seed: int = 0, requests: int = 50) -> World:
    return draw_world(RECORDING, BOTH, requests, 1.0, seed)


def test_an_episode_ends_where_the_next_begins() -> None:
    episodes = Episodes((10, 20, 40), bad_at_first=False)
    assert [episodes.bad(at) for at in (0, 9, 10, 19, 20, 39, 40)] == [False, False, True, True, False, False, True]
    assert episodes.bad_share(40) == 0.25
    assert (ALWAYS_GOOD.bad(10**15), ALWAYS_BAD.bad(10**15)) == (False, True)


def test_episodes_are_as_long_and_as_common_as_they_are_said_to_be() -> None:
    until_ns = 200_000 * S
    episodes = draw_episodes(stream(1, "episodes"), until_ns, good_s=45.0, bad_s=5.0)
    assert episodes.bad_share(until_ns) == pytest.approx(0.1, rel=0.1)
    assert len(episodes.switches_ns) == pytest.approx(2 * 200_000 / 50, rel=0.1)
    assert list(episodes.switches_ns) == sorted(episodes.switches_ns)


def test_a_condition_has_its_own_troubles_and_no_other() -> None:
    until_ns = 1_000 * S
    network, contention, both = (draw_weather(0, 2, c, until_ns) for c in (NETWORK, CONTENTION, BOTH))
    assert network.contention == contention.network == ALWAYS_GOOD
    assert (both.network, both.contention) == (network.network, contention.contention)
    assert both.network != both.contention
    assert draw_weather(0, 1, BOTH, until_ns) != both != draw_weather(1, 2, BOTH, until_ns)


def test_a_slow_path_carries_a_message_as_its_rate_and_delay_say() -> None:
    size = 100_000
    assert Weather().way_ns(size, 0) == GOOD_PATH.way_ns(size) == 16 * MS + round(8 * size / 13.4e6 * S)
    assert Weather(network=ALWAYS_BAD).way_ns(size, 0) == SLOW_PATH.way_ns(size) > 4 * GOOD_PATH.way_ns(size)


def test_one_seed_one_world() -> None:
    assert world(3) == world(3) != world(4)


def test_a_request_is_one_query_at_all_replicas_and_another_run_at_each() -> None:
    for runs in world().quiet_ns:
        assert len(runs) == MOST_REPLICAS == len(set(runs))
        assert len({ns // (100 * MS) for ns in runs}) == 1
    with pytest.raises(ValueError, match="fewer than 4 runs"):
        draw_world(Recording("detection", ((1.0, 2.0, 3.0),), (1.0,), 0, 0, can_stop=False), BOTH, 1, 1.0, 0)


def test_contention_is_a_recorded_slowdown_of_the_same_run() -> None:
    for quiet, contended in zip(world().quiet_ns, world().contended_ns, strict=True):
        for one, other in zip(quiet, contended, strict=True):
            assert other / one in {4.0, 5.0}


def test_the_limit_is_the_least_over_the_replicas_and_falls_with_each_more() -> None:
    drawn = world()
    for request in range(len(drawn.calls_ns)):
        latencies = [drawn.latency_ns(request, replica) for replica in range(MOST_REPLICAS)]
        assert [drawn.least_ns(request, n) for n in (1, 2, 3, 4)] == [min(latencies[:n]) for n in (1, 2, 3, 4)]
        assert all(ns > RECORDING.quiet_ms[0][0] * MS for ns in latencies)


def test_a_slowdown_pairs_a_run_with_itself() -> None:
    assert slowdowns([[10.0, 20.0], [40.0, 1.0]], [[30.0], [160.0]]) == (3.0, 4.0)


def test_bills() -> None:
    assert reserved_usd(2, usd_per_hour=3.6, seconds_a_request=0.5) == pytest.approx(1.0)
    assert used_usd(usd_per_hour=3.6, busy_s_a_request=0.25) == pytest.approx(0.25)
    assert MACHINE in PRICES
    for price in PRICES.values():
        assert price.on_demand > price.spot > 0
        assert "2022-05-31" in price.on_demand_source
        assert "2022-05-31" in price.spot_source
