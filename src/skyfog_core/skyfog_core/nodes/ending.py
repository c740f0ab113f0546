"""A signal asks a node to end; one that has work under way finishes it first.

ROS's own handler shuts ROS down at once, and with it the calls that the work still waits for. So, around nodes that
can finish, the first signal only asks them to; ROS goes down when they say that they have finished, each in its own
time limit. A further signal ends them at once; but not one that comes with the first: under `ros2 launch` Ctrl-C
comes twice, from the terminal and from launch.

Python runs its handlers in the main thread, which sleeps inside ROS. The interpreter's wake-up socket is written at
once, and a thread of ours reads it.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import rclpy
import structlog
from rclpy.signals import uninstall_signal_handlers

log = structlog.get_logger()

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME_S = 1.0  # signals this close together are one wish
FINISHED = 0  # on the socket, where a signal writes its number


@runtime_checkable
class CanFinish(Protocol):
    """A node that would rather finish."""

    def finish(self, done: Callable[[], None]) -> None:
        """Begin nothing new; call `done` once, from any thread, when nothing is under way or the time for it is over.

        Must return at once.
        """


@contextlib.contextmanager
def finished_first(nodes: list[CanFinish]) -> Iterator[None]:
    """Inside the block, in the main thread, a signal shuts ROS down only when all of `nodes` have finished."""
    if not nodes:
        yield
        return
    inside, outside = socket.socketpair()
    inside.setblocking(False)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # one that comes now is heard below
    uninstall_signal_handlers()
    for number in SIGNALS:
        signal.signal(number, _nothing)
    signal.set_wakeup_fd(inside.fileno(), warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    watcher = threading.Thread(target=_watch, args=(nodes, inside, outside), name="ending", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        inside.shutdown(socket.SHUT_RDWR)
        watcher.join()
        inside.close()
        outside.close()


def _watch(nodes: list[CanFinish], inside: socket.socket, outside: socket.socket) -> None:
    asked_s: float | None = None
    missing = len(nodes)
    while missing > 0:
        heard = outside.recv(64)
        if not heard:
            return  # the block was left
        missing -= heard.count(FINISHED)
        if not any(number in heard for number in SIGNALS):
            continue
        if asked_s is None:
            asked_s = time.monotonic()
            for node in nodes:
                _ask(node, lambda: _tell(inside))
        elif time.monotonic() - asked_s >= SAME_S:
            break
    rclpy.get_default_context().try_shutdown()


def _ask(node: CanFinish, done: Callable[[], None]) -> None:
    """One that cannot even begin to finish is not waited for: this thread, which alone hears signals, goes on."""
    try:
        node.finish(done)
    except Exception:
        log.exception("not_finished")
        done()


def _tell(inside: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the block was left meanwhile
        inside.send(bytes([FINISHED]))


def _nothing(_number: int, _frame: object) -> None:
    """Stand in for the handler; the wake-up socket has the number."""
