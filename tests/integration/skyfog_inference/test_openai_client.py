"""The official client against a real server: what it asks for it gets, in the types that it knows."""

from __future__ import annotations

from typing import Any

import openai
import pytest

HI: list[Any] = [{"role": "user", "content": "Hi"}]
LONG = {"ignore_eos": True}


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "skyfog"
    with pytest.raises(openai.NotFoundError, match="there is no 'gpt'; there is 'tiny'"):
        client.models.retrieve("gpt")


def test_a_completion_is_the_same_whole_and_streamed(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": "Once", "max_tokens": 30, "seed": 3, "extra_body": LONG}
    whole = client.completions.create(**asked)
    assert whole.object == "text_completion"
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (4, 30)
    chunks = list(client.completions.create(**asked, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert len(chunks) > 3
    assert [chunk.choices[0].finish_reason for chunk in chunks][-2:] == [None, "length"]
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_chat_is_the_same_whole_and_streamed_and_tells_its_usage_at_the_end(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "messages": HI, "max_completion_tokens": 20, "seed": 4}
    whole = client.chat.completions.create(**asked, extra_body=LONG)
    chunks = list(
        client.chat.completions.create(**asked, extra_body=LONG, stream=True, stream_options={"include_usage": True})
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    *texts, last = chunks
    assert "".join(chunk.choices[0].delta.content or "" for chunk in texts) == whole.choices[0].message.content
    assert last.choices == []
    assert last.usage is not None
    assert whole.usage is not None
    assert last.usage.completion_tokens == whole.usage.completion_tokens == 20
    assert all(chunk.usage is None for chunk in texts)


def test_a_greedy_chat_does_not_need_a_seed(client: openai.OpenAI) -> None:
    texts = {
        client.chat.completions.create(model="tiny", messages=HI, temperature=0, max_tokens=10)
        .choices[0]
        .message.content
        for _ in range(2)
    }
    assert len(texts) == 1


def test_a_stop_string_ends_the_text_before_it(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": "abc", "max_tokens": 60, "seed": 1, "extra_body": LONG}
    text = client.completions.create(**asked).choices[0].text
    stop = text[20:22]
    cut = client.completions.create(**asked, stop=stop).choices[0]
    assert (cut.text, cut.finish_reason) == (text[: text.index(stop)], "stop")
    chunks = list(client.completions.create(**asked, stop=[stop, "never there"], stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == cut.text
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_several_choices_of_several_prompts_have_seeds_of_their_own(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "max_tokens": 12, "seed": 7, "extra_body": LONG}
    whole = client.completions.create(**asked, prompt=["a", "b"], n=2)
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    assert whole.choices[0].text != whole.choices[1].text
    assert whole.choices[2].text == client.completions.create(**asked, prompt="b").choices[0].text
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (2, 48)
    streamed = dict.fromkeys(range(4), "")
    for chunk in client.completions.create(**asked, prompt=["a", "b"], n=2, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert list(streamed.values()) == [choice.text for choice in whole.choices]


def test_log_probabilities_are_of_the_drawn_token_and_of_the_most_likely(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "temperature": 0, "max_tokens": 5, "extra_body": LONG}
    chat = client.chat.completions.create(**asked, messages=HI, logprobs=True, top_logprobs=3).choices[0]
    assert chat.logprobs is not None
    assert chat.logprobs.content is not None
    assert len(chat.logprobs.content) == 5
    for token in chat.logprobs.content:
        assert [each.logprob for each in token.top_logprobs] == sorted(
            (each.logprob for each in token.top_logprobs), reverse=True
        )
        assert (token.token, token.logprob) == (token.top_logprobs[0].token, token.top_logprobs[0].logprob)
        assert len(token.top_logprobs) == 3
        assert token.logprob < 0
    data = bytes(byte for token in chat.logprobs.content for byte in token.bytes or [])
    assert data.decode(errors="replace") == chat.message.content
    chunks = client.chat.completions.create(**asked, messages=HI, logprobs=True, top_logprobs=3, stream=True)
    streamed = [
        each
        for chunk in chunks
        if chunk.choices[0].logprobs is not None
        for each in chunk.choices[0].logprobs.content or []
    ]
    assert [each.token for each in streamed] == [each.token for each in chat.logprobs.content]
    plain = client.completions.create(**asked, prompt="Hi", logprobs=2).choices[0].logprobs
    assert plain is not None
    assert plain.tokens is not None
    assert len(plain.tokens) == 5
    assert plain.text_offset is not None
    assert plain.text_offset[0] == 0


def test_tokens_are_a_prompt_too(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "temperature": 0, "max_tokens": 5, "extra_body": LONG}
    made = client.completions.create(**asked, prompt=[5, 6, 7])
    assert made.usage is not None
    assert made.usage.prompt_tokens == 3


def test_a_conversation_that_goes_on_finds_its_beginning_computed(client: openai.OpenAI) -> None:
    turns = [*HI, {"role": "assistant", "content": "Hello, what can I do?"}, {"role": "user", "content": "x" * 80}]
    for _ in range(2):
        made = client.chat.completions.create(model="tiny", messages=turns, max_tokens=2, extra_body=LONG)
    assert made.usage is not None
    assert made.usage.prompt_tokens_details is not None
    assert (made.usage.prompt_tokens_details.cached_tokens or 0) >= 64
