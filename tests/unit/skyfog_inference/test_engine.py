"""The engine turned by hand, with a runner that has no model."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs

from skyfog_core.clock import ManualClock
from skyfog_core.errors import InvalidRequest, Overloaded, ServiceFailed
from skyfog_core.units import MS
from skyfog_inference.engine import Engine
from skyfog_inference.request import FinishReason, SamplingParams
from skyfog_inference.scheduler.base import Chunk, Step
from skyfog_inference.scheduler.fcfs import FcfsScheduler
from skyfog_inference.stream import Event, Stream
from support.fake_runner import VOCAB, FakeRunner, expected

PROMPT = [3, 1, 4, 1, 5]
EOS = 0


class Letters:
    """Token n is the n-th letter, and from 26 on half of a two-token character."""

    def __init__(self) -> None:
        self._half = ""

    def push(self, token: int) -> str:
        if token >= 26:
            self._half, whole = ("", "é") if self._half else ("?", "")
            return whole
        return chr(ord("a") + token)

    def finish(self) -> str:
        return self._half


class Desk:
    """An engine, what runs it, and its clock."""

    def __init__(self, blocks: int = 40, host_blocks: int = 0, max_waiting: int = 100, **limits: Any) -> None:
        self.runner = FakeRunner(blocks, host_blocks)
        self.clock = ManualClock()
        self.engine = Engine(
            FcfsScheduler(blocks, host_blocks, **limits),
            self.runner,
            vocab_size=VOCAB,
            context=blocks * 16,
            eos=[EOS],
            detokenizer=Letters,
            max_waiting=max_waiting,
            clock=self.clock,
        )

    def submit(self, prompt: list[int] | None = None, name: str | None = None, **params: Any) -> Stream:
        params = {"temperature": 0, "max_tokens": 5, "ignore_eos": True, **params}
        return self.engine.submit(prompt or PROMPT, SamplingParams(**params), request_id=name)

    def turn(self, times: int = 1_000) -> None:
        for _ in range(times):
            went_on = self.engine.turn()
            self.engine.check()
            if not went_on:
                return
            self.clock.advance(10 * MS)

    def result(self, stream: Stream) -> tuple[list[int | None], str, FinishReason | None]:
        self.turn()
        events, text = stream.result(0)
        return [event.token for event in events], text, events[-1].finish


def letters(tokens: list[int]) -> str:
    decoder = Letters()
    return "".join(decoder.push(token) for token in tokens) + decoder.finish()


@pytest.mark.parametrize("finish", [FinishReason.LENGTH, FinishReason.ABORTED, FinishReason.FAILED])
def test_who_is_told_of_an_end_finds_it_in_the_metrics(finish: FinishReason) -> None:
    desk = Desk()
    stream = desk.submit(max_tokens=30)
    desk.turn(2)
    seen = []
    put = stream._pipe.put

    def told(event: Event) -> None:
        if event.finish is finish:
            metrics = desk.engine.metrics()
            seen.append((metrics.ended[finish], metrics.live, metrics.scheduler.device_blocks_used))
        put(event)

    def broken(_step: Step) -> None:
        raise OSError("broken")

    stream._pipe.put = told  # type: ignore[method-assign]
    if finish is FinishReason.FAILED:
        desk.runner.fault = broken
    if finish is FinishReason.ABORTED:
        stream.close()
    desk.turn()
    assert seen == [(1, 0, 0)]


def test_tokens_text_and_usage() -> None:
    desk = Desk()
    stream = desk.submit()
    tokens = expected(PROMPT, 5)
    assert desk.result(stream) == (tokens, letters(tokens), FinishReason.LENGTH)
    assert stream.usage is not None
    assert (stream.usage.prompt_tokens, stream.usage.drawn, stream.usage.cached) == (5, 5, 0)
    assert stream.drawn == 5
    assert (stream.usage.begun_ns, stream.usage.first_token_ns, stream.usage.total_ns) == (0, 0, 40 * MS)
    assert stream.next(0) is None


def test_a_stream_gives_each_token_as_it_is_drawn() -> None:
    desk = Desk()
    stream = desk.submit()
    for token in expected(PROMPT, 3):
        desk.turn(1)
        event = stream.next(0)
        assert event is not None
        assert (event.token, event.finish) == (token, None)


def test_the_end_of_the_text_ends_it() -> None:
    desk = Desk()
    tokens = expected(PROMPT, 5)
    stream = desk.submit(stop_token_ids=(tokens[2],))
    drawn, text, finish = desk.result(stream)
    assert drawn == tokens[: tokens.index(tokens[2]) + 1]
    assert text == letters(drawn[:-1])  # type: ignore[arg-type]
    assert finish is FinishReason.STOP


@pytest.mark.parametrize("ignore_eos", [True, False])
def test_eos_ends_it_unless_it_is_ignored(ignore_eos: bool) -> None:
    desk = Desk()
    desk.runner.spoil = lambda chunk, logits: torch.eye(VOCAB)[EOS]
    tokens, _, finish = desk.result(desk.submit(ignore_eos=ignore_eos))
    assert (len(tokens), finish) == ((5, FinishReason.LENGTH) if ignore_eos else (1, FinishReason.STOP))


def spell(desk: Desk, text: list[int]) -> None:
    """Have the model say this after PROMPT."""

    def spoil(chunk: Chunk, logits: torch.Tensor) -> torch.Tensor:
        return torch.eye(VOCAB)[text[len(chunk.sequence.tokens) - len(PROMPT)]]

    desk.runner.spoil = spoil


def test_text_is_cut_before_a_stop_string_that_tokens_share() -> None:
    desk = Desk()
    spell(desk, [0, 1, 2, 3, 4, 5])  # abcdef
    stream = desk.submit(stop=("cde",), max_tokens=6)
    desk.turn()
    events, text = stream.result(0)
    assert [event.text for event in events] == ["a", "b", "", "", ""]
    assert (text, events[-1].finish) == ("ab", FinishReason.STOP)


def test_what_only_looked_like_a_stop_string_comes_out_at_the_end() -> None:
    desk = Desk()
    spell(desk, [0, 1, 2, 3])
    assert desk.result(desk.submit(stop=("cde",), max_tokens=4))[1:] == ("abcd", FinishReason.LENGTH)


def test_half_a_character_comes_out_at_the_end() -> None:
    desk = Desk()
    spell(desk, [0, 30, 30, 30])
    assert desk.result(desk.submit(max_tokens=4))[1] == "aé?"


@pytest.mark.parametrize("cuts", [(1, 1, 1, 1, 1, 1, 1), (2, 3, 2), (6, 1), (3, 4)])
def test_partial_calls_put_together_are_the_whole(cuts: tuple[int, ...]) -> None:
    """Stop strings and characters that calls share, on an engine of its own each."""
    said = [0, 30, 31, 2, 3, 1, 4]  # a é c d b e
    for stop in ((), ("db",), ("éc",), ("e",), ("x", "bez")):
        desk = Desk()
        spell(desk, said)
        whole = desk.result(desk.submit(stop=stop, max_tokens=len(said)))
        tokens: list[int] = []
        text = ""
        for number, count in enumerate(cuts):
            other = Desk()
            spell(other, said)
            partial = number < len(cuts) - 1
            prompt = PROMPT + tokens
            stream = other.submit(prompt, stop=stop, max_tokens=count, skip=len(tokens), partial=partial)
            drawn, piece, finish = other.result(stream)
            tokens += drawn  # type: ignore[arg-type]
            text += piece
            assert stream.usage is not None
            assert stream.usage.prompt_tokens == len(PROMPT)
            if finish is FinishReason.STOP:
                break
        assert (tokens, text, finish) == whole, stop


@pytest.mark.parametrize("slices", [(8,), (1, 2, 5), (4, 4), (7, 1)])
def test_a_seeded_text_goes_on_anywhere(slices: tuple[int, ...]) -> None:
    params = {"temperature": 1.5, "seed": 11, "presence_penalty": 0.8, "frequency_penalty": 0.3, "top_p": 0.95}
    desk = Desk()
    whole, _, _ = desk.result(desk.submit(max_tokens=8, **params))
    tokens: list[int] = []
    for count in slices:
        other = Desk()
        drawn, _, _ = other.result(other.submit(PROMPT + tokens, max_tokens=count, skip=len(tokens), **params))
        tokens += drawn  # type: ignore[arg-type]
    assert tokens == whole
    assert len(set(tokens)) > 3


def test_without_a_seed_texts_differ() -> None:
    desk = Desk()
    streams = [desk.submit(temperature=3.0, max_tokens=12) for _ in range(3)]
    assert len({tuple(desk.result(stream)[0]) for stream in streams}) == 3
    seeds = {stream.usage.seed for stream in streams if stream.usage}
    assert len(seeds) == 3


def test_the_context_ends_it() -> None:
    desk = Desk(blocks=2)
    tokens, _, finish = desk.result(desk.submit([1] * 30, max_tokens=100))
    assert (len(tokens), finish) == (2, FinishReason.LENGTH)


@pytest.mark.parametrize("most", [11, 100])
def test_a_partial_call_that_fills_the_context_holds_nothing_back(most: int) -> None:
    desk = Desk(blocks=1)
    spell(desk, [1] * 10 + [30])
    assert desk.result(desk.submit(max_tokens=most, partial=True))[1] == "b" * 10 + "?"


@pytest.mark.parametrize(
    ("prompt", "params", "what"),
    [
        ([], {}, "prompt: has no tokens"),
        ([1] * 640, {}, "640 tokens, and with one more the context of 640"),
        ([1, VOCAB], {}, f"token {VOCAB} is not one of the model's 0 to {VOCAB - 1}"),
        ([1, -1], {}, "token -1"),
        ([1, 2], {"skip": 2}, "skip: 2 of 2"),
    ],
)
def test_what_cannot_be_is_refused_at_once(prompt: list[int], params: dict[str, int], what: str) -> None:
    desk = Desk()
    with pytest.raises(InvalidRequest, match=what):
        desk.engine.submit(prompt, SamplingParams(**params))
    desk.engine.check()


def test_what_the_scheduler_cannot_hold_is_beyond_the_context() -> None:
    runner = FakeRunner(2)
    engine = Engine(FcfsScheduler(2), runner, vocab_size=VOCAB, context=1_000, clock=ManualClock())
    assert engine.context == 33
    with pytest.raises(InvalidRequest, match="33 tokens, and with one more the context of 33"):
        engine.submit([1] * 33, SamplingParams())


def test_what_the_scheduler_refuses_fails_alone() -> None:
    desk = Desk(blocks=40)
    desk.engine.context = 100_000
    other, wrong = desk.submit(), desk.submit([1] * 641)
    assert len(desk.result(other)[0]) == 5
    with pytest.raises(InvalidRequest, match="641 tokens"):
        wrong.result(0)


def test_an_id_is_under_way_once() -> None:
    desk = Desk()
    desk.submit(name="a")
    with pytest.raises(InvalidRequest, match="'a' is under way"):
        desk.submit(name="a")
    desk.turn()
    desk.submit(name="a")


def test_waiting_is_bounded() -> None:
    desk = Desk(max_waiting=2, max_sequences=1)
    first = desk.submit()
    desk.turn(1)
    held = [desk.submit(), desk.submit()]
    with pytest.raises(Overloaded, match="2 requests wait"):
        desk.submit()
    assert desk.engine.metrics().refused == 1
    for stream in (first, *held):
        assert len(desk.result(stream)[0]) == 5


@pytest.mark.parametrize("when", ["before it begins", "while it decodes"])
@pytest.mark.parametrize("how", ["abort", "close", "forget"])
def test_withdrawn_requests_give_back_their_blocks(when: str, how: str) -> None:
    desk = Desk()
    streams = [desk.submit(name="a", max_tokens=50)]
    if when == "while it decodes":
        desk.turn(3)
    if how == "abort":
        assert desk.engine.abort("a")
    elif how == "close":
        streams[0].close()
    else:
        streams.clear()
        gc.collect()
    desk.turn()
    metrics = desk.engine.metrics()
    assert (metrics.live, metrics.scheduler.device_blocks_used) == (0, 0)
    assert metrics.ended[FinishReason.ABORTED] == 1
    assert not desk.engine.abort("a")
    if streams:
        with pytest.raises(ServiceFailed, match="withdrawn"):
            streams[0].result(0)


def test_figures_within_a_step_are_without_what_was_withdrawn_before_it() -> None:
    desk = Desk()
    kept, left = desk.submit(), desk.submit([9] * 40)
    desk.engine.turn()
    left.close()
    seen: list[int] = []
    desk.runner.fault = lambda _step: seen.append(desk.engine.metrics().scheduler.device_blocks_used)
    desk.engine.turn()
    assert seen == [1]
    kept.close()


def test_closing_an_ended_stream_leaves_its_successor_alone() -> None:
    desk = Desk()
    first = desk.submit(name="a")
    desk.turn()
    second = desk.submit(name="a")
    first.close()
    assert len(desk.result(second)[0]) == 5


def test_a_step_that_fails_ends_those_in_it_and_no_others() -> None:
    desk = Desk(max_sequences=1)
    first, second = desk.submit(), desk.submit()

    def fault(step: Step) -> None:
        raise OSError(5, "broken disk")

    desk.turn(1)
    desk.runner.fault = fault
    with capture_logs() as logs:
        desk.turn(1)
    desk.runner.fault = None
    assert logs[0]["event"] == "step_failed"
    assert len(desk.result(second)[0]) == 5
    with pytest.raises(ServiceFailed, match="broken disk"):
        first.result(0)
    assert desk.engine.metrics().ended[FinishReason.FAILED] == 1


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_row_of_nan_fails_alone_and_its_blocks_are_not_shared(temperature: float) -> None:
    desk = Desk()
    long = [1] * 40

    def spoil(chunk: Chunk, logits: torch.Tensor) -> torch.Tensor:
        return logits * math.nan if chunk.sequence.id == "bad" else logits

    desk.runner.spoil = spoil
    bad, good = desk.submit(long, name="bad", temperature=temperature), desk.submit()
    assert desk.result(good)[0] == expected(PROMPT, 5)
    with pytest.raises(ServiceFailed, match="not finite"):
        bad.result(0)
    again = desk.submit(long)
    desk.turn()
    assert again.cached == 0


def test_a_token_without_text_fails_its_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    good = desk.submit()
    whole: Callable[[Letters, int], str] = Letters.push
    bad = desk.submit([9, 9])
    poison = expected([9, 9], 1)[0]

    def push(self: Letters, token: int) -> str:
        if token == poison:
            raise ValueError("no such piece")
        return whole(self, token)

    assert poison not in expected(PROMPT, 5)
    monkeypatch.setattr(Letters, "push", push)
    with capture_logs():
        assert desk.result(good)[0] == expected(PROMPT, 5)
    with pytest.raises(ServiceFailed, match="no such piece"):
        bad.result(0)


def test_closed_everything_under_way_ends() -> None:
    desk = Desk()
    streams = [desk.submit(), desk.submit()]
    desk.turn(2)
    desk.engine.close()
    desk.engine.close()
    for stream in streams:
        with pytest.raises(ServiceFailed, match="withdrawn"):
            stream.result(0)
    assert desk.runner.closed
    with pytest.raises(Overloaded, match="shutting down"):
        desk.submit()
    assert desk.engine.unwell() == "shutting down"
    desk.engine.check()


def test_figures() -> None:
    desk = Desk(max_sequences=1)
    for _ in range(2):
        desk.submit()
    streams = [desk.submit([1] * 33), desk.submit([1] * 33)]
    desk.turn()
    metrics = desk.engine.metrics()
    assert metrics.ended[FinishReason.LENGTH] == 2
    assert metrics.ended[FinishReason.ABORTED] == 2  # nobody kept their streams
    assert metrics.drawn_tokens == 10
    assert metrics.prompt_tokens == 66
    assert metrics.scheduler.shared_tokens == 32
    assert [stream.cached for stream in streams] == [0, 32]
    assert sum(metrics.queue_s.counts) == sum(metrics.first_token_s.counts) == sum(metrics.total_s.counts) == 2
    assert sum(metrics.between_tokens_s.counts) == 8
    assert metrics.between_tokens_s.total == pytest.approx(8 * 0.01)
    assert metrics.first_token_s.total == pytest.approx(0.05)  # the second waited for the five steps of the first
