"""Requests become prompts and SamplingParams; what is wrong is told by field and bound."""

from __future__ import annotations

import math
from typing import Any

import pytest

from skyfog_core.errors import InvalidRequest
from skyfog_inference.server.protocol import ChatRequest, CompletionRequest, field_of, finite, read

HI = [{"role": "user", "content": "Hi"}]


def completion(**fields: Any) -> CompletionRequest:
    return read(CompletionRequest, {"prompt": "Once", **fields})


def chat(**fields: Any) -> ChatRequest:
    return read(ChatRequest, {"messages": HI, **fields})


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("Once", ["Once"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
    ],
)
def test_a_prompt_is_text_or_tokens_or_several_of_either(prompt: Any, prompts: list[Any]) -> None:
    assert completion(prompt=prompt).prompt == prompts


@pytest.mark.parametrize("prompt", [None, [], 3, {}, [[]], [1, "a"], [True], ["a", None]])
def test_other_prompts_are_refused(prompt: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^prompt: "):
        completion(prompt=prompt)


def test_a_chat_may_fill_the_rest_of_the_context_and_a_completion_has_16_tokens() -> None:
    assert chat().sampling(0, 100).max_tokens == 100
    assert completion().sampling(0, 100).max_tokens == 16
    assert chat(max_tokens=5).sampling(0, 100).max_tokens == 5
    assert chat(max_tokens=5, max_completion_tokens=7).sampling(0, 100).max_tokens == 7


def test_every_choice_has_a_seed_of_its_own() -> None:
    asked = chat(seed=-1, n=2)
    assert [asked.sampling(choice, 9).seed for choice in range(2)] == [2**64 - 1, 0]
    assert chat().sampling(1, 9).seed is None


def test_sampling_parameters_arrive() -> None:
    fields = {"temperature": 0, "top_p": 0.5, "top_k": 7, "presence_penalty": 1, "frequency_penalty": -1}
    params = chat(**fields, stop="\n", stop_token_ids=[3], ignore_eos=True).sampling(0, 9)
    assert {name: getattr(params, name) for name in fields} == fields
    assert (params.stop, params.stop_token_ids, params.ignore_eos) == (("\n",), (3,), True)


def test_nulls_are_defaults() -> None:
    names = ("temperature", "top_p", "n", "stream", "seed", "stop", "presence_penalty", "logprobs", "max_tokens")
    assert chat(**dict.fromkeys(names)).sampling(0, 9) == chat().sampling(0, 9)


def test_log_probabilities_are_asked_for_in_two_ways() -> None:
    assert chat(logprobs=True).sampling(0, 9).logprobs == 0
    assert chat(logprobs=True, top_logprobs=3).sampling(0, 9).logprobs == 3
    assert chat(logprobs=False).sampling(0, 9).logprobs is None
    assert completion(logprobs=2).sampling(0, 9).logprobs == 2
    with pytest.raises(InvalidRequest, match="top_logprobs: needs logprobs true"):
        chat(top_logprobs=3).sampling(0, 9)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_tokens": 0}, r"^max_tokens: should be between 1 and"),
        ({"temperature": math.nan}, r"^temperature: should be between 0 and 100, not nan"),
        ({"top_p": 0}, r"^top_p: should be above 0"),
        ({"top_k": -1}, r"^top_k: should be between 0"),
        ({"stop": ["a", ""]}, r"^stop: "),
        ({"logprobs": True, "top_logprobs": 21}, r"^logprobs: should be between 0 and 20"),
        ({"max_tokens": "5"}, r"^max_tokens: .* integer, not '5'"),
        ({"temperature": True}, r"^temperature: .* number"),
        ({"n": 0}, r"^n: .* greater than or equal to 1, not 0"),
        ({"max_token": 1}, r"^max_token: unknown key; did you mean 'max_tokens'"),
        ({"tools": [{"type": "function"}]}, r"^tools: is not supported here"),
        ({"response_format": {"type": "json_object"}}, r"^response_format: is not supported here"),
        ({"logit_bias": {"1": 5}}, r"^logit_bias: "),
        ({"messages": []}, r"^messages: .* at least 1"),
        ({"messages": [{"content": "a"}]}, r"^messages.0.role: is missing"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            r"^messages.0.content: should be a text",
        ),
        ({"stream_options": {"usage": True}}, r"^stream_options.usage: unknown key"),
    ],
)
def test_what_is_wrong_is_told_by_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as raised:
        chat(**fields).sampling(0, 9)
    assert field_of(str(raised.value)) is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "me", "metadata": {"a": "b"}, "store": False},
        {"tools": [], "tool_choice": "none", "response_format": {"type": "text"}},
        {"logit_bias": {}},
    ],
)
def test_what_does_not_change_the_text_is_let_pass(fields: dict[str, Any]) -> None:
    assert chat(**fields).sampling(0, 9) == chat().sampling(0, 9)


def test_a_message_in_parts_is_one_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    asked = chat(messages=[{"role": "user", "content": parts}, {"role": "assistant", "content": None}])
    assert asked.turns == [{"role": "user", "content": "ab"}, {"role": "assistant", "content": ""}]


@pytest.mark.parametrize("body", [None, [], "a", 3])
def test_a_body_is_an_object(body: Any) -> None:
    with pytest.raises(InvalidRequest, match="body: should be a JSON object"):
        read(ChatRequest, body)


def test_json_holds_every_log_probability() -> None:
    assert [finite(each) for each in (-0.5, -math.inf, math.nan)] == [-0.5, -9999.0, -9999.0]
