"""The gateway: assembly, acknowledgements, budgets, refusals, and what is forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from skyfog_core.config.router import RoutingConfig
from skyfog_core.config.uplink import GatewayConfig
from skyfog_core.errors import Status
from skyfog_core.units import MS, US, S
from skyfog_core.wire.uplink import Chunk, Ping, Withdraw
from skyfog_uplink.policy.gateway import (
    BACKSTOP_NS,
    PATIENCE_NS,
    REMEMBER_NS,
    REMEMBERED,
    SILENT_NS,
    Ask,
    Cancel,
    Gateway,
    GatewayAction,
    SendAck,
    SendAnswer,
)

HASH = bytes(range(32))


def gateway(**config: Any) -> Gateway:
    return Gateway(GatewayConfig(services={"/detect": RoutingConfig()}, **config))


def chunk(
    frame: int = 1, offset: int = 0, total: int = 3_000, budget_ms: int = 100, seq: int = 0, name: str = "/detect"
) -> Chunk:
    first = {"service": name, "type_hash": HASH} if offset == 0 else {}
    return Chunk(seq=seq, frame=frame, offset=offset, total=total, budget_ms=budget_ms, **first)


def others(actions: list[GatewayAction]) -> list[GatewayAction]:
    return [action for action in actions if not isinstance(action, SendAck)]


def refusal(actions: list[GatewayAction]) -> tuple[Status, str]:
    (found,) = others(actions)
    assert isinstance(found, SendAnswer)
    return found.answer.status, found.answer.message


def test_every_message_is_acknowledged_at_once_with_the_gateways_clock() -> None:
    it = gateway()
    (ack,) = it.on_chunk("car", chunk(seq=7), b"x" * 1_000, 5 * MS)
    assert isinstance(ack, SendAck)
    assert (ack.car, ack.ack.seq, ack.ack.received_us) == ("car", 7, 5_000)
    (ack,) = it.on_ping("car", Ping(seq=8), 6 * MS)
    assert isinstance(ack, SendAck)
    assert (ack.ack.seq, ack.ack.received_us) == (8, 6_000)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 1, 2, 0, 0)])
def test_a_frame_is_put_together_in_any_order_and_asked_once(order: tuple[int, ...]) -> None:
    it = gateway()
    asked: list[GatewayAction] = []
    for at in order:
        asked += others(it.on_chunk("car", chunk(offset=1_000 * at), bytes([at]) * 1_000, 0))
    (ask,) = asked
    assert isinstance(ask, Ask)
    assert (ask.car, ask.frame, ask.service, ask.type_hash) == ("car", 1, "/detect", HASH)
    assert b"".join(ask.parts) == b"\0" * 1_000 + b"\1" * 1_000 + b"\2" * 1_000
    it.check()


def test_frames_of_several_cars_do_not_mix() -> None:
    it = gateway()
    it.on_chunk("one", chunk(total=2_000), b"1" * 1_000, 0)
    it.on_chunk("two", chunk(total=2_000), b"2" * 1_000, 0)
    (first,) = others(it.on_chunk("one", chunk(offset=1_000, total=2_000), b"1" * 1_000, 0))
    (second,) = others(it.on_chunk("two", chunk(offset=1_000, total=2_000), b"2" * 1_000, 0))
    assert isinstance(first, Ask)
    assert isinstance(second, Ask)
    assert (b"".join(first.parts), b"".join(second.parts)) == (b"1" * 2_000, b"2" * 2_000)


def test_the_answer_goes_back_with_the_clouds_time() -> None:
    it = gateway()
    it.on_chunk("car", chunk(total=1_000), b"x" * 1_000, 10 * MS)
    (sent,) = it.on_reply("car", 1, Status.OK, 35 * MS, b"boxes", service_us=20_000, replica="a/1")
    assert isinstance(sent, SendAnswer)
    assert sent.payload == b"boxes"
    assert (sent.answer.cloud_us, sent.answer.service_us, sent.answer.replica) == (25_000, 20_000, "a/1")
    assert it.open_frames() == 0
    assert it.on_reply("car", 1, Status.OK, 36 * MS, b"boxes") == []
    assert it.counts["late_replies"] == 1
    it.check()


def test_an_error_goes_back_without_bytes() -> None:
    it = gateway()
    it.on_chunk("car", chunk(total=1_000), b"x" * 1_000, 0)
    (sent,) = it.on_reply("car", 1, Status.FAILED, MS, b"junk", message="out of memory")
    assert isinstance(sent, SendAnswer)
    assert (sent.payload, sent.answer.status, sent.answer.message) == (b"", Status.FAILED, "out of memory")


def test_the_budget_is_what_is_left_by_the_chunk_that_waited_least() -> None:
    it = gateway()
    it.on_chunk("car", chunk(budget_ms=100), b"x" * 1_000, 0)  # until 100
    it.on_chunk("car", chunk(offset=1_000, budget_ms=80), b"x" * 1_000, 10 * MS)  # until 90
    (ask,) = others(it.on_chunk("car", chunk(offset=2_000, budget_ms=79), b"x" * 1_000, 30 * MS))  # waited
    assert isinstance(ask, Ask)
    assert ask.budget_ms == 60


def test_too_late_is_said_before_anybody_is_asked() -> None:
    it = gateway()
    it.on_chunk("car", chunk(budget_ms=20, total=2_000), b"x" * 1_000, 0)
    late = it.on_chunk("car", chunk(offset=1_000, budget_ms=20, total=2_000), b"x" * 1_000, 20 * MS)
    assert refusal(late)[0] is Status.DEADLINE_EXCEEDED
    assert it.counts["too_late"] == 1
    it.check()


def test_a_withdrawn_frame_is_forgotten_also_for_chunks_that_come_after() -> None:
    it = gateway()
    it.on_chunk("car", chunk(), b"x" * 1_000, 0)
    assert it.on_withdraw("car", Withdraw(frame=1), MS) == []
    assert it.open_frames() == 0
    assert others(it.on_chunk("car", chunk(offset=1_000), b"x" * 1_000, 2 * MS)) == []
    assert it.open_frames() == 0
    assert it.counts["after_the_end"] == 1
    it.check()


def test_a_withdrawal_that_overtakes_its_frame_counts_too() -> None:
    it = gateway()
    it.on_withdraw("car", Withdraw(frame=1), 0)
    assert others(it.on_chunk("car", chunk(total=1_000), b"x" * 1_000, MS)) == []


def test_a_withdrawal_cancels_the_call() -> None:
    it = gateway()
    it.on_chunk("car", chunk(total=1_000), b"x" * 1_000, 0)
    assert it.on_withdraw("car", Withdraw(frame=1), MS) == [Cancel("car", 1)]
    assert it.on_reply("car", 1, Status.OK, 2 * MS, b"x") == []
    it.check()


@pytest.mark.parametrize(
    ("chunks", "why"),
    [
        ([(chunk(total=5_000), 1_000)], "5000 bytes; at most 4000"),
        ([(chunk(name="/other"), 1_000)], "no service /other"),
        ([(chunk(), 1_000), (chunk(offset=1_000, total=2_500), 1_000)], "3000 bytes by one chunk and 2500 by another"),
        ([(chunk(), 1_000), (chunk(offset=500), 1_000), (chunk(offset=1_500), 1_000)], "overlap"),
        ([(chunk(), 1_000), (chunk(), 900)], "overlap"),
        ([(chunk(offset=2_500), 1_000)], "overlap"),
        ([(chunk(), 0)], "overlap"),
        ([(chunk(offset=at), 1) for at in range(13)], "too small pieces"),
    ],
)
def test_what_cannot_become_a_request_is_refused_with_the_reason(chunks: list[tuple[Chunk, int]], why: str) -> None:
    it = gateway(max_frame_bytes=4_000)
    for one, size in chunks[:-1]:
        assert others(it.on_chunk("car", one, b"x" * size, 0)) == []
    one, size = chunks[-1]
    status, message = refusal(it.on_chunk("car", one, b"x" * size, 0))
    assert status is Status.NOT_EXECUTED
    assert why in message
    assert others(it.on_chunk("car", one, b"x" * size, 0)) == [], "and only once"
    it.check()


def test_no_more_frames_and_bytes_than_allowed() -> None:
    it = gateway(max_open=2)
    it.on_chunk("car", chunk(1), b"x" * 1_000, 0)
    it.on_chunk("car", chunk(2), b"x" * 1_000, 0)
    assert refusal(it.on_chunk("car", chunk(3), b"x" * 1_000, 0)) == (
        Status.NOT_EXECUTED,
        "2 frames are under way here",
    )
    it = gateway(max_held_bytes=2_500)
    it.on_chunk("car", chunk(1), b"x" * 2_000, 0)
    assert refusal(it.on_chunk("car", chunk(2), b"x" * 1_000, 0))[1] == "2000 bytes wait here"
    it.check()


def test_half_a_frame_is_forgotten_after_a_while() -> None:
    it = gateway()
    it.on_chunk("car", chunk(), b"x" * 1_000, 0)
    it.on_chunk("car", chunk(offset=1_000), b"x" * 1_000, S)
    while it.open_frames():
        due_ns = it.next_timer_ns()
        assert due_ns is not None
        assert it.on_timer(due_ns) == []
    assert due_ns == S + SILENT_NS
    assert it.counts["forgotten"] == 1
    assert it.next_timer_ns() is None
    it.check()


def test_a_frame_with_a_long_budget_is_waited_for_through_an_outage_but_not_for_ever() -> None:
    it = gateway()
    it.on_chunk("car", chunk(budget_ms=4_500), b"x" * 1_000, 0)
    it.on_chunk("car", chunk(offset=1_000, budget_ms=1_000), b"x" * 1_000, 3_500 * MS)
    (ask,) = others(it.on_chunk("car", chunk(offset=2_000, budget_ms=900), b"x" * 1_000, 3_600 * MS))
    assert isinstance(ask, Ask)
    assert ask.budget_ms == 900
    it.on_chunk("car", chunk(frame=2, budget_ms=1_000_000), b"x" * 1_000, 4 * S)
    it.on_timer(4 * S + PATIENCE_NS)
    assert it.counts["forgotten"] == 1
    it.check()


def test_a_call_that_never_ends_is_given_up() -> None:
    it = gateway()
    it.on_chunk("car", chunk(total=1_000, budget_ms=100), b"x" * 1_000, 0)
    assert it.on_timer(100 * MS + BACKSTOP_NS - 1) == []
    cancel, sent = it.on_timer(100 * MS + BACKSTOP_NS)
    assert cancel == Cancel("car", 1)
    assert isinstance(sent, SendAnswer)
    assert sent.answer.status is Status.DEADLINE_EXCEEDED


def test_a_number_may_be_used_again_after_a_while() -> None:
    it = gateway()
    it.on_withdraw("car", Withdraw(frame=1), 0)
    (ask,) = others(it.on_chunk("car", chunk(total=1_000), b"x" * 1_000, REMEMBER_NS))
    assert isinstance(ask, Ask)


def test_what_is_over_is_remembered_in_bounds() -> None:
    it = gateway()
    for frame in range(REMEMBERED + 100):
        it.on_withdraw("car", Withdraw(frame=frame), 0)
    it.check()


def test_a_clock_that_jumps_hangs_nothing() -> None:
    it = gateway()
    it.on_chunk("car", chunk(1, total=1_000), b"x" * 1_000, 100 * S)
    it.on_chunk("car", chunk(2), b"x" * 1_000, 100 * S)
    it.on_timer(40 * S)
    for _ in range(10):
        due_ns = it.next_timer_ns()
        if due_ns is None:
            break
        it.on_timer(due_ns)
    assert due_ns is None
    assert it.open_frames() == 0
    (ask,) = others(it.on_chunk("car", chunk(3, total=1_000), b"x" * 1_000, 40 * S))
    assert isinstance(ask, Ask)
    it.on_timer(100 * S)
    assert it.open_frames() == 0
    it.check()


def test_a_huge_budget_is_bounded() -> None:
    it = gateway()
    (ask,) = others(it.on_chunk("car", chunk(total=1_000, budget_ms=10**15), b"x" * 1_000, 0))
    assert isinstance(ask, Ask)
    assert ask.budget_ms == 3_600_000
    assert it.next_timer_ns() is not None
    assert it.next_timer_ns() <= 2 * 3_600 * S + US  # type: ignore[operator]
