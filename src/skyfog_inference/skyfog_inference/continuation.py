"""A text that is asked for a few tokens at a time, of whichever replica lives. Pure.

Each call gives the tokens so far along, so that any replica goes on where the last one ended. Calls grow from one token
(the first is soon there) to a limit (a replica that dies costs the tokens of one call). A call that fails is made
again, after a pause that doubles, until nothing has come for as long as the caller's patience.

    next  --Call-->  on_answer  --> next            tokens came: the next call is twice as long
                     on_failure --> next            Wait, then the same Call; or Finish, where it cannot help
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from skyfog_core.errors import Status

GIVEN_UP = (Status.INVALID_REQUEST, Status.FAILED)  # asking again would not help
MAX_PAUSE_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Call:
    """Ask for so many tokens; `partial`: others will follow."""

    max_tokens: int
    partial: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """Then ask again."""

    ns: int


@dataclass(frozen=True, slots=True)
class Finish:
    """It is over: FinishReason's value, and where it is a failure what it was."""

    reason: str
    status: Status = Status.OK
    message: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a replica said to a call."""

    tokens: Sequence[int]
    pieces: Sequence[str]
    logprobs: Sequence[float]
    finish_reason: str  # empty: there is more
    replica: str


@dataclass(frozen=True, slots=True)
class Limits:
    """How calls are made."""

    max_call_tokens: int
    pause_ns: int  # before the first repetition
    patience_ns: int  # without a token


def finish_of(reason: str, drawn: int, asked: int, room: int) -> str:
    """What a replica's answer says of a text that ended for `reason`: empty where only the call's tokens are used up.

    `room`: tokens that the context had left. Where it is full no later call can go on.
    """
    return "" if reason == "length" and asked <= drawn < room else reason


@dataclass(slots=True)
class Continuation:
    """One text on its way."""

    max_tokens: int
    limits: Limits
    progress_ns: int  # when the last token came; at first, when it began
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    text: str = ""
    calls: int = 0
    replicas: list[str] = field(default_factory=list)  # in the order of their first answer
    _length: int = 1  # of the next call
    _pause_ns: int = 0
    _fails: int = 0  # in a row
    _finish: Finish | None = None

    def next(self) -> Call | Wait | Finish:
        """What to do now."""
        if self._finish is not None:
            return self._finish
        if self._pause_ns:
            pause_ns, self._pause_ns = self._pause_ns, 0
            return Wait(pause_ns)
        left = self.max_tokens - len(self.tokens)
        asked = min(self._length, left)
        self.calls += 1
        return Call(asked, partial=asked < left)

    def on_answer(self, answer: Answer, now_ns: int) -> int:
        """Take a call's tokens; returns the index of the first of them."""
        first = len(self.tokens)
        if not (answer.tokens or answer.finish_reason) or len(answer.tokens) > self.max_tokens - first:
            self.on_failure(Status.OUTCOME_UNKNOWN, f"{answer.replica} answered {len(answer.tokens)} tokens", now_ns)
            return first
        pieces, logprobs = len(answer.pieces), len(answer.logprobs)
        if not pieces == logprobs == len(answer.tokens):
            odd = f"answered {len(answer.tokens)} tokens with {pieces} pieces and {logprobs} logprobs: another version?"
            self.on_failure(Status.FAILED, f"{answer.replica} {odd}", now_ns)
            return first
        if answer.replica and answer.replica not in self.replicas:
            self.replicas.append(answer.replica)
        self.tokens += answer.tokens
        self.logprobs += answer.logprobs
        self.text += "".join(answer.pieces)
        self.progress_ns = now_ns
        self._fails = 0
        self._length = min(2 * self._length, self.limits.max_call_tokens)
        if answer.finish_reason:
            self._finish = Finish(answer.finish_reason)
        elif len(self.tokens) == self.max_tokens:
            self._finish = Finish("length")
        return first

    def on_failure(self, status: Status, message: str, now_ns: int) -> None:
        """A call gave nothing."""
        if status in GIVEN_UP or now_ns - self.progress_ns >= self.limits.patience_ns:
            self._finish = Finish("error", status, message)
            return
        self._pause_ns = min(self.limits.pause_ns << min(self._fails, 16), MAX_PAUSE_NS)
        self._fails += 1

    def on_cancel(self) -> None:
        """Nobody wants more of it."""
        self._finish = Finish("abort")
