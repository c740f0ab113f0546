"""The car's driver: frames become chunks, each caller hears once, and nothing that goes wrong stops it."""

from __future__ import annotations

import math

import pytest

from skyfog_core.errors import InvalidRequest, Status
from skyfog_core.units import MS
from skyfog_core.wire.uplink import Answer, Withdraw
from skyfog_uplink.car import stepped
from skyfog_uplink.policy.frames import Outcome
from skyfog_uplink.policy.model import FLOOR
from support.uplink import grant, link, option, plan, service, table
from support.uplink_car import HASH, HandCar, Heard

TABLE = table(service("a", 150, 10, option("small"), option("large", 30_000)), service("b"))
PLAN = plan(grant("a", 6e6), grant("b", 2e6), number=1)
PAYLOAD = bytes(i % 251 for i in range(10_000))


def car(connected: bool = True, planned: bool = True) -> HandCar:
    made = HandCar(TABLE)
    if planned:
        made.driver.plan(PLAN)
    if connected:
        made.transport.events.connected("g1")
    made.step()
    return made


def offload(of: HandCar, payload: bytes = PAYLOAD, option: int = 0, age_ms: float = 10, probe: bool = False) -> Heard:
    heard = Heard()
    of.driver.offload("a", option, round(age_ms * MS), payload, probe, heard)
    of.step()
    return heard


def test_a_frame_goes_out_in_chunks_and_its_answer_comes_back() -> None:
    one = car()
    heard = offload(one)
    one.send_all()
    chunks = one.transport.chunks()
    assert b"".join(payload for _, payload in chunks) == PAYLOAD
    first, *others = [chunk for chunk, _ in chunks]
    assert (first.service, first.type_hash, first.total, first.frame) == ("/a", HASH, len(PAYLOAD), 1)
    assert 0 < first.budget_ms < 140
    assert all(other.service == "" and other.type_hash == b"" for other in others)
    assert not heard.all
    one.answer(Answer(frame=1, status=Status.OK, cloud_us=20_000, replica="z/r"), b"found")
    ((ended, payload),) = heard.all
    assert (ended.outcome, ended.status, payload, ended.cloud_ms) == (Outcome.ON_TIME, Status.OK, b"found", 20.0)
    one.answer(Answer(frame=1, status=Status.OK, cloud_us=20_000), b"again")
    assert len(heard.all) == 1
    (service_a, _) = one.driver.report().services
    assert (service_a.frames, service_a.on_time_share) == (1, 1.0)
    assert {event["event"] for event in one.trace.events} == {"plan", "connected", "link", "ended"}
    assert [event["pre_ms"] for event in one.trace.events if event["event"] == "ended"] == [10.0], "old when it came"


def test_an_answer_after_the_deadline_brings_no_payload() -> None:
    one = car()
    heard = offload(one)
    one.send_all()
    one.clock.advance(200 * MS)
    one.answer(Answer(frame=1, status=Status.OK, cloud_us=1), b"late")
    ((ended, payload),) = heard.all
    assert (ended.outcome, payload) == (Outcome.LATE, b"")


@pytest.mark.parametrize(
    ("service_name", "option", "payload", "age_ns", "why"),
    [
        ("c", 0, b"x", 0, "no service 'c' in the table test: a, b"),
        ("a", 2, b"x", 0, "a has options 0 to 1, not 2"),
        ("a", FLOOR, b"x", 0, "not -1"),
        ("a", 0, b"", 0, "0 bytes; 1 to 100000"),
        ("a", 0, bytes(100_001), 0, "100001 bytes"),
        ("a", 0, b"x", -1, "1 ns in the future"),
    ],
)
def test_what_is_not_in_the_table_is_refused_at_the_door(
    service_name: str, option: int, payload: bytes, age_ns: int, why: str
) -> None:
    heard = Heard()
    with pytest.raises(InvalidRequest, match=why):
        car().driver.offload(service_name, option, age_ns, payload, False, heard)
    assert not heard.all


def test_without_a_plan_or_a_gateway_frames_come_back_at_once() -> None:
    for one in (car(planned=False), car(connected=False)):
        ((ended, _),) = offload(one).all
        assert ended.outcome is Outcome.WITHHELD
        assert not one.transport.chunks()


