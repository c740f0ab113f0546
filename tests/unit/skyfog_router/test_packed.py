"""Packed payloads through both drivers, and answers that are given again."""

from __future__ import annotations

import pytest
from unit.skyfog_router.drivers import HASH, FakeQuery, Replica, Robot, settle

from skyfog_core.clock import ManualClock
from skyfog_core.errors import InvalidReply, Status
from skyfog_core.wire import codec
from skyfog_core.wire.envelope import VERSION, Encoding, Header, ReplyHeader
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.payload import pack
from skyfog_router.replica import Result

A = ReplicaKey("a", "0")
X = b"x" * 16
REQUEST, RESPONSE = b"request" * 1_000, b"response" * 1_000
PLAIN, ZSTD = Encoding.PLAIN, Encoding.ZSTD


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.mark.parametrize("robot_packs", [PLAIN, ZSTD])
@pytest.mark.parametrize("replica_packs", [PLAIN, ZSTD])
def test_each_end_has_what_the_other_gave(clock: ManualClock, robot_packs: Encoding, replica_packs: Encoding) -> None:
    robot, replica = Robot(clock, encoding=robot_packs), Replica(clock, encoding=replica_packs)
    robot.transport.replicas[A] = replica.transport
    robot.join(A)
    caller = robot.call(REQUEST)
    settle(robot, replica)
    assert [payload for payload, _ in replica.handler.running.values()] == [REQUEST]
    replica.handler.finish(Result(Status.OK, RESPONSE))
    settle(robot, replica)
    assert caller.heard == [RESPONSE]
    header = codec.decode_header(robot.transport.sent[0][2])
    assert (header.encoding, header.accepts) == (robot_packs, robot_packs)
    assert (len(robot.transport.sent[0][3]) < len(REQUEST) / 5) == (robot_packs is ZSTD)


@pytest.mark.parametrize(("accepts", "packs", "used"), [(PLAIN, ZSTD, PLAIN), (ZSTD, PLAIN, PLAIN), (ZSTD, ZSTD, ZSTD)])
def test_a_reply_is_packed_only_for_who_can_read_it(
    clock: ManualClock, accepts: Encoding, packs: Encoding, used: Encoding
) -> None:
    replica = Replica(clock, encoding=packs)
    query = FakeQuery(codec.encode(Header(VERSION, X, 0, 100, HASH, accepts=accepts)), b"")
    replica.transport.arrive(query)
    replica.owner.step()
    replica.handler.finish(Result(Status.OK, RESPONSE))
    ((header, payload),) = query.answers
    assert codec.decode_reply_header(header).encoding is used
    assert (len(payload) < len(RESPONSE) / 5) == (used is ZSTD)


def test_a_request_that_cannot_be_unpacked_is_refused_and_runs_nothing(clock: ManualClock) -> None:
    replica = Replica(clock)
    query = FakeQuery(codec.encode(Header(VERSION, X, 0, 100, HASH, encoding=ZSTD)), b"no frame")
    replica.transport.arrive(query)
    replica.owner.step()
    reply = codec.decode_reply_header(query.answers[0][0])
    assert reply.status is Status.NOT_EXECUTED
    assert "packed payload" in reply.message
    assert not replica.handler.running


def test_a_reply_that_cannot_be_unpacked_is_no_reply(clock: ManualClock) -> None:
    robot = Robot(clock, encoding=ZSTD)
    robot.join(A)
    caller = robot.call(REQUEST)
    request_id = robot.transport.sent[0][1]
    packed = pack(RESPONSE, ZSTD)[1]
    robot.reply(A, codec.encode(ReplyHeader(VERSION, request_id, Status.OK, 0, 0, encoding=ZSTD)), packed[:-1])
    (error,) = caller.heard
    assert type(error) is InvalidReply


def test_who_asks_again_for_what_has_run_gets_the_answer(clock: ManualClock) -> None:
    replica = Replica(clock)
    first, again = (FakeQuery(codec.encode(Header(VERSION, X, n, 100, HASH)), REQUEST) for n in range(2))
    replica.transport.arrive(first)
    replica.owner.step()
    replica.handler.finish(Result(Status.OK, RESPONSE, service_us=42))
    replica.owner.step()
    replica.transport.arrive(again)
    replica.owner.step()
    assert not replica.handler.running, "it ran once"
    assert again.answers == first.answers[:1]


def test_what_did_not_run_is_not_kept(clock: ManualClock) -> None:
    replica = Replica(clock)
    query = FakeQuery(codec.encode(Header(VERSION, X, 0, 100, HASH)), REQUEST)
    replica.transport.arrive(query)
    replica.owner.step()
    replica.handler.finish(Result(Status.NOT_EXECUTED, message="busy"))
    assert replica.driver._kept.find(X) is None
