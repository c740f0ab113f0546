"""The pool, the fleet and the cloud of the live benchmark, and what can be done to them.

On this machine stand a zenoh router, a robot proxy a lane and a client that calls; the replicas are machines of the
local provider, in emulated zones where this machine permits them, launched by a real controller in a process that can
be killed. Each replica notes every call that it runs, so that what was run twice is counted and not believed.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from skyfog_bench.fleet import ECHO, EMBEDDED, REPLICA, Fleet, environment
from skyfog_bench.processes import BenchError, Process, Processes
from skyfog_core.config.base import parse
from skyfog_core.config.pool_local import LocalOptions
from skyfog_core.config.router import ZenohConfig
from skyfog_core.ports import free_tcp_port
from skyfog_core.wire.keys import ReplicaKey, ServiceKeys
from skyfog_core.wire.load import ReplicaLoad, RobotLoad
from skyfog_pool import spec as specs
from skyfog_pool.folders import STATE_DIR, folder_of
from skyfog_pool.provider.base import Instance, Phase, ProviderError
from skyfog_pool.provider.local import LocalCloud, LocalProvider
from skyfog_pool.report import replica_name
from skyfog_pool.store import Store
from skyfog_router.acl import Member
from skyfog_router.transport.zenoh import ZenohFleetWatch, open_session

POOL = FLEET = "live"
SERVICE = "echo"
ZENOH_ROUTER = "skyfog_bench.zenoh_router"
CONTROLLER = "skyfog_bringup.pool_controller"
ZONES = ("live-1a", "live-1b", "live-2a")
DRAIN_S = 4.0
START_LIMIT_S = 120.0
DOWN_LIMIT_S = 60.0
POLL_S = 0.05
# A robot's requests over whose copies nothing is said, and over which it is said that they must not run twice.
LANES: dict[str, dict[str, Any]] = {
    "idempotent": {"deadline_ms": 10_000},
    "once": {"deadline_ms": 10_000, "policy": "single", "repeat": "if_not_executed"},
}


@dataclass(frozen=True, slots=True)
class Size:
    """Replicas wanted, calls a second of each lane, for how long, and how the machines behave."""

    target: int
    hz: float
    seconds: float
    notice_s: float  # from a notice to the machine's end
    service_ms: float = 20.0
    restore_s: float = 60.0  # for the target to be reached again after the last fault
    at_target: float = 0.5  # share of seconds; faults follow each other much faster than in life


class Seen:
    """Who holds a token, and every change of it; from zenoh's threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: set[ReplicaKey] = set()
        self.changes: list[tuple[int, ReplicaKey, bool]] = []

    def on_token(self, who: ReplicaKey, live: bool) -> None:
        """A token came or went."""
        with self._lock:
            (self._live.add if live else self._live.discard)(who)
            self.changes.append((time.monotonic_ns(), who, live))

    def on_replica_load(self, who: ReplicaKey, load: ReplicaLoad) -> None:
        """Not looked at."""

    def on_robot_load(self, robot: str, load: RobotLoad) -> None:
        """Not looked at."""

    def live(self) -> list[ReplicaKey]:
        with self._lock:
            return sorted(self._live)


class LivePool:
    """All of it; made and ended by `living`."""

    def __init__(self, processes: Processes, size: Size) -> None:
        self.size = size
        self.processes = processes
        self.state = processes.folder / "state"
        self.options = options(size)
        self.cloud = LocalCloud(self.state / "local")
        self.cloud.start(self.options)
        about = self.cloud.about()
        self.why_no_partition: str = about["why_not"]
        self.provider = LocalProvider(self.state / "local", self.options)
        endpoint = f"tcp/{about['home']}:{free_tcp_port()}"
        processes.start("zenoh_router", ZENOH_ROUTER, FLEET, endpoint, domain=0)
        self.fleet = Fleet(processes, FLEET, router=endpoint)
        self.traces = {lane: processes.folder / f"{lane}.trace" for lane in LANES}
        self.lanes = {lane: number for number, lane in enumerate(LANES)}
        for lane, routing in LANES.items():
            self.fleet.lane(lane, SERVICE, routing, trace=str(self.traces[lane]))
        self.folder = folder_of(POOL)
        self._want(spec(size, self.options, endpoint, processes.folder))
        self.seen = Seen()
        link = ZenohConfig(mode="client", connect=[endpoint])
        session = open_session(link, Member("pool", FLEET, (SERVICE,)))
        self._watch = ZenohFleetWatch(session, ServiceKeys(FLEET, SERVICE), self.seen)
        self._controller: Process | None = None

    # the controller

    def _want(self, values: dict[str, Any]) -> None:
        path = self.processes.folder / "live.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        made = specs.load(path)
        with closing(Store(self.folder.store)) as store, store.transaction():
            store.add_revision(specs.runs_hash(made), specs.to_store(made), str(path), time.time())

    def start_controller(self) -> None:
        """As `skyfog pool up` does, but ended with us; also after it was killed."""
        self._controller = self.processes.start("controller", CONTROLLER, POOL, domain=0)

    def kill_controller(self) -> None:
        """SIGKILL."""
        assert self._controller is not None
        self.processes.kill(self._controller)
        self._controller.wait(DOWN_LIMIT_S)

    @property
    def controller_lives(self) -> bool:
        return self._controller is not None and self._controller.alive()

    def status(self) -> dict[str, Any]:
        """What the controller told last; empty before it told anything."""
        with suppress(OSError, ValueError):
            told: dict[str, Any] = json.loads(self.folder.status.read_text())
            return told
        return {}

    def take_down(self) -> int:
        """As `skyfog pool down` does. Returns how many machines are left, of which there should be none."""
        with closing(Store(self.folder.store)) as store, store.transaction():
            store.set_meta("wish", "down")
        assert self._controller is not None
        self._controller.wait(DOWN_LIMIT_S)
        return len(self.machines())

    # what is there

    def machines(self) -> list[Instance]:
        """Those that are not gone."""
        return [machine for machine in self.provider.instances(POOL) if machine.phase is not Phase.GONE]

    def launched(self) -> int:
        """Replicas that were ever decided on."""
        with closing(Store(self.folder.store)) as store:
            return max((row.id for row in store.replicas()), default=0)

    def until_ready(self, limit_s: float) -> bool:
        """Wait until as many replicas as wanted hold their token. Whether they do in time."""
        until = time.monotonic() + limit_s
        while len(self.seen.live()) < self.size.target:
            if time.monotonic() > until:
                return False
            if self._controller is not None:
                self._controller.must_live()
            time.sleep(POLL_S)
        return True

    def executions(self) -> Mapping[str, Counter[int]]:
        """How often each replica ran each call, by the call's number; of all replicas that ever were."""
        found = {}
        for path in self.processes.folder.glob("*.executed"):
            data = path.read_bytes()
            found[path.stem] = Counter(int.from_bytes(data[i : i + 8], "big") for i in range(0, len(data), 8))
        return found

    # what is done to it

    def busiest_zone(self) -> str:
        """The zone with most replicas that hold their token; the first of them by name."""
        count = Counter(who.zone for who in self.seen.live())
        return min(ZONES, key=lambda zone: (-count[zone], zone))

    def preempt(self, count: int, notice_s: float | None, zone: str = "") -> list[tuple[int, ReplicaKey]]:
        """The market takes spot machines of a zone. Returns which, and when it began."""
        zone = zone or self.busiest_zone()
        began_ns = time.monotonic_ns()
        taken = set(self.cloud.preempt(zone, count, notice_s))
        machines = self.provider.instances(POOL)
        return [
            (began_ns, ReplicaKey(machine.zone, replica_name(POOL, machine.replica)))
            for machine in machines
            if machine.id in taken
        ]

    # the end

    def close(self) -> None:
        """End what does not end with the processes: the cloud with its machines, and our place in the network."""
        self._watch.close()
        with suppress(ProviderError):
            self.cloud.end()
        self.provider.close()
        self.cloud.close()


