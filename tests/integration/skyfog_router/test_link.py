"""Robot and replicas over real zenoh sessions on 127.0.0.1."""

from __future__ import annotations

import os
import threading
import time

import pytest
from integration.skyfog_router.conftest import Net
from integration.skyfog_router.ends import (
    HASH,
    KEYS,
    LIMIT_S,
    SAID,
    SERVICE,
    Watched,
    open_router_transport,
)

from skyfog_core.config.router import ZenohConfig
from skyfog_core.errors import ConfigError, DeadlineExceeded, InvalidReply, OutcomeUnknown
from skyfog_core.wire import codec
from skyfog_core.wire.envelope import VERSION, Header
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.membership import to_chunk
from skyfog_router.transport.zenoh import open_session

MB = 1 << 20
SOON_S = 6.0  # what a killed process's socket tells within milliseconds; its lease would take 7.5 s at least


def header(request_id: bytes, budget_ms: int = 15_000) -> bytes:
    return codec.encode(Header(VERSION, request_id, 0, budget_ms, HASH))


def test_a_request_comes_back_from_a_replica(net: Net) -> None:
    robot, replica = net.robot(), net.local("0")
    robot.watched.wait_for(replica.who)
    assert robot.ask(b"hello").wait() == b"hello"


@pytest.mark.parametrize("size", [0, 1, MB])
def test_a_payload_of_any_size_is_untouched(net: Net, size: int) -> None:
    robot, replica = net.robot(), net.local("0")
    robot.watched.wait_for(replica.who)
    payload = os.urandom(size)
    assert robot.ask(payload).wait() == payload


def test_many_requests_at_once_get_their_own_answers(net: Net) -> None:
    robot, replicas = net.robot(), [net.local("0"), net.local("1")]
    robot.watched.wait_for(*(replica.who for replica in replicas))
    callers = {bytes([n]) * 100: robot.ask(bytes([n]) * 100) for n in range(50)}
    assert {payload: caller.wait() for payload, caller in callers.items()} == {p: p for p in callers}


def test_a_transport_tells_one_reply_and_one_end_of_each_query(net: Net) -> None:
    watched, transport = Watched(), net.keep(open_router_transport(net.endpoint))
    transport.watch(SERVICE, KEYS, watched)
    replica = net.local("0")
    watched.wait_for(replica.who)
    for n in range(3):
        request_id = bytes([n]) * 16
        transport.send(SERVICE, replica.who, request_id, header(request_id), b"x", 15_000)
        assert watched.replies.get(timeout=LIMIT_S) == (replica.who, b"x")
        assert watched.ends.get(timeout=LIMIT_S) == replica.who
    assert watched.replies.empty()
    assert watched.ends.empty()


def test_cancel_removes_what_waits_at_the_replica(net: Net) -> None:
    robot = net.robot()
    slow, quick = net.local("slow", echoes=False, concurrency=1), net.local("quick")
    robot.watched.wait_for(slow.who, quick.who)
    robot.ask(b"runs").wait()
    assert slow.service.started.get(timeout=LIMIT_S) == b"runs"
    robot.ask(b"waits").wait()
    for _ in range(2):
        slow.driver.cancels.get(timeout=LIMIT_S)
        slow.driver.queries.get(timeout=LIMIT_S)
    assert slow.admission.depth == 0
    slow.service.finish()
    assert slow.service.started.empty(), "what was withdrawn never ran"


def test_a_replica_that_leaves_drops_its_token_and_finishes_what_it_has(net: Net) -> None:
    robot, replica = net.robot(), net.local("0", echoes=False)
    robot.watched.wait_for(replica.who)
    caller = robot.ask(b"last")
    replica.service.started.get(timeout=LIMIT_S)
    replica.driver.announce(None)
    assert robot.watched.leaves.get(timeout=LIMIT_S) == replica.who
    replica.service.finish()
    assert caller.wait() == b"last"


def test_a_replica_that_has_left_keeps_no_thread(net: Net) -> None:
    robot, replica = net.robot(), net.local("passing")
    robot.watched.wait_for(replica.who)
    assert robot.ask(b"x").wait() == b"x"
    threads = [thread for thread in threading.enumerate() if thread.name == f"send-{replica.who}"]
    assert len(threads) == 1
    replica.driver.announce(None)
    assert robot.watched.leaves.get(timeout=LIMIT_S) == replica.who
    threads[0].join(LIMIT_S)
    assert not threads[0].is_alive()


def test_a_replica_that_starts_before_its_robot_is_found(net: Net) -> None:
    remote = net.remote("early", "echo")
    local = net.local("early")
    robot = net.robot()
    robot.watched.wait_for(remote.who, local.who)
    assert robot.ask(b"hello").wait() == b"hello"


def test_a_request_made_before_any_replica_is_there_is_answered_by_the_first_that_comes(net: Net) -> None:
    robot = net.robot()
    caller = robot.ask(b"early")
    net.local("0")
    assert caller.wait() == b"early"


def test_the_queries_of_a_killed_process_end_soon_and_another_replica_wins(net: Net) -> None:
    robot = net.robot()
    doomed, other = net.remote("doomed", "hold"), net.local("0", echoes=False)
    robot.watched.wait_for(doomed.who, other.who)
    caller = robot.ask(b"precious")
    assert doomed.lines.get(timeout=LIMIT_S) == "start"
    other.service.started.get(timeout=LIMIT_S)
    doomed.kill()
    assert robot.watched.ends.get(timeout=SOON_S) == doomed.who
    assert robot.watched.leaves.get(timeout=SOON_S) == doomed.who
    other.service.finish()
    assert caller.wait() == b"precious"


