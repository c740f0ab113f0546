"""What becomes of one request: its tokens as they are drawn, from the engine's thread to whoever reads."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from skyfog_core.errors import DeadlineExceeded, RequestError, ServiceFailed
from skyfog_inference.request import FinishReason

Likely = tuple[tuple[int, float], ...]  # tokens and their logprobs, most likely first


@dataclass(frozen=True, slots=True)
class Event:
    """A token that was drawn, or an end without one; an event with `finish` is the last."""

    token: int | None
    text: str = ""  # what became certain with it: may be empty, or the end of earlier tokens' text too
    logprob: float = math.nan  # nan: not asked for
    top_logprobs: Likely = ()
    finish: FinishReason | None = None
    error: RequestError | None = None  # where it failed

    @property
    def message(self) -> str:
        """What went wrong."""
        return str(self.error) if self.error is not None else ""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a request took. Times are nanoseconds from its arrival; None: it never came that far."""

    prompt_tokens: int
    drawn: int
    cached: int  # tokens of the prompt that did not have to be computed
    seed: int
    preemptions: int
    begun_ns: int | None
    first_token_ns: int | None
    total_ns: int


class Pipe:
    """Events from the engine to one reader. Bounded by max_tokens, beyond which a request draws nothing."""

    def __init__(self, request_id: str) -> None:
        self.id = request_id
        self.drawn = 0
        self.cached = 0
        self.usage: Usage | None = None
        self.ended = False
        self._events: deque[Event] = deque()
        self._changed = threading.Condition()
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None

    def put(self, event: Event) -> None:
        """From the engine's thread; nothing after the last event."""
        with self._changed:
            if self.ended:
                return
            self.ended = event.finish is not None
            self.drawn += event.token is not None
            self._events.append(event)
            waiter, self._waiter = self._waiter, None
            self._changed.notify_all()
        if waiter is not None:
            loop, future = waiter
            with contextlib.suppress(RuntimeError):  # the reader's loop is closed; nobody waits there any more
                loop.call_soon_threadsafe(_wake, future)

    def get(self, timeout_s: float | None) -> Event | None:
        """The next event; None after the last one. Raises DeadlineExceeded."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._events or self.ended, timeout_s):
                raise DeadlineExceeded(f"{self.id}: no token within {timeout_s} s")
            return self._events.popleft() if self._events else None

    async def get_async(self) -> Event | None:
        """The same for asyncio. One reader at a time."""
        while True:
            with self._changed:
                if self._events or self.ended:
                    return self._events.popleft() if self._events else None
                loop = asyncio.get_running_loop()
                future = loop.create_future()
                self._waiter = loop, future
            await future


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Stream:
    """A request's events, for `for` or `async for`. One that is closed or forgotten withdraws its request."""

    def __init__(self, pipe: Pipe, withdraw: Callable[[Pipe], None]) -> None:
        self.id = pipe.id
        self._pipe = pipe
        self._withdraw = weakref.finalize(self, withdraw, pipe)
        self._withdraw.atexit = False

    @property
    def drawn(self) -> int:
        """Tokens so far."""
        return self._pipe.drawn

    @property
    def cached(self) -> int:
        """Tokens of the prompt that did not have to be computed."""
        return self._pipe.cached

    @property
    def usage(self) -> Usage | None:
        """There once the last event is."""
        return self._pipe.usage

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Event:
        event = self._pipe.get(None)
        if event is None:
            raise StopIteration
        return event

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Event:
        event = await self._pipe.get_async()
        if event is None:
            raise StopAsyncIteration
        return event

    def next(self, timeout_s: float | None = None) -> Event | None:
        """The next event; None after the last. Raises DeadlineExceeded where none comes in time."""
        return self._pipe.get(timeout_s)

    def result(self, timeout_s: float | None = None) -> tuple[list[Event], str]:
        """All events and their text. Raises what the request failed with; ServiceFailed where it was withdrawn.

        `timeout_s`: for each token; DeadlineExceeded beyond it.
        """
        events: list[Event] = []
        while (event := self.next(timeout_s)) is not None:
            if event.error is not None:
                raise event.error
            if event.finish is FinishReason.ABORTED:
                raise ServiceFailed(f"{self.id}: was withdrawn")
            events.append(event)
        return events, "".join(event.text for event in events)

    def close(self) -> None:
        """Nobody wants more of it."""
        self._withdraw()
