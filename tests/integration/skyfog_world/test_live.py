"""A world that runs by itself: what its listener hears, and what may be ordered of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from integration.skyfog_world.conftest import Make

from skyfog_core.errors import InvalidRequest
from skyfog_core.units import MS, S
from skyfog_world.live import Due, LiveWorld
from skyfog_world.model import Sensor
from skyfog_world.mujoco_sim import Simulation
from skyfog_world.sensors import Picture
from support.processes import wait_until

LIMIT_S = 20.0


class Heard:
    """Keeps all, and can hold up the sensor thread."""

    def __init__(self) -> None:
        self.ticks: list[int] = []
        self.told: list[int] = []
        self.pictures: list[int] = []
        self.scans: list[int] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def ticked(self, now_ns: int) -> None:
        self.ticks.append(now_ns)

    def states(self, simulation: Simulation) -> None:
        self.told.append(simulation.now_ns)

    def picture(self, sensor: Sensor, picture: Picture, taken_ns: int) -> None:
        assert self.go_on.wait(LIMIT_S)
        self.pictures.append(taken_ns)

    def scanned(self, sensor: Sensor, ranges: np.ndarray, taken_ns: int) -> None:
        self.scans.append(taken_ns)


Start = Callable[..., tuple[LiveWorld, Heard]]


@pytest.fixture
def start(simulate: Make) -> Iterator[Start]:
    made: list[LiveWorld] = []

    def begin(world: str, factor: float) -> tuple[LiveWorld, Heard]:
        heard = Heard()
        made.append(LiveWorld(simulate(world), heard, real_time_factor=factor, state_hz=50.0))
        made[-1].start()
        return made[-1], heard

    yield begin
    for live in made:
        live.close()
        assert live.fault is None


def test_as_fast_as_it_goes_no_picture_and_no_scan_is_left_out(start: Start) -> None:
    _, heard = start("warehouse", 0.0)
    wait_until("two seconds", lambda: bool(heard.ticks) and heard.ticks[-1] >= 2 * S)
    assert heard.ticks[:3] == [10 * MS, 20 * MS, 30 * MS]
    assert heard.told[:3] == [10 * MS, 20 * MS, 40 * MS]
    assert np.diff(heard.scans[:15]) == pytest.approx(100 * MS, abs=10 * MS)
    assert len([when for when in heard.pictures if when <= S]) in range(24, 28)  # 15 Hz of one camera, 10 of another


def test_a_slow_picture_does_not_hold_up_the_physics(start: Start) -> None:
    _, heard = start("warehouse", 4.0)
    wait_until("a picture", lambda: bool(heard.pictures))
    heard.go_on.clear()
    since, seen = heard.ticks[-1], len(heard.pictures)
    wait_until("another second", lambda: heard.ticks[-1] > since + S)
    assert len(heard.pictures) <= seen + 1
    heard.go_on.set()
    wait_until("pictures again", lambda: len(heard.pictures) > seen + 3)
    assert heard.pictures[-1] > since + S


def test_orders_are_done_between_steps_and_their_errors_reach_who_gave_them(start: Start) -> None:
    live, heard = start("tabletop", 0.0)  # so that no picture is left out
    assert live.order(lambda simulation: len(simulation.world.models)).result(LIMIT_S) > 5

    def wrong(simulation: Simulation) -> Any:
        simulation.drive("panda", 1.0, 0.0)

    with pytest.raises(InvalidRequest, match="no diff drive"):
        live.order(wrong).result(LIMIT_S)
    wait_until("a second", lambda: bool(heard.ticks) and heard.ticks[-1] > S)
    ticks, pictures = len(heard.ticks), len(heard.pictures)
    live.reset(3).result(LIMIT_S)
    wait_until("time begins anew", lambda: 10 * MS in heard.ticks[ticks:])
    wait_until("pictures after that", lambda: 10 * MS in heard.pictures[pictures:])


def test_what_is_due_comes_again_and_what_was_missed_is_not_made_good() -> None:
    due = Due(100)
    taken = [now for now in range(0, 1_000, 10) if not 210 < now < 560 and due.take(now)]
    assert taken == [0, 100, 200, 560, 660, 760, 860, 960]
