"""Who may be asked: the replicas whose liveliness token is held. Router and pool meet only here.

A token is put before its replica takes requests and dropped when it drains or dies; the session of a killed process
drops it within milliseconds, that of a frozen one after its lease.
"""

from __future__ import annotations

from skyfog_core.wire.keys import ReplicaKey


class Membership:
    """The live replicas of one service, in a stable order."""

    def __init__(self) -> None:
        self._since_ns: dict[ReplicaKey, int] = {}

    def join(self, who: ReplicaKey, now_ns: int) -> bool:
        """A token appeared. Returns False where it was known already."""
        if who in self._since_ns:
            return False
        self._since_ns[who] = now_ns
        return True

    def leave(self, who: ReplicaKey) -> bool:
        """A token is gone. Returns False where it was not known."""
        return self._since_ns.pop(who, None) is not None

    def live(self) -> list[ReplicaKey]:
        """Sorted by zone, then name."""
        return sorted(self._since_ns)

    def __contains__(self, who: object) -> bool:
        return who in self._since_ns

    def __len__(self) -> int:
        return len(self._since_ns)
