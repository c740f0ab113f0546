"""What became of each request: the camera's record joined with the robot's trace.

The camera knows how long it waited and what it got; the robot's proxy knows which replica was first. Neither knows the
other's ids, so a request is found in the trace by time: both are read from one machine's steady clock, and the proxy
delivered within the time that the camera waited. Of several that fit it is the first: answers reach a client in the
order in which they were sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from skyfog_core.units import S, ms_to_ns

SLACK_NS = 2_000_000  # the trace notes the time of the event that led to a delivery, not of the line
FORGET_NS = 60 * S


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the camera saw it. Times are of the steady clock; `replica` is "" while or where unknown."""

    index: int
    image: str
    sent_ns: int
    done_ns: int
    ok: bool
    why: str = ""
    detections: tuple[dict[str, Any], ...] = ()
    replica: str = ""

    @property
    def ms(self) -> float:
        """How long the camera waited."""
        return (self.done_ns - self.sent_ns) / 1e6


@dataclass(frozen=True, slots=True)
class Delivery:
    """An answer that the robot's proxy passed on."""

    called_ns: int
    done_ns: int
    replica: str


@dataclass(frozen=True, slots=True)
class Membership:
    """A replica came or went, as the robot's proxy saw it."""

    t_ns: int
    replica: str
    there: bool


@dataclass(slots=True)
class Ledger:
    """All requests, in the order of their answers."""

    requests: list[Request] = field(default_factory=list)
    members: list[Membership] = field(default_factory=list)
    _deliveries: list[Delivery] = field(default_factory=list)  # not yet matched
    _unmatched: list[int] = field(default_factory=list)  # places in `requests`

    def add(self, records: Iterable[dict[str, Any]], events: Iterable[dict[str, Any]]) -> None:
        """Take in new lines of the camera's record and of the robot's trace."""
        for record in records:
            if record["ok"]:
                self._unmatched.append(len(self.requests))
            self.requests.append(_request(record))
        for event in events:
            if event["event"] == "delivered":
                done_ns = event["t_ns"]
                self._deliveries.append(Delivery(done_ns - ms_to_ns(event["ms"]), done_ns, event["replica"]))
            elif event["event"] in {"joined", "left"}:
                self.members.append(Membership(event["t_ns"], event["replica"], event["event"] == "joined"))
        self._match()

    def live(self) -> set[str]:
        """The replicas that are there, as the robot's proxy sees it."""
        there: set[str] = set()
        for change in self.members:
            (there.add if change.there else there.discard)(change.replica)
        return there

    def between(self, from_ns: int, to_ns: int) -> list[Request]:
        """The requests sent in [from_ns, to_ns), in the order of their sending."""
        found = [request for request in self.requests if from_ns <= request.sent_ns < to_ns]
        return sorted(found, key=lambda request: request.index)

    def complete_until(self, to_ns: int) -> bool:
        """Whether no request sent before `to_ns` can still be open: a later one is known, and all before it."""
        later = [request.index for request in self.requests if request.sent_ns >= to_ns]
        return bool(later) and len({r.index for r in self.requests if r.index < min(later)}) == min(later)

    def missing_until(self, to_ns: int) -> list[int]:
        """Indices of requests that must have been sent before `to_ns` and of which nothing was ever heard."""
        known = {request.index for request in self.requests}
        last = max((request.index for request in self.requests if request.sent_ns < to_ns), default=-1)
        return [index for index in range(last) if index not in known]

    def _match(self) -> None:
        left = []
        for place in self._unmatched:
            request = self.requests[place]
            fits = [
                delivery
                for delivery in self._deliveries
                if request.sent_ns - SLACK_NS <= delivery.called_ns and delivery.done_ns <= request.done_ns + SLACK_NS
            ]
            if not fits:
                left.append(place)
                continue
            best = min(fits, key=lambda delivery: delivery.done_ns)
            self._deliveries.remove(best)
            self.requests[place] = replace(request, replica=best.replica)
        self._unmatched = left
        newest_ns = max((delivery.done_ns for delivery in self._deliveries), default=0)
        self._deliveries = [d for d in self._deliveries if d.done_ns > newest_ns - FORGET_NS]


def _request(record: dict[str, Any]) -> Request:
    return Request(
        index=record["index"],
        image=record["image"],
        sent_ns=record["sent_ns"],
        done_ns=record["done_ns"],
        ok=record["ok"],
        why=record["why"],
        detections=tuple(record["detections"]),
    )
