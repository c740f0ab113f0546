"""The robot's driver: policy actions on a transport, bytes checked, callers told exactly once."""

from __future__ import annotations

import pytest
from unit.skyfog_router.drivers import HASH, SAID, SERVICE, FakeCaller, Robot

from skyfog_core.clock import ManualClock
from skyfog_core.config.router import RoutingConfig
from skyfog_core.errors import (
    DeadlineExceeded,
    InvalidReply,
    InvalidRequest,
    NotExecuted,
    OutcomeUnknown,
    Overloaded,
    RequestError,
    ServiceFailed,
    Status,
)
from skyfog_core.units import MS
from skyfog_core.wire import codec
from skyfog_core.wire.envelope import VERSION, Header, ReplyHeader, refusal
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.membership import Announcement

A, B = ReplicaKey("a", "0"), ReplicaKey("b", "0")


@pytest.fixture
def robot() -> Robot:
    made = Robot(ManualClock())
    made.join(A, B)
    return made


def ok(robot: Robot, request_id: bytes | None = None) -> bytes:
    made = robot.transport.sent[-1][1] if request_id is None else request_id
    return codec.encode(ReplyHeader(VERSION, made, Status.OK, 0, 0))


def only_failure(caller: FakeCaller) -> RequestError:
    (error,) = caller.heard
    assert isinstance(error, RequestError)
    return error


def test_a_call_goes_to_every_replica_with_header_and_untouched_payload(robot: Robot) -> None:
    robot.call(b"\x00payload")
    assert [(replica, payload, budget) for replica, _, _, payload, budget in robot.transport.sent] == [
        (A, b"\x00payload", 100),
        (B, b"\x00payload", 100),
    ]
    _, request_id, header, _, _ = robot.transport.sent[1]
    assert codec.decode_header(header) == Header(VERSION, request_id, 1, 100, HASH)


def test_a_call_brings_its_own_budget_and_the_hash_of_what_it_passes_on(robot: Robot) -> None:
    robot.call(budget_ms=30, type_hash=b"h" * 32)
    _, request_id, header, _, budget = robot.transport.sent[0]
    assert budget == 30
    assert codec.decode_header(header) == Header(VERSION, request_id, 0, 30, b"h" * 32)
    robot.clock.advance(30 * MS)
    robot.owner.step()
    assert not robot.router.is_open(request_id)


def test_first_reply_reaches_the_caller_and_the_loser_is_cancelled(robot: Robot) -> None:
    caller = robot.call()
    robot.reply(B, ok(robot), b"from b")
    robot.reply(A, ok(robot), b"from a")
    assert caller.heard == [b"from b"]
    assert robot.transport.cancelled == [(A, robot.transport.sent[0][1])]
    assert robot.router.books.late == 1


def test_every_call_has_an_id_of_its_own(robot: Robot) -> None:
    for _ in range(3):
        robot.call()
    assert len({request_id for _, request_id, *_ in robot.transport.sent}) == 3


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"garbage",
        codec.encode(ReplyHeader(VERSION, b"o" * 16, Status.OK, 0, 0)),
        codec.encode(ReplyHeader(VERSION, b"o" * 16, Status.OK, 0, 0)).replace(b"\x9a\x02", b"\x9a\x03", 1),
    ],
    ids=["no attachment", "garbage", "another request", "later version"],
)
def test_a_reply_that_is_none_leaves_the_call_to_the_others(robot: Robot, header: bytes) -> None:
    caller = robot.call()
    robot.reply(A, header, b"bad")
    assert caller.heard == []
    robot.reply(B, ok(robot), b"good")
    assert caller.heard == [b"good"]


def test_replies_that_are_none_from_everybody_fail_at_once_as_such(robot: Robot) -> None:
    caller = robot.call()
    for replica in (A, B):
        robot.reply(replica, b"garbage")
    assert isinstance(only_failure(caller), InvalidReply)


def test_a_response_that_cannot_be_decoded_is_an_invalid_reply() -> None:
    def decode(_data: bytes) -> object:
        raise InvalidReply("no CDR")

    robot = Robot(ManualClock(), decode)
    robot.join(A)
    caller = robot.call()
    robot.reply(A, ok(robot), b"?")
    assert isinstance(only_failure(caller), InvalidReply)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (Status.NOT_EXECUTED, NotExecuted),
        (Status.OUTCOME_UNKNOWN, OutcomeUnknown),
        (Status.DEADLINE_EXCEEDED, DeadlineExceeded),
        (Status.INVALID_REQUEST, InvalidRequest),
        (Status.FAILED, ServiceFailed),
    ],
)
def test_a_refusal_by_all_arrives_as_the_error_of_its_status(
    robot: Robot, status: Status, kind: type[RequestError]
) -> None:
    caller = robot.call()
    for replica in (A, B):
        robot.reply(replica, codec.encode(refusal(robot.transport.sent[-1][1], status, "why")))
    error = only_failure(caller)
    assert type(error) is kind
    assert "a/0: why" in str(error)


