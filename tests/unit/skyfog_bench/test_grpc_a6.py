"""gRPC's hedging rules, by the text of proposal A6."""

from __future__ import annotations

from skyfog_bench.baselines.grpc_a6 import A6Config, GrpcA6
from skyfog_core.errors import (
    DeadlineExceeded,
    InvalidRequest,
    LinkLost,
    NoReplica,
    NotExecuted,
    Overloaded,
    RequestError,
)
from skyfog_core.ids import RequestId
from skyfog_core.units import MS
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.membership import Announcement
from skyfog_router.policy.actions import Action, Cancel, Deliver, Fail, Load, Send

A, B, C, D = (ReplicaKey(zone, "0") for zone in "abcd")
ID = b"i" * 16
DELAY = 30 * MS
CONFIG = A6Config(hedging_delay_ns=DELAY, deadline_ns=500 * MS)


def _client(*servers: ReplicaKey, config: A6Config = CONFIG) -> GrpcA6:
    client = GrpcA6(config)
    for server in servers:
        client.on_join(server, Announcement(), 0)
    return client


def _asked(actions: list[Action]) -> list[ReplicaKey]:
    return [action.replica for action in actions if isinstance(action, Send)]


def _only(actions: list[Action]) -> Action:
    assert len(actions) == 1, actions
    return actions[0]


def test_one_attempt_goes_out_at_once_and_another_each_delay_up_to_the_most() -> None:
    client = _client(A, B, C, D)
    assert _asked(client.on_call(ID, 0)) == [A]
    assert client.on_timer(DELAY - 1) == []
    assert _asked(client.on_timer(DELAY)) == [B]
    assert _asked(client.on_timer(2 * DELAY)) == [C]
    assert _asked(client.on_timer(3 * DELAY)) == []  # maxAttempts counts the first


def test_the_first_success_is_delivered_and_cancels_the_others() -> None:
    client = _client(A, B, C)
    client.on_call(ID, 0)
    client.on_timer(DELAY)
    client.on_timer(2 * DELAY)
    ending, *cancels = client.on_reply(ID, B, "answer", 3 * DELAY)
    assert isinstance(ending, Deliver)
    assert (ending.response, ending.took_ns, ending.asked) == ("answer", 3 * DELAY, 3)
    assert cancels == [Cancel(ID, A), Cancel(ID, C)]
    assert client.on_reply(ID, A, "late", 4 * DELAY) == []
    client.check()


def test_a_failure_that_is_not_fatal_sends_the_next_attempt_at_once_and_restarts_the_delay() -> None:
    client = _client(A, B, C)
    client.on_call(ID, 0)
    assert _asked(client.on_ended(ID, A, 10 * MS)) == [B]
    assert client.on_timer(DELAY) == []
    assert _asked(client.on_timer(10 * MS + DELAY)) == [C]


def test_a_fatal_status_ends_the_call_and_cancels_the_others() -> None:
    client = _client(A, B, C)
    client.on_call(ID, 0)
    client.on_timer(DELAY)
    ending, *cancels = client.on_error(ID, A, InvalidRequest("bad"), DELAY)
    assert isinstance(ending, Fail)
    assert isinstance(ending.error, InvalidRequest)
    assert cancels == [Cancel(ID, B)]


def test_when_every_attempt_has_failed_the_last_status_is_the_calls() -> None:
    client = _client(A, B)
    client.on_call(ID, 0)
    client.on_error(ID, A, NotExecuted("full"), 1)
    ending = _only(client.on_error(ID, B, LinkLost("gone"), 2))
    assert isinstance(ending, Fail)
    assert isinstance(ending.error, LinkLost)


def test_round_robin_takes_turns_and_a_hedge_goes_to_another_server() -> None:
    client = _client(A, B)
    assert _asked(client.on_call(b"1" * 16, 0)) == [A]
    assert _asked(client.on_call(b"2" * 16, 0)) == [B]
    assert _asked(client.on_call(b"3" * 16, 0)) == [A]
    assert _asked(client.on_timer(DELAY)) == [B, A, B]


def _fail(client: GrpcA6, calls: int) -> None:
    for i in range(calls):
        request_id: RequestId = bytes([i]) * 16
        (server,) = _asked(client.on_call(request_id, 0))
        client.on_error(request_id, server, NotExecuted("full"), 0)


def test_failures_drain_the_bucket_until_no_hedges_are_sent_and_successes_fill_it() -> None:
    client = _client(A, B, config=A6Config(hedging_delay_ns=DELAY, max_attempts=2, max_tokens=4, token_ratio=0.5))
    _fail(client, 1)
    assert client.tokens == 3
    _fail(client, 1)
    assert client.tokens == 2  # half: throttled from here on
    assert len(_asked(client.on_call(ID, 0))) == 1  # a first attempt is always sent
    assert client.on_timer(DELAY) == []
    client.on_reply(ID, A, "yes", DELAY)
    client.on_reply(ID, B, "yes", DELAY)
    assert client.tokens == 2.5
    client.on_call(b"z" * 16, 0)
    assert len(_asked(client.on_timer(DELAY))) == 1


def test_push_back_moves_the_next_attempt_and_a_negative_one_ends_them() -> None:
    client = _client(A, B, C)
    client.on_call(ID, 0)
    assert client.on_error(ID, A, Overloaded("full"), 0, Load(retry_after_ns=100 * MS)) == []
    assert client.on_timer(99 * MS) == []
    assert _asked(client.on_timer(100 * MS)) == [B]
    ending = _only(client.on_error(ID, B, Overloaded("full"), 101 * MS, Load(retry_after_ns=-1)))
    assert isinstance(ending, Fail)


def test_a_call_waits_for_a_server_until_its_deadline() -> None:
    client = _client()
    assert client.on_call(ID, 0) == []
    assert _asked(client.on_join(A, Announcement(), 7)) == [A]
    late = _client()
    late.on_call(ID, 0)
    ending = _only(late.on_timer(500 * MS))
    assert isinstance(ending, Fail)
    assert isinstance(ending.error, NoReplica)


def test_past_the_deadline_it_fails_and_cancels_what_is_under_way() -> None:
    client = _client(A)
    client.on_call(ID, 0)
    assert client.next_timer_ns() == DELAY
    client.on_timer(DELAY)
    assert client.next_timer_ns() == 500 * MS
    ending, cancel = client.on_timer(500 * MS)
    assert isinstance(ending, Fail)
    assert isinstance(ending.error, DeadlineExceeded)
    assert cancel == Cancel(ID, A)
    assert not client.is_open(ID)


def test_more_attempts_than_five_are_five() -> None:
    client = _client(
        *(ReplicaKey(zone, "0") for zone in "abcdefgh"), config=A6Config(hedging_delay_ns=DELAY, max_attempts=8)
    )
    sent = _asked(client.on_call(ID, 0))
    for i in range(1, 9):
        sent += _asked(client.on_timer(i * DELAY))
    assert len(sent) == 5


def test_closing_fails_what_is_open() -> None:
    client = _client(A)
    client.on_call(ID, 0)
    error: RequestError = NotExecuted("closing")
    assert client.close(error, 5) == [Fail(ID, error, 5), Cancel(ID, A)]
    client.check()
