"""The default policy: one first, the next at the latest moment that keeps the target."""

from __future__ import annotations

import itertools
import math
from random import Random

import pytest
from unit.skyfog_router.policies import fleet_of, key

from skyfog_core.config.router import RoutingConfig
from skyfog_core.units import MS, S
from skyfog_router.policy.actions import Load
from skyfog_router.policy.fanout import Copy, Plan, Situation
from skyfog_router.policy.fleet import Fleet
from skyfog_router.policy.latency import LatencySketch
from skyfog_router.policy.load_budget import LoadBudget
from skyfog_router.policy.slo import CAUTION, GRID, LEAST_CAUTION, Caution, LearntSlo, Slo

TARGET = 0.9
MAY_MISS = CAUTION * (1 - TARGET)


def known(means_ms: dict[str, float], **config: float) -> Fleet:
    """Exponential latencies, as exactly known as 4,000 answers tell."""
    fleet = fleet_of(*means_ms, **{"slo_target": TARGET, "extra_load": 1.0, **config})
    for name, mean_ms in means_ms.items():
        sketch = fleet.replicas[key(name)].sketch = LatencySketch(memory=1e9)
        for i in range(4_000):
            took_ns = round(-mean_ms * math.log(1 - (i + 0.5) / 4_000) * MS)
            sketch.answer(took_ns, 0)
            if i % 10 == 0:
                fleet.pool.answer(took_ns, 0)
    return fleet


def plan(
    fleet: Fleet,
    slo_ms: float,
    now_ms: float = 0.0,
    copies: dict[str, float] | None = None,
    budget: LoadBudget | None = None,
    room: int = 8,
    unfit: str = "",
) -> Plan:
    """At `now_ms`, with copies that have waited so many ms, and one replica that is ejected."""
    under_way = [Copy(fleet.replicas[key(name)], round(ms * MS)) for name, ms in (copies or {}).items()]
    out = [fleet.replicas[key(unfit)]] if unfit else []
    fresh = [r for r in fleet.remote() if r not in out and all(r is not copy.replica for copy in under_way)]
    at = Situation(round(now_ms * MS), 0, round(slo_ms * MS), S, under_way, fresh, out, 1, room)
    return Slo(Caution()).plan(fleet, budget or LoadBudget(fleet.config.extra_load), at)


def asked(found: Plan) -> list[tuple[str, str]]:
    return [(str(replica.key), why) for replica, why in found.ask]


def look_ms(found: Plan) -> float:
    assert found.look_ns is not None
    return found.look_ns / MS


def test_with_nothing_known_everybody_is_asked_within_the_budget_or_not() -> None:
    fleet = fleet_of("a/0", "b/0", "c/0", extra_load=1.0)
    budget = LoadBudget(1.0)
    assert asked(plan(fleet, 100, budget=budget)) == [("a/0", "first"), ("b/0", "copy"), ("c/0", "copy")]
    assert budget.granted == 2
    assert [why for _, why in asked(plan(fleet, 100, budget=LoadBudget(0.0)))] == ["first", "rescue", "rescue"]


def test_the_plan_of_a_beginning_is_kept_only_for_beginnings() -> None:
    fleet, budget = known({"a/0": 10, "b/0": 10}), LoadBudget(1.0)
    policy = Slo(Caution())

    def at(now_ms: int) -> Situation:
        return Situation(now_ms * MS, 0, 60 * MS, S, [], fleet.remote(), [], 1, 8)

    begun = policy.plan(fleet, budget, at(0))
    assert policy.plan(fleet, budget, at(0)) == begun
    again = policy.plan(fleet, budget, at(40))
    assert again == Slo(Caution()).plan(fleet, budget, at(40)), "as one that has kept nothing: 20 ms are left"
    assert look_ms(again) - 40 < look_ms(begun)


def test_in_panic_everybody_is_asked() -> None:
    fleet = known({"a/0": 10, "b/0": 10, "c/0": 10})
    for name in ("a/0", "b/0", "c/0"):
        fleet._sick[key(name)] = fleet.replicas[key(name)]
    assert len(plan(fleet, 100).ask) == 3


def miss(first_ms: float, second_ms: float, slo_ms: float, after_ms: float) -> float:
    """P(neither answers within the SLO) with the second sent so much later."""
    return math.exp(-slo_ms / first_ms) * math.exp(-(slo_ms - after_ms) / second_ms)


NEEDS_TWO = [
    case
    for case in itertools.product((12, 20, 30), (6, 10, 14), (30, 36, 44))
    if math.exp(-case[2] / case[0]) > MAY_MISS * 1.1 and miss(*case, 0) <= MAY_MISS
]


