"""Replicas of a language model in simulated time: the schedulers that serve, on machines out of data sheets."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from skyfog_inference.scheduler.base import Scheduler
from skyfog_sim.inference.machines import G4DN, G5, H100, Setting
from skyfog_sim.inference.serving import Ask, History, at_once, poisson, serve

SMALL = replace(G5["16xlarge"], device_blocks=200, swap_bytes=20e9, batched_tokens=2_048, sequences=64)


def asks_of(seed: int, count: int = 40) -> list[Ask]:
    return at_once(random.Random(seed), count, 300, 30)


def both(setting: Setting, asks: list[Ask]) -> tuple[History, History]:
    return serve(setting.alone(), setting.cost, asks), serve(setting.neo(), setting.cost, asks)


@pytest.mark.parametrize("seed", range(3))
def test_everyone_gets_what_was_asked_for_and_the_books_balance(seed: int) -> None:
    asks = poisson(random.Random(seed), 40, per_s=5, prompt=300, output=30, spread=0.5)
    for history in both(SMALL, asks):
        assert sorted(one.ask.at_ns for one in history.served) == sorted(ask.at_ns for ask in asks)
        assert history.tokens == sum(ask.output for ask in asks)
        assert all(one.ask.at_ns < one.first_ns <= one.end_ns for one in history.served)


def test_one_seed_gives_one_history() -> None:
    assert serve(SMALL.neo(), SMALL.cost, asks_of(1)) == serve(SMALL.neo(), SMALL.cost, asks_of(1))


def test_where_memory_is_short_the_host_helps() -> None:
    alone, neo = both(G4DN, at_once(random.Random(0), 40, 300, 60))
    assert neo.throughput() > 2 * alone.throughput()
    assert neo.host_tokens > 0.5 * neo.tokens


def test_a_host_that_is_too_slow_is_hardly_used() -> None:
    machine = SMALL.machine
    slow = replace(SMALL, machine=replace(machine, host=replace(machine.host, bandwidth=0.1e9)))
    fast, useless = (serve(setting.neo(), setting.cost, asks_of(2)) for setting in (SMALL, slow))
    assert useless.host_tokens < fast.host_tokens


def test_sizes_are_the_published_ones() -> None:
    assert (G4DN.device_blocks, G4DN.batched_tokens, G4DN.host_blocks) == (54, 832, 2_384)
    assert (G5["16xlarge"].device_blocks, G5["16xlarge"].batched_tokens) == (1_650, 20_480)
    bandwidths = [setting.machine.host.bandwidth for setting in G5.values()]
    assert bandwidths == [47e9, 47e9, 94e9, 188e9]
    assert H100.devices == 2


def test_a_scheduler_that_stalls_is_noticed() -> None:
    class Stalled:
        def __init__(self, inner: Scheduler) -> None:
            self._inner = inner
            self.add, self.has_work, self.check = inner.add, inner.has_work, inner.check

        def schedule(self, now_ns: int) -> None:
            return None

    with pytest.raises(AssertionError, match="nothing can be done"):
        serve(Stalled(SMALL.alone()), SMALL.cost, asks_of(0, 1))  # type: ignore[arg-type]
