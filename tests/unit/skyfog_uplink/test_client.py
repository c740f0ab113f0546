"""One service of a car: its own model is asked about every image, whatever becomes of the cloud."""

from __future__ import annotations

import math
import random
import threading
from dataclasses import replace
from typing import Any

import pytest

from skyfog_core.clock import ManualClock
from skyfog_core.errors import InvalidRequest
from skyfog_core.units import MS, S
from skyfog_uplink.client import Capture, ClientDriver, Newest, Pace, Told
from skyfog_uplink.policy.merge import Publish
from skyfog_uplink.policy.model import Option, Table
from support.owners import StepOwner
from support.uplink import grant, option, plan, service, table

TABLE = table(service("a", 150, 1_000, option("small"), option("large", 50_000, accuracy=0.8)))
PLAN = plan(grant("a"), number=1)
PROBING = plan(replace(grant("a", probe_bps=1e6), probe=1), number=2)


class HandPeers:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Capture] = []
        self.offered: list[tuple[Capture, int, bool, bytes]] = []
        self.told: list[tuple[Told, Publish]] = []
        self.car, self.shaper = True, True
        self.error: Exception | None = None

    def ask_car(self, capture: Capture) -> bool:
        self.asked.append(capture)
        return self.car

    def can_offload(self) -> bool:
        return self.shaper

    def encode(self, capture: Capture, option: Option) -> bytes:
        if self.error is not None:
            raise self.error
        return f"{capture.image} as {option.name}".encode()

    def offload(self, capture: Capture, option: int, probe: bool, payload: bytes) -> None:
        self.offered.append((capture, option, probe, payload))

    def publish(self, told: Told, how: Publish) -> None:
        self.told.append((told, how))

    @property
    def published(self) -> list[tuple[str, Any, bool, bool]]:
        return [(how.source, told.answer, how.final, how.replaces) for told, how in self.told]


class HandClient:
    """A client whose threads are played by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, publish: Any = "each", of: Table = TABLE) -> None:
        monkeypatch.setattr("skyfog_uplink.client.Owner", StepOwner)
        monkeypatch.setattr(threading.Thread, "start", lambda _self: None)
        monkeypatch.setattr(threading.Thread, "join", lambda _self, _limit: None)
        self.clock, self.peers = ManualClock(10 * S), HandPeers()
        self.driver = ClientDriver(of, "a", self.peers, self.clock, publish, 1_500 * MS)
        self.driver.start()
        self.owner = StepOwner.made[-1]

    def step(self, ms: float = 0.0) -> None:
        self.clock.advance(round(ms * MS))
        self.owner.step()

    def plan(self, given: Any = PLAN) -> None:
        self.driver.plan(given)
        self.step()

    def image(self, image: Any = "x", age_ms: float = 0.0) -> None:
        """A millisecond after what was before, which is as fast as the table's rate allows."""
        self.clock.advance(1 * MS)
        self.driver.image(image, round(age_ms * MS))
        self.step()

    def encode(self) -> None:
        """As the encoder's thread does, for what waits now."""
        job = self.driver._jobs.take() if self.driver._jobs.waiting else None
        if job is not None:
            self.driver._encode_job(job)
        self.step()


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> HandClient:
    return HandClient(monkeypatch)


def test_without_a_plan_each_image_goes_to_the_cars_own_model_alone(client: HandClient) -> None:
    client.image("x")
    client.encode()
    client.driver.car_answered(client.peers.asked[0], "cat")
    client.step(40)
    assert not client.peers.offered
    assert client.peers.published == [("car", "cat", True, False)]


def test_the_cloud_replaces_the_cars_answer_where_it_comes_in_time(client: HandClient) -> None:
    client.plan()
    client.image("x", age_ms=10)
    client.encode()
    ((capture, option, probe, payload),) = client.peers.offered
    assert (option, probe, payload) == (0, False, b"x as small")
    assert capture.deadline_ns == 10 * S + 1 * MS - 10 * MS + 150 * MS
    client.driver.car_answered(capture, "cat")
    client.step(30)
    client.driver.cloud_answered(capture, 0, "two cats")
    client.step(30)
    assert client.peers.published == [("car", "cat", False, False), ("cloud", "two cats", True, True)]
    report = client.driver.report()
    assert (report.images, report.car, report.cloud, report.offered, report.missed) == (1, 1, 1, 1, 0)


def test_an_answer_of_the_cloud_after_the_deadline_is_not_told(client: HandClient) -> None:
    client.plan()
    client.image()
    client.encode()
    ((capture, *_),) = client.peers.offered
    client.driver.car_answered(capture, "cat")
    client.step(151)
    client.driver.cloud_answered(capture, 0, "late")
    client.step()
    assert [source for source, *_ in client.peers.published] == ["car"]


def test_one_answer_an_image_where_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    client = HandClient(monkeypatch, publish="best")
    client.plan()
    client.image()
    client.encode()
    ((capture, *_),) = client.peers.offered
    client.driver.car_answered(capture, "cat")
    client.step(30)
    assert not client.peers.published
    client.driver.cloud_answered(capture, 0, None)
    client.step()
    assert client.peers.published == [("car", "cat", True, False)]


def test_while_the_encoder_is_busy_the_newest_image_wins_and_the_car_answers_the_others(client: HandClient) -> None:
    client.plan()
    for image in ("x", "y", "z"):
        client.image(image)
    client.encode()
    assert [payload for *_, payload in client.peers.offered] == [b"z as small"]
    assert [capture.image for capture in client.peers.asked] == ["x", "y", "z"]
    client.driver.car_answered(client.peers.asked[0], "cat")
    client.step()
    assert client.peers.published == [("car", "cat", True, False)], "nothing better can come for x"
    assert client.driver.report().skipped == 2


