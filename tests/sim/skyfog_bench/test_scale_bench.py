"""`skyfog bench scale` on a small fleet: its counts, never its times."""

from __future__ import annotations

from skyfog_bench import scale
from skyfog_bench.processes import Processes


def test_every_request_is_on_the_bill_once() -> None:
    size = scale.Size(robots=20, replicas=8, seconds=2.0, rounds=1, policies=("slo",))
    fleet, bill = scale.play("slo", size, 1)
    assert bill.by_request.keys() == fleet.check.calls.keys()
    assert bill.events["on_call"] == len(bill.by_request) == len(bill.requests_us())
    assert bill.events["on_join"] >= 20 * 8
    assert min(bill.requests_us()) > 0
    assert bill.membership_us() > 0


def test_timers_are_shared_by_all_requests() -> None:
    bill = scale.Bill(reading_ns=5)
    bill.add("on_call", 1_005, (b"1",))
    bill.add("on_reply", 2_005, (b"1",))
    bill.add("on_call", 1_005, (b"2",))
    bill.add("on_timer", 4_005, (0,))
    bill.add("on_join", 9_005, ("replica",))
    assert sorted(bill.requests_us()) == [3.0, 5.0]
    assert bill.membership_us() == 9.0


def test_the_report_has_a_row_and_goals_a_policy() -> None:
    size = scale.Size(robots=5, replicas=4, seconds=1.0, rounds=2, policies=("slo", "single"))
    with Processes({}) as processes:
        report = scale.run(processes, size, 0, lambda _text: None)
    assert [row["policy"] for row in report.rows] == ["slo", "single"]
    assert len(report.goals) == 7
    assert report.goals[-1].met
