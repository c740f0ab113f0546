"""What holds of everything that is learnt, whatever was seen."""

from __future__ import annotations

from math import prod
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.skyfog_router.policies import Taught, fleet_of, key

from skyfog_core.units import MS, S
from skyfog_core.wire.membership import Announcement
from skyfog_router.policy.actions import Load
from skyfog_router.policy.fleet import STALE_NS, Fleet
from skyfog_router.policy.health import Medians, State
from skyfog_router.policy.latency import GAMMA, LatencySketch
from skyfog_router.policy.replica import PRIOR_ANSWERS, TRIAL_EVERY_NS
from skyfog_router.policy.zones import Zones

times_ns = st.integers(1, 10_000 * S)
seen = st.lists(st.tuples(st.sampled_from(["answer", "answer", "censor", "never"]), times_ns), max_size=60)


def sketch_of(events: list[tuple[str, int]], apart_ns: int = MS) -> LatencySketch:
    sketch = LatencySketch()
    for number, (kind, took_ns) in enumerate(events):
        given_ns = (number * apart_ns,) if kind == "never" else (took_ns, number * apart_ns)
        getattr(sketch, kind)(*given_ns)
    return sketch


@given(seen, st.lists(times_ns, min_size=2, max_size=20))
def test_survival_never_rises_and_is_never_nothing(events: list[tuple[str, int]], moments: list[int]) -> None:
    sketch = sketch_of(events)
    curve = [sketch.survival(ns) for ns in sorted(moments)]
    assert curve == sorted(curve, reverse=True)
    assert all(0.0 < value <= 1.0 for value in curve)


@given(seen, st.floats(0.001, 0.999))
def test_a_quantile_is_where_survival_says(events: list[tuple[str, int]], q: float) -> None:
    sketch = sketch_of(events)
    found = sketch.quantile(q)
    if found is None:
        assert sketch.survival(20_000 * S) > 1 - q - 1e-9 or not sketch.count
        return
    floor = sketch.survival(20_000 * S)
    assert sketch.survival(found / GAMMA) >= 1 - q - 1e-6
    assert sketch.survival(found * GAMMA) <= max(1 - q, floor) + 1e-6


@given(seen, st.integers(0, 100 * S))
def test_time_that_passes_between_them_all_changes_no_bound(events: list[tuple[str, int]], apart_ns: int) -> None:
    sketch = sketch_of(events, apart_ns)
    assert 0 <= sketch.count <= len(events)
    assert 0.0 < sketch.survival(S) <= 1.0


chances = st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.001, 1.0)), min_size=1, max_size=6)
watched = st.lists(st.tuples(st.sampled_from(["a/0", "a/1", "b/0", "b/1"]), st.booleans()), max_size=60)


@given(chances, watched, st.sampled_from("abc"), st.floats(0.001, 1.0))
def test_all_miss_is_between_independent_and_of_one_fate(
    misses: list[tuple[str, float]], events: list[tuple[str, bool]], zone: str, one_more: float
) -> None:
    zones = Zones()
    for number, (name, slow) in enumerate(events):
        zones.observe(key(name), slow, number * MS)
    assert all(0.0 <= zones.rho(name) <= 1.0 for name in "ab")
    found = zones.all_miss(misses)
    values = [miss for _, miss in misses]
    assert prod(values) - 1e-12 <= found <= min(values) + 1e-12
    assert zones.with_one_more(misses, zone)(one_more) == pytest.approx(zones.all_miss([*misses, (zone, one_more)]))
    assert zones.with_one_more(misses, zone)(one_more) <= found + 1e-12, "one more never harms"


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.none() | st.integers(1, 5)), max_size=40))
def test_medians_are_those_of_the_others(told: list[tuple[str, int | None]]) -> None:
    medians, now = Medians(), {}
    for name, value in told:
        medians.tell(key(f"{name}/0"), None if value is None else float(value))
        now[name] = value
        for one in "abcdef":
            others = [value for other, value in now.items() if other != one and value is not None]
            assert medians.beside(key(f"{one}/0")) == (median(others) if others else None)


names = st.sampled_from(["a/0", "a/1", "b/0"])
steps = st.lists(
    st.tuples(
        st.sampled_from(["answers", "fails", "given_up", "ask", "refused", "join", "again", "leave", "pass", "try"]),
        names,
        st.sampled_from([1, 20, 300, 2_000, 11_000]),
    ),
    max_size=60,
)


def on_trial(fleet: Fleet, now_ns: int) -> list[str]:
    """By walking over all, at any time."""
    return [
        str(r.key)
        for r in fleet.replicas.values()
        if not r.said.local
        and not r.open
        and now_ns - r.tried_ns >= TRIAL_EVERY_NS
        and r.back_ns <= now_ns
        and r.health.state is not State.EJECTED
        and (r.health.state is State.PROBING or r.sketch.count < PRIOR_ANSWERS or now_ns - r.heard_ns > STALE_NS)
    ]


@given(steps)
def test_a_fleet_knows_by_events_what_a_walk_over_all_would_find(events: list[tuple[str, str, int]]) -> None:
    made = Taught(fleet_of("a/0", "a/1", policy="hedged"))
    for what, name, ms in events:
        there = key(name) in made.fleet.replicas
        match what:
            case "pass":
                made.passes(ms)
            case "join":
                made.fleet.join(key(name), Announcement(boot=ms, local=ms == 300), made.now_ns)
            case "again":
                known = made.fleet.find(key(name))
                if known:
                    made.fleet.join(key(name), known.said, made.now_ns)
            case "leave":
                made.fleet.leave(key(name))
            case "ask":
                made.ask(name)
            case "refused":
                made.fleet.on_refused(key(name), made.ask(name), Load(retry_after_ns=ms * MS), made.now_ns)
            case "try" if there:
                made[name].tried_ns = made.now_ns
            case "fails":
                made.fails(name, 3)
            case "answers" | "given_up":
                getattr(made, what)(name, ms, 3)
        made.fleet.check()
        assert [str(r.key) for r in made.fleet.on_trial(made.now_ns)] == on_trial(made.fleet, made.now_ns)
