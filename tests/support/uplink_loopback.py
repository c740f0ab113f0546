"""An uplink inside the shaper's process: link, gateway and a cloud that sees one thing in every image.

A node test names it as the shaper's `transport`. Settings come from the environment (LOOPBACK_*), and files in
LOOPBACK_DIR change it while it runs: `silent` drops everything, `away` takes the gateway away, `deaf` leaves frames
unanswered.
"""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from rclpy.serialization import deserialize_message, serialize_message

from skyfog_core.config.uplink import ShaperNodeConfig
from skyfog_core.errors import Status
from skyfog_core.units import MS, US, S
from skyfog_core.wire.uplink import Ack, Answer, Chunk, Ping, Upward
from skyfog_interfaces.srv import Detect
from skyfog_uplink.transport.base import CarEvents, CarTransport
from support.services import right_half

LOOK_NS = 20 * MS


class Loopback:
    """One link in one thread."""

    def __init__(self, folder: Path, rate_bps: float, rtt_ms: float, exec_ms: float) -> None:
        self._folder, self._rate_bps = folder, rate_bps
        self._half_ns, self._exec_ns = round(rtt_ms * MS / 2), round(exec_ms * MS)
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._changed = threading.Condition()
        self._number = 0
        self._free_ns = 0
        self._there = False
        self._closed = False
        self._cloud = right_half(None)
        self._frames: dict[int, bytearray] = {}
        self._thread = threading.Thread(target=self._run, name="loopback", daemon=True)

    def start(self, events: CarEvents) -> None:
        self._events = events
        self._thread.start()

    def send(self, message: Upward, payload: bytes = b"") -> bool:
        if not self._there:
            return False
        now_ns = time.monotonic_ns()
        self._free_ns = max(self._free_ns, now_ns) + round(8 * (len(payload) + 64) * S / self._rate_bps)
        if not self._is("silent"):
            self._at(self._free_ns + self._half_ns, lambda: self._arrive(message, payload))
        return True

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(5.0)

    def _is(self, what: str) -> bool:
        return (self._folder / what).exists()

    def _at(self, due_ns: int, call: Callable[[], None]) -> None:
        with self._changed:
            self._number += 1
            heapq.heappush(self._due, (due_ns, self._number, call))
            self._changed.notify()

    def _arrive(self, message: Upward, payload: bytes) -> None:
        now_ns = time.monotonic_ns()
        if isinstance(message, Chunk | Ping):
            ack = Ack(seq=message.seq, received_us=now_ns // US)
            self._at(now_ns + self._half_ns, lambda: self._down(ack, b""))
        if isinstance(message, Chunk):
            frame = self._frames.setdefault(message.frame, bytearray())
            frame += payload
            if len(frame) == message.total:
                del self._frames[message.frame]
                self._at(now_ns + self._exec_ns + self._half_ns, lambda: self._answer(message.frame, bytes(frame)))

    def _answer(self, frame: int, request: bytes) -> None:
        if not self._is("deaf"):
            answer = Answer(frame=frame, status=Status.OK, cloud_us=self._exec_ns // US, replica="loop/back")
            response = self._cloud(deserialize_message(request, Detect.Request), Detect.Response())
            self._down(answer, bytes(serialize_message(response)))

    def _down(self, message: Ack | Answer, payload: bytes) -> None:
        if self._there and not self._is("silent"):
            self._events.received(message, payload)

    def _run(self) -> None:
        while True:
            there = not self._is("away")
            if there != self._there:
                self._there = there
                if there:
                    self._events.connected("loopback")
                else:
                    self._events.disconnected("it was taken away")
            with self._changed:
                now_ns = time.monotonic_ns()
                wait_ns = min(LOOK_NS, self._due[0][0] - now_ns if self._due else LOOK_NS)
                if wait_ns > 0:
                    self._changed.wait(wait_ns / S)
                if self._closed:
                    return
                now_ns = time.monotonic_ns()
                calls = []
                while self._due and self._due[0][0] <= now_ns:
                    calls.append(heapq.heappop(self._due)[2])
            for call in calls:
                call()


def open_link(config: ShaperNodeConfig) -> CarTransport:
    """As skyfog_uplink.transport.base.OpenLink."""
    setting = {name: os.environ.get(f"LOOPBACK_{name}", value) for name, value in DEFAULTS.items()}
    return Loopback(Path(setting["DIR"]), float(setting["BPS"]), float(setting["RTT_MS"]), float(setting["EXEC_MS"]))


DEFAULTS = {"DIR": "/nonexistent", "BPS": "20e6", "RTT_MS": "30", "EXEC_MS": "20"}
