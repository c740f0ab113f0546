"""Runs the rows of a batch through a model, a bounded number at once; answers are written as they end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from skyfog_core.clock import Clock
from skyfog_core.errors import InvalidRequest, RequestError, ServiceFailed
from skyfog_inference.batch.results import Results
from skyfog_inference.batch.rows import Row
from skyfog_inference.request import FinishReason
from skyfog_inference.served import Served
from skyfog_inference.server import replies
from skyfog_inference.server.failures import failure_of
from skyfog_inference.server.protocol import ChatRequest, CompletionRequest, finite


class Encodes(Protocol):
    """What makes tokens of texts."""

    def encode(self, text: str) -> list[int]: ...
    def encode_chat(self, messages: Sequence[dict[str, str]]) -> list[int]: ...


@dataclass(slots=True)
class Totals:
    """What a run did so far."""

    answered: int = 0
    failed: int = 0  # by what they ask: the error is their answer
    left: int = 0  # failed twice by a fault of ours: without an answer
    fault: str = ""  # the last one of ours
    prompt_tokens: int = 0
    tokens: int = 0


async def run(
    served: Served,
    rows: Iterator[Row],
    results: Results,
    clock: Clock,
    at_once: int,
    stop: asyncio.Event,
    tell: Callable[[Totals], None],
) -> Totals:
    """Until all rows are answered, or `stop` is set: then those under way are dropped, for the next run to do.

    A row that asks for what cannot be has an error for an answer. One that fails by a fault of ours (a disk that could
    not be read once) is tried once more, and left for the next run where it fails again. Raises ServiceFailed where an
    answer cannot be written, or the engine has failed.
    """
    totals, again = Totals(), deque[Row]()

    async def answered(row: Row) -> bool:
        answer = await answer_of(served, row, totals)
        if answer is not None:
            results.write(answer, clock.now_ns())
            tell(totals)
        return answer is not None

    async def work() -> None:
        for row in rows:  # all workers take from the same iterator
            if not await answered(row):
                again.append(row)
        while again:  # whoever adds a row comes here after it
            if not await answered(again.popleft()):
                totals.left += 1

    workers = [asyncio.ensure_future(work()) for _ in range(at_once)]
    stopped = asyncio.ensure_future(stop.wait())
    try:
        everything: asyncio.Future[Any] = asyncio.gather(*workers)
        either: set[asyncio.Future[Any]] = {everything, stopped}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if everything.done():
            everything.result()
    finally:
        for task in (*workers, stopped):
            task.cancel()
        await asyncio.gather(*workers, stopped, return_exceptions=True)
    return totals


async def answer_of(served: Served, row: Row, totals: Totals) -> Mapping[str, Any] | None:
    """The line of one row: its text and usage, or what is wrong with it; None where the fault was ours.

    Raises ServiceFailed: the engine failed.
    """
    try:
        answer = await _text_of(served, row, totals)
    except InvalidRequest as error:
        totals.failed += 1
        return {"custom_id": row.custom_id, "error": failure_of(error).body["error"]}
    except RequestError as error:
        if why := served.unwell():
            raise ServiceFailed(why) from None
        totals.fault = str(error)
        return None
    totals.answered += 1
    return {"custom_id": row.custom_id, **answer}


async def _text_of(served: Served, row: Row, totals: Totals) -> Mapping[str, Any]:
    """Raises RequestError: InvalidRequest for what the row asks, ServiceFailed for a fault of ours."""
    asked = row.request()
    prompt = prompt_of(asked, served)
    params = asked.sampling(0, served.context - len(prompt))
    stream = served.submit(prompt, params)
    text, logprobs, finish = "", list[float](), FinishReason.ABORTED
    try:
        async for event in stream:
            text += event.text
            if event.token is not None:
                totals.tokens += 1
                logprobs.append(finite(event.logprob))
            if event.error is not None:
                raise event.error
            finish = event.finish or finish
    finally:
        stream.close()
    if finish is FinishReason.ABORTED:
        raise ServiceFailed("the request was withdrawn")
    totals.prompt_tokens += len(prompt)
    wanted = {"logprobs": logprobs} if params.logprobs is not None else {}
    usage = replies.usage(len(prompt), stream.drawn, stream.cached)
    return {"text": text, "finish_reason": finish.value, **wanted, "usage": usage}


def prompt_of(asked: ChatRequest | CompletionRequest, tokenizer: Encodes) -> list[int]:
    """Its tokens. Raises InvalidRequest where the model's template refuses a conversation."""
    if isinstance(asked, ChatRequest):
        return tokenizer.encode_chat(asked.turns)
    return tokenizer.encode(asked.prompt[0]) if isinstance(asked.prompt[0], str) else asked.prompt[0]


def lengths(rows: Iterable[Row], tokenizer: Encodes, context: int) -> tuple[float, float]:
    """Tokens of a prompt and of an answer, at most, on the average of some rows; 1 and 1 where none is right."""
    prompts, answers = [1], [1]
    for row in rows:
        try:
            asked = row.request()
            prompt = len(prompt_of(asked, tokenizer))
            answer = asked.sampling(0, context - prompt).max_tokens
        except InvalidRequest:
            continue
        if prompt < context:
            prompts.append(prompt)
            answers.append(min(answer, context - prompt))
    right = max(len(prompts) - 1, 1)
    return max((sum(prompts) - 1) / right, 1.0), max((sum(answers) - 1) / right, 1.0)
