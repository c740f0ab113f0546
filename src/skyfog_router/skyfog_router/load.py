"""What robots and replicas tell of their load, from a thread of its own: nothing of it is on a request's way."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable

from skyfog_core.errors import Overloaded
from skyfog_core.units import US, ms_to_ns
from skyfog_core.wire import load as wire
from skyfog_core.wire.load import MOST_REPLICAS, ReplicaLoad, RobotLoad
from skyfog_router.policy.snapshot import AdmissionSnapshot, ServiceSnapshot
from skyfog_router.replica import ReplicaDriver
from skyfog_router.robot import RouterDriver

CLOSE_LIMIT_S = 2.0


def robot_load(snapshot: ServiceSnapshot, boot: int) -> RobotLoad:
    """Of one service; its replicas without the fallback on the robot."""
    remote = [replica for replica in snapshot.replicas if not replica.local and replica.p50_ms is not None]
    return RobotLoad(
        boot=boot,
        requests=snapshot.called,
        failed=snapshot.failed,
        over_slo=snapshot.delivered - snapshot.within_slo,
        slo_ms=round(snapshot.slo_ms or 0),
        latency_us=snapshot.recent_us,
        replicas={
            f"{replica.zone}/{replica.replica}": ms_to_ns(replica.p50_ms or 0.0) // US
            for replica in remote[:MOST_REPLICAS]
        },
        answered=snapshot.delivered,
    )


def replica_load(snapshot: AdmissionSnapshot, boot: int) -> ReplicaLoad:
    """Of a replica; `boot` as in its announcement."""
    return ReplicaLoad(
        boot=boot,
        received=snapshot.received,
        finished=snapshot.finished,
        failed=snapshot.failed,
        refused=sum(snapshot.refused.values()),
        busy_us=snapshot.busy_us,
        queued=snapshot.waiting,
        running=snapshot.running,
        draining=snapshot.draining,
    )


def of_robot(driver: RouterDriver) -> Callable[[], None]:
    """Tells the load of all services of a robot, once. Raises Overloaded."""
    boot = secrets.randbits(32)

    def tell() -> None:
        for service, snapshot in driver.snapshots().items():
            driver.tell_load(service, wire.encode(robot_load(snapshot, boot)))

    return tell


def of_replica(driver: ReplicaDriver, boot: int) -> Callable[[], None]:
    """Tells the load of a replica, once. Raises Overloaded."""
    return lambda: driver.tell_load(wire.encode(replica_load(driver.snapshot(), boot)))


class LoadReports:
    """Calls `tell` at once and then every `period_ms`, until it is closed; never where that is 0."""

    def __init__(self, tell: Callable[[], None], period_ms: int) -> None:
        self._tell = tell
        self._period_s = period_ms / 1_000
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load-reports", daemon=True)
        if period_ms:
            self._thread.start()

    def close(self) -> None:
        """Tell no more. Waits at most CLOSE_LIMIT_S, for a link that is stuck."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_LIMIT_S)

    def _run(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(Overloaded):  # the next one tells all of it: counters only grow
                self._tell()
            self._closing.wait(self._period_s)
