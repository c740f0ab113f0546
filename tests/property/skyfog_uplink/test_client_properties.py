"""Whatever happens in whatever order: every image is asked about on the car, and is over in the end."""

from __future__ import annotations

import threading
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from skyfog_core.clock import ManualClock
from skyfog_core.units import MS
from skyfog_uplink.client import Capture, ClientDriver, Told
from skyfog_uplink.policy.merge import Publish
from skyfog_uplink.policy.model import Option
from support.owners import StepOwner
from support.uplink import grant, option, plan, service, table

TABLE = table(service("a", 150, 1_000, option("small"), option("large", 50_000, accuracy=0.8)))
PLANS = [plan(grant("a"), number=1), plan(grant("a", probe_bps=1e6), number=2), plan(grant("zzz"), number=3)]


class Peers:
    """A world that answers what the test says, late, twice or never."""

    def __init__(self) -> None:
        self.images: list[Capture] = []
        self.frames: list[tuple[Capture, int]] = []
        self.told: list[tuple[Told, Publish]] = []
        self.shaper = True

    def ask_car(self, capture: Capture) -> bool:
        self.images.append(capture)
        return True

    def can_offload(self) -> bool:
        return self.shaper

    def encode(self, capture: Capture, option: Option) -> bytes:
        return b"x"

    def offload(self, capture: Capture, option: int, probe: bool, payload: bytes) -> None:
        self.frames.append((capture, option))

    def publish(self, told: Told, how: Publish) -> None:
        self.told.append((told, how))


events = st.one_of(
    st.tuples(st.just("image"), st.integers(0, 200)),
    st.tuples(st.just("encode"), st.just(0)),
    st.tuples(st.just("car"), st.integers(0, 20)),
    st.tuples(st.just("car_failed"), st.integers(0, 20)),
    st.tuples(st.just("cloud"), st.integers(0, 20)),
    st.tuples(st.just("cloud_gone"), st.integers(0, 20)),
    st.tuples(st.just("plan"), st.integers(0, 2)),
    st.tuples(st.just("shaper"), st.integers(0, 1)),
    st.tuples(st.just("wait"), st.integers(1, 2_000)),
)


def happen(driver: ClientDriver, peers: Peers, clock: ManualClock, what: str, number: int) -> None:
    match what:
        case "image":
            clock.advance(1 * MS)
            driver.image("x", number * MS)
        case "encode" if driver._jobs.waiting:
            driver._encode_job(driver._jobs._item)  # type: ignore[arg-type]
            driver._jobs._item = None
        case "car" | "car_failed" if peers.images:
            driver.car_answered(peers.images[-1 - number % len(peers.images)], "car" if what == "car" else None)
        case "cloud" | "cloud_gone" if peers.frames:
            capture, option = peers.frames[-1 - number % len(peers.frames)]
            driver.cloud_answered(capture, option, "cloud" if what == "cloud" else None)
        case "plan":
            driver.plan(PLANS[number])
        case "shaper":
            peers.shaper = bool(number)
        case "wait":
            clock.advance(number * MS)


@given(st.lists(events, max_size=80), st.sampled_from(["each", "best"]))
def test_every_image_is_asked_about_on_the_car_and_is_over_in_the_end(
    history: list[tuple[str, int]], publish: Any
) -> None:
    peers, clock = Peers(), ManualClock(0)
    with mock.patch("skyfog_uplink.client.Owner", StepOwner), mock.patch.object(threading.Thread, "start"):
        driver = ClientDriver(TABLE, "a", peers, clock, publish, 1_500 * MS)
        driver.start()
        owner = StepOwner.made[-1]
        images = 0
        for what, number in history:
            happen(driver, peers, clock, what, number)
            owner.step()
            driver._merger.check()
            images += what == "image"
        assert len(peers.images) == images
        clock.advance(5_000 * MS)
        owner.step()
        assert not driver._merger._open, "nothing is kept"
    StepOwner.made.clear()
    for number in range(1, images + 1):
        told = [how for each, how in peers.told if each.capture.number == number]
        assert [how.replaces for how in told] == [False, *[True] * (len(told) - 1)][: len(told)]
        assert sum(how.final for how in told) <= 1
        assert publish == "each" or len(told) <= 1
