"""The cloud's end of the uplink: every message acknowledged at once, frames put together, asked, answered.

    first chunk --> ASSEMBLY --last byte--> ASKED (Ask; the shell asks the replica router) --on_reply--> SendAnswer
                       |                       |
                       |                       +--Withdraw from the car--> Cancel, forgotten
                       +--cannot become a request (too large, contradicts itself, nobody may ask it)--> SendAnswer
                       +--nothing more until its budget is over, or withdrawn--> forgotten

It is stateless but for frames under way, so any number of gateways may run. The bytes of a frame are kept as they came
and handed out in order; nothing is copied here.

Budget. Each chunk says how long after its arrival, had it come without waiting, the answer must leave. A chunk that
waited on the way says too much; so the least of what a frame's chunks say, each counted from its arrival, is the best
guess (the clock filter of NTP, RFC 5905 section 10). A late answer does no harm but work, so nothing is taken off it.

A frame that is over is remembered for a while: control overtakes data, so chunks may come after their withdrawal.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from skyfog_core.config.uplink import GatewayConfig
from skyfog_core.errors import Status
from skyfog_core.units import MS, US, S
from skyfog_core.wire.uplink import Ack, Answer, Chunk, Ping, Withdraw

SILENT_NS = 2 * S  # nothing more of a frame for so long, and its time is over: forgotten
PATIENCE_NS = 10 * S  # nothing more of it for so long: forgotten, whatever its budget
REMEMBER_NS = 5 * S
REMEMBERED = 8_192
BACKSTOP_NS = 1 * S  # after its budget, a call that has not ended is given up
LEAST_PIECE = 256  # bytes of a chunk on average, so that a frame's pieces are bounded
MAX_BUDGET_NS = 3_600 * S


@dataclass(frozen=True, slots=True)
class SendAck:
    """To the car, before everything else."""

    car: str
    ack: Ack


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the service; the request is `parts`, one after the other. Ends in on_reply, exactly once."""

    car: str
    frame: int
    service: str
    type_hash: bytes
    parts: tuple[bytes, ...]
    budget_ms: int  # at least 1


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for this call any more; on_reply is not needed."""

    car: str
    frame: int


@dataclass(frozen=True, slots=True)
class SendAnswer:
    """To the car. `payload` stands beside it."""

    car: str
    answer: Answer
    payload: bytes = b""


GatewayAction = SendAck | Ask | Cancel | SendAnswer
_Key = tuple[str, int]


@dataclass(slots=True)
class _Open:
    """A frame in assembly or asked."""

    total: int
    due_ns: int  # the answer must leave by then
    look_ns: int  # when it is forgotten, unless something comes
    service: str = ""
    type_hash: bytes = b""
    parts: dict[int, bytes] = field(default_factory=dict)  # by offset
    held: int = 0  # bytes in parts
    whole_ns: int | None = None  # its last byte came, and it was asked


class Gateway:
    """Pure; every event returns the actions to perform, in order."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._open: dict[_Key, _Open] = {}
        self._over: OrderedDict[_Key, int] = OrderedDict()  # until when remembered
        self._held = 0
        self._now_ns = 0
        self._look_ns: int | None = None  # no frame has to be looked at before
        self.counts: Counter[str] = Counter()

    def on_chunk(self, car: str, chunk: Chunk, payload: bytes, now_ns: int) -> list[GatewayAction]:
        out: list[GatewayAction] = self._begin(now_ns)
        out.append(SendAck(car, Ack(seq=chunk.seq, received_us=now_ns // US)))
        self.counts["chunks"] += 1
        key = (car, chunk.frame)
        if key in self._over:
            self.counts["after_the_end"] += 1
            return out
        frame = self._open.get(key)
        if frame is None:
            why = self._refuses(chunk)
            if why:
                return self._refuse(key, Status.NOT_EXECUTED, why, out)
            frame = self._open[key] = _Open(chunk.total, now_ns + MAX_BUDGET_NS, now_ns)
        elif frame.whole_ns is not None:
            self.counts["duplicates"] += 1
            return out
        frame.due_ns = min(frame.due_ns, now_ns + chunk.budget_ms * MS)
        self._look_at(frame, max(now_ns + SILENT_NS, min(frame.due_ns, now_ns + PATIENCE_NS)))
        why = self._add(frame, chunk, payload)
        if why:
            return self._refuse(key, Status.NOT_EXECUTED, why, out)
        if frame.held == frame.total:
            self._ask(key, frame, now_ns, out)
        return out

    def on_ping(self, car: str, ping: Ping, now_ns: int) -> list[GatewayAction]:
        out = self._begin(now_ns)
        self.counts["pings"] += 1
        return [SendAck(car, Ack(seq=ping.seq, received_us=now_ns // US)), *out]

    def on_withdraw(self, car: str, withdraw: Withdraw, now_ns: int) -> list[GatewayAction]:
        out = self._begin(now_ns)
        self.counts["withdrawn"] += 1
        frame = self._open.get((car, withdraw.frame))
        if frame is not None and frame.whole_ns is not None:
            out.append(Cancel(car, withdraw.frame))
        self._end((car, withdraw.frame), now_ns)
        return out

    def on_reply(
        self,
        car: str,
        frame: int,
        status: Status,
        now_ns: int,
        payload: bytes = b"",
        service_us: int = 0,
        replica: str = "",
        message: str = "",
    ) -> list[GatewayAction]:
        """How an Ask ended. That of a frame which is over is nothing."""
        out = self._begin(now_ns)
        found = self._open.get((car, frame))
        if found is None or found.whole_ns is None:
            self.counts["late_replies"] += 1
            return out
        self.counts["answered"] += 1
        cloud_us = max(0, now_ns - found.whole_ns) // US
        self._end((car, frame), now_ns)
        answer = Answer(
            frame=frame, status=status, cloud_us=cloud_us, service_us=service_us, replica=replica, message=message
        )
        return [*out, SendAnswer(car, answer, payload if status is Status.OK else b"")]

    def on_timer(self, now_ns: int) -> list[GatewayAction]:
        """Due at next_timer_ns(); harmless at any other time."""
        return self._begin(now_ns)

    def next_timer_ns(self) -> int | None:
        return self._look_ns

    def open_frames(self) -> int:
        return len(self._open)

    def check(self) -> None:
        """Raise if a byte is lost or counted twice, or more is held than allowed."""
        assert len(self._open) <= self._config.max_open
        assert len(self._over) <= REMEMBERED
        assert not self._open.keys() & self._over.keys()
        held = 0
        for frame in self._open.values():
            assert sum(len(part) for part in frame.parts.values()) == frame.held <= frame.total
            assert frame.whole_ns is None or not frame.parts, "asked, and its bytes are still held"
            held += frame.held
        assert held == self._held <= self._config.max_held_bytes
        assert (self._look_ns is None) <= (not self._open)

    def _begin(self, now_ns: int) -> list[GatewayAction]:
        """Forget what is over by now."""
        out: list[GatewayAction] = []
        if now_ns < self._now_ns:
            for frame in self._open.values():  # the clock jumped back: everything is as old as it was
                frame.due_ns -= self._now_ns - now_ns
                frame.look_ns -= self._now_ns - now_ns
            for key in self._over:
                self._over[key] -= self._now_ns - now_ns
            self._look_ns = now_ns
        self._now_ns = now_ns
        while self._over and next(iter(self._over.values())) <= now_ns:
            self._over.popitem(last=False)
        if self._look_ns is None or now_ns < self._look_ns:
            return out
        for key in [key for key, frame in self._open.items() if frame.look_ns <= now_ns]:
            if self._open[key].whole_ns is None:
                self.counts["forgotten"] += 1
            else:
                self.counts["without_reply"] += 1
                out.append(Cancel(*key))
                out.append(self._answer(key, Status.DEADLINE_EXCEEDED, "the call did not end by its budget"))
            self._end(key, now_ns)
        self._look_ns = min((frame.look_ns for frame in self._open.values()), default=None)
        return out

    def _look_at(self, frame: _Open, when_ns: int) -> None:
        frame.look_ns = when_ns
        self._look_ns = when_ns if self._look_ns is None else min(self._look_ns, when_ns)

    def _refuses(self, chunk: Chunk) -> str:
        """Why no frame may begin with this chunk."""
        if chunk.total > self._config.max_frame_bytes:
            return f"{chunk.total} bytes; at most {self._config.max_frame_bytes}"
        if len(self._open) >= self._config.max_open:
            return f"{len(self._open)} frames are under way here"
        return ""

    def _add(self, frame: _Open, chunk: Chunk, payload: bytes) -> str:
        """Keep the chunk's bytes; else why the frame cannot become a request."""
        if chunk.total != frame.total:
            return f"it has {frame.total} bytes by one chunk and {chunk.total} by another"
        if chunk.offset == 0:
            if chunk.service not in self._config.services:
                return f"no service {chunk.service} here"
            frame.service, frame.type_hash = chunk.service, chunk.type_hash
        size = len(payload)
        known = frame.parts.get(chunk.offset)
        if known is not None and len(known) == size:
            self.counts["duplicates"] += 1
            return ""
        if known is not None or not size or chunk.offset + size > frame.total or frame.held + size > frame.total:
            return "its chunks overlap"
        if len(frame.parts) > frame.total // LEAST_PIECE:
            return "it comes in too small pieces"
        if self._held + size > self._config.max_held_bytes:
            return f"{self._held} bytes wait here"
        frame.parts[chunk.offset] = payload
        frame.held += size
        self._held += size
        return ""

    def _ask(self, key: _Key, frame: _Open, now_ns: int, out: list[GatewayAction]) -> None:
        parts = _in_order(frame.parts)
        budget_ms = (frame.due_ns - now_ns) // MS
        if parts is None:
            self._refuse(key, Status.NOT_EXECUTED, "its chunks overlap", out)
        elif budget_ms < 1:
            self.counts["too_late"] += 1
            self._refuse(key, Status.DEADLINE_EXCEEDED, "too late before it was asked", out)
        else:
            self.counts["asked"] += 1
            frame.whole_ns = now_ns
            self._held -= frame.held
            frame.held = 0
            frame.parts.clear()
            self._look_at(frame, frame.due_ns + BACKSTOP_NS)
            out.append(Ask(*key, frame.service, frame.type_hash, parts, budget_ms))

    def _refuse(self, key: _Key, status: Status, why: str, out: list[GatewayAction]) -> list[GatewayAction]:
        self.counts["refused"] += 1
        out.append(self._answer(key, status, why))
        self._end(key, self._now_ns)
        return out

    @staticmethod
    def _answer(key: _Key, status: Status, why: str) -> SendAnswer:
        return SendAnswer(key[0], Answer(frame=key[1], status=status, cloud_us=0, message=why))

    def _end(self, key: _Key, now_ns: int) -> None:
        frame = self._open.pop(key, None)
        if frame is not None:
            self._held -= frame.held
        self._over[key] = now_ns + REMEMBER_NS
        self._over.move_to_end(key)
        if len(self._over) > REMEMBERED:
            self._over.popitem(last=False)


def _in_order(parts: dict[int, bytes]) -> tuple[bytes, ...] | None:
    """None where one overlaps another (and so leaves a gap elsewhere)."""
    if len(parts) == 1:
        return tuple(parts.values())
    offsets: Sequence[int] = sorted(parts)
    at = 0
    for offset in offsets:
        if offset != at:
            return None
        at += len(parts[offset])
    return tuple(parts[offset] for offset in offsets)
