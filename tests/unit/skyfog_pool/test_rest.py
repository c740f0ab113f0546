"""The default placement where machines come within a second: it comes to rest after each loss."""

from __future__ import annotations

import random

import pytest

from skyfog_core.units import S
from skyfog_pool.lifecycle import State
from skyfog_pool.policy.market import Notice
from support.kind_cloud import KindCloud, launches

TICK_NS = S // 4
NOTICE_NS = 8 * S
WINDOW = 40  # ticks
MOST = 16  # launches within a window, of a pool of four that may lose two at once


class QuickCloud(KindCloud):
    """Machines run after a quarter of a second, also those that were given back before; services need four."""

    def tick(self) -> int:
        """A quarter of a second. Returns how many launches it brought."""
        self.now_ns += TICK_NS
        before = len(self.asked)
        due_ns = self.policy.next_timer_ns()
        if due_ns is not None and due_ns <= self.now_ns:
            self.do("on_timer")
        for who in list(self.policy.replicas.values()):
            age_ns = self.now_ns - who.since_ns
            if who.state is State.SHUTTING_DOWN and who.started_ns is None:
                self.do("on_started", who.id)
            elif who.is_doomed or who.state is State.READY:
                continue
            elif age_ns >= {State.STARTING: 4 * S, State.DRAINING: S}.get(who.state, TICK_NS):
                self.next(who)
        return len(launches(self.asked[before:]))

    def strike(self, draw: random.Random) -> list[int]:
        """Take a machine without a word, or tell one or two of a zone that they go. Returns who was told."""
        up = [who for who in self.policy.replicas.values() if who.is_ready and who.market == "spot"]
        if not up:
            return []
        one = draw.choice(up)
        if draw.random() < 0.4:
            self.do("on_preempted", one.id)
            return []
        told = [who.id for who in up if who.zone == one.zone][:2]
        for replica in told:
            self.do("on_notice", replica, Notice("interruption", self.now_ns + NOTICE_NS))
        return told


@pytest.mark.parametrize("seed", range(40))
def test_a_loss_brings_no_storm_of_launches(seed: int) -> None:
    draw = random.Random(seed)
    cloud = QuickCloud("skyfog", min_replicas=4, num_overprovision=None, min_zones=1 + seed % 2)
    brought: list[int] = []
    going: dict[int, int] = {}
    for tick in range(4 * 240):
        brought.append(cloud.tick())
        if tick % 96 == 80:
            going |= dict.fromkeys(cloud.strike(draw), cloud.now_ns + NOTICE_NS)
        for replica in [replica for replica, at_ns in going.items() if at_ns <= cloud.now_ns]:
            del going[replica]
            cloud.do("on_preempted", replica)
    assert max(sum(brought[i : i + WINDOW]) for i in range(len(brought))) <= MOST
