from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from skyfog_core.errors import Status
from skyfog_core.units import MS
from skyfog_core.wire.envelope import VERSION, Header
from skyfog_core.wire.keys import ReplicaKey
from skyfog_sim.durations import Constant
from skyfog_sim.kernel import Kernel
from skyfog_sim.replica import STOP_NS, TYPE_HASH, Mood, Process, ReplicaModel, Reply

X, Y = b"x" * 16, b"y" * 16
SERVICE_MS = 10


class Watcher:
    """Counts."""

    def __init__(self) -> None:
        self.starts: list[bytes] = []

    def started(self, process: Process, request_id: bytes) -> None:
        self.starts.append(request_id)

    def finished(self, process: Process, request_id: bytes, status: Status) -> None:
        pass

    def policy(self, policy: Any) -> None:
        policy.check()


@dataclass
class Ticket:
    kernel: Kernel
    replies: list[tuple[int, Reply]] = field(default_factory=list)

    def reply(self, reply: Reply) -> None:
        self.replies.append((self.kernel.now_ns // MS, reply))

    @property
    def told(self) -> tuple[int, Status | None]:
        ((at_ms, reply),) = self.replies
        return at_ms, reply.header.status if reply.header else None


class Bench:
    """One process, and who asks it."""

    def __init__(self, **model: Any) -> None:
        self.kernel, self.mood, self.watcher = Kernel(), Mood(), Watcher()
        made = ReplicaModel(ReplicaKey("a", "0"), Constant(SERVICE_MS * MS), **model)
        self.process = Process(self.kernel, Random(0), made, self.mood, made.admission(), 1, self.watcher)

    def ask(self, request_id: bytes, at_ms: int = 0, budget_ms: int = 100) -> Ticket:
        ticket = Ticket(self.kernel)
        header = Header(VERSION, request_id, 0, budget_ms, TYPE_HASH)
        self.kernel.at(at_ms * MS, lambda: self.process.do(lambda: self.process.on_query(header, ticket)))
        return ticket

    def at(self, at_ms: int, call: Any) -> None:
        self.kernel.at(at_ms * MS, call)


def freeze(bench: Bench) -> None:
    bench.process.frozen = True


def test_requests_run_one_after_another_and_are_answered() -> None:
    bench = Bench()
    x, y = bench.ask(X), bench.ask(Y)
    bench.kernel.run()
    assert (x.told, y.told) == ((10, Status.OK), (20, Status.OK))
    assert not bench.process.jobs


def test_a_frozen_process_goes_on_when_it_thaws_with_all_that_came_meanwhile() -> None:
    bench = Bench()
    x, y = bench.ask(X), bench.ask(Y, at_ms=20)
    bench.at(5, lambda: freeze(bench))
    bench.at(40, bench.process.thaw)
    bench.kernel.run()
    assert (x.told, y.told) == ((40, Status.OK), (50, Status.OK))


def test_a_killed_process_answers_nobody_and_holds_no_token() -> None:
    bench = Bench()
    x = bench.ask(X)
    bench.at(5, bench.process.kill)
    bench.kernel.run()
    assert not x.replies
    assert bench.process.announced is None


def test_what_is_wrong_with_the_service_shows_in_its_answers() -> None:
    bench = Bench()
    bench.mood.failing = True
    x = bench.ask(X)
    bench.at(12, lambda: setattr(bench.mood, "failing", False))
    bench.at(12, lambda: setattr(bench.mood, "garbage", True))
    y = bench.ask(Y, at_ms=13)
    bench.kernel.run()
    assert (x.told, y.told) == ((10, Status.FAILED), (23, None))


def test_a_slow_service_takes_longer() -> None:
    bench = Bench()
    bench.mood.slowness = 4.0
    x = bench.ask(X)
    bench.kernel.run()
    assert x.told == (40, Status.OK)


def test_memory_that_leaks_makes_it_slower_and_is_gone_in_the_end() -> None:
    bench, gone = Bench(), []
    bench.process.on_memory_gone = lambda: gone.append(bench.kernel.now_ns // MS)
    bench.process.begin_leak(2)
    x, y = bench.ask(X), bench.ask(Y, at_ms=50)
    bench.kernel.run()
    assert x.told == (25, Status.OK)
    assert y.told == (90, Status.OK), "nobody killed it here"
    assert gone == [50]


def test_a_running_request_that_is_withdrawn_stops_where_the_service_can() -> None:
    bench = Bench(can_stop=True)
    x, y = bench.ask(X), bench.ask(Y)
    bench.at(3, lambda: bench.process.do(lambda: bench.process.on_cancel(X)))
    bench.kernel.run()
    stopped = 3 + STOP_NS // MS
    assert (x.told, y.told) == ((stopped, Status.FAILED), (stopped + SERVICE_MS, Status.OK))


def test_a_copy_that_comes_after_the_answer_gets_it_again() -> None:
    bench = Bench()
    x, again = bench.ask(X), bench.ask(X, at_ms=30)
    bench.kernel.run()
    assert (x.told, again.told) == ((10, Status.OK), (30, Status.OK))
    assert bench.watcher.starts == [X]


def test_a_terminated_process_finishes_what_it_has_and_refuses_what_comes() -> None:
    bench = Bench()
    x, y = bench.ask(X), bench.ask(Y, at_ms=5)
    bench.at(4, bench.process.terminate)
    bench.kernel.run()
    assert (x.told, y.told) == ((10, Status.OK), (5, Status.NOT_EXECUTED))
    assert bench.process.announced is None
