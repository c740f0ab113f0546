"""What the drivers need from a transport, and nothing of how it is done."""

from __future__ import annotations

from typing import Protocol

from skyfog_core.ids import RequestId
from skyfog_core.wire.envelope import Encoding
from skyfog_core.wire.keys import ReplicaKey, ServiceKeys
from skyfog_core.wire.load import ReplicaLoad, RobotLoad
from skyfog_core.wire.membership import Announcement


class RouterEvents(Protocol):
    """What a transport tells the robot's driver. Called from any thread; must return at once."""

    def reply(self, service: str, request_id: RequestId, replica: ReplicaKey, header: bytes, payload: bytes) -> None:
        """One reply to one query; more than one may come."""

    def ended(self, service: str, request_id: RequestId, replica: ReplicaKey) -> None:
        """The query is over: no reply to it follows."""

    def joined(self, service: str, replica: ReplicaKey, announcement: Announcement) -> None:
        """A replica's token appeared, or one with another announcement."""

    def left(self, service: str, replica: ReplicaKey, announcement: Announcement) -> None:
        """The token with this announcement is gone; another of the same replica may be there."""


class RouterTransport(Protocol):
    """The robot's side of the link."""

    def watch(self, service: str, keys: ServiceKeys, events: RouterEvents) -> None:
        """Follow who serves `service`, those already there included, and allow queries to it."""

    def send(
        self, service: str, replica: ReplicaKey, request_id: RequestId, header: bytes, payload: bytes, budget_ms: int
    ) -> None:
        """Ask one replica. Never blocks on a slow one; `ended` follows exactly once."""

    def cancel(self, service: str, replica: ReplicaKey, request_id: RequestId) -> None:
        """Withdraw a query, and tell the replica."""

    def tell_load(self, service: str, robot: str, load: bytes) -> None:
        """Tell whoever listens what a robot asks for: wire/load.py. Any thread; may block where a link is stuck."""

    def close(self) -> None:
        """Withdraw everything and leave the network. Returns within seconds."""


class Query(Protocol):
    """One request at a replica, until it is answered or dropped."""

    header: bytes
    payload: bytes  # packed as it came, until the driver has unpacked it
    accepts: Encoding  # PLAIN until the driver has read it in the header

    def answer(self, header: bytes, payload: bytes) -> None:
        """Reply and end the query; the first answer counts, any further one is nothing. Any thread.

        Faults of the link are only logged: the robot sees the query end.
        """


class ReplicaEvents(Protocol):
    """What a transport tells the replica's driver. Called from any thread; must return at once."""

    def query(self, query: Query) -> None:
        """A request arrived."""

    def cancelled(self, request_id: RequestId) -> None:
        """A robot withdraws its request."""


class ReplicaTransport(Protocol):
    """The replica's side of the link."""

    def serve(self, keys: ServiceKeys, who: ReplicaKey, events: ReplicaEvents) -> None:
        """Take queries, unannounced."""

    def announce(self, announcement: Announcement | None) -> None:
        """Hold a liveliness token that says this, or none. Idempotent; the new token is held before an old one goes."""

    def tell_load(self, load: bytes) -> None:
        """Tell whoever listens what this replica does: wire/load.py. Any thread; may block where a link is stuck."""

    def links(self) -> int:
        """How many processes of the network this one is connected with now. Any thread."""

    def close(self) -> None:
        """Drop the token, take no more, leave the network. Returns within seconds."""


class FleetEvents(Protocol):
    """What one who only looks on is told of a service. Called from any thread; must return at once."""

    def on_token(self, who: ReplicaKey, live: bool) -> None:
        """A replica's token appeared, or its last one is gone."""

    def on_replica_load(self, who: ReplicaKey, load: ReplicaLoad) -> None:
        """A replica told what it does."""

    def on_robot_load(self, robot: str, load: RobotLoad) -> None:
        """A robot told what it asks for, and what came of it; `robot` as keys.robot_chunk has it."""
