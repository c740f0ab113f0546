from __future__ import annotations

import pytest

from skyfog_core.clock import ManualClock
from skyfog_sim.kernel import Alarm, Kernel, NotOver


def test_calls_run_in_order_of_time_and_ties_in_order_of_scheduling() -> None:
    kernel, ran = Kernel(), []
    for when_ns, name in ((5, "late"), (1, "first"), (1, "second")):
        kernel.at(when_ns, lambda name=name: ran.append((kernel.now_ns, name)))
    kernel.run()
    assert ran == [(1, "first"), (1, "second"), (5, "late")]


def test_what_is_scheduled_in_the_past_runs_now() -> None:
    kernel, ran = Kernel(), []
    kernel.at(5, lambda: kernel.at(1, lambda: ran.append(kernel.now_ns)))
    kernel.run()
    assert ran == [5]


def test_the_clock_that_policies_are_given_moves_along() -> None:
    clock = ManualClock(100)
    kernel, seen = Kernel(clock), []
    kernel.after(7, lambda: seen.append(clock.now_ns()))
    kernel.run()
    assert seen == [107]


def test_a_history_without_an_end_is_an_error() -> None:
    kernel = Kernel()

    def again() -> None:
        kernel.after(1, again)

    again()
    with pytest.raises(NotOver, match="not over after 10 calls"):
        kernel.run(limit=10)


def test_a_run_may_stop_at_a_time_and_go_on() -> None:
    kernel, ran = Kernel(), []
    for when_ns in (3, 5, 8):
        kernel.at(when_ns, lambda: ran.append(kernel.now_ns))
    kernel.run(until_ns=5)
    assert (ran, kernel.now_ns) == ([3, 5], 5)
    kernel.run(until_ns=6)
    assert (ran, kernel.now_ns) == ([3, 5], 6)
    kernel.run()
    assert ran == [3, 5, 8]


def test_somebody_may_look_on_after_each_call() -> None:
    kernel, looked = Kernel(), []
    for when_ns in (1, 1, 4):
        kernel.at(when_ns, lambda: None)
    kernel.run(after_each=lambda: looked.append(kernel.now_ns))
    assert looked == [1, 1, 4]


class Sleeper:
    """A policy that wants to be woken at some times."""

    def __init__(self, kernel: Kernel, due: list[int]) -> None:
        self.kernel, self.due, self.woken = kernel, due, []
        self.alarm = Alarm(kernel, lambda: min(self.due, default=None), self.wake)

    def wake(self) -> None:
        self.woken.append(self.kernel.now_ns)
        self.due = [due for due in self.due if due > self.kernel.now_ns]
        self.alarm.reset()


def test_an_alarm_wakes_when_it_is_due_and_never_without_need() -> None:
    kernel = Kernel()
    sleeper = Sleeper(kernel, [10, 30])
    sleeper.alarm.reset()
    kernel.at(2, lambda: (sleeper.due.insert(0, 5), sleeper.alarm.reset()))  # sooner
    kernel.at(12, lambda: (sleeper.due.remove(30), sleeper.due.append(40), sleeper.alarm.reset()))  # later
    kernel.run()
    assert sleeper.woken == [5, 10, 40]
