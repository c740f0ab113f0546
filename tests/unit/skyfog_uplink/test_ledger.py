"""What each service sends and is worth right now."""

from __future__ import annotations

import math

import pytest

from skyfog_core.errors import Status
from skyfog_core.units import MS, S
from skyfog_uplink.policy.books import Books, empty
from skyfog_uplink.policy.frames import Ended, Frame, Outcome
from skyfog_uplink.policy.ledger import LastSecond, Ledger, ServiceReport
from support.uplink import frame, grant, option, plan, service, table

TABLE = table(service("a", 150, 10, option("small"), option("large", accuracy=0.8)))
PLAN = plan(grant("a", 4e6, 1))


def ended(of: Frame, outcome: Outcome = Outcome.ON_TIME) -> Ended:
    return Ended(of, outcome, Status.OK)


def report(ledger: Ledger, now_ns: int, books: Books | None = None) -> ServiceReport:
    (found,) = ledger.reports(PLAN, books or empty(["a"]), now_ns)
    return found


def test_the_last_second_forgets_what_is_older() -> None:
    window = LastSecond()
    for at_ms in range(0, 2_000, 100):
        window.add(1.0, at_ms * MS)
    assert window.total(1_999 * MS) == 10
    assert window.total(2_499 * MS) == 5
    assert window.total(9 * S) == 0


def test_the_last_second_is_of_bounded_size_and_survives_a_clock_that_jumps() -> None:
    window = LastSecond()
    for at_s in (*range(1_000), 3, 2, 1):
        window.add(1.0, at_s * S)
    assert window.total(1 * S) == 1
    assert len(window._slots) <= 20


def test_sent_bytes_are_told_in_bits_a_second() -> None:
    ledger = Ledger(TABLE, 0)
    ledger.on_sent("a", 1_000, 10 * MS)
    ledger.on_sent("a", 500, 900 * MS)
    assert report(ledger, 950 * MS).sent_bps == ledger.sent_bps(950 * MS) == 12_000


def test_ten_frames_in_time_in_a_second_are_worth_their_options_accuracy() -> None:
    ledger = Ledger(TABLE, 0)
    for number in range(10):
        at_ns = number * 100 * MS
        ledger.on_ended(ended(frame(number, at_ns=at_ns)), at_ns)
    assert report(ledger, 950 * MS).utility == pytest.approx(0.6)
    assert report(ledger, 5 * S).utility == pytest.approx(0.3), "nothing since: the floor's"


def test_an_image_that_was_answered_twice_is_worth_its_best_answer() -> None:
    ledger = Ledger(TABLE, 0)
    large = Frame(2, "a", 1, 0, 150 * MS, 10_000, probe=True)
    for answer in (frame(1), large, frame(3)):
        ledger.on_ended(ended(answer), 100 * MS)
    assert report(ledger, 100 * MS).utility == pytest.approx(0.3 + 0.5 / 10)


def test_time_on_the_floor_counts_from_the_last_answer_in_time() -> None:
    ledger = Ledger(TABLE, 1 * S)
    assert report(ledger, 3 * S).on_floor_s == 2
    ledger.on_ended(ended(frame(1)), 4 * S)
    ledger.on_ended(ended(frame(2), Outcome.LATE), 6 * S)
    assert report(ledger, 7 * S).on_floor_s == 3


def test_outcomes_are_the_shapers_and_shares_are_of_what_was_sent() -> None:
    books = empty(["a"])
    counts = {Outcome.ON_TIME: 97, Outcome.LATE: 2, Outcome.CUT: 1, Outcome.WITHHELD: 50, Outcome.REPLACED: 7}
    books.planned["a"].frames.update(counts)
    books.probes["a"].frames.update({Outcome.ON_TIME: 3, Outcome.LATE: 4})
    found = report(Ledger(TABLE, 0), 0, books)
    assert (found.frames, found.offloaded, found.misses) == (157, 100, 3)
    assert found.on_time_share == 0.97
    assert (found.probes, found.probes_on_time) == (7, 3)
    assert (found.option_name, found.rate_bps) == ("large", 4e6)
    assert math.isnan(report(Ledger(TABLE, 0), 0).on_time_share)


def test_what_is_remembered_of_images_is_bounded() -> None:
    ledger = Ledger(TABLE, 0)
    for number in range(1_000):
        ledger.on_ended(ended(frame(number, at_ns=number)), number)
    assert len(ledger._accounts["a"].credited) <= 32