def test_a_plan_that_nobody_repeats_puts_every_service_on_the_floor() -> None:
    one = car()
    assert one.driver.report().plan == 1
    one.step(1_499)
    assert one.driver.report().plan_age_s == pytest.approx(1.499)
    one.step(1)
    report = one.driver.report()
    assert (report.plan, math.isnan(report.plan_age_s)) == (0, True)
    ((ended, _),) = offload(one).all
    assert ended.outcome is Outcome.WITHHELD
    one.driver.plan(PLAN)
    one.step()
    assert not offload(one).all, "an allocator that came back is followed again"


def test_a_plan_for_another_table_is_refused_and_the_one_before_goes_on() -> None:
    one = car()
    one.driver.plan(plan(grant("zzz"), number=9))
    one.step()
    assert one.driver.report().plan == 1


def test_when_the_gateway_goes_what_was_half_sent_is_over_and_the_next_one_gets_what_comes_then() -> None:
    one = car()
    heard = offload(one, bytes(30_000), option=1)
    assert one.transport.chunks()
    one.transport.events.disconnected("it was silent")
    one.step()
    ((ended, _),) = heard.all
    assert ended.outcome is Outcome.OUTAGE
    assert one.driver.report().gateway == ""
    one.transport.events.connected("g2")
    one.step(200)
    one.transport.sent.clear()
    offload(one)
    assert one.transport.chunks()
    assert one.driver.report().gateway == "g2"


def test_a_chunk_that_the_transport_does_not_take_ends_its_frame() -> None:
    one = car()
    one.transport.full = True
    heard = offload(one)
    one.step()
    ((ended, _),) = heard.all
    assert ended.outcome is Outcome.CUT
    assert one.driver.report().services[0].sent_bps == 0
    one.transport.full = False
    assert not offload(one).all


def test_after_a_restart_no_frame_has_an_id_that_the_gateway_may_remember() -> None:
    before = car()
    for _ in range(100):
        offload(before, bytes(100))
        before.step(10)
    after = HandCar(TABLE, start_ns=before.clock.now_ns())
    after.driver.plan(PLAN)
    after.transport.events.connected("g1")
    after.step()
    offload(after)
    assert before.transport.chunks()[-1][0].frame < after.transport.chunks()[0][0].frame


def test_a_frame_that_is_cut_is_withdrawn() -> None:
    one = car()
    heard = offload(one, bytes(30_000), option=1)
    one.step(160)
    ((ended, _),) = heard.all
    assert ended.outcome is Outcome.CUT
    assert Withdraw(frame=1) in [message for message, _ in one.transport.sent]


def test_closing_ends_every_frame_once_and_leaves_the_network() -> None:
    one = car()
    heard = offload(one)
    one.driver.close()
    ((ended, _),) = heard.all
    assert ended.outcome in {Outcome.OUTAGE, Outcome.LOST}
    assert one.transport.closed


def test_the_link_is_told_ten_times_a_second_and_at_once_when_it_steps() -> None:
    one = car()
    one.links.clear()
    for _ in range(50):
        one.step(20)
    assert len(one.links) == 10
    one.links.clear()
    one.estimator.known = link(rate_bps=2e6)
    one.step(20)
    assert [state.rates_bps[0] for state in one.links] == [2e6]
    one.step(20)
    assert len(one.links) == 1


def test_a_step_is_a_change_of_rate_or_round_trip_or_an_outage() -> None:
    assert not stepped(link(8e6), link(9e6))
    assert stepped(link(8e6), link(6e6))
    assert stepped(link(rtt_ms=40), link(rtt_ms=60))


def test_probes_are_counted_apart() -> None:
    one = HandCar(TABLE)
    one.driver.plan(plan(grant("a", 4e6, probe_bps=1e6), grant("b", 4e6), number=1))
    one.transport.events.connected("g")
    one.step()
    offload(one, probe=True)
    one.send_all(60)
    one.answer(Answer(frame=1, status=Status.OK, cloud_us=1), b"x")
    (found, _) = one.driver.report().services
    assert (found.frames, found.probes, found.probes_on_time) == (0, 1, 1)