def test_a_link_that_is_full_counts_as_a_refusal_after_the_call_is_over(robot: Robot) -> None:
    robot.transport.refuse = Overloaded("256 wait")
    caller = robot.call()
    error = only_failure(caller)
    assert type(error) is NotExecuted
    assert "256 wait" in str(error)


def test_a_query_that_ends_leaves_the_call_open_until_its_deadline(robot: Robot) -> None:
    caller = robot.call()
    for replica in (A, B):
        robot.driver.ended(SERVICE, robot.transport.sent[0][1], replica)
    robot.owner.step()
    assert caller.heard == []
    robot.clock.advance(100 * MS)
    robot.owner.step()
    assert type(only_failure(caller)) is DeadlineExceeded


def test_a_newcomer_gets_the_payload_of_open_calls() -> None:
    robot = Robot(ManualClock())
    caller = robot.call(b"early")
    robot.clock.advance(40 * MS)
    robot.join(A)
    assert [(r, payload, budget) for r, _, _, payload, budget in robot.transport.sent] == [(A, b"early", 60)]
    robot.reply(A, ok(robot), b"late but there")
    assert caller.heard == [b"late but there"]


def test_who_has_left_is_not_asked(robot: Robot) -> None:
    robot.driver.left(SERVICE, A, SAID)
    robot.call()
    assert [replica for replica, *_ in robot.transport.sent] == [B]


def test_a_full_inbox_refuses_at_the_door() -> None:
    robot = Robot(ManualClock(), max_in_flight=1)
    robot.driver.call(SERVICE, b"", FakeCaller())
    with pytest.raises(Overloaded):
        robot.driver.call(SERVICE, b"", FakeCaller())


def test_more_calls_than_may_be_in_flight_fail_as_overloaded() -> None:
    robot = Robot(ManualClock(), max_in_flight=1)
    first, second = robot.call(), robot.call()
    assert first.heard == []
    assert isinstance(only_failure(second), Overloaded)


def test_close_fails_open_calls_and_leaves_the_network(robot: Robot) -> None:
    caller = robot.call()
    robot.driver.close()
    assert isinstance(only_failure(caller), OutcomeUnknown), "it was asked, and may run"
    assert robot.transport.closed


def test_no_call_is_kept_after_it_is_over(robot: Robot) -> None:
    robot.call()
    robot.reply(A, ok(robot))
    robot.call()
    robot.clock.advance(100 * MS)
    robot.owner.step()
    assert not robot.driver._calls


def test_the_trace_tells_what_was_sent_and_what_came_of_it(robot: Robot) -> None:
    robot.call()
    robot.clock.advance(3 * MS)
    robot.reply(A, b"garbage")
    robot.reply(B, ok(robot))
    events = [e for e in robot.trace.events if e["event"] != "joined"]
    assert [e["event"] for e in events] == ["sent", "sent", "refused", "delivered"]
    assert events[-1]["replica"] == "b/0"
    assert events[-1]["ms"] == 3.0
    assert len({e["id"] for e in events}) == 1


def test_the_trace_says_of_which_service_a_copy_was_why_it_was_sent_and_how_long_it_all_took(robot: Robot) -> None:
    robot.call()
    robot.reply(A, b"garbage")
    robot.clock.advance(100 * MS)
    robot.owner.step()
    events = {event["event"]: event for event in robot.trace.events if "id" in event}
    assert {event["service"] for event in events.values()} == {SERVICE}
    assert next(e["why"] for e in robot.trace.events if e["event"] == "sent") == "first"
    assert events["failed"]["ms"] == 100


def test_the_trace_tells_of_an_answer_that_is_kept_until_others_agree(robot: Robot) -> None:
    robot.driver.reconfigure({SERVICE: RoutingConfig(policy="broadcast", answer="quorum", deadline_ms=100)})
    robot.owner.step()
    caller = robot.call()
    robot.reply(B, ok(robot), b"same")
    assert robot.trace.events[-1]["event"] == "answered"
    assert (robot.trace.events[-1]["replica"], robot.trace.events[-1]["service"]) == ("b/0", SERVICE)
    robot.reply(A, ok(robot), b"same")
    assert [e["event"] for e in robot.trace.events][-2:] == ["answered", "delivered"]
    assert len(caller.heard) == 1


def test_snapshots_are_of_each_service(robot: Robot) -> None:
    robot.call()
    (found,) = robot.driver.snapshots().items()
    assert found[0] == SERVICE
    assert (found[1].policy, found[1].called, found[1].in_flight, len(found[1].replicas)) == ("broadcast", 1, 1, 2)


@pytest.mark.parametrize(("owner", "asked"), [("", True), ("r1", True), ("r2", False)])
def test_only_the_robots_own_fallback_is_asked(owner: str, asked: bool) -> None:
    robot = Robot(ManualClock(), name="r1")
    robot.driver.joined(SERVICE, A, Announcement(local=True, robot=owner))
    robot.owner.step()
    robot.call()
    assert bool(robot.transport.sent) == asked
