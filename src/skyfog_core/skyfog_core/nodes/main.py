"""The one main loop of every Skyfog node."""

from __future__ import annotations

import ctypes
import signal
import sys
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


def run(
    name: str,
    make_nodes: Callable[[], list[Node]],
    args: list[str] | None = None,
    threads: Callable[[list[Node]], int] = lambda _nodes: 1,
) -> int:
    """Make the nodes, spin them until a signal, destroy them. Returns the exit status: 2 where the set-up is wrong.

    Nodes that can (ending.CanFinish) first finish what is under way.

    `threads` is for nodes whose callbacks take long: how many may run at once.
    """
    configure_logs(name)
    keep_freed_memory()
    try:
        check_files(params_files(args))
        rclpy.init(args=args)
        nodes = make_nodes()
    except (SkyfogError, InvalidNodeNameException, InvalidNamespaceException) as error:
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        rclpy.try_shutdown()
        return EXIT_CONFIG
    except RCLError as error:  # a parameter file that ROS itself cannot read
        print(f"{name}: {plain_reason(error)}", file=sys.stderr, flush=True)
        rclpy.try_shutdown()
        return EXIT_CONFIG
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
