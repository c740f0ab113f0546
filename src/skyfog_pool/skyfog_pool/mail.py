"""What the fleet's network tells a controller, from its threads to the controller's loop."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.load import ReplicaLoad, RobotLoad


class Mail:
    """What the fleet's network tells, from any thread, until the loop takes it. Bounded by who there is to tell.

    Reports carry counters that grow, so that the newest of each sender is all that is needed.
    """

    def __init__(self) -> None:
        self.wake: Callable[[], object] = lambda: None
        self._lock = threading.Lock()
        self._tokens: dict[ReplicaKey, bool] = {}
        self._replicas: dict[ReplicaKey, ReplicaLoad] = {}
        self._robots: dict[str, RobotLoad] = {}

    def on_token(self, who: ReplicaKey, live: bool) -> None:
        with self._lock:
            self._tokens[who] = live
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.wake()

    def on_replica_load(self, who: ReplicaKey, load: ReplicaLoad) -> None:
        with self._lock:
            self._replicas[who] = load

    def on_robot_load(self, robot: str, load: RobotLoad) -> None:
        with self._lock:
            self._robots[robot] = load

    def take(
        self, *, hold_losses: bool = False
    ) -> tuple[list[tuple[ReplicaKey, bool]], dict[ReplicaKey, ReplicaLoad], dict[str, RobotLoad]]:
        """What came since the last time; with `hold_losses` tokens that went are kept for later."""
        with self._lock:
            held: dict[ReplicaKey, bool] = {}
            if hold_losses:
                held = {who: live for who, live in self._tokens.items() if not live}
            taken = [change for change in self._tokens.items() if change[0] not in held], self._replicas, self._robots
            self._tokens, self._replicas, self._robots = held, {}, {}
        return taken
