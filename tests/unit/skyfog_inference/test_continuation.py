"""A text over several calls: longer and longer ones, repeated where they fail, never a token lost or twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from skyfog_core.errors import Status
from skyfog_core.units import S
from skyfog_inference.continuation import MAX_PAUSE_NS, Answer, Call, Continuation, Finish, Limits, Wait, finish_of

LIMITS = Limits(max_call_tokens=8, pause_ns=S // 5, patience_ns=10 * S)


def begin(max_tokens: int = 100) -> Continuation:
    return Continuation(max_tokens, LIMITS, progress_ns=0)


def tokens(count: int, first: int = 0, finish: str = "", replica: str = "a/0") -> Answer:
    numbers = range(first, first + count)
    return Answer(list(numbers), [f"{n} " for n in numbers], [-float(n) for n in numbers], finish, replica)


def test_calls_double_up_to_the_limit_and_the_last_one_takes_what_is_left() -> None:
    text, asked = begin(30), []
    while isinstance(call := text.next(), Call):
        asked.append((call.max_tokens, call.partial))
        text.on_answer(tokens(call.max_tokens, len(text.tokens)), now_ns=0)
    assert asked == [(1, True), (2, True), (4, True), (8, True), (8, True), (7, False)]
    assert call == Finish("length")
    assert text.tokens == list(range(30))
    assert text.text == "".join(f"{n} " for n in range(30))
    assert (text.calls, text.logprobs[3]) == (6, -3.0)


def test_a_text_whose_last_call_just_fills_the_context_has_ended() -> None:
    assert finish_of("length", drawn=4, asked=4, room=5) == ""
    assert finish_of("length", drawn=4, asked=4, room=4) == "length"
    assert finish_of("length", drawn=3, asked=4, room=3) == "length"
    assert finish_of("stop", drawn=4, asked=4, room=5) == "stop"


def test_a_stop_ends_it() -> None:
    text = begin()
    text.next()
    assert text.on_answer(tokens(1, finish="stop"), 0) == 0
    assert text.next() == Finish("stop")


def test_a_call_that_failed_is_made_again_after_a_pause_that_doubles() -> None:
    text, pauses = begin(), []
    first = text.next()
    for _ in range(6):
        text.on_failure(Status.OUTCOME_UNKNOWN, "link lost", now_ns=0)
        pause = text.next()
        assert isinstance(pause, Wait)
        pauses.append(pause.ns)
        assert text.next() == first
    assert pauses == [S // 5, 2 * S // 5, 4 * S // 5, 8 * S // 5, MAX_PAUSE_NS, MAX_PAUSE_NS]
    text.on_answer(tokens(1), 0)
    assert text.next() == Call(2, True)
    text.on_failure(Status.NOT_EXECUTED, "", 0)
    assert text.next() == Wait(S // 5)


def test_patience_ends_ten_seconds_after_the_last_token() -> None:
    text = begin()
    text.next()
    text.on_answer(tokens(1), now_ns=5 * S)
    text.on_failure(Status.DEADLINE_EXCEEDED, "late", now_ns=15 * S - 1)
    assert isinstance(text.next(), Wait)
    text.on_failure(Status.DEADLINE_EXCEEDED, "late", now_ns=15 * S)
    assert text.next() == Finish("error", Status.DEADLINE_EXCEEDED, "late")


def test_what_asking_again_cannot_help_ends_it_at_once() -> None:
    for status in (Status.INVALID_REQUEST, Status.FAILED):
        text = begin()
        text.on_failure(status, "temperature: should be …", 0)
        assert text.next() == Finish("error", status, "temperature: should be …")


def test_replicas_are_told_in_the_order_of_their_first_answer() -> None:
    text = begin()
    for replica in ("b/0", "a/0", "b/0"):
        text.next()
        text.on_answer(tokens(1, replica=replica), 0)
    assert text.replicas == ["b/0", "a/0"]


def test_an_answer_without_a_token_or_with_too_many_is_a_failure() -> None:
    for count in (0, 4):
        text = begin(3)
        text.next()
        text.on_answer(tokens(count), 0)
        assert isinstance(text.next(), Wait)
        assert (text.tokens, text.replicas) == ([], [])


@pytest.mark.parametrize("field", ["pieces", "logprobs"])
def test_an_answer_of_another_version_is_a_failure_of_the_service(field: str) -> None:
    text = begin()
    text.next()
    full = tokens(3)
    short = replace(full, **{field: getattr(full, field)[:2]})
    assert text.on_answer(short, 0) == 0
    end = text.next()
    assert isinstance(end, Finish)
    assert (end.reason, end.status) == ("error", Status.FAILED)
    assert end.message.startswith("a/0 answered 3 tokens with ")
    assert (text.tokens, text.text) == ([], "")


def test_a_cancelled_text_ends_with_what_there_is() -> None:
    text = begin()
    text.next()
    text.on_answer(tokens(1), 0)
    text.on_cancel()
    assert text.next() == Finish("abort")
    assert text.tokens == [0]
