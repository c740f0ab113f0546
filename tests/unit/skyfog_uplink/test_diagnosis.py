"""What is wrong with a car's uplink is said in words, at the level that it deserves."""

from __future__ import annotations

import math
from dataclasses import replace

from skyfog_core.diagnosis import Level
from skyfog_core.units import S
from skyfog_uplink.car import CarReport
from skyfog_uplink.diagnosis import ClientReport, Floors, of_car, of_client, of_link, of_plan
from skyfog_uplink.policy.books import empty
from skyfog_uplink.policy.frames import Outcome
from skyfog_uplink.policy.ledger import Ledger
from skyfog_uplink.policy.model import FLOOR
from support.uplink import grant, plan, service, table

TABLE = table(service("a"), service("b"))
PLAN = plan(grant("a"), grant("b"), number=3)


def car(**outcomes: int) -> CarReport:
    books = empty(["a", "b"])
    books.planned["a"].frames.update({Outcome(name): count for name, count in outcomes.items()})
    services = Ledger(TABLE, 0).reports(PLAN, books, 0)
    return CarReport("g", True, 3, 0.1, 16e6, 1e6, services)


def test_a_car_with_gateway_and_plan_is_well() -> None:
    found = of_car(car(), None)
    assert (found.level, found.message) == (Level.OK, "2 services share the link")
    assert found.values["a"] == "cloud 8 Mbit/s"


def test_no_gateway_and_no_plan_are_told() -> None:
    found = of_car(replace(car(), gateway="", plan=0), None)
    assert found.level == Level.WARN
    assert "no gateway is there" in found.message
    assert "is the allocator running" in found.message


def test_misses_are_told_when_they_are_more_than_promised_since_the_last_look() -> None:
    before = car(on_time=50, late=5)
    found = of_car(car(on_time=57, late=7, cut=1, withheld=9), before)
    assert (found.level, found.message) == (Level.WARN, "a: 3 of the last 10 frames sent were missed")
    assert of_car(car(on_time=57, late=6), before).level == Level.OK, "one alone is no trend"


def test_a_service_is_told_only_after_it_was_long_on_the_floor_and_with_the_reason() -> None:
    floors = Floors()
    down = plan(replace(grant("a", 0.0, FLOOR), why="outage"), grant("b"))
    floors.on_plan(down, 0)
    floors.on_plan(down, 5 * S)
    assert of_plan(down, floors, 10.0, 10 * S)["a"].level == Level.OK
    found = of_plan(down, floors, 10.0, 11 * S)
    assert (found["a"].level, found["a"].message) == (Level.WARN, "on the model of the car for 11 s: outage")
    assert (found["b"].level, found["b"].message) == (Level.OK, "in the cloud")
    floors.on_plan(PLAN, 12 * S)
    floors.on_plan(down, 13 * S)
    assert of_plan(down, floors, 10.0, 14 * S)["a"].level == Level.OK, "it was in the cloud meanwhile"


def test_an_outage_and_a_silent_shaper_are_told() -> None:
    assert of_link(0.1, up=True).level == Level.OK
    assert of_link(0.1, up=False).message == "outage: all services are on the models of the car"
    assert "not for 3 s: is the shaper running" in of_link(3.0, up=True).message
    assert "never" in of_link(math.inf, up=False).message


def client(**more: object) -> ClientReport:
    return replace(ClientReport(images=10, car=10, image_age_s=0.1, shaper=True), **more)  # type: ignore[arg-type]


def test_a_client_whose_own_model_is_silent_is_an_error_and_one_that_falters_a_warning() -> None:
    before = client()
    assert of_client(client(car=20), before, 1.0).level == Level.OK
    assert of_client(client(car=10, car_failed=9), before, 1.0).level == Level.ERROR
    found = of_client(client(car=19, car_failed=1), before, 1.0)
    assert (found.level, found.message) == (Level.WARN, "the model on the car failed 1 of the last 10 frames")


def test_a_silent_camera_a_missing_shaper_and_unreadable_images_are_told() -> None:
    assert "no image for 2.0 s" in of_client(client(image_age_s=2.0), None, 1.0).message
    assert "no image yet" in of_client(client(image_age_s=math.inf), None, 1.0).message
    assert "own model alone" in of_client(client(shaper=False), None, 1.0).message
    assert of_client(client(unreadable=3), None, 1.0).level == Level.ERROR