@pytest.mark.parametrize(("first_ms", "second_ms", "slo_ms"), NEEDS_TWO)
def test_the_next_one_is_asked_at_the_latest_moment_that_keeps_the_target(
    first_ms: float, second_ms: float, slo_ms: float
) -> None:
    """Against brute force over the true distributions, in steps of a hundredth of the SLO."""
    steps = [i * slo_ms / 100 for i in range(101)]
    latest_ms = max(d for d in steps if miss(first_ms, second_ms, slo_ms, d) <= MAY_MISS)
    found = plan(known({"a/0": first_ms, "b/0": second_ms}), slo_ms)
    assert asked(found)[0] == ("a/0", "first")
    step_ms = slo_ms / GRID
    payable_ms = -first_ms * math.log(0.9)  # of all requests, a share of 0.9 * extra_load is still open then
    if max(latest_ms, payable_ms) <= step_ms:
        assert len(found.ask) == 2
    else:
        assert look_ms(found) == pytest.approx(max(latest_ms, payable_ms), abs=1.6 * step_ms)


def test_a_slower_primary_is_helped_earlier() -> None:
    looks = [look_ms(plan(known({"a/0": mean, "b/0": 8}), 40)) for mean in (18, 24, 32)]
    assert looks == sorted(looks, reverse=True)
    assert looks[0] > looks[-1] + 3


def test_a_wait_longer_than_planned_changes_no_target_but_the_copy_is_sent_then() -> None:
    fleet = known({"a/0": 20, "b/0": 10})
    due_ms = look_ms(plan(fleet, 36))
    assert asked(plan(fleet, 36, now_ms=due_ms - 3, copies={"a/0": due_ms - 3})) == []
    assert asked(plan(fleet, 36, now_ms=due_ms + 1, copies={"a/0": due_ms + 1})) == [("b/0", "hedge")]


def test_the_budget_forbids_what_would_cost_too_many_copies() -> None:
    """Both slow: the target wants a copy at once, but only six in ten requests may have one."""
    fleet = known({"a/0": 20, "b/0": 20}, extra_load=0.6)
    found = plan(fleet, 24)
    assert asked(found) == [("a/0", "first")]
    forbidden_ms = -20 * math.log(0.6 * 0.9)
    assert look_ms(found) == pytest.approx(forbidden_ms, abs=1.5 * 24 / GRID)
    assert len(plan(known({"a/0": 20, "b/0": 20}, extra_load=3.0), 24).ask) == 2


def test_where_one_suffices_the_next_is_asked_at_the_last_moment_at_which_it_may_help() -> None:
    found = plan(known({"a/0": 5, "b/0": 20}), 100)
    assert asked(found) == [("a/0", "first")]
    assert look_ms(found) == pytest.approx(100 - 20 * math.log(2), abs=1)


def test_where_one_suffices_and_no_other_can_ever_be_in_time_none_is_asked_before_the_slo() -> None:
    found = plan(known({"a/0": 5, "b/0": 200}), 60)
    assert asked(found) == [("a/0", "first")]
    assert look_ms(found) == 60


def test_a_missed_slo_starts_over() -> None:
    fleet = known({"a/0": 20, "b/0": 10})
    found = plan(fleet, 36, now_ms=36, copies={"a/0": 36})
    assert asked(found) == [("b/0", "hedge")] or look_ms(found) > 36
    again = plan(fleet, 36, now_ms=37, copies={"a/0": 37})
    assert again.look_ns is None or look_ms(again) <= 72 + 1


def test_a_queue_in_front_of_the_first_one_brings_the_next_one_earlier() -> None:
    free, busy = known({"a/0": 20, "b/0": 8}), known({"a/0": 20, "b/0": 8})
    busy.on_sent(key("a/0"), b"x", 0)
    busy.on_refused(key("a/0"), b"x", Load(service_ns=20 * MS, running=1), 0)
    assert look_ms(plan(busy, 40)) < look_ms(plan(free, 40)) - 2


def test_of_those_next_in_rank_the_one_that_helps_most_is_taken() -> None:
    fleet = known({"a/0": 20, "b/0": 30, "c/0": 5, "d/0": 30})
    assert asked(plan(fleet, 36, now_ms=35, copies={"a/0": 35}))[:1] == [("c/0", "hedge")]
    fleet = known({"a/0": 20, "a/1": 20, "b/0": 20}, extra_load=3.0)
    assert asked(plan(fleet, 10))[:2] == [("a/0", "first"), ("b/0", "hedge")], "another zone helps more"


def test_without_a_token_it_looks_again_and_again() -> None:
    fleet = known({"a/0": 20, "b/0": 10})
    found = plan(fleet, 36, now_ms=27, copies={"a/0": 27}, budget=LoadBudget(0.0))
    assert found.look_ns is not None
    assert 27 < look_ms(found) <= 36


