"""When a replica is out, on trial, and in again: each arrow of the diagram in `health`."""

from __future__ import annotations

import pytest
from unit.skyfog_router.policies import Taught, fleet_of, key, kinds

from skyfog_core.config.router import HealthConfig
from skyfog_core.units import MS
from skyfog_core.wire.membership import Announcement
from skyfog_router.policy.actions import Eject, Load, Readmit
from skyfog_router.policy.health import FORGIVEN, Health, HealthPolicy, Medians, State

CONFIG = HealthConfig()


def taught(*names: str, repeat: str = "idempotent", extra_load: float = 0.4, **health: float) -> Taught:
    """A fleet that answers in 10 ms and is known for it."""
    fleet = fleet_of(*names, repeat=repeat, policy="single", extra_load=extra_load, health=HealthConfig(**health))
    made = Taught(fleet)
    for name in names:
        made.answers(name, 10, times=20)
    return made


def until_ejected(made: Taught, name: str, took_ms: float = 45) -> Eject:
    for _ in range(100):
        for action in made.answers(name, took_ms):
            if isinstance(action, Eject):
                return action
    raise AssertionError("never")


def probing(made: Taught, name: str) -> Taught:
    made.fails(name, 3)
    assert made.passes(1_000) == []
    assert made[name].health.state is State.PROBING
    return made


def test_failures_in_a_row_eject_and_an_answer_between_starts_the_count_again() -> None:
    made = taught("a/0", "b/0")
    assert made.fails("a/0", 2) == made.answers("a/0", 10) == made.fails("a/0", 2) == []
    (ejected,) = made.fails("a/0")
    assert ejected == Eject(key("a/0"), 1_000 * MS, "3 failures in a row, the last: broken (out for 1000 ms)")
    assert made.fleet.fit(made.now_ns) == [made["b/0"]]


def test_an_ejection_ends_in_a_trial_and_a_timely_answer_in_health() -> None:
    made = taught("a/0", "b/0")
    made.fails("a/0", 3)
    made.passes(999)
    assert made["a/0"].health.state is State.EJECTED
    made.passes(1)
    assert made["a/0"].health.state is State.PROBING
    assert made.fleet.fit(made.now_ns) == [made["b/0"]], "a probe is on the side"
    assert made.answers("a/0", 10) == [Readmit(key("a/0"))]
    assert made["a/0"].health.state is State.HEALTHY


def test_a_failure_on_trial_ejects_again() -> None:
    made = probing(taught("a/0", "b/0"), "a/0")
    (ejected,) = made.fails("a/0")
    assert isinstance(ejected, Eject)
    assert ejected.why.startswith("still so on trial: broken")


def test_silence_on_trial_ejects_again() -> None:
    made = probing(taught("a/0", "b/0"), "a/0")
    (ejected,) = made.given_up("a/0", 500, times=3)
    assert isinstance(ejected, Eject)
    assert "silent" in ejected.why


def test_a_trial_without_an_answer_by_the_deadline_ejects_again() -> None:
    made = probing(taught("a/0", "b/0"), "a/0")
    request_id = made.ask("a/0")
    made.now_ns += 50 * MS
    assert kinds(made.fleet.on_deadline_missed(key("a/0"), request_id, made.now_ns)) == ["Eject"]


def test_an_answer_on_trial_that_is_still_far_too_slow_ejects_again() -> None:
    made = probing(taught("a/0", "b/0"), "a/0")
    (ejected,) = made.answers("a/0", 41)
    assert isinstance(ejected, Eject)
    assert "still slow on trial: 41.0 ms" in ejected.why


