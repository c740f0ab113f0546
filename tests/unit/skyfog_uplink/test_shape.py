"""The shaper: who goes when, what is dropped, and that each frame ends once."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from skyfog_core.config.uplink import ShaperConfig
from skyfog_core.errors import Status
from skyfog_core.units import MS, S
from skyfog_core.wire.uplink import Ack
from skyfog_uplink.policy.frames import Ended, Outcome, SendPing, SendWithdraw
from skyfog_uplink.policy.link import LinkState, down
from skyfog_uplink.policy.model import FLOOR
from skyfog_uplink.policy.shape import EXPLORE_CHUNKS, EXPLORE_NS, GRACE_NS, LOST_NS, Shaper
from support.uplink import FixedEstimator, frame, grant, link, option, plan, service, table
from support.uplink_shaper import WIDE, acks, answer, chunks, ended, shaper


def test_a_frame_goes_in_chunks_that_cover_it_and_its_answer_ends_it() -> None:
    it, estimator = shaper()
    sent = it.on_frame(frame(1, size=10_000), 0)
    assert [(chunk.offset, chunk.size, chunk.total) for chunk in chunks(sent)] == [
        (0, 4_000, 10_000),
        (4_000, 4_000, 10_000),
        (8_000, 2_000, 10_000),
    ]
    assert estimator.sent == [(chunk.seq, chunk.size) for chunk in chunks(sent)]
    acks(it, sent, 50 * MS)
    (end,) = it.on_answer(answer(1), 90 * MS)
    assert isinstance(end, Ended)
    assert (end.outcome, end.answered_ns, end.link_ms, end.cloud_ms) == (Outcome.ON_TIME, 90 * MS, 50.0, 20.0)
    it.check()
    assert it.books.planned["a"].bytes[Outcome.ON_TIME] == 10_000


def test_each_chunk_says_how_long_after_its_arrival_the_answer_must_leave() -> None:
    it, _ = shaper(LinkState(0, True, (8e6,) * 10, (40.0,) * 4, 44.0, 36.0))
    first = chunks(it.on_frame(frame(1, slo_ms=150), 10 * MS))[0]
    assert first.budget_ms == 150 - 10 - 18 - 22


def test_chunks_are_short_on_a_slow_link() -> None:
    it, _ = shaper(link(1e6, 40), ShaperConfig(window_rtts=20.0), planned=plan(grant(rate_bps=1e6)))
    assert chunks(it.on_frame(frame(1, slo_ms=500), 0))[0].size == 1_250


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ({"size": 20 << 20}, "at most"),
        ({"size": 0}, "at most"),
        ({"at_ns": -S}, "over when it came"),
        ({"slo_ms": 61.0}, "only"),
    ],
)
def test_what_cannot_be_is_withheld_at_once(what: dict[str, float], why: str) -> None:
    it, _ = shaper()
    (end,) = it.on_frame(frame(1, **what), 0)  # type: ignore[arg-type]
    assert isinstance(end, Ended)
    assert end.outcome is Outcome.WITHHELD
    assert why in end.why
    it.check()


def test_without_a_gateway_or_a_grant_nothing_is_taken() -> None:
    it = Shaper(table(), WIDE, FixedEstimator())
    assert ended(it.on_frame(frame(1), 0)) == [(1, Outcome.WITHHELD)]
    it.on_connected(0)
    assert ended(it.on_frame(frame(2), 0)) == [(2, Outcome.WITHHELD)]
    it.on_plan(plan(grant(rate_bps=0.0, option=FLOOR)), 0)
    assert ended(it.on_frame(frame(3), 0)) == [(3, Outcome.WITHHELD)]
    it.check()


def test_a_frame_that_has_not_ended_may_not_come_again() -> None:
    it, _ = shaper()
    it.on_frame(frame(1), 0)
    with pytest.raises(ValueError, match="frame 1"):
        it.on_frame(frame(1), 0)
    with pytest.raises(ValueError, match="no such service"):
        it.on_frame(frame(2, "other"), 0)


def test_the_newest_waiting_frame_wins_and_one_that_has_begun_goes_on() -> None:
    it, _ = shaper(config=ShaperConfig(window_rtts=1.0, chunk_bytes=1_200), known=link(1e6, 40))
    begun = it.on_frame(frame(1, slo_ms=900, size=30_000), 0)
    assert chunks(begun)
    assert it.on_frame(frame(2, slo_ms=900, size=30_000), 1 * MS) == []
    assert ended(it.on_frame(frame(3, slo_ms=900, size=30_000), 2 * MS)) == [(2, Outcome.REPLACED)]
    more = acks(it, begun, 40 * MS)
    assert {chunk.frame for chunk in chunks(more)} == {1}
    it.check()


def test_no_more_is_in_flight_than_the_window_and_a_chunk() -> None:
    it, estimator = shaper(link(8e6, 40), ShaperConfig(window_rtts=1.5, chunk_bytes=8_192), table(service(slo_ms=900)))
    sent = chunks(it.on_frame(frame(1, slo_ms=900, size=500_000), 0))
    in_flight = sum(chunk.size for chunk in sent)
    assert 60_000 <= in_flight < 60_000 + 8_192  # 1.5 x 8 Mbit/s x 40 ms
    assert not chunks(it.on_timer(1 * MS))
    assert len(chunks(it.on_ack(Ack(seq=sent[0].seq, received_us=0), 40 * MS))) == 1
    assert estimator.acked == [sent[0].seq]


def test_two_chunks_may_always_be_in_flight() -> None:
    it, _ = shaper(link(1e5, 10), ShaperConfig(window_rtts=1.0), table(service(slo_ms=3_000)))
    assert len(chunks(it.on_frame(frame(1, slo_ms=3_000), 0))) == 2


def test_the_earliest_deadline_goes_first_also_before_one_that_has_begun() -> None:
    two = table(service("a", 900), service("b", 200, 10, option(size=2_000)))
    config = ShaperConfig(window_rtts=1.0, chunk_bytes=1_200)
    it, _ = shaper(link(1e6, 40), config, two, plan(grant("a"), grant("b")))
    begun = it.on_frame(frame(1, "a", slo_ms=900, size=20_000), 0)
    it.on_frame(frame(2, "b", slo_ms=200, size=2_000), 1 * MS)
    more = chunks(acks(it, begun, 40 * MS))
    assert [chunk.frame for chunk in more][:2] == [2, 2]
    assert more[-1].frame == 1 or len(more) == 2


def test_a_new_frame_does_not_take_from_one_that_has_begun_what_it_needs() -> None:
    two = table(service("a", 300), service("b", 250, 10, option(size=20_000)))
    config = ShaperConfig(window_rtts=1.0, chunk_bytes=1_200)
    it, _ = shaper(link(1e6, 40), config, two, plan(grant("a"), grant("b")))
    begun = it.on_frame(frame(1, "a", slo_ms=300, size=20_000), 0)  # 160 of the 240 ms that it has
    assert it.on_frame(frame(2, "b", slo_ms=290, size=13_000), 1 * MS) == []
    (end,) = [action for action in acks(it, begun, 40 * MS) if isinstance(action, Ended)]
    assert (end.frame.id, end.outcome) == (2, Outcome.WITHHELD)
    assert "a has begun" in end.why


def test_a_bucket_holds_a_service_back_and_another_goes_meanwhile() -> None:
    two = table(service("a", 900, 10, option(size=4_000)), service("b", 950))
    it, _ = shaper(link(80e6, 40), WIDE, two, plan(grant("a", 80_000), grant("b")))
    assert len(chunks(it.on_frame(frame(1, "a", slo_ms=900, size=8_000), 0))) == 1  # its bucket holds 4,000
    assert len(chunks(it.on_frame(frame(2, "b", slo_ms=950, size=4_000), 0))) == 1
    due_ns = it.next_timer_ns()
    assert due_ns == 400 * MS, "4,000 bytes at 80 kbit/s"
    assert len(chunks(it.on_timer(due_ns))) == 1


def test_a_bucket_is_as_deep_as_a_frame() -> None:
    it, _ = shaper(link(80e6, 40), WIDE, table(service("a", 900, 1, option(size=90_000))), plan(grant("a", 1e6)))
    assert it._lanes["a", False].bucket.depth_bytes == 90_000


def test_a_frame_too_unlikely_is_withheld_before_its_first_byte_and_cut_after_it() -> None:
    config = ShaperConfig(window_rtts=1.0, chunk_bytes=1_200, certainty=0.9)
    it, estimator = shaper(link(1e6, 40), config, table(service(slo_ms=300)))
    begun = it.on_frame(frame(1, slo_ms=300, size=20_000), 0)
    estimator.known = link(3e5, 40)  # needs more than half a second now
    actions = acks(it, begun, 40 * MS)
    assert ended(actions) == [(1, Outcome.CUT)]
    assert SendWithdraw(1) in actions
    assert ended(it.on_frame(frame(2, slo_ms=300, size=20_000), 41 * MS)) == [(2, Outcome.WITHHELD)]
    it.check()


def test_a_frame_that_has_begun_uses_a_fair_chance() -> None:
    config = ShaperConfig(window_rtts=1.0, chunk_bytes=1_200, certainty=0.9)
    it, estimator = shaper(link(1e6, 40), config, table(service(slo_ms=300)))
    begun = it.on_frame(frame(1, slo_ms=300, size=20_000), 0)
    rates = (1e5,) * 6 + (2e6,) * 4  # half and half
    estimator.known = LinkState(0, True, rates, (40.0,) * 4, 40.0, 40.0)
    actions = acks(it, begun, 40 * MS)
    assert chunks(actions)
    assert not ended(actions)


def test_a_late_answer_is_counted_and_a_later_one_is_unclaimed() -> None:
    it, _ = shaper()
    it.on_frame(frame(1), 0)
    assert ended(it.on_answer(answer(1), 150 * MS + 1)) == [(1, Outcome.LATE)]
    assert it.on_answer(answer(1), 160 * MS) == []
    assert it.on_answer(answer(77), 160 * MS) == []
    assert it.books.unclaimed == 2
    assert it.books.planned["a"].misses == 1
    it.check()


def test_an_answer_on_the_deadline_is_in_time() -> None:
    it, _ = shaper()
    it.on_frame(frame(1), 0)
    assert ended(it.on_answer(answer(1), 150 * MS)) == [(1, Outcome.ON_TIME)]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (Status.NOT_EXECUTED, Outcome.REFUSED),
        (Status.FAILED, Outcome.REFUSED),
        (Status.DEADLINE_EXCEEDED, Outcome.LATE),
    ],
)
def test_the_cloud_may_say_no(status: Status, outcome: Outcome) -> None:
    it, _ = shaper()
    it.on_frame(frame(1), 0)
    (end,) = it.on_answer(answer(1, status), 80 * MS)
    assert isinstance(end, Ended)
    assert (end.outcome, end.status) == (outcome, status)


def test_a_refusal_ends_a_frame_in_the_middle_and_a_result_cannot_come_that_early() -> None:
    it, _ = shaper(config=ShaperConfig(window_rtts=1.0, chunk_bytes=1_200), known=link(1e6, 40))
    it.on_frame(frame(1, slo_ms=900, size=20_000), 0)
    assert ended(it.on_answer(answer(1), 20 * MS)) == []
    assert it.books.strange == 1
    assert ended(it.on_answer(answer(1, Status.NOT_EXECUTED), 30 * MS)) == [(1, Outcome.REFUSED)]
    it.check()


def test_without_an_answer_a_frame_is_lost_a_while_after_its_deadline() -> None:
    it, _ = shaper()
    it.on_frame(frame(1), 0)
    assert it.next_timer_ns() == 150 * MS
    assert it.on_timer(150 * MS) == []
    assert it.next_timer_ns() == 150 * MS + GRACE_NS
    assert ended(it.on_timer(150 * MS + GRACE_NS)) == [(1, Outcome.LOST)]
    assert it.next_timer_ns() is None
    it.check()


def test_on_a_plan_without_the_service_what_waits_is_withheld_and_what_has_begun_goes_on() -> None:
    config = ShaperConfig(window_rtts=1.0, chunk_bytes=1_200)
    it, _ = shaper(config=config, known=link(1e6, 40), of=table(service(slo_ms=900, rate_hz=1)))
    begun = it.on_frame(frame(1, slo_ms=900, size=20_000), 0)
    it.on_frame(frame(2, slo_ms=900, size=20_000), 1 * MS)
    actions = it.on_plan(plan(grant(rate_bps=0.0, option=FLOOR)), 2 * MS)
    assert ended(actions) == [(2, Outcome.WITHHELD)]
    assert chunks(acks(it, begun, 40 * MS))
    it.check()


def test_a_lost_connection_ends_what_is_half_sent_and_what_is_whole_may_still_be_answered() -> None:
    two = table(service("a", 900), service("b", 200, 10, option(size=1_000)))
    config = ShaperConfig(window_rtts=1.0, chunk_bytes=1_200)
    it, _ = shaper(link(1e6, 40), config, two, plan(grant("a"), grant("b")))
    it.on_frame(frame(1, "b", slo_ms=200, size=1_000), 0)  # whole
    it.on_frame(frame(2, "a", slo_ms=900, size=20_000), 1 * MS)  # half
    it.on_frame(frame(3, "a", slo_ms=900, size=20_000), 2 * MS)  # waits
    assert ended(it.on_disconnected(3 * MS)) == [(2, Outcome.OUTAGE), (3, Outcome.WITHHELD)]
    assert it._in_flight == 0
    assert it.on_connected(50 * MS) == []
    assert ended(it.on_answer(answer(1), 100 * MS)) == [(1, Outcome.ON_TIME)]
    it.check()


def test_what_the_connection_took_with_it_ends_as_outage() -> None:
    it, _ = shaper()
    it.on_frame(frame(1), 0)
    it.on_disconnected(10 * MS)
    it.on_timer(150 * MS)
    assert ended(it.on_timer(150 * MS + GRACE_NS)) == [(1, Outcome.OUTAGE)]


def test_in_an_outage_only_pings_go_and_what_comes_back_in_time_goes_on() -> None:
    config = ShaperConfig(window_rtts=1.0, chunk_bytes=1_200)
    it, estimator = shaper(link(1e6, 40), config, table(service(slo_ms=900)))
    begun = it.on_frame(frame(1, slo_ms=900, size=20_000), 0)
    estimator.known, estimator.stepped, estimator.ping = down(0), True, True
    assert [type(action) for action in it.on_timer(300 * MS)] == [SendPing]
    estimator.known = link(1e6, 40)
    assert {chunk.frame for chunk in chunks(acks(it, begun, 400 * MS))} == {1}


def test_an_outage_to_the_end_is_told_as_such() -> None:
    config = ShaperConfig(window_rtts=1.0, chunk_bytes=1_200)
    it, estimator = shaper(link(1e6, 40), config, table(service(slo_ms=900)))
    it.on_frame(frame(1, slo_ms=900, size=20_000), 0)
    estimator.known, estimator.stepped = down(0), True
    it.on_timer(300 * MS)
    assert ended(it.on_timer(900 * MS)) == [(1, Outcome.OUTAGE)]
    it.check()


def test_a_chunk_that_the_transport_did_not_take_ends_its_frame() -> None:
    it, _ = shaper()
    sent = chunks(it.on_frame(frame(1), 0))
    actions = it.on_unsent(sent[1].seq, 1 * MS)
    assert ended(actions) == [(1, Outcome.CUT)]
    assert SendWithdraw(1) in actions
    assert it.on_unsent(sent[1].seq, 2 * MS) == []
    it.check()


def test_a_chunk_never_acknowledged_does_not_hold_the_window_for_ever() -> None:
    it, estimator = shaper(config=ShaperConfig(window_rtts=1.0, chunk_bytes=1_200), known=link(1e6, 40))
    it.on_frame(frame(1, slo_ms=900, size=20_000), 0)
    assert it._in_flight
    estimator.ping = True
    (ping,) = it.on_timer(LOST_NS)
    assert isinstance(ping, SendPing)
    it.on_ack(Ack(seq=ping.seq, received_us=0), LOST_NS + 40 * MS)
    assert it.books.lost_chunks > 0
    it.check()


def test_probes_go_only_when_nothing_planned_waits_and_never_count_as_missed() -> None:
    two = table(service("a", 900), service("b", 900, 10, option(size=2_000)))
    config = ShaperConfig(window_rtts=1.0, chunk_bytes=1_200)
    planned = plan(grant("a", probe_bps=1e6), grant("b"))
    it, _ = shaper(link(1e6, 40), config, two, planned)
    first = it.on_frame(frame(1, "b", slo_ms=900, size=20_000), 0)
    assert it.on_frame(frame(2, "a", slo_ms=900, probe=True), 0) == []
    more = acks(it, first, 40 * MS)
    assert {chunk.frame for chunk in chunks(more)} == {1}
    now_ns = 40 * MS
    while any(chunk.frame == 1 for chunk in chunks(more)):
        now_ns += 10 * MS
        more = acks(it, more, now_ns)
    assert {chunk.frame for chunk in chunks(more)} == {2}
    assert chunks(more)[0].probe
    assert chunks(it.on_frame(frame(3, "a", slo_ms=900), now_ns)) == []
    more = acks(it, more, now_ns + 40 * MS)
    assert chunks(more)[0].frame == 3, "a probe stands back in the middle"
    it.on_timer(900 * MS)
    assert it.books.probes["a"].frames[Outcome.CUT] == 1
    assert it.books.planned["b"].misses == 0
    it.check()


def test_a_probe_is_sent_on_a_link_thought_slow() -> None:
    rates = (1e5,) * 8 + (4e6,) * 2  # one in five
    state = LinkState(0, True, rates, (40.0,) * 4, 40.0, 40.0)
    it, _ = shaper(state, planned=plan(grant(rate_bps=1e6, probe_bps=1e6)))
    assert ended(it.on_frame(frame(1), 0)) == [(1, Outcome.WITHHELD)]
    assert chunks(it.on_frame(frame(2, probe=True), 0))


def test_of_a_hopeless_probe_the_first_chunks_go_after_a_silence() -> None:
    planned = plan(grant(rate_bps=1e6, probe_bps=1e6))
    it, _ = shaper(link(1e5, 40), ShaperConfig(window_rtts=1.0, chunk_bytes=1_200), planned=planned)
    more, now_ns = it.on_frame(frame(1, probe=True), 0), 0
    sent = chunks(more)
    assert len(sent) == 2
    while not ended(more):
        now_ns += 10 * MS
        more = acks(it, more, now_ns)
        sent += chunks(more)
    assert ended(more) == [(1, Outcome.CUT)]
    assert len(sent) == EXPLORE_CHUNKS
    again = it.on_frame(frame(2, at_ns=now_ns, probe=True), now_ns)
    assert ended(again) == [(2, Outcome.WITHHELD)]
    later_ns = now_ns + EXPLORE_NS
    assert chunks(it.on_frame(frame(3, at_ns=later_ns, probe=True), later_ns))
    assert it.books.planned["a"].misses == 0


def test_a_minute_forward_ends_everything_and_a_minute_back_too() -> None:
    it, _ = shaper()
    it.on_frame(frame(1, at_ns=100 * S), 100 * S)
    it.on_timer(160 * S)  # its deadline, and then the grace
    it.on_timer(162 * S)
    assert not it._open
    it.on_frame(frame(2, at_ns=162 * S), 162 * S)
    assert ended(it.on_timer(102 * S)) == [(2, Outcome.LOST)]
    assert it._in_flight == 0
    assert chunks(it.on_frame(frame(3, at_ns=102 * S), 102 * S))
    it.check()


@pytest.mark.parametrize(
    "nonsense",
    [{"rates_bps": (math.nan,) * 10}, {"rates_bps": (math.inf,) * 10}, {"rtt_ms": math.nan}, {"rtts_ms": (-1.0,) * 4}],
)
def test_a_state_that_makes_no_sense_is_an_outage(nonsense: dict[str, Any]) -> None:
    it, estimator = shaper()
    sound, estimator.known = estimator.known, replace(estimator.known, **nonsense)
    for number in range(100):
        at_ns = number * 100 * MS
        assert not chunks(it.on_frame(frame(number, at_ns=at_ns), at_ns))
        it.check()
    assert len(it._open) <= 2
    assert it.books.senseless
    estimator.known = sound
    assert chunks(it.on_frame(frame(100, at_ns=10 * S), 10 * S))


def test_a_minute_of_outage_leaves_nothing_behind() -> None:
    it, estimator = shaper()
    estimator.known, estimator.stepped = down(0), True
    for at in range(600):
        it.on_frame(frame(at, at_ns=at * 100 * MS), at * 100 * MS)
    assert len(it._open) <= 3
    assert len(it._ends) <= 20
    assert len(it._flying) <= 20
    it.on_timer(70 * S)
    assert not it._open
    assert it.books.planned["a"].ended == 600
    it.check()