def test_a_probe_is_encoded_after_the_planned_frame_and_not_where_a_newer_image_waits(client: HandClient) -> None:
    client.plan(PROBING)
    client.image("x")
    client.encode()
    assert [(option, probe) for _, option, probe, _ in client.peers.offered] == [(0, False), (1, True)]
    client.peers.offered.clear()
    client.image("y")
    job = client.driver._jobs.take()
    client.image("z")
    client.driver._encode_job(job)
    client.step()
    assert [(option, probe) for _, option, probe, _ in client.peers.offered] == [(0, False)]


def test_an_image_whose_time_is_over_is_not_encoded(client: HandClient) -> None:
    client.plan()
    client.image()
    client.clock.advance(200 * MS)
    client.encode()
    assert not client.peers.offered


def test_without_a_shaper_nothing_is_encoded_and_nothing_is_waited_for(client: HandClient) -> None:
    client.plan()
    client.peers.shaper = False
    client.image()
    client.encode()
    assert not client.peers.offered
    client.driver.car_answered(client.peers.asked[0], "cat")
    client.step()
    assert client.peers.published == [("car", "cat", True, False)]


def test_a_plan_that_nobody_repeats_leaves_the_images_to_the_car(client: HandClient) -> None:
    client.plan()
    client.step(1_500)
    client.image()
    client.encode()
    assert not client.peers.offered


def test_a_plan_for_another_table_is_not_followed(client: HandClient) -> None:
    client.plan(plan(grant("zzz"), number=3))
    client.image()
    client.encode()
    assert not client.peers.offered


@pytest.mark.parametrize("error", [InvalidRequest("image.encoding: unknown"), RuntimeError("bug")])
def test_an_image_that_cannot_be_encoded_is_the_cars(client: HandClient, error: Exception) -> None:
    client.plan()
    client.peers.error = error
    client.image()
    client.encode()
    client.driver.car_answered(client.peers.asked[0], "cat")
    client.step()
    assert client.peers.published == [("car", "cat", True, False)]
    client.peers.error = None
    client.image()
    client.encode()
    assert len(client.peers.offered) == 1, "the next one is encoded"


def test_a_car_whose_own_model_is_silent_is_counted_and_the_cloud_still_answers(client: HandClient) -> None:
    client.plan()
    client.peers.car = False
    client.image()
    client.encode()
    client.driver.cloud_answered(client.peers.offered[0][0], 0, "two cats")
    client.step(30)
    client.step(170)
    client.image()
    client.step(200)
    report = client.driver.report()
    assert (report.car_failed, report.missed) == (2, 1)
    assert [source for source, *_ in client.peers.published] == ["cloud"]


def test_a_report_says_how_long_the_camera_is_silent(client: HandClient) -> None:
    assert math.isinf(client.driver.report().image_age_s)
    client.image()
    client.step(700)
    assert client.driver.report().image_age_s == pytest.approx(0.7)


def test_nothing_is_kept_of_images_that_nobody_answers(client: HandClient) -> None:
    client.plan(PROBING)
    for _ in range(200):
        client.image()
        client.step(100)
    client.step(3_000)
    client.driver._merger.check()
    assert not client.driver._merger._open
    assert client.driver.report().missed == 200
    client.driver.close()


@pytest.mark.parametrize(("camera_hz", "rate_hz", "taken"), [(10, 10, 100), (10, 3, 30), (30, 10, 100), (5, 10, 50)])
def test_images_are_taken_at_the_tables_rate(camera_hz: float, rate_hz: float, taken: int) -> None:
    pace = Pace(rate_hz)
    rng = random.Random(1)
    stamps = [round((at + rng.uniform(-0.1, 0.1)) / camera_hz * S) for at in range(10 * camera_hz)]
    assert sum(pace.take(stamp) for stamp in stamps) == pytest.approx(taken, abs=1)


def test_a_camera_that_stalled_is_made_up_for_by_one_image_at_most() -> None:
    pace = Pace(10)
    assert pace.take(0)
    assert [pace.take(60 * S + at * 10 * MS) for at in range(5)] == [True, False, False, True, False]


@pytest.mark.parametrize("jump_ns", [-60 * S, 60 * S])
def test_a_clock_that_jumps_leaves_no_image_out(jump_ns: int) -> None:
    pace = Pace(10)
    assert all(pace.take(100 * S + at * 100 * MS) for at in range(5))
    assert all(pace.take(100 * S + jump_ns + at * 100 * MS) for at in range(5))


def test_images_beyond_the_rate_are_counted_and_nobody_is_asked_about_them(monkeypatch: pytest.MonkeyPatch) -> None:
    client = HandClient(monkeypatch, of=table(service("a", 150, 10)))
    client.image("x")
    client.step(19)
    client.image("y")
    client.step(79)
    client.image("z")
    assert [capture.image for capture in client.peers.asked] == ["x", "z"]
    assert (client.driver.report().images, client.driver.report().surplus) == (2, 1)


def test_the_newest_place_gives_back_what_was_not_taken() -> None:
    place: Newest[int] = Newest()
    assert place.put(1) is None
    assert place.put(2) == 1
    assert place.waiting
    assert place.take() == 2
    place.put(3)
    place.close()
    assert place.take() is None