def test_ejections_double_up_to_the_longest_and_are_forgiven_after_enough_answers() -> None:
    made = taught("a/0", "b/0", ejection_ms=100, max_ejection_ms=500)
    lengths = []
    for _ in range(4):
        (ejected,) = made.fails("a/0", 1 if lengths else 3)
        assert isinstance(ejected, Eject)
        lengths.append(ejected.for_ns // MS)
        made.passes(lengths[-1])
    assert lengths == [100, 200, 400, 500]
    made.answers("a/0", 10, times=FORGIVEN)
    (still,) = made.fails("a/0", 3)
    assert isinstance(still, Eject)
    assert still.for_ns == 500 * MS, "the readmission itself does not count"
    made.passes(500)
    made.answers("a/0", 10, times=FORGIVEN + 1)
    (ejected,) = made.fails("a/0", 3)
    assert isinstance(ejected, Eject)
    assert ejected.for_ns == 100 * MS


@pytest.mark.parametrize("samples", [3, 4, 5, 7, 12, 40])
def test_a_median_far_above_the_fleets_ejects_however_many_samples_are_asked_for(samples: int) -> None:
    made = taught("a/0", "b/0", "c/0", outlier_samples=samples, ejection_ms=100)
    for name in ("b/0", "c/0", "a/0"):
        made.answers(name, 10, times=20)
    ejected = until_ejected(made, "a/0")
    assert "median latency 45.0 ms against the fleet's 10.0 ms" in ejected.why
    made.passes(100)
    assert made.answers("a/0", 12) == [Readmit(key("a/0"))]
    assert until_ejected(made, "a/0").for_ns == 200 * MS, "it is not forgiven before it can be judged"


def test_below_the_factor_nobody_is_an_outlier_and_alone_nobody_can_be() -> None:
    assert taught("a/0", "b/0", outlier_factor=4.0).answers("a/0", 39, times=40) == []
    assert taught("a/0").answers("a/0", 500, times=40) == []


def test_who_was_ejected_for_being_slow_is_not_readmitted_by_what_it_was_asked_before() -> None:
    made = taught("a/0", "b/0")
    late = made.ask("a/0")
    assert kinds(made.answers("a/0", 60, times=10)) == ["Eject"]
    assert made.fleet.on_answer(key("a/0"), late, Load(), made.now_ns) == []
    assert made["a/0"].health.state is State.EJECTED


def test_who_was_ejected_for_its_silence_is_back_with_its_answer() -> None:
    made = taught("a/0", "b/0")
    late = made.ask("a/0")
    made.given_up("a/0", 40, times=3)
    assert made["a/0"].health.state is State.EJECTED
    assert made.fleet.on_answer(key("a/0"), late, Load(), made.now_ns) == [Readmit(key("a/0"))]


def test_a_frozen_replica_is_out_after_a_few_of_its_usual_latencies() -> None:
    made = taught("a/0", "b/0")
    actions = made.given_up("a/0", 11, times=9)
    assert kinds(actions) == ["Eject"]
    assert made["a/0"].health.why.startswith("silent")


def test_a_wait_that_still_runs_counts_too() -> None:
    made = taught("a/0", "b/0")
    made.given_up("a/0", 20)
    made.ask("a/0")
    assert not made["a/0"].suspect(made.now_ns)
    assert made.passes(11) == []
    assert made["a/0"].suspect(made.now_ns)
    made.answers("a/0", 10)
    assert not made["a/0"].suspect(made.now_ns), "a sign of life"


def test_waits_that_overlap_are_counted_once() -> None:
    together, after = taught("a/0", "b/0"), taught("a/0", "b/0")
    asked = [together.ask("a/0") for _ in range(6)]
    together.now_ns += 10 * MS
    for request_id in asked:
        together.fleet.on_given_up(key("a/0"), request_id, together.now_ns)
    after.given_up("a/0", 10, times=1)
    assert together["a/0"].health.silence == pytest.approx(after["a/0"].health.silence, rel=0.5)


def test_of_a_wait_counts_what_neither_another_wait_nor_an_answer_covers() -> None:
    health = Health()
    health.on_silence(3.0, asked_ns=0, now_ns=10)
    health.on_silence(4.0, asked_ns=5, now_ns=15)
    assert health.silence == 3.0 + 4.0 / 2
    health.on_answer(CONFIG, 1, now_ns=20)
    assert health.silence_with(4.0, asked_ns=0, now_ns=40) == 2.0
    assert health.silence_with(4.0, asked_ns=20, now_ns=20) == 0.0


def test_a_frozen_replica_under_load_whose_waits_always_overlap_is_out_all_the_same() -> None:
    made = taught("a/0", "b/0")
    open_ids = [made.ask("a/0")]
    actions = []
    for _ in range(60):
        made.now_ns += 6 * MS
        open_ids.append(made.ask("a/0"))
        if len(open_ids) > 2:
            actions += made.fleet.on_given_up(key("a/0"), open_ids.pop(0), made.now_ns)
    assert kinds(actions) == ["Eject"]


def test_who_waits_in_a_queue_that_moves_is_not_silent() -> None:
    made = taught("a/0", "b/0")
    asked = [made.ask("a/0") for _ in range(12)]
    for number, request_id in enumerate(asked):
        made.now_ns += 10 * MS
        assert made.fleet.look(made.now_ns) == []
        load = Load(service_ns=10 * MS, queue_ns=number * 10 * MS)
        assert made.fleet.on_answer(key("a/0"), request_id, load, made.now_ns) == []


def test_a_refusal_is_a_sign_of_life() -> None:
    made = taught("a/0", "b/0")
    made.given_up("a/0", 25)
    assert made["a/0"].health.silence > 1
    made.fleet.on_refused(key("a/0"), made.ask("a/0"), Load(), made.now_ns)
    assert made["a/0"].health.silence == 0


@pytest.mark.parametrize(
    ("share", "replicas", "most"), [(0.5, 4, 2), (0.5, 5, 3), (0.5, 1, 0), (1.0, 3, 2), (0.0, 9, 0), (0.34, 2, 1)]
)
def test_no_more_are_out_than_max_ejected_and_never_the_last(share: float, replicas: int, most: int) -> None:
    policy = HealthPolicy(HealthConfig(max_ejected=share))
    assert sum(policy.may_eject(out, replicas) for out in range(replicas)) == most


def test_whose_turn_comes_when_enough_are_out_stays_in() -> None:
    made = taught("a/0", "b/0", "c/0", max_ejected=0.3)
    assert kinds(made.fails("a/0", 3)) == ["Eject"]
    assert made.fails("b/0", 9) == []
    assert made["b/0"].suspect(made.now_ns), "but is asked last"


def test_with_too_few_healthy_ones_nobodys_health_counts() -> None:
    made = taught("a/0", "b/0", "c/0", "d/0", max_ejected=1.0, panic_below=0.5)
    made.fails("a/0", 3)
    made.fails("b/0", 3)
    assert not made.fleet.panic()
    made.fails("c/0", 3)
    assert made.fleet.panic()
    assert len(made.fleet.fit(made.now_ns)) == 4
    made.fleet.leave(key("c/0"))
    made.fleet.leave(key("b/0"))
    assert not made.fleet.panic(), "one of two is healthy"


def test_where_nothing_may_be_tried_on_the_side_it_is_back_on_probation() -> None:
    for made in (taught("a/0", "b/0", repeat="at_most_once"), taught("a/0", "b/0", extra_load=0.0)):
        made.fails("a/0", 3)
        assert made.passes(1_000) == [Readmit(key("a/0"))]
        assert made["a/0"].health.probation
        (ejected,) = made.fails("a/0")
        assert isinstance(ejected, Eject)
        assert ejected.for_ns == 2_000 * MS, "the first failure"


def test_probation_ends_with_enough_answers() -> None:
    made = taught("a/0", "b/0", repeat="at_most_once")
    made.fails("a/0", 3)
    made.passes(1_000)
    made.answers("a/0", 10, times=FORGIVEN)
    assert not made["a/0"].health.probation
    assert made.fails("a/0", 2) == []


def test_a_deadline_missed_is_a_failure() -> None:
    made = taught("a/0", "b/0", consecutive_failures=1)
    request_id = made.ask("a/0")
    made.now_ns += 20 * MS
    (ejected,) = made.fleet.on_deadline_missed(key("a/0"), request_id, made.now_ns)
    assert isinstance(ejected, Eject)
    assert "no answer by the deadline" in ejected.why


def test_the_fallback_on_the_robot_is_never_judged() -> None:
    made = taught("a/0", "b/0")
    made.fleet.join(key("me/0"), Announcement(local=True), made.now_ns)
    assert made.fails("me/0", 30) == made.given_up("me/0", 5_000, 5) == []


def test_medians_beside_are_those_of_the_others() -> None:
    medians = Medians()
    a, b, c = key("a/0"), key("b/0"), key("c/0")
    assert medians.beside(a) is None
    for who, value in ((a, 10.0), (b, 20.0), (c, 40.0)):
        medians.tell(who, value)
    assert (medians.beside(a), medians.beside(b), medians.beside(c)) == (30.0, 25.0, 15.0)
    medians.tell(a, 90.0)
    assert (medians.beside(a), medians.beside(b), medians.beside(key("d/0"))) == (30.0, 65.0, 40.0)
    medians.tell(b, None)
    assert (medians.beside(a), medians.beside(c), medians.beside(b)) == (40.0, 90.0, 65.0)


def test_a_longest_ejection_is_reached_without_overflow() -> None:
    health = Health()
    for _ in range(200):
        assert health.eject(CONFIG, "x", 0) <= CONFIG.max_ejection_ms * MS
