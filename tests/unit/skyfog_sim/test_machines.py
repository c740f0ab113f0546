"""The modelled provider: what is taken, told and billed, and when."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from skyfog_core.units import S
from skyfog_pool.policy.actions import Action, Drain, Launch, Terminate
from skyfog_pool.policy.market import Market, Notice, Prices, Zone
from skyfog_sim.durations import Constant
from skyfog_sim.kernel import Kernel
from skyfog_sim.machines import MachineModel, Machines, Served
from skyfog_sim.market import MarketTrace, Steps, ZoneMarket, constant

HOUR = 3_600 * S
QUICK = MachineModel(
    provision=Constant(60 * S),
    warm_up=Constant(100 * S),
    refusal=Constant(30 * S),
    drain=Constant(2 * S),
    shut_down=Constant(10 * S),
    notice_share=0.0,
    victim="youngest",
)


@dataclass
class Ear:
    """Writes down what it is told, in seconds, and answers with what was laid ready."""

    heard: list[tuple[float, str, Any]] = field(default_factory=list)
    answers: dict[tuple[str, int], list[Action]] = field(default_factory=dict)

    def _hear(self, what: str, replica: int, now_ns: int, more: Any = None) -> list[Action]:
        self.heard.append((now_ns / S, what, replica if more is None else (replica, more)))
        return self.answers.get((what, replica), [])

    def on_prices(self, prices: dict[str, Prices], now_ns: int) -> list[Action]:
        self.heard.append((now_ns / S, "prices", {zone: price.spot for zone, price in prices.items()}))
        return []

    def on_provisioning(self, replica: int, now_ns: int) -> list[Action]:
        return []

    def on_started(self, replica: int, now_ns: int) -> list[Action]:
        return self._hear("started", replica, now_ns)

    def on_ready(self, replica: int, now_ns: int) -> list[Action]:
        return self._hear("ready", replica, now_ns)

    def on_notice(self, replica: int, notice: Notice, now_ns: int) -> list[Action]:
        return self._hear("notice", replica, now_ns, notice)

    def on_preempted(self, replica: int, now_ns: int) -> list[Action]:
        return self._hear("preempted", replica, now_ns)

    def on_launch_failed(self, replica: int, why: str, now_ns: int) -> list[Action]:
        return self._hear("failed", replica, now_ns, why)

    def on_drained(self, replica: int, now_ns: int) -> list[Action]:
        return self._hear("drained", replica, now_ns)

    def on_terminated(self, replica: int, now_ns: int) -> list[Action]:
        return self._hear("terminated", replica, now_ns)

    def of(self, *kinds: str) -> list[tuple[float, str, Any]]:
        return [one for one in self.heard if one[1] in kinds]


class World:
    def __init__(
        self,
        capacity: Steps,
        model: MachineModel = QUICK,
        price: Steps | None = None,
        on_demand: Steps | None = None,
        seed: int = 0,
    ) -> None:
        zone = ZoneMarket(Zone("za", "z"), capacity, price or constant(1.0), 3.0, on_demand)
        self.kernel, self.ear = Kernel(), Ear()
        self.machines = Machines(self.kernel, MarketTrace("m", (zone,), 10 * HOUR), model, seed, self.ear)

    def at(self, second: float, *actions: Action) -> None:
        self.kernel.at(round(second * S), lambda: self.machines.perform(actions))

    def launch(self, second: float, *replicas: int, market: Market = "spot") -> None:
        self.at(second, *(Launch(replica, "za", market, 1, "") for replica in replicas))

    def run(self, until: float) -> list[tuple[float, str, Any]]:
        self.kernel.run(until_ns=round(until * S))
        return self.ear.heard


def test_a_machine_starts_then_is_ready_and_costs_from_its_start_until_it_is_gone() -> None:
    world = World(constant(4))
    world.launch(0, 1)
    world.at(3_760, Drain(1, 30 * S, ""))
    world.ear.answers["drained", 1] = [Terminate(1, "")]
    world.run(5_000)
    assert world.ear.of("started", "ready", "drained", "terminated") == [
        (60, "started", 1),
        (160, "ready", 1),
        (3_762, "drained", 1),
        (3_772, "terminated", 1),
    ]
    assert world.machines.count.usd["spot"] == pytest.approx((3_772 - 60) / 3_600)
    assert world.machines.served == [Served(1, "za", "spot", 160 * S, 3_760 * S, abrupt=False)]
    assert world.machines.live == {}


def test_the_bill_follows_the_price_and_on_demand_has_its_own() -> None:
    world = World(constant(4), price=Steps((0, 1_860 * S), (1.0, 2.0)))
    world.launch(0, 1)
    world.launch(0, 2, market="on_demand")
    world.run(3_660)
    world.machines.close_books()
    assert world.machines.count.usd == {"spot": pytest.approx(0.5 * 1.0 + 0.5 * 2.0), "on_demand": pytest.approx(3.0)}
    assert world.machines.count.machine_ns == {"spot": HOUR, "on_demand": HOUR}
    assert world.ear.of("prices") == [(0, "prices", {"za": 1.0}), (1_860, "prices", {"za": 2.0})]


def test_a_launch_beyond_the_capacity_fails_after_a_while_and_holds_no_place() -> None:
    world = World(constant(1))
    world.launch(0, 1, 2)
    world.at(100, Terminate(1, ""))
    world.launch(111, 3)
    world.run(1_000)
    assert world.ear.of("failed", "started") == [
        (30, "failed", (2, "capacity")),
        (60, "started", 1),
        (171, "started", 3),
    ]
    assert world.machines.count.launch_failures == 1
    assert world.machines.count.launches == {"spot": 3, "on_demand": 0}


def test_a_machine_that_is_shut_down_holds_its_place_until_it_is_gone() -> None:
    world = World(constant(1))
    world.launch(0, 1)
    world.at(100, Terminate(1, ""))
    world.launch(105, 2)
    world.run(1_000)
    assert world.ear.of("failed") == [(135, "failed", (2, "capacity"))]


def test_a_fall_of_capacity_takes_launches_first_then_the_youngest() -> None:
    world = World(Steps((0, 200 * S), (3, 1)))
    world.launch(0, 1)
    world.launch(10, 2)
    world.launch(150, 3)  # still on its way at 200 s
    world.run(400)
    assert world.ear.of("preempted", "failed") == [(200, "failed", (3, "capacity")), (200, "preempted", 2)]
    assert [one.replica for one in world.machines.served] == [2]
    assert world.machines.served[0].abrupt
    assert world.machines.ready == {"spot": 1, "on_demand": 0}
    assert world.machines.count.usd["spot"] == pytest.approx((200 - 70) / 3_600)  # a launch that failed costs nothing


@pytest.mark.parametrize(("victim", "gone"), [("youngest", 2), ("oldest", 1)])
def test_whom_the_market_takes_is_an_option(victim: Any, gone: int) -> None:
    world = World(Steps((0, 500 * S), (2, 1)), MachineModel(notice_share=0.0, victim=victim))
    world.launch(0, 1)
    world.launch(1, 2)
    world.run(600)
    assert world.ear.of("preempted") == [(500, "preempted", gone)]


def test_on_demand_machines_are_never_taken_but_may_be_short() -> None:
    world = World(Steps((0, 200 * S), (1, 0)), on_demand=constant(1))
    world.launch(0, 1, 2, market="on_demand")
    world.run(1_000)
    assert world.ear.of("preempted") == []
    assert world.ear.of("failed") == [(30, "failed", (2, "capacity"))]
    assert world.machines.ready["on_demand"] == 1


def test_a_notice_comes_ahead_names_the_time_and_holds_though_another_leaves() -> None:
    model = MachineModel(provision=Constant(0), warm_up=Constant(0), victim="youngest", shut_down=Constant(0))
    world = World(Steps((0, 1_000 * S), (2, 1)), model)
    world.launch(0, 1)
    world.launch(1, 2)
    world.at(900, Terminate(1, ""))
    world.run(2_000)
    assert world.ear.of("notice") == [(880, "notice", (2, Notice("interruption", 1_000 * S)))]
    assert world.ear.of("preempted") == [(1_000, "preempted", 2)]
    assert world.machines.count.noticed == world.machines.count.preemptions == 1
    # Nobody drained it, so that it went with what ran on it.
    assert Served(2, "za", "spot", 1 * S, 1_000 * S, abrupt=True) in world.machines.served


def test_one_that_was_told_goes_before_one_that_came_later() -> None:
    model = MachineModel(provision=Constant(0), warm_up=Constant(0), victim="youngest")
    world = World(Steps((0, 1_000 * S), (3, 2)), model)
    world.launch(0, 1)
    world.launch(700, 2, 4)
    world.at(800, Terminate(4, ""))
    world.kernel.run(until_ns=879 * S)
    world.launch(881, 3)
    world.run(2_000)
    assert [told for _, _, (told, _) in world.ear.of("notice")] == []
    assert world.ear.of("preempted") == [(1_000, "preempted", 3)]  # came after the notices, and is not told

    world = World(Steps((0, 1_000 * S), (2, 1)), model)
    world.launch(0, 1)
    world.launch(700, 2)
    world.at(890, Terminate(1, ""))
    world.launch(950, 3)
    world.run(2_000)
    assert [told for _, _, (told, _) in world.ear.of("notice")] == [2]
    assert world.ear.of("preempted") == [(1_000, "preempted", 2)]


def test_who_is_told_decides_how_long_a_replica_serves_on() -> None:
    model = MachineModel(provision=Constant(0), warm_up=Constant(0))
    world = World(Steps((0, 1_000 * S), (1, 0)), model)
    world.launch(0, 1)
    world.at(990, Drain(1, 10 * S, ""))
    world.run(2_000)
    assert world.machines.served == [Served(1, "za", "spot", 0, 990 * S, abrupt=False)]


def test_a_share_of_notices_is_left_out() -> None:
    falls = Steps(tuple(range(0, 400_000 * S, 1_000 * S)), tuple(100 - (i % 100) for i in range(400)))
    model = MachineModel(provision=Constant(0), warm_up=Constant(0), notice_share=0.3)
    world = World(falls, model, seed=3)
    world.machines.market = MarketTrace("m", world.machines.market.zones, 10**15)
    world.launch(0, *range(1, 101))
    world.run(99_000)
    count = world.machines.count
    assert count.preemptions >= 30
    assert 0.1 < count.noticed / count.preemptions < 0.5


def test_a_recommendation_comes_before_the_notice() -> None:
    model = MachineModel(provision=Constant(0), warm_up=Constant(0), rebalance_share=1.0, victim="youngest")
    world = World(Steps((0, 1_000 * S), (1, 0)), model)
    world.launch(0, 1)
    world.run(2_000)
    assert world.ear.of("notice") == [
        (400, "notice", (1, Notice("rebalance"))),
        (880, "notice", (1, Notice("interruption", 1_000 * S))),
    ]


def test_one_that_is_on_its_way_can_be_given_back_at_no_cost() -> None:
    world = World(constant(1))
    world.launch(0, 1)
    world.at(20, Terminate(1, ""))
    world.run(500)
    assert world.ear.heard[1:] == [(30, "terminated", 1)]
    assert world.machines.count.usd["spot"] == 0.0


def test_one_seed_gives_one_history() -> None:
    def history(seed: int) -> list[tuple[float, str, Any]]:
        world = World(Steps((0, 500 * S, 600 * S), (4, 3, 2)), MachineModel(victim="random"), seed=seed)
        world.launch(0, 1, 2, 3, 4)
        return world.run(1_000)

    assert history(1) == history(1)
    assert len({str(history(seed)) for seed in range(8)}) > 1
