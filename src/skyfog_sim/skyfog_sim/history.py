"""What happened, in order: compared between runs of one seed, and read by people after a failure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from skyfog_core.ids import RequestId
from skyfog_core.units import ns_to_ms


class Entry(NamedTuple):
    """One event; fields that do not apply are empty."""

    t_ns: int
    event: str
    robot: str = ""
    request_id: RequestId = b""
    replica: str = ""
    detail: str = ""

    def line(self) -> str:
        """For people: `  312.500 ms  send      robot0 #7  a/1  attempt 0, 200 ms left, first`."""
        request = f"#{int.from_bytes(self.request_id[8:], 'big')}" if self.request_id else ""
        where = f"{self.robot:<7} {request:<4} {self.replica:<9}"
        return f"{ns_to_ms(self.t_ns):>11.3f} ms  {self.event:<10} {where} {self.detail}".rstrip()

    def as_json(self) -> dict[str, Any]:
        fields = {"robot": self.robot, "id": self.request_id.hex(), "replica": self.replica, "detail": self.detail}
        return {"t_ns": self.t_ns, "event": self.event, **{key: value for key, value in fields.items() if value}}


class History:
    """All that was noted."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def note(
        self,
        t_ns: int,
        event: str,
        robot: str = "",
        request_id: RequestId = b"",
        replica: object = "",
        detail: str = "",
    ) -> None:
        self.entries.append(Entry(t_ns, event, robot, request_id, str(replica) if replica else "", detail))

    def lines(self) -> Iterator[str]:
        for entry in self.entries:
            yield entry.line()

    def digest(self) -> str:
        """Equal for equal histories."""
        return hashlib.sha256(repr(self.entries).encode()).hexdigest()
