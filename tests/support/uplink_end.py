"""A car's end of the uplink for tests: sends whole frames without a shaper, notes what it hears. Waits have limits."""

from __future__ import annotations

import queue
import time

from skyfog_core.clock import SteadyClock
from skyfog_core.config.uplink import LinkConfig
from skyfog_core.wire.uplink import Ack, Answer, Chunk, Downward, Ping
from skyfog_router.transport.zenoh_link import open_car_link

LIMIT_S = 20.0
CHUNK = 8_192
IN_FLIGHT = 16  # chunks
HASH = bytes(32)


class Car:
    """One car of the fleet `test`."""

    def __init__(self, config: LinkConfig, name: str = "car", service: str = "/echo", type_hash: bytes = HASH) -> None:
        self.name, self._service, self._hash = name, service, type_hash
        self.turns: queue.SimpleQueue[str] = queue.SimpleQueue()  # a gateway's name, or empty for none
        self.acks: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[tuple[Answer, bytes]] = queue.SimpleQueue()
        self._seq = self._frame = 0
        self.link = open_car_link(config, "test", name, SteadyClock())
        self.link.start(self)

    def received(self, message: Downward, payload: bytes) -> None:
        if isinstance(message, Ack):
            self.acks.put(message.seq)
        else:
            self.answers.put((message, payload))

    def connected(self, gateway: str) -> None:
        self.turns.put(gateway)

    def disconnected(self, why: str) -> None:
        self.turns.put("")

    def wait_for(self, *gateways: str, limit_s: float = LIMIT_S) -> str:
        """Until it talks to one of these, and which; pings meanwhile, as a shaper would."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            try:
                turn = self.turns.get(timeout=0.05)
            except queue.Empty:
                self.ping()
            else:
                if turn in gateways:
                    return turn
        raise TimeoutError(f"{self.name} talks to none of {gateways} within {limit_s} s")

    def ping(self) -> bool:
        self._seq += 1
        return self.link.send(Ping(seq=self._seq))

    def chunk(self, payload: bytes, frame: int = 0, offset: int = 0, total: int = 0, budget_ms: int = 10_000) -> bool:
        self._seq += 1
        first = {"service": self._service, "type_hash": self._hash} if offset == 0 else {}
        total = total or len(payload)
        message = Chunk(seq=self._seq, frame=frame, offset=offset, total=total, budget_ms=budget_ms, **first)
        return self.link.send(message, payload)

    def send(self, payload: bytes, budget_ms: int = 10_000) -> int:
        """All of a frame. Returns its number."""
        self._frame += 1
        while not self.acks.empty():
            self.acks.get()
        under_way = 0
        for offset in range(0, len(payload), CHUNK):
            if under_way == IN_FLIGHT:
                self.acks.get(timeout=LIMIT_S)
                under_way -= 1
            assert self.chunk(payload[offset : offset + CHUNK], self._frame, offset, len(payload), budget_ms)
            under_way += 1
        return self._frame

    def answer(self, frame: int) -> tuple[Answer, bytes]:
        """To a frame; those to others are gone."""
        while True:
            answer, payload = self.answers.get(timeout=LIMIT_S)
            if answer.frame == frame:
                return answer, payload

    def close(self) -> None:
        self.link.close()
