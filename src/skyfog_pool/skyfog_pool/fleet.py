"""What the pool sees of the fleet's network: who holds a token, and what robots and replicas say of the load.

The controller is given an OpenFleet by who starts it; this package knows no middleware.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from skyfog_core.config.pool import ServiceSpec
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.load import ReplicaLoad, RobotLoad


class FleetListener(Protocol):
    """Told from any thread; must return at once."""

    def on_token(self, who: ReplicaKey, live: bool) -> None: ...
    def on_replica_load(self, who: ReplicaKey, load: ReplicaLoad) -> None: ...
    def on_robot_load(self, robot: str, load: RobotLoad) -> None: ...


class FleetWatch(Protocol):
    """Open until closed."""

    def links(self) -> int:
        """How many processes of the network it is connected with now: with none, tokens tell nothing of replicas."""
        ...

    def close(self) -> None: ...


# service spec, name of the service, listener
OpenFleet = Callable[[ServiceSpec, str, FleetListener], FleetWatch]
