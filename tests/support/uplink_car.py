"""A car's driver without a thread, over a transport that the test plays by hand."""

from __future__ import annotations

from typing import Any

from skyfog_core.clock import ManualClock
from skyfog_core.config.uplink import ShaperConfig
from skyfog_core.trace import MemoryTrace
from skyfog_core.units import MS
from skyfog_core.wire.uplink import Ack, Answer, Chunk, Ping, Upward
from skyfog_uplink.car import CarDriver, Limits
from skyfog_uplink.policy.frames import Ended
from skyfog_uplink.policy.link import LinkState
from skyfog_uplink.policy.model import Table
from skyfog_uplink.policy.shape import Shaper
from skyfog_uplink.transport.base import CarEvents
from support.owners import StepOwner
from support.uplink import FixedEstimator

HASH = bytes(range(32))


class HandTransport:
    """Keeps what was sent; takes nothing while `full`."""

    def __init__(self) -> None:
        self.sent: list[tuple[Upward, bytes]] = []
        self.full = False
        self.closed = False

    def start(self, events: CarEvents) -> None:
        self.events = events

    def send(self, message: Upward, payload: bytes = b"") -> bool:
        if not self.full:
            self.sent.append((message, payload))
        return not self.full

    def close(self) -> None:
        self.closed = True

    def chunks(self) -> list[tuple[Chunk, bytes]]:
        return [(message, payload) for message, payload in self.sent if isinstance(message, Chunk)]


class Heard:
    """A car.Caller that remembers."""

    def __init__(self) -> None:
        self.all: list[tuple[Ended, bytes]] = []

    def ended(self, ended: Ended, payload: bytes) -> None:
        self.all.append((ended, payload))


class HandCar:
    """One car; `car.CarDriver.Owner` must be StepOwner."""

    def __init__(self, table: Table, start_ns: int = 0, **limits: Any) -> None:
        self.clock = ManualClock(start_ns)
        self.transport = HandTransport()
        self.trace = MemoryTrace()
        self.estimator = FixedEstimator()
        self.links: list[LinkState] = []
        self.shaper = Shaper(table, ShaperConfig(), self.estimator)
        self.driver = CarDriver(
            table,
            self.shaper,
            self.transport,
            self.clock,
            self.trace,
            {service.type: HASH for service in table.services},
            Limits(**{"max_frame_bytes": 100_000, "stale_ns": 1_500 * MS, **limits}),
            self.links.append,
        )
        self.driver.start()
        self.owner = StepOwner.made[-1]
        self._acknowledged: set[int] = set()

    def step(self, ms: float = 0.0) -> None:
        self.clock.advance(round(ms * MS))
        self.owner.step()

    def acknowledge(self) -> None:
        """Every chunk and ping that was sent since the last time."""
        for message, _ in self.transport.sent:
            if isinstance(message, Chunk | Ping) and message.seq not in self._acknowledged:
                self._acknowledged.add(message.seq)
                self.transport.events.received(Ack(seq=message.seq, received_us=self.clock.now_ns() // 1_000), b"")
        self.step()

    def send_all(self, ms: float = 20) -> None:
        """Time goes by, and whatever is sent is acknowledged at once."""
        for _ in range(round(ms / 5)):
            self.step(5)
            self.acknowledge()

    def answer(self, answer: Answer, payload: bytes = b"") -> None:
        self.transport.events.received(answer, payload)
        self.step()
