"""When a replica counts as ready, and when it has failed: pure. SkyServe's rules, and the liveliness token.

Ready: the newest probe was answered with 200, and, where the pool watches the fleet, the replica holds its token.
FAILED_INITIAL_DELAY: not once ready within `initial_delay_seconds` of its machine's start. FAILED_PROBING: was ready,
and then no probe was answered for `consecutive_failure_threshold_timeout`. A token that is not there makes a replica
NOT_READY and fails none: the network between it and us may be at fault while robots reach it.
"""

from __future__ import annotations

from typing import Literal

from skyfog_core.config.pool import ReadinessProbe
from skyfog_core.units import S
from skyfog_pool.lifecycle import State

Verdict = Literal[State.READY, State.NOT_READY, State.FAILED_INITIAL_DELAY, State.FAILED_PROBING]


class Readiness:
    """Of one replica, from its machine's start."""

    def __init__(
        self, probe: ReadinessProbe, began_ns: int, now_ns: int, *, state: State, needs_token: bool, grace_ns: int = 0
    ) -> None:
        """`grace_ns`: for how long from now a replica that was READY is taken at that word, as after a restart."""
        self.probe = probe
        self.why = "not probed yet"
        self._began_ns, self._answered_ns = began_ns, now_ns
        self._was_ready = state in {State.READY, State.NOT_READY}
        self._answers = False
        self._needs_token, self._token = needs_token, False
        self._trusted_until_ns = now_ns + grace_ns if state is State.READY else None

    def on_probe(self, ok: bool, why: str, now_ns: int) -> None:
        """`why`: where it was not answered with 200."""
        self._answers = ok
        if ok:
            self._answered_ns = now_ns
        self.why = "" if ok else why

    def on_token(self, held: bool) -> None:
        if self._token and not held:
            self._trusted_until_ns = None  # seen to be dropped, rather than not seen yet
        self._token = held

    def verdict(self, now_ns: int) -> Verdict | None:
        """What the replica is, or None where nothing is known that would change it."""
        if self._answers and (self._token or not self._needs_token):
            self._was_ready, self._trusted_until_ns = True, None
            return State.READY
        if self._trusted_until_ns is not None and now_ns < self._trusted_until_ns:
            return None
        if self._answers:
            self.why = "holds no liveliness token"
        if not self._was_ready:
            late = now_ns - self._began_ns >= self.probe.initial_delay_seconds * S
            return State.FAILED_INITIAL_DELAY if late else None
        silent_ns = now_ns - self._answered_ns
        if not self._answers and silent_ns >= self.probe.consecutive_failure_threshold_timeout * S:
            return State.FAILED_PROBING
        return State.NOT_READY
