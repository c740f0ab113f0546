"""A batch against an engine that fails under it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from skyfog_core.clock import ManualClock
from skyfog_core.errors import ServiceFailed
from skyfog_inference.batch.results import Results
from skyfog_inference.batch.rows import Row
from skyfog_inference.batch.run import Totals, run
from skyfog_inference.request import FinishReason, SamplingParams
from skyfog_inference.served import Served
from skyfog_inference.stream import Event, Pipe, Stream


class Failing:
    """An engine that gives so many answers and then fails: all that comes, or so many requests more."""

    context = 100

    def __init__(self, answers: int, *, well: bool, fails: int = 1_000) -> None:
        self._left = answers
        self._fails = fails
        self._well = well  # only the step failed

    def submit(self, _prompt: Sequence[int], _params: SamplingParams) -> Stream:
        pipe = Pipe("r")
        self._left -= 1
        if -self._fails <= self._left < 0:
            pipe.put(Event(None, finish=FinishReason.FAILED, error=ServiceFailed("lost")))
        else:
            pipe.put(Event(1, "x", finish=FinishReason.LENGTH))
        return Stream(pipe, lambda _pipe: None)

    def unwell(self) -> str:
        return "" if self._well or self._left >= 0 else "the engine has failed: lost"

    metrics = drain = close = None


class Codes:
    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    encode_chat = piece = piece_bytes = None


def go(engine: Failing, path: Path) -> Totals:
    served = Served("m", cast(Any, engine), cast(Any, Codes()))
    rows = (Row(line, f"{line}", "/v1/completions", {"prompt": "a"}) for line in range(5))
    results = Results(path)

    async def through() -> Totals:
        return await run(served, rows, results, ManualClock(), 2, asyncio.Event(), lambda _totals: None)

    try:
        return asyncio.run(through())
    finally:
        results.close()


def done(path: Path) -> set[str]:
    results = Results(path)
    results.close()
    return results.done


def test_rows_that_an_engine_failed_under_are_left_for_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with pytest.raises(ServiceFailed, match="the engine has failed: lost"):
        go(Failing(2, well=False), path)
    assert done(path) == {"0", "1"}


def test_rows_of_a_step_that_failed_are_tried_once_more(tmp_path: Path) -> None:
    totals = go(Failing(2, well=True, fails=2), tmp_path / "out.jsonl")
    assert (totals.answered, totals.failed, totals.left) == (5, 0, 0)
    assert done(tmp_path / "out.jsonl") == set("01234")


def test_rows_that_fail_twice_by_our_fault_have_no_answer(tmp_path: Path) -> None:
    totals = go(Failing(2, well=True), tmp_path / "out.jsonl")
    assert (totals.answered, totals.failed, totals.left, totals.fault) == (2, 0, 3, "lost")
    assert done(tmp_path / "out.jsonl") == {"0", "1"}
