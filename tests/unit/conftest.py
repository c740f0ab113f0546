"""Unit tests see no clock, no waiting, no network, no other process and no ROS: time and links are given by hand."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from typing import NoReturn

import pytest

CLOCKS = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")
ROS = ("rclpy", "ament_index_python", "skyfog_interfaces")


def _forbidden(*_: object, **__: object) -> NoReturn:
    raise RuntimeError("unit tests use ManualClock and in-memory links; this belongs in tests/integration or tests/ros")


@pytest.fixture(autouse=True)
def _no_outside_world(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*CLOCKS, "sleep"):
        monkeypatch.setattr(time, name, _forbidden)
    # The class stays a class, since other modules derive from it.
    monkeypatch.setattr(socket.socket, "__init__", _forbidden)
    monkeypatch.setattr(socket, "socketpair", _forbidden)
    monkeypatch.setattr(subprocess.Popen, "__init__", _forbidden)
    monkeypatch.setattr(subprocess.Popen, "__del__", lambda _self: None)
    monkeypatch.setattr(threading.Thread, "start", _forbidden)
    monkeypatch.setattr(threading.Event, "wait", _forbidden)
    monkeypatch.setattr(threading.Condition, "wait", _forbidden)
    # What other tests of this run have imported is hidden too.
    for name in {*ROS, *(loaded for loaded in sys.modules if loaded.partition(".")[0] in ROS)}:
        monkeypatch.setitem(sys.modules, name, None)
