"""What clients may send, as the OpenAI API has it, and how it becomes prompts and SamplingParams. Pure.

Only types are checked here; what values may be is SamplingParams' business, which batch and ROS share. A parameter
that would change the text and that we do not have is refused; one that would not (`user`, `metadata`) is let pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

from skyfog_core.config.base import Strict, parse
from skyfog_core.errors import ConfigError, InvalidRequest
from skyfog_inference.request import SamplingParams

MAX_CHOICES = 128
MAX_PROMPTS = 2_048
COMPLETION_TOKENS = 16  # OpenAI's default for completions; a chat's is the rest of the context
SEEDS = 2**64


def _only(*allowed: Any) -> AfterValidator:
    """A parameter that is known and not supported: it may be there as long as it asks for nothing."""

    def check(value: Any) -> Any:
        if value is not None and value not in allowed:
            raise ValueError(f"is not supported here: leave it out{f' or give {allowed[0]!r}' if allowed else ''}")
        return value

    return AfterValidator(check)


def _texts(value: Any) -> Any:
    """`stop`: a text or several."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


def _prompts(value: Any) -> Any:
    """`prompt`: a text, tokens, or a list of either; always the list."""
    single = isinstance(value, str) or (isinstance(value, list) and value and all(_is_token(each) for each in value))
    prompts = [value] if single else value
    if not isinstance(prompts, list) or not prompts:
        raise ValueError("should be a text, a list of texts, a list of tokens or a list of such lists, not empty")
    for each in prompts:
        tokens = isinstance(each, list) and each and all(_is_token(token) for token in each)
        if not (isinstance(each, str) or tokens):
            raise ValueError("should be a text, a list of texts, a list of tokens or a list of such lists, not empty")
    return prompts


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _content(value: Any) -> Any:
    """A message's content: a text, or parts of type text, which are joined."""
    if value is None:
        return ""
    if not isinstance(value, list):
        return value
    texts = []
    for part in value:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise ValueError('should be a text or parts {"type": "text", "text": …}: this model reads no other')
        texts.append(part["text"])
    return "".join(texts)


class Message(Strict):
    """One message of a chat."""

    role: Annotated[str, Field(min_length=1, max_length=64)]
    content: Annotated[str, BeforeValidator(_content)] = ""
    name: str | None = None
    refusal: Annotated[Any, _only()] = None
    tool_calls: Annotated[Any, _only([])] = None
    function_call: Annotated[Any, _only()] = None
    tool_call_id: str | None = None


class StreamOptions(Strict):
    """What a stream carries besides text."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class Asked(Strict):
    """What both end points take."""

    model: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=SEEDS)] | None = None
    stop: Annotated[list[str], BeforeValidator(_texts)] = []
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    # ours, named as vLLM's
    top_k: int | None = None
    ignore_eos: bool | None = None
    stop_token_ids: list[int] | None = None
    # they would change the text
    logit_bias: Annotated[Any, _only({})] = None
    # they would not
    user: Any = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None

    @property
    def choices(self) -> int:
        """How many texts are wanted for a prompt."""
        return self.n or 1

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends in a chunk that tells the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def _sampling(self, choice: int, max_tokens: int, logprobs: int | None) -> SamplingParams:
        """Those of one choice; each draws with a seed of its own. Raises InvalidRequest that names the field."""
        given = {
            name: value
            for name in ("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "ignore_eos")
            if (value := getattr(self, name)) is not None
        }
        return SamplingParams(
            max_tokens=max_tokens,
            seed=None if self.seed is None else (self.seed + choice) % SEEDS,
            stop=tuple(self.stop),
            stop_token_ids=tuple(self.stop_token_ids or ()),
            logprobs=logprobs,
            **given,
        )


class CompletionRequest(Asked):
    """POST /v1/completions."""

    prompt: Annotated[list[str | list[int]], BeforeValidator(_prompts), Field(max_length=MAX_PROMPTS)]
    logprobs: int | None = None
    best_of: Annotated[Any, _only(1)] = None
    echo: Annotated[Any, _only(False)] = None
    suffix: Annotated[Any, _only("")] = None

    def sampling(self, choice: int, room: int) -> SamplingParams:
        """Raises InvalidRequest. `room` is what of the context the prompt leaves."""
        return self._sampling(choice, COMPLETION_TOKENS if self.max_tokens is None else self.max_tokens, self.logprobs)


class ChatRequest(Asked):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: Annotated[Any, _only([])] = None
    tool_choice: Annotated[Any, _only("none")] = None
    functions: Annotated[Any, _only([])] = None
    function_call: Annotated[Any, _only("none")] = None
    response_format: Annotated[Any, _only({"type": "text"})] = None
    modalities: Annotated[Any, _only(["text"])] = None
    audio: Annotated[Any, _only()] = None
    prediction: Annotated[Any, _only()] = None
    web_search_options: Annotated[Any, _only()] = None
    parallel_tool_calls: Any = None
    reasoning_effort: Any = None
    verbosity: Any = None

    @property
    def turns(self) -> list[dict[str, str]]:
        """The messages as chat templates take them."""
        return [{"role": message.role, "content": message.content} for message in self.messages]

    def sampling(self, choice: int, room: int) -> SamplingParams:
        """Raises InvalidRequest. `room` is what of the context the prompt leaves: all of it may be filled."""
        wanted = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("top_logprobs: needs logprobs true")
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        return self._sampling(choice, max(room, 1) if wanted is None else wanted, logprobs)


R = TypeVar("R", bound=Asked)


def read(schema: type[R], body: Any) -> R:
    """A request from the JSON that came. Raises InvalidRequest that names the field and what it may be."""
    if not isinstance(body, Mapping):
        raise InvalidRequest(f"body: should be a JSON object, not {type(body).__name__}")
    try:
        return parse(schema, body, "request")
    except ConfigError as error:
        raise InvalidRequest(str(error).splitlines()[0].removeprefix("request: ")) from None


def field_of(message: str) -> str | None:
    """The field that an InvalidRequest's message begins with; None where it names none."""
    field, colon, _ = message.partition(": ")
    return field if colon and field.replace(".", "").replace("_", "").isalnum() and field != "body" else None


def finite(logprob: float) -> float:
    """A logarithm that JSON can hold: minus infinity becomes OpenAI's -9999."""
    return logprob if math.isfinite(logprob) else -9999.0
