"""A replica without ROS, for faults that need a process of its own. Prints one line for each event.

usage: replica_process.py ENDPOINT REPLICA echo|hold
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

from skyfog_core.clock import SteadyClock
from skyfog_core.config.router import ZenohConfig
from skyfog_core.errors import Status
from skyfog_core.ids import RequestId
from skyfog_core.trace import NoTrace
from skyfog_core.units import S
from skyfog_core.wire.keys import ReplicaKey, ServiceKeys
from skyfog_core.wire.membership import Announcement
from skyfog_router.policy.admission import Admission
from skyfog_router.replica import ReplicaDriver, Result
from skyfog_router.transport.zenoh import ZenohReplicaTransport, open_session


class Service:
    """Echoes at once, or holds every request for ever."""

    can_abandon = False

    def __init__(self, holds: bool) -> None:
        self._holds = holds

    def start(self, request_id: RequestId, payload: bytes, done: Callable[[Result], None]) -> None:
        print("start", flush=True)  # noqa: T201
        if not self._holds:
            done(Result(Status.OK, payload))

    def close(self) -> None:
        pass


def main(endpoint: str, replica: str, kind: str) -> None:
    transport = ZenohReplicaTransport(open_session(ZenohConfig(connect=[endpoint])))
    admission = Admission(bytes(32), 64, 64, 300 * S, can_abandon=False)
    driver = ReplicaDriver(transport, Service(kind == "hold"), admission, SteadyClock(), NoTrace())
    driver.start(ServiceKeys("test", "/echo"), ReplicaKey("remote", replica))
    driver.announce(Announcement())
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
