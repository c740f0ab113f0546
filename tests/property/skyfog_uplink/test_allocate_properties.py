"""Whatever is told of the link, the scene and the time: plans within the budget, floors always, books that balance."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from skyfog_core.config.uplink import AllocatorConfig
from skyfog_core.units import MS, S
from skyfog_uplink.policy.allocate import STALE_NS, Allocator
from skyfog_uplink.policy.baselines import equal_split, on_car, one_model
from skyfog_uplink.policy.formulate import Formulation
from skyfog_uplink.policy.link import LEVELS, RTT_LEVELS, LinkState
from skyfog_uplink.policy.model import FLOOR, Table
from skyfog_uplink.policy.plan import Allocation, Plan
from skyfog_uplink.policy.turbo import turbo
from support.uplink_links import link, option, service, table

accuracies = st.floats(0, 1)
rates = st.lists(st.floats(0, 60), min_size=len(LEVELS), max_size=len(LEVELS)).map(sorted)
any_number = st.one_of(st.floats(), st.floats(0, 1e9))


@st.composite
def tables(draw: st.DrawFn) -> Table:
    services = []
    for number in range(draw(st.integers(1, 4))):
        count = draw(st.integers(1, 4))
        needs = sorted(draw(st.lists(st.floats(0.05, 40), min_size=count, max_size=count)))
        of = [
            option(f"o{at}", draw(accuracies), mbps, exec_ms=draw(st.sampled_from((0.0, 20.0, 120.0))))
            for at, mbps in enumerate(needs)
        ]
        drawn = service(f"s{number}", *of, floor=draw(accuracies), weight=draw(st.floats(0, 3)))
        services.append(replace(drawn, target=draw(st.sampled_from((0.5, 0.9, 0.99)))))
    return table(*services, scenes={"there": {"s0": draw(st.floats(0, 5))}})


@st.composite
def rubbish(draw: st.DrawFn) -> LinkState:
    return LinkState(
        0,
        draw(st.booleans()),
        tuple(draw(st.lists(any_number, max_size=12))),
        tuple(draw(st.lists(any_number, max_size=5))),
        draw(any_number),
        draw(any_number),
        queue_ms=draw(any_number),
        loss=draw(any_number),
    )


@st.composite
def states(draw: st.DrawFn) -> LinkState:
    return link(
        draw(rates),
        rtt_ms=draw(st.floats(0, 200)),
        rtt_spread=draw(st.floats(0, 30)),
        queue_ms=draw(st.floats(0, 1_000)),
        up=draw(st.integers(0, 9)) > 0,
    )


events = st.tuples(
    st.one_of(
        states(),
        rubbish(),
        st.tuples(st.sampled_from(("", "there", "nowhere")), any_number),
        st.none(),
    ),
    st.one_of(st.integers(0, 400 * MS), st.integers(-100 * S, 100 * S)),
)
configs = st.builds(
    AllocatorConfig,
    hold_ms=st.sampled_from((0, 1_000)),
    switch_cost=st.sampled_from((0.0, 0.01)),
    risk=st.sampled_from((0.005, 0.05, 0.5)),
    probe_share=st.sampled_from((0.0, 0.5, 1.0)),
)


def tell(made: Allocation, event: object, now_ns: int) -> Plan | None:
    if isinstance(event, LinkState):
        return made.on_link(event, now_ns)
    if isinstance(event, tuple):
        return made.on_scene(*event, now_ns)
    return made.on_timer(now_ns)


@settings(max_examples=60, deadline=None)
@given(tables(), configs, st.lists(events, max_size=15))
def test_any_history_leaves_plans_that_can_be_carried_out(
    of: Table, config: AllocatorConfig, history: list[tuple[object, int]]
) -> None:
    made, now_ns, number, told = Allocator(of, config), 1_000 * S, 0, None
    for event, after_ns in history:
        now_ns += after_ns
        if isinstance(event, LinkState):
            told = event
        plan = tell(made, event, now_ns)
        made.check()
        if plan is None:
            continue
        assert plan.number == number + 1
        number = plan.number
        assert plan.made_ns == now_ns
        assert [grant.service for grant in plan.grants] == [each.name for each in of.services]
        assert math.isfinite(plan.utility)
        if told is None or not told.up or not told.valid():
            assert all(grant.option == FLOOR and grant.probe == FLOOR for grant in plan.grants)
    due_ns = made.next_timer_ns()
    if due_ns is not None:
        assert made.on_timer(max(now_ns, due_ns)) is not None


@settings(max_examples=60, deadline=None)
@given(tables(), states(), configs)
def test_each_grant_keeps_its_target_and_the_sum_the_budget(
    of: Table, state: LinkState, config: AllocatorConfig
) -> None:
    plan = Allocator(of, config).on_link(state, 0)
    assert plan is not None
    needs = Formulation(of).under(state.rtts_ms)
    for at, (each, grant) in enumerate(zip(of.services, plan.grants, strict=True)):
        assert 0 <= grant.on_time <= 1 + 1e-9
        if grant.option != FLOOR:
            assert needs.on_time(at, grant.option, grant.rate_bps * (1 + 1e-9)) >= each.target - 1e-9
            assert each.accuracy(grant.option) > each.floor.accuracy
        if grant.probe != FLOOR:
            assert each.accuracy(grant.probe) > each.accuracy(grant.option)
            assert math.isfinite(grant.probe_bps)
    risky = [rate for rate, level in zip(state.rates_bps, LEVELS, strict=True) if level <= config.risk]
    assert plan.budget_bps <= max(risky, default=state.rates_bps[0])
    probes = [grant.probe_bps for grant in plan.grants if grant.probe != FLOOR]
    if len(probes) > 1:  # a single one may be a try of what nothing says that the link carries
        assert sum(probes) <= config.probe_share * state.rates_bps[LEVELS.index(0.5)] + 1e-6


@settings(max_examples=60, deadline=None)
@given(tables(), rates, st.floats(1, 5), st.floats(20, 80))
def test_a_faster_link_is_never_worth_less(of: Table, slow: list[float], factor: float, rtt_ms: float) -> None:
    """Of a link that is known for sure; no changes are counted against it."""
    config = AllocatorConfig(switch_cost=0.0, grid_kbps=1.0, hold_ms=0)
    slow_plan = Allocator(of, config).on_link(link(slow[0], rtt_ms=rtt_ms), 0)
    fast_plan = Allocator(of, config).on_link(link(slow[0] * factor * 1.01 + 0.1, rtt_ms=rtt_ms), 0)
    assert slow_plan is not None
    assert fast_plan is not None
    assert fast_plan.utility >= slow_plan.utility - 1e-3  # of grids that differ by a grain a service


@settings(max_examples=40, deadline=None)
@given(tables(), st.lists(states(), min_size=1, max_size=6))
def test_a_service_is_not_raised_while_it_is_held(of: Table, history: list[LinkState]) -> None:
    config = AllocatorConfig(hold_ms=1_000)
    made = Allocator(of, config)
    lowered_ns = dict.fromkeys((each.name for each in of.services), -STALE_NS)
    before: Plan | None = None
    usable = False
    for step, state in enumerate(history):
        now_ns = step * 300 * MS
        plan = made.on_link(state, now_ns) or made.on_timer(now_ns)
        assert plan is not None
        if state.up and not usable:  # all is held after the end of an outage
            lowered_ns = dict.fromkeys(lowered_ns, now_ns)
        usable = state.up
        for each, grant in zip(of.services, plan.grants, strict=True):
            was = FLOOR if before is None else before.grants[of.index(each.name)].option
            if each.accuracy(grant.option) > each.accuracy(was):
                assert now_ns - lowered_ns[each.name] >= 1_000 * MS
            elif each.accuracy(grant.option) < each.accuracy(was):
                lowered_ns[each.name] = now_ns
        before = plan


@settings(max_examples=40, deadline=None)
@given(tables(), st.lists(st.one_of(states(), rubbish()), max_size=6))
def test_the_peers_keep_to_their_budget_too(of: Table, history: list[LinkState]) -> None:
    for make in (on_car, one_model, equal_split, turbo):
        made = make(of)
        for step, state in enumerate(history):
            now_ns = step * 500 * MS
            plan = made.on_link(state, now_ns) or made.on_timer(now_ns)
            assert plan is not None
            made.check()


@settings(max_examples=40, deadline=None)
@given(tables(), st.floats(0, 60), st.floats(0, 120))
def test_turbo_is_worth_at_least_what_simpler_rules_are(of: Table, mbps: float, rtt_ms: float) -> None:
    """They all take the same means; only TURBO's is the optimum."""
    state = replace(link(mbps), rtt_ms=rtt_ms, rtts_ms=(rtt_ms,) * len(RTT_LEVELS))
    found = [make(of).on_link(state, 0) for make in (on_car, one_model, equal_split, turbo)]
    worths = [plan.utility for plan in found if plan is not None]
    assert worths[-1] >= max(worths) - 2e-2 * len(of.services)
