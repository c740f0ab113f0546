"""A large fleet that never rests: everybody is served, and what the policy costs can be measured."""

from __future__ import annotations

from skyfog_core.clock import ManualClock
from skyfog_sim.cluster import production_router
from skyfog_sim.scale import BigFleet, Metered, ScaleModel

MODEL = ScaleModel(robots=60, replicas=30, zones=5, seconds=3.0, churn_per_s=10.0)


def test_everybody_is_served_while_replicas_come_and_go() -> None:
    fleet = BigFleet(MODEL)
    fleet.run()
    outcomes = fleet.check.outcomes
    assert fleet.churned > 15
    assert outcomes.total() == len(fleet.check.calls) > 100
    assert outcomes["delivered"] == outcomes.total()


def test_one_seed_one_history() -> None:
    def play(seed: int) -> tuple[int, int, dict[str, int]]:
        fleet = BigFleet(MODEL, seed)
        fleet.run()
        return fleet.kernel.calls, fleet.kernel.now_ns, dict(fleet.check.sends)

    assert play(1) == play(1) != play(2)


def test_the_policy_is_measured_by_a_clock_of_the_outside() -> None:
    meters: list[Metered] = []

    class Ticking(ManualClock):
        def now_ns(self) -> int:
            self.advance(5)
            return super().now_ns()

    def make(config: object, *rest: object) -> object:
        meters.append(Metered(production_router(config, *rest), Ticking()))  # type: ignore[arg-type]
        return meters[-1]

    fleet = BigFleet(ScaleModel(robots=5, replicas=4, zones=2, seconds=1.0), make_router=make)  # type: ignore[arg-type]
    fleet.run()
    calls = sum(meter.events["on_call"] for meter in meters)
    assert calls == len(fleet.check.calls)
    assert sum(meter.spent_ns["on_call"] for meter in meters) == 5 * calls