@contextmanager
def living(processes: Processes, size: Size) -> Iterator[LivePool]:
    """A LivePool, whose state is found by every process that is started inside."""
    before = dict(os.environ)
    state = str(processes.folder / "state")
    os.environ.update({STATE_DIR: state})
    try:
        pool = LivePool(processes, size)
        try:
            yield pool
        finally:
            pool.close()
    finally:
        os.environ.clear()
        os.environ.update(before)


def options(size: Size) -> LocalOptions:
    """Of the cloud: three zones in two regions at different distance and price."""
    zones = [
        {"name": ZONES[0], "region": "live-1", "spot_price": 0.30, "delay_ms": 1.0},
        {"name": ZONES[1], "region": "live-1", "spot_price": 0.32, "delay_ms": 1.5},
        {"name": ZONES[2], "region": "live-2", "spot_price": 0.35, "delay_ms": 5.0, "jitter_ms": 0.3},
    ]
    values = {"zones": zones, "notice_s": size.notice_s, "stop_s": 1.0, "cold_start_s": 0.5}
    return parse(LocalOptions, values, "options of the live cloud")


def spec(size: Size, made: LocalOptions, endpoint: str, folder: Path) -> dict[str, Any]:
    """The service file, in SkyServe's words and ours."""
    return {
        "name": POOL,
        "service": {
            "readiness_probe": {
                "path": "/ready",
                "initial_delay_seconds": 90,
                "timeout_seconds": 2,
                "endpoint_probe_interval_seconds": 1,
                "consecutive_failure_threshold_timeout": 8,
            },
            "replica_policy": {"min_replicas": size.target, "min_zones": 2, "drain_seconds": DRAIN_S},
        },
        "resources": {"use_spot": True},
        "envs": environment(),
        "run": run_command(size, endpoint, folder),
        "skyfog": {"fleet": FLEET, "service": f"/{SERVICE}", "connect": [endpoint]},
        "provider": "local",
        "provider_options": made.model_dump(mode="json", exclude_defaults=True),
    }


def run_command(size: Size, endpoint: str, folder: Path) -> str:
    """The replica: a proxy with the counted echo service in it."""
    proxy = {
        "fleet": FLEET,
        "zone": "$SKYFOG_ZONE",
        "replica": "$SKYFOG_REPLICA_NAME",
        "service": SERVICE,
        "type": ECHO,
        "embedded": EMBEDDED,
        "concurrency": 8,
        "metrics_listen": "127.0.0.1:$SKYFOG_SERVICE_PORT",
        "zenoh": {"mode": "client", "connect": [endpoint]},
    }
    echo = {"executed": f"{folder}/$SKYFOG_REPLICA_NAME.executed", "median_ms": size.service_ms}
    nodes = {"replica_proxy": proxy, SERVICE: echo}
    parameters = yaml.safe_dump({name: {"ros__parameters": values} for name, values in nodes.items()})
    python = f"exec {sys.executable} -m {REPLICA} --ros-args --params-file replica.yaml"
    return f"cat > replica.yaml <<END\n{parameters}END\n{python}\n"


def must_start(pool: LivePool) -> None:
    """Raises BenchError where the pool does not reach its target."""
    if not pool.until_ready(START_LIMIT_S):
        told = {key: pool.status().get(key) for key in ("target", "ready", "trouble")}
        raise BenchError(f"{len(pool.seen.live())} of {pool.size.target} replicas after {START_LIMIT_S:.0f} s: {told}")
