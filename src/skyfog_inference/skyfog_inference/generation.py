"""One request on its way through the engine: what its tokens become, and when it ends. Pure but for its pipe."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from typing import Protocol

from skyfog_core.errors import RequestError
from skyfog_inference.request import FinishReason, SamplingParams, Sequence
from skyfog_inference.sampler import Draw, Drawn
from skyfog_inference.stops import StopFinder
from skyfog_inference.stream import Event, Pipe, Usage


class Detokenizer(Protocol):
    """Text of a growing sequence."""

    def push(self, token: int) -> str:
        """The text that has become certain."""
        ...

    def finish(self) -> str:
        """What was held back."""
        ...


class NoText:
    """For models without a tokenizer: tokens alone."""

    def push(self, token: int) -> str:
        return ""

    def finish(self) -> str:
        return ""


class Generation:
    """What the engine knows of a request beside its sequence, which is the scheduler's."""

    def __init__(
        self,
        sequence: Sequence,
        params: SamplingParams,
        seed: int,
        eos: Collection[int],
        detokenizer: Detokenizer,
        pipe: Pipe,
    ) -> None:
        self.sequence = sequence
        self.params = params
        self.pipe = pipe
        self.begun_ns: int | None = None  # by the engine's clock
        self.last_token_ns: int | None = None
        self._first_token_ns: int | None = None
        self._seed = seed
        self._ends = {*params.stop_token_ids, *(() if params.ignore_eos else eos)}
        self._detokenizer = detokenizer
        self._stops = StopFinder(params.stop)
        self._drawn = 0
        before = sequence.tokens[sequence.prompt_len - params.skip :]
        self._counts = Counter(before)
        # What earlier calls held back comes out here: they were partial.
        for token in before:
            self._stops.push(detokenizer.push(token))

    def draw(self) -> Draw:
        """What is wanted of the sequence's logits."""
        return Draw(self.params, self._seed, self.params.skip + self._drawn, self._counts)

    def on_token(self, drawn: Drawn, now_ns: int) -> Event:
        """The event of a new token: its text, and whether it is the last."""
        token = drawn.token
        self._drawn += 1
        self._counts[token] += 1
        if self._first_token_ns is None:
            self._first_token_ns = now_ns
        self.last_token_ns = now_ns
        finish = None
        stopped = False
        if token in self._ends:
            text, finish = "", FinishReason.STOP
        else:
            text, stopped = self._stops.push(self._detokenizer.push(token))
            if stopped:
                finish = FinishReason.STOP
            elif self._drawn >= self.sequence.max_tokens:
                finish = FinishReason.LENGTH
        if finish is not None and not stopped and not (self.params.partial and finish is FinishReason.LENGTH):
            rest, stopped = self._stops.push(self._detokenizer.finish())
            text += rest + self._stops.finish()
        logprob = math.nan if drawn.logprob is None else drawn.logprob
        return Event(token, text, logprob, drawn.top, finish)

    def on_begin(self, now_ns: int) -> None:
        """Its first step is made, and its blocks are taken."""
        self.begun_ns = now_ns
        self.pipe.cached = self.sequence.shared

    def end(self, event: Event, now_ns: int) -> None:
        """Hand on the last event."""
        sequence = self.sequence
        since = sequence.arrived_ns
        self.pipe.usage = Usage(
            prompt_tokens=sequence.prompt_len - self.params.skip,
            drawn=self._drawn,
            cached=sequence.shared,
            seed=self._seed,
            preemptions=sequence.preemptions,
            begun_ns=None if self.begun_ns is None else self.begun_ns - since,
            first_token_ns=None if self._first_token_ns is None else self._first_token_ns - since,
            total_ns=now_ns - since,
        )
        self.pipe.put(event)

    def fail(self, error: RequestError, now_ns: int) -> None:
        """End it with an error."""
        self.end(Event(None, finish=FinishReason.FAILED, error=error), now_ns)

    def withdraw(self, now_ns: int) -> None:
        """End it since nobody wants it any more."""
        self.end(Event(None, finish=FinishReason.ABORTED), now_ns)
