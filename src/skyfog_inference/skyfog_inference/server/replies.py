"""Answers in the form of the OpenAI API. Pure: what was drawn goes in, JSON-ready objects come out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from skyfog_inference.server.protocol import finite

Kind = Literal["chat", "completion"]
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TokenText:
    """A token as log-probabilities show it."""

    text: str
    logprob: float
    data: bytes  # of the token; its text may be no whole character


@dataclass(frozen=True, slots=True)
class Drawn:
    """A token that was drawn, and those that were likely in its place, most likely first."""

    token: TokenText
    likely: tuple[TokenText, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """What every object of one answer begins with."""

    kind: Kind
    id: str
    model: str
    created_s: int

    def object(self, stream: bool, choices: list[Json], usage: Json | None = None, tell_usage: bool = False) -> Json:
        """An answer, or a chunk of one. `tell_usage`: chunks have `usage`, null but in the last."""
        names = {"chat": ("chat.completion", "chat.completion.chunk"), "completion": ("text_completion",) * 2}
        made: Json = {
            "id": self.id,
            "object": names[self.kind][stream],
            "created": self.created_s,
            "model": self.model,
            "choices": choices,
        }
        return made | {"usage": usage} if tell_usage else made


def usage(prompt: int, completion: int, cached: int) -> Json:
    """Tokens: of the prompt, drawn, and of the prompt those that had been computed before."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def choice(kind: Kind, index: int, text: str, logprobs: Json | None, finish: str) -> Json:
    """A whole choice."""
    made: Json = {"index": index, "logprobs": logprobs, "finish_reason": finish}
    if kind == "chat":
        return made | {"message": {"role": "assistant", "content": text, "refusal": None}}
    return made | {"text": text}


def piece(kind: Kind, index: int, text: str, logprobs: Json | None, finish: str | None, first: bool) -> Json:
    """A choice of a chunk: what came since the last one."""
    made: Json = {"index": index, "logprobs": logprobs, "finish_reason": finish}
    if kind == "chat":
        role = {"role": "assistant"} if first else {}
        return made | {"delta": role | ({"content": text} if text or first else {})}
    return made | {"text": text}


def logprobs_of(kind: Kind, drawn: Sequence[Drawn], offset: int) -> Json:
    """The log-probabilities of some tokens; `offset` is where their text begins in the whole."""
    return _chat_logprobs(drawn) if kind == "chat" else _completion_logprobs(drawn, offset)


def _chat_logprobs(drawn: Iterable[Drawn]) -> Json:
    content = [_one(each.token) | {"top_logprobs": [_one(likely) for likely in each.likely]} for each in drawn]
    return {"content": content, "refusal": None}


def _one(token: TokenText) -> Json:
    return {"token": token.text, "logprob": finite(token.logprob), "bytes": list(token.data)}


def _completion_logprobs(drawn: Sequence[Drawn], offset: int) -> Json:
    offsets = []
    for each in drawn:
        offsets.append(offset)
        offset += len(each.token.text)
    top = [{likely.text: finite(likely.logprob) for likely in reversed(each.likely)} for each in drawn]
    return {
        "tokens": [each.token.text for each in drawn],
        "token_logprobs": [finite(each.token.logprob) for each in drawn],
        "top_logprobs": top if any(top) else None,
        "text_offset": offsets,
    }
