"""What peers' rules have in common, in the form of skyfog_router.policy.router.Router: the same driver runs them.

So a peer's rules meet the same transport, robot proxy and replicas as ours, and only the decisions differ.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from skyfog_core.config.router import RoutingConfig
from skyfog_core.ids import RequestId
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.membership import Announcement, Membership
from skyfog_router.policy.actions import Action, Deliver, Fail
from skyfog_router.policy.router import Books
from skyfog_router.policy.snapshot import ServiceSnapshot


class PeerPolicy(ABC):
    """Membership and books; what happens to a request is the peer's."""

    name = "peer"
    priority = 0  # of its requests at a replica

    def __init__(self) -> None:
        self.membership = Membership()
        self.books = Books()

    def on_join(self, replica: ReplicaKey, announcement: Announcement, now_ns: int) -> list[Action]:
        """A replica announced itself."""
        self.membership.join(replica, announcement)
        return []

    def on_leave(self, replica: ReplicaKey, announcement: Announcement, now_ns: int) -> list[Action]:
        """A replica is gone."""
        self.membership.leave(replica, announcement)
        return []

    def on_ended(self, request_id: RequestId, replica: ReplicaKey, now_ns: int) -> list[Action]:
        """The query to `replica` is over without an answer."""
        return []

    @abstractmethod
    def is_open(self, request_id: RequestId) -> bool:
        """Whether a reply to it is still wanted."""

    def reconfigure(self, config: RoutingConfig, now_ns: int) -> list[Action]:
        """A peer's rules do not change while it runs."""
        return []

    def snapshot(self, now_ns: int) -> ServiceSnapshot:
        """The counters."""
        books = self.books
        return ServiceSnapshot(
            policy=self.name,
            rank="",
            in_flight=books.called - books.delivered - books.failed,
            called=books.called,
            delivered=books.delivered,
            failed=books.failed,
            late=books.late,
            sends=0,
            extra=0,
            rescues=0,
            local=0,
            slo_ms=None,
            within_slo=0,
            p50_ms=None,
            p99_ms=None,
            panic=False,
        )

    def check(self) -> None:
        """Raise AssertionError if a request was closed twice."""
        assert self.books.delivered + self.books.failed <= self.books.called

    def _count(self, actions: list[Action]) -> list[Action]:
        for action in actions:
            self.books.delivered += isinstance(action, Deliver)
            self.books.failed += isinstance(action, Fail)
        return actions