def test_no_more_than_there_is_room_for() -> None:
    fleet = fleet_of("a/0", "b/0", "c/0", extra_load=3.0)
    assert len(plan(fleet, 50, room=2).ask) == 2
    assert len(plan(known({"a/0": 50, "b/0": 50, "c/0": 50}, extra_load=8.0), 30, room=2).ask) == 2


# caution


@pytest.mark.parametrize("skill", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("target", [0.9, 0.99])
def test_the_caution_finds_the_share_that_keeps_the_target(target: float, skill: float) -> None:
    """A coin: of those planned to miss, `1 / skill` times as many do."""
    random, caution, missed = Random(5), Caution(), 0
    rounds = 60_000
    for number in range(rounds):
        in_time = random.random() >= caution.may_miss(target) / skill
        caution.observe(in_time, target)
        if number >= rounds // 2:
            missed += not in_time
    assert missed / (rounds / 2) == pytest.approx(CAUTION * (1 - target), rel=0.15)


def test_the_caution_stays_within_bounds() -> None:
    caution = Caution()
    for _ in range(1_000):
        caution.observe(False, 0.99)
    assert caution.may_miss(0.99) == pytest.approx(LEAST_CAUTION * 0.01)
    for _ in range(100_000):
        caution.observe(True, 0.99)
    assert caution.may_miss(0.99) == pytest.approx(0.01)


# the learnt SLO


def learnt_ms(fleet: Fleet, now_ns: int = S) -> float:
    found = LearntSlo(Caution()).get(fleet, now_ns)
    assert found is not None
    return found / MS


def test_an_slo_that_is_set_is_in_force() -> None:
    assert LearntSlo(Caution()).get(fleet_of(slo_ms=70), 0) == 70 * MS


def test_while_nothing_is_known_there_is_none() -> None:
    assert LearntSlo(Caution()).get(fleet_of("a/0"), 0) is None


def test_the_learnt_slo_is_the_shortest_that_the_budget_pays_for() -> None:
    """Two alike, brute force: the copy at d costs S(d), and S(L) * S(L - d) may be missed."""
    fleet = known({"a/0": 20, "b/0": 20}, extra_load=0.4)
    after_ms = -20 * math.log(0.4 * 0.9)
    shortest_ms = (-20 * math.log(MAY_MISS) + after_ms) / 2
    assert learnt_ms(fleet) == pytest.approx(shortest_ms, rel=0.06)


def test_more_budget_buys_a_shorter_slo_and_none_leaves_the_quantile_of_one() -> None:
    names = {"a/0": 20.0, "b/0": 20.0, "c/0": 20.0}
    found = [learnt_ms(known(names, extra_load=load)) for load in (2.0, 0.4, 0.1, 0.0)]
    assert found == sorted(found)
    assert found[-1] == pytest.approx(-20 * math.log(MAY_MISS), rel=0.05)


def test_it_is_learnt_again_once_a_second_and_only_from_something_new() -> None:
    fleet, learnt = known({"a/0": 20, "b/0": 20}), LearntSlo(Caution())
    first = learnt.get(fleet, S)
    fleet.replicas[key("b/0")].sketch = fleet.replicas[key("a/0")].sketch = LatencySketch()
    for _ in range(200):
        fleet.replicas[key("a/0")].sketch.answer(100 * MS, S)
    assert learnt.get(fleet, 3 * S) == first, "nothing came"
    for _ in range(100):
        fleet.pool.answer(100 * MS, 3 * S)
    assert learnt.get(fleet, 3 * S) != first
    second = learnt.in_force_ns(RoutingConfig())
    fleet.replicas[key("a/0")].sketch = LatencySketch()
    for _ in range(100):
        fleet.pool.answer(10 * MS, 3 * S)
    assert learnt.get(fleet, 3 * S + S // 2) == second, "not yet"


def test_who_is_ejected_is_asked_at_the_last_call_and_not_before() -> None:
    fleet = known({"a/0": 400, "b/0": 400, "c/0": 10}, slo_ms=500)
    early = plan(fleet, 500, now_ms=300, copies={"a/0": 300}, unfit="c/0")
    late = plan(fleet, 500, now_ms=950, copies={"a/0": 950}, unfit="c/0")
    assert "c/0" not in {name for name, _ in asked(early)}
    assert {name for name, _ in asked(late)} == {"b/0", "c/0"}


def test_past_the_last_call_it_looks_again_while_an_answer_seems_near() -> None:
    found = plan(known({"a/0": 10, "b/0": 10}, slo_ms=500), 500, now_ms=920, copies={"a/0": 1})
    assert "b/0" not in {name for name, _ in asked(found)}
    assert look_ms(found) <= 920 + 80 / 4
