"""What `skyfog uplink status` prints."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
from rich.console import Console

from skyfog_bringup import observe
from skyfog_bringup.uplink_tables import Part, UplinkReport, joined, plain, status_table
from skyfog_uplink.car import CarReport
from skyfog_uplink.policy.books import empty
from skyfog_uplink.policy.frames import Outcome
from skyfog_uplink.policy.ledger import Ledger
from skyfog_uplink.policy.link import down
from skyfog_uplink.policy.model import FLOOR
from support.uplink import grant, link, plan, service, table

TABLE = table(service("front"), service("left"))
COUNTS = {Outcome.ON_TIME: 970, Outcome.LATE: 20, Outcome.CUT: 10, Outcome.WITHHELD: 3, Outcome.REPLACED: 4}


def report(front: Mapping[Outcome, int] = COUNTS) -> CarReport:
    books = empty(["front", "left"])
    books.planned["front"].frames.update(front)
    granted = plan(grant("front", 4e6), replace(grant("left", 0.0, FLOOR), why="the link has not enough"), number=7)
    services = Ledger(TABLE, 0).reports(granted, books, now_ns=0)
    services = (replace(services[0], utility=1.25), replace(services[1], on_floor_s=75.0))
    return CarReport("g1", True, 7, 0.1, 8e6, 3.5e6, services)


def printed(*reports: UplinkReport) -> str:
    console = Console(width=150, no_color=True)
    with console.capture() as capture:
        console.print(status_table(reports))
    return capture.get()


def test_a_car_that_is_well_has_a_line_for_its_link_and_a_row_a_service() -> None:
    text = printed(UplinkReport("anna", "skyfog", "test", report(), link(8e6, 40)))
    head, *_ = text.splitlines()
    assert head.startswith("anna, gateway g1, link 8 to 8 Mbit/s (p5 to p50), round trip 40 ms, queue 0 ms")
    assert "plan 7 of 8 Mbit/s, 3.5 Mbit/s sent" in head
    front = next(line for line in text.splitlines() if " front " in line)
    figures = ["anna", "front", "cloud", "0", "4", "1.250", "1,007", "97.0", "%", "30", "7", "0/0", "-"]
    assert front.split() == [*figures, "20", "late,", "10", "cut"]


def test_a_service_on_the_floor_says_since_when_and_why() -> None:
    text = printed(UplinkReport("anna", "skyfog", "test", report(), link()))
    assert "anna left: 75 s on the floor: the link has not enough" in text
    assert "front:" not in text


def test_what_is_missing_is_said_in_the_cars_line() -> None:
    bad = replace(report(), gateway="", plan=0, up=False)
    for state in (None, down(0)):
        text = printed(UplinkReport("anna", "skyfog", "test", bad, state))
        assert "anna, no gateway, link down, no plan: all on the floor" in text


def test_json_has_outcomes_by_name_and_null_for_what_is_unknown() -> None:
    bad = replace(report({}), plan_age_s=math.nan)
    (found,) = json.loads(json.dumps(plain([UplinkReport("anna", "skyfog", "test", bad, None)]), allow_nan=False))
    assert found["report"]["plan_age_s"] is None
    assert found["link"] is None
    (found,) = plain([UplinkReport("anna", "skyfog", "test", report(), link())])
    assert found["report"]["services"][0]["outcomes"]["withheld"] == 3
    assert found["link"]["rtt_ms"] == 40


def test_states_are_joined_with_the_links_of_the_same_shaper() -> None:
    one, two = Part("/a/shaper", "anna", report=report()), Part("/b/shaper", "bert", report=report())
    found = joined([one, Part("/b/shaper", link=link(2e6)), two, Part("/c/shaper", link=link(9e6))])
    assert [(each.car, each.link and each.link.rates_bps[0]) for each in found] == [("anna", None), ("bert", 2e6)]


def test_nobody_there_is_said_with_what_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nobody:
        def __enter__(self) -> Nobody:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def first(self, limit_s: float) -> list[UplinkReport]:
            return []

    monkeypatch.setattr(observe, "_ros", lambda whom: Nobody() if whom == "cars" else None)
    with pytest.raises(observe.SkyfogError, match="no car told its state within 2 s: is a shaper running"):
        observe.uplink(Console(), as_json=False, watch=False, limit_s=2)
