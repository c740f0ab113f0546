"""The one main loop of every Skyfog node."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable

import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.exceptions import InvalidNamespaceException, InvalidNodeNameException
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.node import Node

from skyfog_core.config.parameters import check_files
from skyfog_core.errors import SkyfogError, plain_reason
from skyfog_core.logs import configure_logs
from skyfog_core.nodes.ending import CanFinish, finished_first
from skyfog_core.nodes.parameters import params_files

EXIT_FAILED = 1
EXIT_CONFIG = 2

# <malloc.h> of glibc
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEEP_BYTES = 64 << 20
MMAP_BYTES = 32 << 20  # glibc's upper limit for M_MMAP_THRESHOLD


def keep_freed_memory() -> None:
    """Let glibc keep up to KEEP_BYTES of freed memory an arena, for the next message.

    By default it gives a freed megabyte back to the kernel, and each page of the next message is a page fault: 2.1 ms
    to serialise 1 MB, against 0.08 ms with the memory kept. Elsewhere than on glibc nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)


def _no_more_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _blame(name: str, error: BaseException) -> int:
    """Say why the nodes could not be made, if anybody still reads it. Returns the exit status."""
    status = EXIT_CONFIG
    if isinstance(error, (SkyfogError, InvalidNodeNameException, InvalidNamespaceException)):
        why = f"{name}: {error}"
    elif isinstance(error, RCLError):  # a parameter file that ROS itself cannot read
        why = f"{name}: {plain_reason(error)}"
    else:
        status, why = EXIT_FAILED, "".join(traceback.format_exception(error))
    with contextlib.suppress(OSError):
        print(why, file=sys.stderr, flush=True)
    return status


def _not_made(status: int) -> int:
    """Leave, with what is half made. Nobody has it in hand to close it, and Python would wait for zenoh's threads."""
    rclpy.try_shutdown()
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        os._exit(status)
    return status


def run(
    name: str,
    make_nodes: Callable[[], list[Node]],
    args: list[str] | None = None,
    threads: Callable[[list[Node]], int] = lambda _nodes: 1,
) -> int:
    """Make the nodes, spin them until a signal, destroy them. Returns the exit status: 2 where the set-up is wrong.

    A signal while the nodes are made ends them too.

    Nodes that can (ending.CanFinish) first finish what is under way.

    `threads` is for nodes whose callbacks take long: how many may run at once.
    """
    configure_logs(name)
    keep_freed_memory()
    initialised = False
    try:
        check_files(params_files(args))
        rclpy.init(args=args)
        initialised = True
        nodes = make_nodes()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # whatever it is, it is said
        signalled = isinstance(error, KeyboardInterrupt) or (initialised and not rclpy.ok())
        return _not_made(0 if signalled else _blame(name, error))
    count = threads(nodes)
    executor = SingleThreadedExecutor() if count == 1 else MultiThreadedExecutor(count)
    for node in nodes:
        executor.add_node(node)
    try:
        with finished_first([node for node in nodes if isinstance(node, CanFinish)]):
            executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except RCLError:
        if rclpy.ok():
            raise
        # A signal shut ROS down between the executor's look at the context and its use of it.
    finally:
        _no_more_signals()  # under `ros2 launch` Ctrl-C comes twice, from the terminal and from launch
        executor.shutdown(timeout_sec=1.0)
        for node in nodes:
            node.destroy_node()
        rclpy.try_shutdown()  # gives the signals back
        _no_more_signals()
    return 0
