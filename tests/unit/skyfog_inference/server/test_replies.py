"""Answers and failures have the API's form."""

from __future__ import annotations

import math

import pytest

from skyfog_core.errors import InvalidRequest, NotExecuted, Overloaded, ServiceFailed
from skyfog_inference.server.failures import Failure, Refused, failure_of, unknown_model
from skyfog_inference.server.replies import Drawn, Head, TokenText, choice, logprobs_of, piece, usage

A, B = TokenText("a", -0.5, b"a"), TokenText("\N{REPLACEMENT CHARACTER}", -math.inf, b"\xc3")


def test_an_answer_and_a_chunk_differ_by_name_and_by_what_they_hold() -> None:
    head = Head("chat", "chatcmpl-1", "m", 7)
    whole = head.object(False, [choice("chat", 0, "hi", None, "stop")], usage(3, 2, 1), tell_usage=True)
    assert whole["object"] == "chat.completion"
    assert whole["choices"][0]["message"] == {"role": "assistant", "content": "hi", "refusal": None}
    assert whole["usage"]["total_tokens"] == 5
    chunk = head.object(True, [piece("chat", 0, "h", None, None, first=False)])
    assert chunk["object"] == "chat.completion.chunk"
    assert chunk["choices"][0]["delta"] == {"content": "h"}
    assert "usage" not in chunk


def test_a_stream_begins_with_the_role_and_ends_with_the_reason() -> None:
    assert piece("chat", 0, "", None, None, first=True)["delta"] == {"role": "assistant", "content": ""}
    end = piece("chat", 0, "", None, "length", first=False)
    assert (end["delta"], end["finish_reason"]) == ({}, "length")
    assert piece("completion", 1, "x", None, None, first=False)["text"] == "x"


def test_log_probabilities_of_a_chat_tell_bytes() -> None:
    found = logprobs_of("chat", [Drawn(A, (A, B))], 0)["content"][0]
    assert (found["token"], found["logprob"], found["bytes"]) == ("a", -0.5, [97])
    assert [each["logprob"] for each in found["top_logprobs"]] == [-0.5, -9999.0]


def test_log_probabilities_of_a_completion_tell_offsets() -> None:
    found = logprobs_of("completion", [Drawn(A, (A,)), Drawn(B, (A, B))], 5)
    assert found["tokens"] == ["a", B.text]
    assert found["text_offset"] == [5, 6]
    assert found["top_logprobs"] == [{"a": -0.5}, {"a": -0.5, B.text: -9999.0}]
    assert logprobs_of("completion", [Drawn(A, ())], 0)["top_logprobs"] is None


@pytest.mark.parametrize(
    ("error", "status", "param", "code"),
    [
        (InvalidRequest("top_p: should be above 0"), 400, "top_p", None),
        (InvalidRequest("body: is not JSON: x"), 400, None, None),
        (InvalidRequest("it is wrong"), 400, None, None),
        (Overloaded("1024 requests wait"), 429, None, "rate_limit_exceeded"),
        (NotExecuted("it drains"), 503, None, "service_unavailable"),
        (ServiceFailed("the disk broke"), 500, None, None),
        (Refused(unknown_model("x", ["smollm2"])), 404, "model", "model_not_found"),
    ],
)
def test_an_error_becomes_a_status_and_names_its_field(
    error: Exception, status: int, param: str | None, code: str | None
) -> None:
    failure = failure_of(error)
    assert (failure.status, failure.param, failure.code) == (status, param, code)
    assert set(failure.body["error"]) == {"message", "type", "param", "code"}
    assert ("retry-after" in failure.headers) == (status in (429, 503))


def test_an_unknown_model_is_told_which_there_are() -> None:
    assert unknown_model("gpt", ["a", "b"]).message == "model: there is no 'gpt'; there is 'a', 'b'"


def test_a_fault_of_ours_tells_no_details() -> None:
    assert failure_of(KeyError("secret")) == Failure(500, "KeyError", "server_error")
