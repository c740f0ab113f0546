"""Whatever happens in whatever order, the estimator's state is a state and its books balance."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from skyfog_core.config.uplink import EstimatorConfig
from skyfog_core.units import MS, US, S
from skyfog_uplink.policy.analogues import Analogues, Prior
from skyfog_uplink.policy.capacity import Capacity
from skyfog_uplink.policy.estimate import MAX_OPEN, LinkEstimator
from skyfog_uplink.policy.link import LEVELS

FORTH = st.integers(0, 300 * MS)
STEPS = st.one_of(FORTH, FORTH, FORTH, st.integers(-S, 0), st.sampled_from([-60 * S, 60 * S, 3_600 * S]))
SEQS = st.integers(-2, 40)
EVENTS = st.one_of(
    st.tuples(st.just("send"), st.sampled_from([0, 40, 300, 8_192, 2**30])),
    st.tuples(st.just("send"), st.just(8_192)),
    st.tuples(st.just("ack"), st.integers(0, 5), st.integers(0, 400)),  # which of those open, ms ago received
    st.tuples(st.just("ack"), st.just(0), st.integers(0, 50)),
    st.tuples(st.just("garbage"), SEQS, st.one_of(st.integers(-(2**70), 2**70), st.floats())),
    st.tuples(st.just("sent again"), SEQS, st.one_of(st.integers(-5, 5), st.just(math.nan))),
    st.tuples(st.sampled_from(["connected", "disconnected", "timer", "ping"])),
)


def act(link: LinkEstimator, event: tuple[Any, ...], seq: int, now_ns: int, offset_us: int) -> int:
    """Perform one event; returns the next number to send."""
    match event:
        case ("send", size):
            link.on_sent(seq, size, now_ns)
            return seq + 1
        case ("ack", which, ago_ms):
            found = list(link._open)[which : which + 1] or [seq + 7]
            link.on_ack(found[0], now_ns // US + offset_us - ago_ms * 1_000, now_ns)
        case ("garbage", number, received):
            link.on_ack(number, received, now_ns)
        case ("sent again", number, size):
            link.on_sent(min(number, seq - 1), size, now_ns)
        case ("connected",):
            link.on_connected(now_ns)
        case ("disconnected",):
            link.on_disconnected(now_ns)
        case ("timer",):
            link.on_timer(now_ns)
        case ("ping",):
            link.ping_due(now_ns)
    return seq


@settings(max_examples=150)
@given(st.lists(st.tuples(STEPS, EVENTS), max_size=120), st.integers(0, 2**40))
def test_the_state_is_sound_after_any_history(history: list[tuple[int, tuple[Any, ...]]], offset_us: int) -> None:
    link, now_ns, seq = LinkEstimator(EstimatorConfig()), 4_000 * S, 0
    link.on_connected(now_ns)
    for step_ns, event in history:
        now_ns = max(now_ns + step_ns, 0)
        seq = act(link, event, seq, now_ns, offset_us)
        state = link.state(now_ns)
        assert state.valid()
        assert math.isfinite(state.queue_growth)
        assert 0 <= state.delivered_bps < math.inf
        assert 0 <= state.loss <= 1
        timer_ns = link.next_timer_ns()
        assert timer_ns is None or isinstance(timer_ns, int)
        link.check()
    assert len(link._open) <= MAX_OPEN


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 200 * MS), st.integers(0, 100 * MS), st.integers(0, 20_000)), max_size=80))
def test_the_record_adds_up(served: list[tuple[int, int, int]]) -> None:
    """Bits and busy time of adjoining spans are those of the whole; nothing is negative; rates are finite."""
    capacity, at_ns, bits, busy_ns = Capacity(3_600 * S), 0, 0, 0
    for idle_ns, service_ns, size in served:
        capacity.add(at_ns + idle_ns, at_ns + idle_ns + service_ns, size)
        at_ns, bits, busy_ns = at_ns + idle_ns + service_ns, bits + 8 * size, busy_ns + service_ns
    cuts = np.linspace(0, at_ns, 7).astype(int).tolist()
    parts = [capacity.between(a, b) for a, b in itertools.pairwise(cuts)]
    assert all(part[0] >= -1e-3 and part[1] >= -1e-9 for part in parts)
    whole = capacity.between(-1, at_ns + 1)
    assert math.isclose(whole[0], bits, abs_tol=1e-3)
    assert math.isclose(whole[1], busy_ns / S, abs_tol=1e-6)
    for now_ns in (at_ns, at_ns + S, at_ns + 3_600 * S):
        assert all(0 < rate < math.inf for rate in capacity.rates(now_ns, 8.0, 1.0))
        slower, usual = capacity.rates(now_ns, 8.0, 10.0), capacity.rates(now_ns, 0.0, 0.0)
        assert all(a <= b * (1 + 1e-9) for a, b in zip(slower, usual, strict=True))


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), max_size=60), st.floats(-8, 8))
def test_forecasts_ascend_and_are_what_was_seen(moments: list[tuple[float, float]], feature: float) -> None:
    prior = Prior(LEVELS, tuple(float(level) for level in LEVELS), weight=3.0)
    analogues = Analogues((0.5,), LEVELS, prior)
    for at, outcome in moments:
        analogues.learn((at,), outcome)
    found = analogues.quantiles((feature,))
    assert found == sorted(found)
    assert set(found) <= {outcome for _, outcome in moments} | set(prior.outcomes)
    assert len(analogues) == len(moments)
