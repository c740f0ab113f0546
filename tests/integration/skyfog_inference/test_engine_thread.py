"""The engine's thread: readers of all kinds, ends of all kinds, and rest where there is nothing to do."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from structlog.testing import capture_logs

from skyfog_core.errors import DeadlineExceeded, Overloaded, ServiceFailed
from skyfog_inference import engine as module
from skyfog_inference.cost.flat import FlatCost
from skyfog_inference.engine import Engine
from skyfog_inference.request import FinishReason, SamplingParams
from skyfog_inference.scheduler.base import Scheduler, Step
from skyfog_inference.scheduler.fcfs import FcfsScheduler
from skyfog_inference.scheduler.neo import NeoScheduler
from skyfog_inference.scheduler.neo_rules import NeoConfig
from skyfog_inference.stream import Stream
from support.fake_runner import VOCAB, FakeRunner, expected

LIMIT_S = 20.0  # of every wait
FOREVER = 100_000
BLOCKS = 60
HOST_HELPS = FlatCost(linear_base_ms=100.0, host_sequence_ms=0.1)


class Gate:
    """Holds the runner within its step."""

    def __init__(self) -> None:
        self.within = threading.Event()
        self.open = threading.Event()

    def __call__(self, step: Step) -> None:
        self.within.set()
        assert self.open.wait(LIMIT_S)


def make(scheduler: Scheduler, blocks: int = BLOCKS, host_blocks: int = 0) -> tuple[Engine, FakeRunner]:
    runner = FakeRunner(blocks, host_blocks)
    made = Engine(scheduler, runner, vocab_size=VOCAB, context=FOREVER)
    made.start()
    return made, runner


@pytest.fixture
def served() -> Iterator[tuple[Engine, FakeRunner]]:
    engine, runner = make(FcfsScheduler(BLOCKS))
    yield engine, runner
    engine.close()
    assert not any(thread.name == "engine" for thread in threading.enumerate())


def greedy(count: int = 5) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=count)


def tokens(stream: Stream) -> list[int | None]:
    return [event.token for event in stream.result(LIMIT_S)[0]]


def test_many_threads_ask_at_once(served: tuple[Engine, FakeRunner]) -> None:
    engine, _ = served

    def ask(number: int) -> None:
        prompt = [number % VOCAB] * (1 + number % 30)
        assert tokens(engine.submit(prompt, greedy())) == expected(prompt, 5)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(64), timeout=LIMIT_S))
    assert engine.drain(LIMIT_S)
    engine.check()
    assert engine.metrics().ended[FinishReason.LENGTH] == 64


def test_asyncio_readers(served: tuple[Engine, FakeRunner]) -> None:
    engine, _ = served

    async def ask(number: int) -> None:
        drawn = [event.token async for event in engine.submit([number], greedy())]
        assert drawn == expected([number], 5)

    async def everyone() -> None:
        async with asyncio.timeout(LIMIT_S):
            await asyncio.gather(*(ask(number) for number in range(20)))

    asyncio.run(everyone())


def test_an_asyncio_reader_that_is_cancelled_withdraws_its_request(served: tuple[Engine, FakeRunner]) -> None:
    engine, _ = served

    async def leave() -> None:
        async def read() -> None:
            async for _ in engine.submit([1], greedy(800)):
                begun.set()

        begun = asyncio.Event()
        task = asyncio.create_task(read())
        async with asyncio.timeout(LIMIT_S):
            await begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        del task
        gc.collect()

    asyncio.run(leave())
    assert engine.drain(LIMIT_S)
    ended = engine.metrics().ended
    assert ended[FinishReason.ABORTED] + ended[FinishReason.LENGTH] == 1
    assert engine.metrics().scheduler.device_blocks_used == 0


def test_a_reader_whose_loop_is_gone_harms_nobody(served: tuple[Engine, FakeRunner]) -> None:
    engine, runner = served
    runner.fault = gate = Gate()
    kept: list[Stream] = []

    async def leave() -> None:
        kept.append(engine.submit([1], greedy()))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(kept[0])

    asyncio.run(leave())
    gate.open.set()
    assert tokens(kept[0]) == expected([1], 5)


def test_a_reader_waits_no_longer_than_it_says(served: tuple[Engine, FakeRunner]) -> None:
    engine, runner = served
    runner.fault = gate = Gate()
    stream = engine.submit([1], greedy())
    with pytest.raises(DeadlineExceeded, match=r"no token within 0\.01 s"):
        stream.next(0.01)
    gate.open.set()
    assert tokens(stream) == expected([1], 5)


def test_withdrawn_within_a_step_it_ends_after_it(served: tuple[Engine, FakeRunner]) -> None:
    engine, runner = served
    runner.fault = gate = Gate()
    stream = engine.submit([1], greedy(500))
    assert gate.within.wait(LIMIT_S)
    assert engine.abort(stream.id)
    gate.open.set()
    with pytest.raises(ServiceFailed, match="withdrawn"):
        stream.result(LIMIT_S)
    assert engine.metrics().scheduler.device_blocks_used == 0


def test_draining_lets_what_is_under_way_end_and_takes_nothing_new(served: tuple[Engine, FakeRunner]) -> None:
    engine, runner = served
    runner.fault = gate = Gate()
    stream = engine.submit([1], greedy())
    assert not engine.drain(0.01)
    with pytest.raises(Overloaded, match="shutting down"):
        engine.submit([2], greedy())
    gate.open.set()
    assert engine.drain(LIMIT_S)
    assert tokens(stream) == expected([1], 5)


def test_closing_ends_everything_under_way() -> None:
    engine, runner = make(FcfsScheduler(BLOCKS, max_sequences=2))

    def slow(_step: Step) -> None:
        """So that none has its tokens before we close."""
        threading.Event().wait(0.02)

    runner.fault = slow
    streams = [engine.submit([number], greedy(900)) for number in range(5)]
    first = streams[0].next(LIMIT_S)
    assert first is not None
    engine.close()
    assert runner.closed
    for stream in streams:
        with pytest.raises(ServiceFailed, match="withdrawn"):
            stream.result(LIMIT_S)
    engine.check()


def test_with_nothing_to_do_it_rests(served: tuple[Engine, FakeRunner]) -> None:
    engine, runner = served
    turns = 0
    turn = engine.turn

    def counted() -> bool:
        nonlocal turns
        turns += 1
        return turn()

    engine.turn = counted  # type: ignore[method-assign]
    for _ in range(3):
        assert len(tokens(engine.submit([1], greedy()))) == 5
        threading.Event().wait(0.05)
    assert turns <= len(runner.steps) + 3


def test_a_scheduler_that_is_broken_ends_everything_with_a_reason() -> None:
    engine, _ = make(FcfsScheduler(BLOCKS))

    def broken(*_: object) -> None:
        raise AssertionError("a block is lost")

    engine._scheduler.on_step = broken  # type: ignore[method-assign]
    with capture_logs() as logs:
        stream = engine.submit([1], greedy())
        with pytest.raises(ServiceFailed, match="a block is lost"):
            stream.result(LIMIT_S)
        engine.close()
    assert [entry["event"] for entry in logs] == ["engine_failed"]
    assert "a block is lost" in engine.unwell()
    with pytest.raises(Overloaded, match="a block is lost"):
        engine.submit([1], greedy())


def test_a_scheduler_that_finds_no_step_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALL_LIMIT", 3)
    engine, _ = make(FcfsScheduler(BLOCKS))
    engine._scheduler.schedule = lambda now_ns: None  # type: ignore[method-assign]
    with capture_logs():
        with pytest.raises(ServiceFailed, match="finds no step"):
            engine.submit([1], greedy()).result(LIMIT_S)
        engine.close()


SCHEDULERS: dict[str, Callable[[], Scheduler]] = {
    "fcfs": lambda: FcfsScheduler(24, max_batched_tokens=40, max_sequences=6),
    "fcfs, swapping": lambda: FcfsScheduler(24, 12, max_batched_tokens=40, max_sequences=6),
    "neo": lambda: NeoScheduler(NeoConfig(max_sequences=6, max_batched_tokens=40), HOST_HELPS, 12, 12),
}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_any_mixture_of_requests_and_ends_leaks_nothing(scheduler: str) -> None:
    """500 requests of eight threads: some are withdrawn, forgotten, preempted, and the others have their tokens."""
    engine, runner = make(SCHEDULERS[scheduler](), 24, 12)

    def ask(number: int) -> None:
        source = random.Random(number)
        prompt = [7] * source.choice([0, 16, 40]) + [source.randrange(VOCAB) for _ in range(source.randrange(1, 60))]
        count = source.randrange(1, 60)
        stream = engine.submit(prompt, greedy(count))
        fate = source.random()
        if fate < 0.2:
            stream.next(LIMIT_S)
            stream.close()
        elif fate < 0.3:
            del stream
        else:
            assert tokens(stream) == expected(prompt, count)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(500), timeout=100))
    assert engine.drain(LIMIT_S)
    engine.check()
    metrics = engine.metrics()
    assert sum(metrics.ended.values()) == 500
    assert metrics.ended[FinishReason.FAILED] == 0
    assert metrics.ended[FinishReason.ABORTED] > 20
    state = metrics.scheduler
    assert (state.device_blocks_used, state.host_blocks_used) == (0, 0)
    assert state.preemptions + sum(len(step.swaps) for step in runner.steps) > 0
    assert state.shared_tokens > 0
    engine.close()
    assert runner.closed
