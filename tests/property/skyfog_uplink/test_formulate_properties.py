"""Probability of an answer in time: rises with the rate, reaches the target at the need, and is what chance gives."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skyfog_core.config.quantities import Quantiles
from skyfog_uplink.policy.formulate import STEPS, Formulation, needed_bps, on_time, rtt_distribution, staircase
from skyfog_uplink.policy.model import Distribution, Floor, Option, Service, Table, constant
from skyfog_uplink.policy.tables import spread


@st.composite
def amounts(draw: st.DrawFn, low: float, high: float) -> Distribution:
    first, *steps = draw(st.tuples(st.floats(low, high), *[st.floats(0, high - low)] * 2))
    p50, p90, p99 = np.cumsum([first, *steps]).tolist()
    if draw(st.booleans()):
        return constant(p50)
    return spread(Quantiles(p50=p50, p90=p90, p99=p99), least=low)


@st.composite
def options(draw: st.DrawFn) -> Option:
    size, pre, run = draw(amounts(1, 200_000)), draw(amounts(0, 30)), draw(amounts(0, 150))
    return Option("o", "m", draw(st.floats(0, 1)), size, pre, run)


@st.composite
def services(draw: st.DrawFn, most: int = 1) -> Service:
    count = draw(st.integers(1, most))
    chosen = tuple(replace(draw(options()), name=f"o{at}") for at in range(count))
    slo, target = draw(st.floats(20, 2_000)), draw(st.sampled_from([0.5, 0.9, 0.99, 0.999]))
    return Service("s", "/s", "a/srv/B", 10.0, slo, target, 1.0, Floor("f", 0.1, constant(1.0)), chosen)


rtts = st.lists(st.floats(0, 300), min_size=4, max_size=4).map(lambda values: tuple(sorted(values)))
rates = st.lists(st.floats(0, 1e9), min_size=2, max_size=20).map(sorted)


@given(service=services(), rtts_ms=rtts, rising=rates)
def test_more_rate_never_makes_it_less_likely(
    service: Service, rtts_ms: tuple[float, ...], rising: list[float]
) -> None:
    needs = Formulation(Table("t", "", (service,))).exactly(rtts_ms)
    likely = needs.on_time(0, 0, np.array(rising))
    assert (likely >= 0).all()
    assert (likely <= 1 + 1e-9).all()
    assert (np.diff(likely) >= -1e-12).all()


@given(service=services(most=4), rtts_ms=rtts)
def test_the_need_reaches_the_target_and_less_does_not(service: Service, rtts_ms: tuple[float, ...]) -> None:
    needs = Formulation(Table("t", "", (service,))).exactly(rtts_ms)
    every = np.arange(len(service.options))
    for at, need in zip(every, needs.needed_bps[0], strict=True):
        if math.isinf(need):
            assert needs.on_time(0, at, 1e12) < service.target or needs.on_time(0, at, 0.9e12) < service.target
        else:
            assert needs.on_time(0, at, need) >= service.target - 1e-8
            assert needs.on_time(0, at, need * 0.999) < service.target


@given(
    size=st.floats(100, 1e6),
    pre=st.floats(0, 20),
    run=st.floats(0, 80),
    rtt=st.floats(0, 40),
    slo=st.floats(145, 5_000),
)
def test_constants_need_turbo_s_critical_bandwidth(size: float, pre: float, run: float, rtt: float, slo: float) -> None:
    option = Option("o", "m", 0.5, constant(size), constant(pre), constant(run))
    service = Service("s", "/s", "t", 10.0, slo, 0.99, 1.0, Floor("f", 0.1, constant(1.0)), (option,))
    assert needed_bps(option, service, (rtt,) * 4) == pytest.approx(8e3 * size / (slo - rtt - pre - run), rel=1e-6)


@given(service=services(), rtts_ms=rtts, rate=st.floats(1e5, 1e8), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_it_is_what_chance_gives(service: Service, rtts_ms: tuple[float, ...], rate: float, seed: int) -> None:
    """Against 20,000 draws, at SLOs a few steps shorter and longer, since amounts are rounded up to the grid."""
    (option,) = service.options
    rng = np.random.default_rng(seed)

    def drawn(amount: Distribution) -> np.ndarray:
        return rng.choice(amount.values, 20_000, p=np.asarray(amount.weights) / sum(amount.weights))

    took = drawn(option.pre_ms) + drawn(option.exec_ms) + drawn(rtt_distribution(rtts_ms))
    took += 8e3 * drawn(option.bytes) / rate
    step = service.slo_ms / STEPS
    likely = on_time(option, service, rate, rtts_ms)
    assert np.mean(took <= service.slo_ms - 4 * step) - 0.02 <= likely <= np.mean(took <= service.slo_ms) + 0.02


@given(service=services(most=6), rtts_ms=rtts)
@example(service=Service("s", "/s", "t", 1, 100, 0.9, 1, Floor("f", 0.5, constant(1.0)), ()), rtts_ms=(0.0,) * 4)
def test_a_staircase_rises_and_gives_the_best_at_every_rate(service: Service, rtts_ms: tuple[float, ...]) -> None:
    if not service.options:
        assert len(staircase(service, [])) == 1
        return
    needed = Formulation(Table("t", "", (service,))).exactly(rtts_ms).needed_bps[0]
    steps = staircase(service, needed)
    for before, after in pairwise(steps):
        assert (before.bps, before.accuracy) <= (after.bps, after.accuracy)
        assert before.accuracy < after.accuracy
    for rate in [0.0, *needed[np.isfinite(needed)]]:
        best = max(
            [service.floor.accuracy, *(o.accuracy for o, b in zip(service.options, needed, strict=True) if b <= rate)]
        )
        assert max(step.accuracy for step in steps if step.bps <= rate) == best
