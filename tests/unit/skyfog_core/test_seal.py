"""The seal of tests/unit/conftest.py holds."""

from __future__ import annotations

import importlib
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from skyfog_core.clock import SteadyClock

# Looked up when called: what they name is replaced for each test.
OUTSIDE: dict[str, Callable[[], object]] = {
    "sleep": lambda: time.sleep(0),
    "wall clock": lambda: time.time(),  # noqa: PLW0108
    "steady clock": lambda: SteadyClock().now_ns(),
    "performance counter": lambda: time.perf_counter(),  # noqa: PLW0108
    "socket": socket.socket,
    "connection": lambda: socket.create_connection(("127.0.0.1", 1)),
    "socket pair": lambda: socket.socketpair(),  # noqa: PLW0108
    "process": lambda: subprocess.run([sys.executable, "-V"], check=False),
    "thread": lambda: threading.Thread(target=print).start(),
    "waiting for an event": lambda: threading.Event().wait(0),
    "waiting for a queue": lambda: queue.Queue[int]().get(),
}


@pytest.mark.parametrize("way_out", OUTSIDE)
def test_a_unit_test_cannot_reach_the_outside_world(way_out: str) -> None:
    with pytest.raises(RuntimeError, match="ManualClock"):
        OUTSIDE[way_out]()


@pytest.mark.parametrize("name", ["rclpy", "ament_index_python.packages", "skyfog_interfaces.msg"])
def test_a_unit_test_cannot_import_ros(name: str) -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(name)
