"""A model as its faces (HTTP, ROS, batches) see it: texts in, events out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Protocol

from skyfog_inference.request import FinishReason, SamplingParams


class Event(Protocol):
    """A token that was drawn, or the end of a text."""

    @property
    def token(self) -> int | None: ...
    @property
    def text(self) -> str: ...
    @property
    def logprob(self) -> float: ...
    @property
    def top_logprobs(self) -> Sequence[tuple[int, float]]: ...
    @property
    def finish(self) -> FinishReason | None: ...
    @property
    def message(self) -> str: ...


class Stream(Protocol):
    """What becomes of one prompt."""

    drawn: int
    cached: int

    def __aiter__(self) -> AsyncIterator[Event]: ...
    def __iter__(self) -> Iterator[Event]: ...
    def close(self) -> None:
        """Nobody wants more of it."""
        ...


class Served(Protocol):
    """One model, ready."""

    name: str
    context: int

    def encode(self, text: str) -> list[int]: ...
    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]: ...
    def token_bytes(self, token: int) -> bytes: ...
    def submit(self, tokens: Sequence[int], params: SamplingParams) -> Stream: ...
    def unwell(self) -> str: ...
