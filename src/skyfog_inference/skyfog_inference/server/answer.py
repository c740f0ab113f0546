"""One request's texts, from the engine's streams to the API's objects: whole, or as server-sent events."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from skyfog_core.errors import ServiceFailed
from skyfog_inference.request import FinishReason
from skyfog_inference.served import Served
from skyfog_inference.server import replies
from skyfog_inference.server.failures import failure_of
from skyfog_inference.server.protocol import ChatRequest, CompletionRequest
from skyfog_inference.server.replies import Drawn, Head, Json, Kind, TokenText
from skyfog_inference.stream import Event, Stream

WAITING_EVENTS = 64  # of all choices, before a slow client holds up their readers


class Answer:
    """Every choice of every prompt of one request."""

    def __init__(
        self, kind: Kind, served: Served, asked: ChatRequest | CompletionRequest, prompts: list[list[int]]
    ) -> None:
        self._kind, self._served, self._asked, self._prompts = kind, served, asked, prompts
        prefix = "chatcmpl" if kind == "chat" else "cmpl"
        self._head = Head(kind, f"{prefix}-{secrets.token_hex(12)}", served.name, int(time.time()))
        self._streams: list[Stream] = []
        self.streams = bool(asked.stream)

    def begin(self) -> None:
        """Hand all of it to the engine, or none: raises InvalidRequest, Overloaded."""
        try:
            for prompt in self._prompts:
                for choice in range(self._asked.choices):
                    params = self._asked.sampling(choice, self._served.context - len(prompt))
                    self._streams.append(self._served.submit(prompt, params))
        except BaseException:
            self._close()
            raise

    async def whole(self) -> Json:
        """The answer in one object. Raises ServiceFailed where the engine did."""
        try:
            choices = await asyncio.gather(*(self._choice(index, stream) for index, stream in enumerate(self._streams)))
            return self._head.object(False, choices, self._usage(), tell_usage=True)
        finally:
            self._close()

    async def events(self) -> AsyncIterator[bytes]:
        """The answer as server-sent events; an error after the first of them is one too."""
        queue: asyncio.Queue[Json | BaseException | None] = asyncio.Queue(WAITING_EVENTS)
        readers = [
            asyncio.ensure_future(self._read(index, stream, queue)) for index, stream in enumerate(self._streams)
        ]
        try:
            going = len(readers)
            while going:
                found = await queue.get()
                if found is None:
                    going -= 1
                elif isinstance(found, BaseException):
                    yield _event(failure_of(found).body)
                    return
                else:
                    yield _event(self._head.object(True, [found], tell_usage=self._asked.include_usage))
            if self._asked.include_usage:
                yield _event(self._head.object(True, [], self._usage(), tell_usage=True))
            yield b"data: [DONE]\n\n"
        finally:
            for reader in readers:
                reader.cancel()
            self._close()
            await asyncio.gather(*readers, return_exceptions=True)

    async def _choice(self, index: int, stream: Stream) -> Json:
        text, drawn, finish = "", list[Drawn](), FinishReason.STOP
        async for event in stream:
            text += event.text
            drawn += self._drawn(event)
            finish = _finish(event) or finish
        logprobs = replies.logprobs_of(self._kind, drawn, 0) if self._tells_logprobs else None
        return replies.choice(self._kind, index, text, logprobs, finish.value)

    async def _read(self, index: int, stream: Stream, queue: asyncio.Queue[Json | BaseException | None]) -> None:
        """One choice's events into the queue; in the end None, or what went wrong."""
        try:
            offset, first = 0, self._kind == "chat"
            if first:
                await queue.put(replies.piece(self._kind, index, "", None, None, first=True))
            async for event in stream:
                finish = _finish(event)
                if not (event.text or finish or self._tells_logprobs):
                    continue  # the character is not whole yet
                drawn = self._drawn(event)
                logprobs = replies.logprobs_of(self._kind, drawn, offset) if self._tells_logprobs and drawn else None
                offset += sum(len(each.token.text) for each in drawn)
                await queue.put(
                    replies.piece(self._kind, index, event.text, logprobs, finish and finish.value, first=False)
                )
        except Exception as error:  # noqa: BLE001  # whatever it is, the client hears of it
            await queue.put(error)
        else:
            await queue.put(None)

    @property
    def _tells_logprobs(self) -> bool:
        return self._asked.logprobs is not None and self._asked.logprobs is not False

    def _drawn(self, event: Event) -> list[Drawn]:
        if not self._tells_logprobs or event.token is None:
            return []
        likely = tuple(self._text_of(token, logprob) for token, logprob in event.top_logprobs)
        return [Drawn(self._text_of(event.token, event.logprob), likely)]

    def _text_of(self, token: int, logprob: float) -> TokenText:
        return TokenText(self._served.piece(token), logprob, self._served.piece_bytes(token))

    def _usage(self) -> Json:
        first_choices = self._streams[:: self._asked.choices]  # a prompt counts once, however many choices
        return replies.usage(
            sum(len(prompt) for prompt in self._prompts),
            sum(stream.drawn for stream in self._streams),
            sum(stream.cached for stream in first_choices),
        )

    def _close(self) -> None:
        """Withdraw what has not ended."""
        for stream in self._streams:
            stream.close()


def _finish(event: Event) -> FinishReason | None:
    """Why the text ends, if it does. Raises what it failed with; ServiceFailed where it was withdrawn."""
    if event.error is not None:
        raise event.error
    if event.finish is FinishReason.ABORTED:
        raise ServiceFailed("the server ends")
    return event.finish


def _event(found: Any) -> bytes:
    return b"data: " + json.dumps(found, allow_nan=False).encode() + b"\n\n"
