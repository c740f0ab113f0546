"""Broken policies: each invariant of uplink_check catches the one that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from skyfog_core.config.uplink import ShaperConfig, UplinkConfig
from skyfog_core.wire.uplink import Answer
from skyfog_sim.uplink import Contender, UplinkWorld
from skyfog_sim.uplink_seeds import replay
from skyfog_uplink.policy.allocate import Allocator
from skyfog_uplink.policy.estimate import LinkEstimator
from skyfog_uplink.policy.frames import Action, Ended, Frame, Outcome, SendChunk
from skyfog_uplink.policy.judge import Judge
from skyfog_uplink.policy.link import LinkState
from skyfog_uplink.policy.merge import MergeAction, Merger
from skyfog_uplink.policy.model import Table
from skyfog_uplink.policy.plan import Plan
from skyfog_uplink.policy.shape import Shaper
from support.uplink_tables import small_car

CONFIG = UplinkConfig()
SEEDS = range(4)


class Forgetful(Shaper):
    """Says of every tenth end nothing."""

    ends = 0

    def on_answer(self, answer: Answer, now_ns: int) -> list[Action]:
        actions = super().on_answer(answer, now_ns)
        Forgetful.ends += 1
        return [] if Forgetful.ends % 10 == 0 else actions


class Repeats(Shaper):
    """Ends what is answered twice."""

    def on_answer(self, answer: Answer, now_ns: int) -> list[Action]:
        actions = super().on_answer(answer, now_ns)
        return actions + [action for action in actions if isinstance(action, Ended)]


class Flatters(Shaper):
    """Calls everything on time."""

    def on_frame(self, frame: Frame, now_ns: int) -> list[Action]:
        actions = super().on_frame(frame, now_ns)
        return [replace(a, outcome=Outcome.ON_TIME) if isinstance(a, Ended) else a for a in actions]


class Skips(Shaper):
    """Leaves a hole in front of later chunks."""

    def on_ack(self, ack: object, now_ns: int) -> list[Action]:
        actions = super().on_ack(ack, now_ns)  # type: ignore[arg-type]
        return [replace(a, offset=a.offset + 1) if isinstance(a, SendChunk) and a.offset else a for a in actions]


class Unbound(Shaper):
    """Sends at four times what it was granted."""

    def on_plan(self, plan: Plan, now_ns: int) -> list[Action]:
        grants = tuple(replace(g, rate_bps=4 * g.rate_bps, probe_bps=50 * g.probe_bps) for g in plan.grants)
        return super().on_plan(replace(plan, grants=grants), now_ns)


class Generous(Allocator):
    """Grants twice what there is."""

    def on_timer(self, now_ns: int) -> Plan | None:
        plan = super().on_timer(now_ns)
        if plan is None:
            return None
        return replace(plan, grants=tuple(replace(g, rate_bps=2 * g.rate_bps) for g in plan.grants))


def _contender(
    shaper: Callable[..., Shaper] = Shaper, allocator: Callable[..., Allocator] = Allocator, **more: float
) -> Contender:
    config = CONFIG.shaper.model_copy(update=more) if more else CONFIG.shaper

    def sender(table: Table) -> Shaper:
        return shaper(table, config, LinkEstimator(CONFIG.estimator))

    return Contender("mutant", lambda table: allocator(table, CONFIG.allocator), sender)


@pytest.mark.parametrize(
    ("contender", "invariant"),
    [
        (_contender(Forgetful), "leak"),
        (_contender(Repeats), "once"),
        (_contender(Flatters), "in time"),
        (_contender(Skips), "bytes"),
        (_contender(Unbound), "rate"),
        (_contender(allocator=Generous), "budget"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_policy_is_caught(contender: Contender, invariant: str) -> None:
    whys = [replay(seed, small_car(), contender, kinds=("detour",))[1] for seed in SEEDS]
    assert any(f"Broken: {invariant}" in why for why in whys), whys


class NoDoubt(Judge):
    def planned(self, *_: object) -> str:  # type: ignore[override]
        return ""


class Reckless(Shaper):
    """Sends whatever it is given."""

    def __init__(self, table: Table, config: ShaperConfig, estimator: LinkEstimator) -> None:
        super().__init__(table, config, estimator)
        self._judge = NoDoubt(table, config)


class Bold(Allocator):
    """Takes the link for twenty times as fast as it is."""

    def on_link(self, link: LinkState, now_ns: int) -> Plan | None:
        return super().on_link(replace(link, rates_bps=tuple(20 * rate for rate in link.rates_bps)), now_ns)


def test_policies_that_miss_too_much_are_caught() -> None:
    whys = [replay(seed, small_car(), _contender(Reckless, Bold), kinds=())[1] for seed in range(8)]
    assert any("Broken: misses" in why for why in whys), whys


def test_a_merger_that_waits_for_the_cloud_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def on_car(self: Merger, capture: int, answer: object, now_ns: int) -> list[MergeAction]:
        return []

    monkeypatch.setattr(Merger, "on_car", on_car)
    whys = [replay(seed, small_car(), kinds=("detour",))[1] for seed in SEEDS]
    assert all("Broken: floor" in why for why in whys), whys


def test_a_merger_that_publishes_late_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    true = Merger.on_capture

    def on_capture(self: Merger, capture: int, deadline_ns: int, *rest: int) -> list[MergeAction]:
        return true(self, capture, deadline_ns + 10**10, *rest)

    monkeypatch.setattr(Merger, "on_capture", on_capture)
    monkeypatch.setattr(UplinkWorld, "_floors", property(lambda _self: [[10**9] * 10_000] * 10), raising=False)
    monkeypatch.setattr(UplinkWorld, "__setattr__", _but_floors, raising=False)
    whys = [replay(seed, small_car(), kinds=("detour",))[1] for seed in SEEDS]
    assert all("Broken: in time" in why for why in whys), whys


def _but_floors(self: UplinkWorld, name: str, value: object) -> None:
    if name != "_floors":
        object.__setattr__(self, name, value)


def test_production_is_not_caught() -> None:
    assert [replay(seed, small_car(), kinds=("detour",))[1] for seed in SEEDS] == [""] * len(SEEDS)