def test_a_request_whose_only_replica_is_killed_is_answered_by_its_successor(net: Net) -> None:
    robot = net.robot()
    doomed = net.remote("0", "hold")
    robot.watched.wait_for(doomed.who)
    caller = robot.ask(b"precious")
    assert doomed.lines.get(timeout=LIMIT_S) == "start"
    doomed.kill()
    net.remote("0", "echo")
    assert caller.wait() == b"precious"


def test_a_frozen_process_never_blocks_the_caller_nor_the_others(net: Net) -> None:
    robot = net.robot(deadline_ms=10_000)
    frozen, other = net.remote("frozen", "echo"), net.local("0")
    robot.watched.wait_for(frozen.who, other.who)
    frozen.freeze()
    payload = os.urandom(MB)
    finished = threading.Event()
    answers = []

    def call_often() -> None:
        answers.extend(robot.ask(payload).wait() for _ in range(50))
        finished.set()

    caller = threading.Thread(target=call_often, daemon=True)
    caller.start()
    in_time = finished.wait(LIMIT_S)
    frozen.thaw()
    assert in_time, f"{len(answers)} of 50 answered"
    assert answers == [payload] * 50
    caller.join(LIMIT_S)


def test_a_frozen_process_never_blocks_a_send(net: Net) -> None:
    watched, transport = Watched(), net.keep(open_router_transport(net.endpoint))
    transport.watch(SERVICE, KEYS, watched)
    frozen = net.remote("frozen", "echo")
    watched.wait_for(frozen.who)
    frozen.freeze()
    sent = threading.Event()

    def send_often() -> None:
        for n in range(50):
            request_id = bytes([n]) * 16
            transport.send(SERVICE, frozen.who, request_id, header(request_id), bytes(MB), 2_000)
        sent.set()

    threading.Thread(target=send_often, daemon=True).start()
    in_time = sent.wait(LIMIT_S)
    frozen.thaw()
    assert in_time
    assert {watched.ends.get(timeout=LIMIT_S) for _ in range(50)} == {frozen.who}


def test_a_robot_leaves_within_seconds_while_a_peer_is_frozen(net: Net) -> None:
    robot = net.robot()
    frozen = net.remote("frozen", "hold")
    robot.watched.wait_for(frozen.who)
    frozen.freeze()
    callers = [robot.ask(bytes(MB)) for _ in range(20)]
    began = time.monotonic()
    robot.close()
    took_s = time.monotonic() - began
    frozen.thaw()
    assert {type(caller.wait()) for caller in callers} == {OutcomeUnknown}, "each was sent, and may run yet"
    assert took_s < LIMIT_S


class Stranger:
    """A queryable and a token in the place of a replica, whose answers are none."""

    def __init__(self, endpoint: str, beside: bytes | None, payload: bytes) -> None:
        self.who = ReplicaKey("strange", "0")
        self._session = open_session(ZenohConfig(connect=[endpoint]))

        def on_query(query) -> None:
            with query:
                query.reply(query.key_expr, payload, attachment=beside)

        self._queryable = self._session.declare_queryable(KEYS.query(self.who), on_query, complete=True)
        self._token = self._session.liveliness().declare_token(KEYS.live(self.who, to_chunk(SAID)))

    def close(self) -> None:
        self._session.close()


STRANGE = pytest.mark.parametrize(
    "beside",
    [
        None,
        b"",
        b"garbage",
        b"\x96\x01\xc4\x10" + b"o" * 16 + b"\x00\x00\x00\xa0",
        b"\x97\x02" + bytes(6),
        bytes(5_000),
    ],
    ids=["no attachment", "empty", "garbage", "another request", "future version", "oversize"],
)


@STRANGE
def test_a_stranger_among_the_replicas_spoils_no_request(net: Net, beside: bytes | None) -> None:
    robot, stranger, healthy = net.robot(), net.keep(Stranger(net.endpoint, beside, b"?")), net.local("0", echoes=False)
    robot.watched.wait_for(stranger.who, healthy.who)
    caller = robot.ask(b"hello")
    assert robot.watched.ends.get(timeout=LIMIT_S) == stranger.who
    healthy.service.finish()
    assert caller.wait() == b"hello"


@STRANGE
def test_a_stranger_alone_is_a_failure_that_says_so_at_once(net: Net, beside: bytes | None) -> None:
    robot, stranger = net.robot(), net.keep(Stranger(net.endpoint, beside, b"?"))
    robot.watched.wait_for(stranger.who)
    error = robot.ask(b"hello").wait()
    assert type(error) is InvalidReply
    assert "strange/0" in str(error)


def test_a_replica_that_never_answers_is_a_failure_at_the_deadline(net: Net) -> None:
    robot, replica = net.robot(deadline_ms=200), net.remote("0", "hold")
    robot.watched.wait_for(replica.who)
    replica.freeze()  # else it says itself, at the same time, that the budget is over
    assert type(robot.ask(b"hello").wait()) is DeadlineExceeded


@pytest.mark.parametrize(
    "config",
    [ZenohConfig(listen=["tcp/nowhere"]), ZenohConfig(listen=["what/127.0.0.1:0"]), ZenohConfig(connect=["nonsense"])],
    ids=repr,
)
def test_an_endpoint_that_is_none_is_a_wrong_setting_that_is_named(config: ZenohConfig) -> None:
    with pytest.raises(ConfigError, match=r"nowhere|what|nonsense"):
        open_session(config)
