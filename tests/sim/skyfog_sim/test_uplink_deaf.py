"""A cloud that hears and does not answer for a while: the car's answers come back with it."""

from __future__ import annotations

import pytest

from skyfog_core.units import S
from skyfog_core.wire.uplink import Answer
from skyfog_sim.uplink import UplinkWorld
from skyfog_sim.uplink_contenders import ours
from skyfog_sim.uplink_drive import Drive
from skyfog_sim.uplink_markov import LIKE_RECORDED
from skyfog_uplink.policy.frames import Ended, Outcome
from support.uplink_tables import small_car

SECONDS = 40.0
DEAF_NS = range(10 * S, 20 * S)
SEEDS = range(3)


class Deaf(UplinkWorld):
    """The cloud's answers are lost in DEAF_NS; chunks are acknowledged."""

    def __init__(self, drive: Drive, deaf: range) -> None:
        super().__init__(drive, ours())
        self._deaf = deaf
        self.answered_ns: list[int] = []  # frames of the plan, in time

    def _answer(self, answer: Answer, session: int) -> None:
        if self.kernel.now_ns not in self._deaf:
            super()._answer(answer, session)

    def _ended(self, action: Ended) -> None:
        if action.outcome is Outcome.ON_TIME and not action.frame.probe:
            self.answered_ns.append(self.kernel.now_ns)
        super()._ended(action)


def after(link: str, seed: int, deaf: range) -> int:
    """Frames answered in time after the time of silence."""
    model = LIKE_RECORDED[link]
    course = model.draw(SECONDS, seed)
    drive = Drive(link, small_car(), course, model.rtt.draw(round(SECONDS * S), seed), SECONDS, seed)
    world = Deaf(drive, deaf)
    world.run()
    assert not any(now_ns in deaf for now_ns in world.answered_ns)
    return sum(now_ns >= DEAF_NS.stop for now_ns in world.answered_ns)


@pytest.mark.parametrize("link", LIKE_RECORDED)
def test_after_a_silence_of_the_cloud_as_much_is_answered_as_without_it(link: str) -> None:
    with_it = sum(after(link, seed, DEAF_NS) for seed in SEEDS)
    without = sum(after(link, seed, range(0)) for seed in SEEDS)
    assert without > 100
    assert with_it > 0.7 * without
