"""Calls at a pace, in several lanes side by side: each lane calls at the same rate, evenly between the others.

A call is sent when it is due, whatever became of those before it: a lane that answers late is not asked less.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from skyfog_bench.messages import number
from skyfog_core.units import S

WRONG = -1  # status of an answer that is not the request's: an empty default, or another's


class Call(NamedTuple):
    """One call. Times are nanoseconds of the machine's steady clock; what never came is None."""

    due_ns: int
    sent_ns: int
    answered_ns: int | None
    status: int | None  # skyfog_core.errors.Status, or WRONG
    number: int
    asked: int  # replicas asked, as the answer tells; 0: it does not


# Called once by a lane, from any thread: status, replicas asked.
Done = Callable[[int, int], None]
# Sends call `number` and returns; `done` is called when it is answered.
Lane = Callable[[int, Done], None]


def pace(
    lanes: Mapping[str, tuple[int, Lane]], count: int, hz: float, first: int, limit_s: float
) -> dict[str, list[list[Any]]]:
    """`count` calls of each lane at `hz`, from index `first` on; each as the fields of Call.

    `lanes` gives each lane's place in the calls' numbers. `limit_s` is how long to wait for answers after the last call
    was sent.
    """
    calls: dict[str, list[list[Any]]] = {name: [] for name in lanes}
    left = threading.Semaphore(0)
    began = time.monotonic_ns()
    for i in range(count * len(lanes)):
        index, (name, (lane, send)) = i // len(lanes), list(lanes.items())[i % len(lanes)]
        due = began + round(i * S / (hz * len(lanes)))
        time.sleep(max(0.0, (due - time.monotonic_ns()) / S))
        call: list[Any] = [due, time.monotonic_ns(), None, None, number(lane, first + index), 0]

        def done(status: int, asked: int, call: list[Any] = call) -> None:
            call[2:4], call[5] = (time.monotonic_ns(), status), asked
            left.release()

        calls[name].append(call)
        send(call[4], done)
    until = time.monotonic() + limit_s
    for _ in range(count * len(lanes)):
        if not left.acquire(timeout=max(0.0, until - time.monotonic())):
            break
    return calls
