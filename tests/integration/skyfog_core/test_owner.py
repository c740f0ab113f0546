"""The owner thread: order, bounds, timer, faults, and an end within its limit."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from skyfog_core import owner as owner_module
from skyfog_core.clock import SteadyClock
from skyfog_core.errors import Overloaded
from skyfog_core.owner import Owner
from skyfog_core.units import S

LIMIT_S = 10.0


def no_timer(_now_ns: int) -> None:
    return None


@contextmanager
def running(owner: Owner) -> Iterator[Owner]:
    owner.start()
    try:
        yield owner
    finally:
        owner.close(lambda _now_ns: None)
        assert not owner._thread.is_alive()


def test_events_run_in_order_on_one_thread_with_the_time() -> None:
    ran: queue.SimpleQueue[tuple[int, str, int]] = queue.SimpleQueue()
    with running(Owner("own", SteadyClock(), no_timer, 100)) as owner:
        for n in range(50):
            owner.post(lambda now_ns, n=n: ran.put((n, threading.current_thread().name, now_ns)))
        seen = [ran.get(timeout=LIMIT_S) for _ in range(50)]
    assert [n for n, _, _ in seen] == list(range(50))
    assert {name for _, name, _ in seen} == {"own"}
    assert [t for _, _, t in seen] == sorted(t for _, _, t in seen)


def test_new_work_past_the_bound_is_refused_and_accepted_work_never() -> None:
    hold, holding = threading.Event(), threading.Event()

    def wait(_now_ns: int) -> None:
        holding.set()
        hold.wait(LIMIT_S)

    with running(Owner("own", SteadyClock(), no_timer, 2)) as owner:
        owner.submit(wait)
        assert holding.wait(LIMIT_S)
        for _ in range(2):
            owner.submit(no_timer)
        with pytest.raises(Overloaded, match="2 events"):
            owner.submit(no_timer)
        done = threading.Event()
        owner.post(lambda _now_ns: done.set())
        hold.set()
        assert done.wait(LIMIT_S)


def test_the_timer_rings_when_it_asked_to_without_any_event() -> None:
    rung: queue.SimpleQueue[int] = queue.SimpleQueue()
    due_ns = time.monotonic_ns() + 50_000_000

    def on_timer(now_ns: int) -> int | None:
        if now_ns >= due_ns:
            rung.put(now_ns)
            return None
        return due_ns

    with running(Owner("own", SteadyClock(), on_timer, 2)) as owner:
        owner.post(no_timer)
        assert rung.get(timeout=LIMIT_S) >= due_ns


@pytest.fixture
def never_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread does not wake up by itself."""
    monkeypatch.setattr(owner_module, "IDLE_NS", 3_600 * S)


@pytest.mark.usefixtures("never_idle")
def test_a_fault_in_an_event_ends_neither_the_thread_nor_the_timer() -> None:
    rung, failed = threading.Event(), []

    def fail(_now_ns: int) -> None:
        failed.append(True)
        raise ValueError("meant")

    def on_timer(now_ns: int) -> int | None:
        if failed:
            rung.set()
        return None

    with running(Owner("own", SteadyClock(), on_timer, 2)) as owner:
        owner.post(fail)
        assert rung.wait(LIMIT_S), "the timer is asked after a failed event, not at the next wake-up"
        done = threading.Event()
        owner.post(lambda _now_ns: done.set())
        assert done.wait(LIMIT_S)


@pytest.mark.usefixtures("never_idle")
def test_a_fault_in_the_timer_does_not_make_the_thread_spin() -> None:
    calls: list[int] = []

    def on_timer(now_ns: int) -> int | None:
        calls.append(now_ns)
        if len(calls) > 1:
            raise ValueError("meant")
        return now_ns

    with running(Owner("own", SteadyClock(), on_timer, 2)) as owner:
        owner.post(no_timer)
        ticks = threading.Event()
        assert not ticks.wait(0.2)
        assert len(calls) < 5


def test_close_runs_what_is_queued_then_the_last_call_and_refuses_more() -> None:
    ran: list[str] = []
    owner = Owner("own", SteadyClock(), no_timer, 10)
    owner.start()
    owner.submit(lambda _now_ns: ran.append("queued"))
    owner.close(lambda _now_ns: ran.append("last"))
    owner.close(lambda _now_ns: ran.append("again"))
    assert ran == ["queued", "last"]
    with pytest.raises(Overloaded, match="shutting down"):
        owner.submit(no_timer)


def test_close_waits_no_longer_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner_module, "CLOSE_LIMIT_S", 0.05)
    hold = threading.Event()
    owner = Owner("own", SteadyClock(), no_timer, 10)
    owner.start()
    owner.submit(lambda _now_ns: hold.wait(LIMIT_S) and None)
    owner.close(no_timer)
    assert owner._thread.is_alive(), "close came back while the event was stuck"
    hold.set()
    owner._thread.join(LIMIT_S)
    assert not owner._thread.is_alive()


def test_another_thread_is_told_what_the_owner_knows_even_when_the_inbox_is_full() -> None:
    hold, holding = threading.Event(), threading.Event()

    def wait(_now_ns: int) -> None:
        holding.set()
        hold.wait(LIMIT_S)

    with running(Owner("own", SteadyClock(), no_timer, 1)) as owner:
        owner.submit(wait)
        assert holding.wait(LIMIT_S)
        owner.submit(no_timer)
        threading.Timer(0.05, hold.set).start()
        assert owner.ask(lambda _now_ns: threading.current_thread().name, LIMIT_S) == "own"


def test_what_the_owner_raises_reaches_who_asked_and_the_owner_goes_on() -> None:
    def fail(_now_ns: int) -> None:
        raise KeyError("x")

    with running(Owner("own", SteadyClock(), no_timer, 1)) as owner:
        with pytest.raises(KeyError):
            owner.ask(fail, LIMIT_S)
        assert owner.ask(lambda now_ns: now_ns, LIMIT_S) > 0


def test_an_owner_that_is_busy_is_given_up_on_and_does_not_run_it_later() -> None:
    hold, ran = threading.Event(), threading.Event()
    with running(Owner("own", SteadyClock(), no_timer, 10)) as owner:
        owner.submit(lambda _now_ns: hold.wait(LIMIT_S))
        with pytest.raises(Overloaded, match=r"own did not answer within 0\.02 s"):
            owner.ask(lambda _now_ns: ran.set(), 0.02)
        hold.set()
        owner.ask(no_timer, LIMIT_S)
        assert not ran.is_set()


def test_a_closed_owner_is_not_waited_for() -> None:
    with running(Owner("own", SteadyClock(), no_timer, 10)) as owner:
        pass
    with pytest.raises(Overloaded, match="shutting down"):
        owner.ask(no_timer, LIMIT_S)
