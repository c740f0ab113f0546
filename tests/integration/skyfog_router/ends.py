"""Both ends of a real zenoh link on 127.0.0.1, with services that tests hold in their hands. Every wait has a limit."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from skyfog_core.clock import SteadyClock
from skyfog_core.config.router import RoutingConfig, ZenohConfig
from skyfog_core.errors import RequestError, Status
from skyfog_core.ids import RequestId
from skyfog_core.trace import NoTrace
from skyfog_core.units import S
from skyfog_core.wire.envelope import Encoding
from skyfog_core.wire.keys import ReplicaKey, ServiceKeys
from skyfog_core.wire.load import ReplicaLoad, RobotLoad
from skyfog_core.wire.membership import Announcement
from skyfog_router.acl import Member
from skyfog_router.policy.actions import Deliver
from skyfog_router.policy.admission import Admission
from skyfog_router.policy.router import Router
from skyfog_router.replica import ReplicaDriver, Result
from skyfog_router.robot import Endpoint, RouterDriver
from skyfog_router.transport.zenoh import ZenohReplicaTransport, ZenohRouterTransport, open_session

LIMIT_S = 20.0  # for what takes milliseconds on a machine that is not stalled
DEADLINE_MS = 50_000  # of a request that may have to wait until a process has been started anew
HASH = bytes(32)
SERVICE = "/echo"
KEYS = ServiceKeys("test", SERVICE)
SAID = Announcement()
ROBOT = Member("robot", "test", (SERVICE,))
REPLICA = Member("replica", "test", (SERVICE,))
POOL = Member("pool", "test", (SERVICE,))

T = TypeVar("T")


def free_endpoint() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp/127.0.0.1:{probe.getsockname()[1]}"


class Caller:
    """Waits for one request."""

    def __init__(self) -> None:
        self._heard: queue.SimpleQueue[bytes | RequestError] = queue.SimpleQueue()

    def deliver(self, answer: Deliver) -> None:
        self._heard.put(answer.response)

    def fail(self, error: RequestError) -> None:
        self._heard.put(error)

    def wait(self) -> bytes | RequestError:
        return self._heard.get(timeout=DEADLINE_MS / 1_000 + LIMIT_S)


class Watched:
    """Events of a router transport, noted on the way to the driver."""

    def __init__(self) -> None:
        self.joins: queue.SimpleQueue[ReplicaKey] = queue.SimpleQueue()
        self.leaves: queue.SimpleQueue[ReplicaKey] = queue.SimpleQueue()
        self.replies: queue.SimpleQueue[tuple[ReplicaKey, bytes]] = queue.SimpleQueue()
        self.ends: queue.SimpleQueue[ReplicaKey] = queue.SimpleQueue()

    def reply(self, service: str, request_id: RequestId, replica: ReplicaKey, header: bytes, payload: bytes) -> None:
        self.replies.put((replica, payload))

    def ended(self, service: str, request_id: RequestId, replica: ReplicaKey) -> None:
        self.ends.put(replica)

    def joined(self, service: str, replica: ReplicaKey, announcement: Announcement) -> None:
        self.joins.put(replica)

    def left(self, service: str, replica: ReplicaKey, announcement: Announcement) -> None:
        self.leaves.put(replica)

    def wait_for(self, *replicas: ReplicaKey) -> None:
        """Until all of them have joined."""
        missing = set(replicas)
        while missing:
            missing.discard(self.joins.get(timeout=LIMIT_S))


class FleetSeen:
    """What a watch tells, to be waited for."""

    def __init__(self) -> None:
        self.tokens: queue.SimpleQueue[tuple[ReplicaKey, bool]] = queue.SimpleQueue()
        self.replicas: queue.SimpleQueue[tuple[ReplicaKey, ReplicaLoad]] = queue.SimpleQueue()
        self.robots: queue.SimpleQueue[tuple[str, RobotLoad]] = queue.SimpleQueue()

    def on_token(self, who: ReplicaKey, live: bool) -> None:
        self.tokens.put((who, live))

    def on_replica_load(self, who: ReplicaKey, load: ReplicaLoad) -> None:
        self.replicas.put((who, load))

    def on_robot_load(self, robot: str, load: RobotLoad) -> None:
        self.robots.put((robot, load))


def told_until(heard: queue.SimpleQueue[T], tell: Callable[[], None], expected: T) -> None:
    """Tell again and again, since nobody hears what was told before the network knew that he listens."""
    end = time.monotonic() + LIMIT_S
    while True:
        tell()
        try:
            assert heard.get(timeout=0.2) == expected
        except queue.Empty:
            assert time.monotonic() < end, f"{expected} was never heard"
        else:
            return


class TracedDriver(RouterDriver):
    """A RouterDriver whose transport events can be waited for."""

    def __init__(self, transport: ZenohRouterTransport, deadline_ms: int, encoding: Encoding = Encoding.PLAIN) -> None:
        super().__init__(transport, SteadyClock(), NoTrace(), 1_000)
        self.watched = Watched()
        router = Router(RoutingConfig(policy="broadcast", deadline_ms=deadline_ms))
        self.start([Endpoint(SERVICE, KEYS, HASH, bytes, router, encoding=encoding)])

    def ended(self, service: str, request_id: RequestId, replica: ReplicaKey) -> None:
        super().ended(service, request_id, replica)
        self.watched.ended(service, request_id, replica)

    def joined(self, service: str, replica: ReplicaKey, announcement: Announcement) -> None:
        super().joined(service, replica, announcement)
        self.watched.joined(service, replica, announcement)

    def left(self, service: str, replica: ReplicaKey, announcement: Announcement) -> None:
        super().left(service, replica, announcement)
        self.watched.left(service, replica, announcement)

    def ask(self, payload: bytes) -> Caller:
        caller = Caller()
        self.call(SERVICE, payload, caller)
        return caller


class HeldService:
    """A service whose results the test gives: `started` tells what runs, `finish` ends the oldest."""

    can_abandon = False

    def __init__(self, echoes: bool) -> None:
        self._echoes = echoes
        self.started: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[bytes, Callable[[Result], None]]] = queue.SimpleQueue()

    def start(self, request_id: RequestId, payload: bytes, done: Callable[[Result], None]) -> None:
        self._done.put((payload, done))
        self.started.put(payload)
        if self._echoes:
            self.finish()

    def finish(self) -> None:
        """End the oldest: its request is its response."""
        payload, done = self._done.get(timeout=LIMIT_S)
        done(Result(Status.OK, payload))

    def close(self) -> None:
        pass


class LocalReplica:
    """A replica with a session of its own in this process. `cancels` counts the cancellations it has dealt with."""

    def __init__(
        self,
        link: str | ZenohConfig,
        name: str,
        echoes: bool = True,
        concurrency: int = 64,
        encoding: Encoding = Encoding.PLAIN,
    ) -> None:
        config = link if isinstance(link, ZenohConfig) else ZenohConfig(connect=[link])
        self.who = ReplicaKey("local", name)
        self.service = HeldService(echoes)
        self.admission = Admission(HASH, concurrency, 64, 300 * S, can_abandon=False)
        transport = ZenohReplicaTransport(open_session(config, REPLICA))
        self.driver = _NotingDriver(
            transport, self.service, self.admission, SteadyClock(), NoTrace(), encoding=encoding
        )
        self.driver.start(KEYS, self.who)
        self.driver.announce(SAID)

    def close(self) -> None:
        self.driver.close()


class _NotingDriver(ReplicaDriver):
    """Tells when a cancellation has been dealt with, and when a query has."""

    cancels: queue.SimpleQueue[RequestId]
    queries: queue.SimpleQueue[None]

    def start(self, keys: ServiceKeys, who: ReplicaKey) -> None:
        self.cancels, self.queries = queue.SimpleQueue(), queue.SimpleQueue()
        super().start(keys, who)

    def cancelled(self, request_id: RequestId) -> None:
        super().cancelled(request_id)
        self._owner.post(lambda _now_ns: self.cancels.put(request_id))

    def query(self, query) -> None:
        super().query(query)
        self._owner.post(lambda _now_ns: self.queries.put(None))


class RemoteReplica:
    """A replica in a process of its own, which may be killed or frozen."""

    def __init__(self, endpoint: str, name: str, kind: str) -> None:
        self.who = ReplicaKey("remote", name)
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        script = Path(__file__).parent / "replica_process.py"
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self._process = subprocess.Popen(
            [sys.executable, str(script), endpoint, name, kind], stdout=subprocess.PIPE, text=True, env=env
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self.lines.put(line.strip())

    def kill(self) -> None:
        self._process.kill()

    def freeze(self) -> None:
        """Returns when the process has stopped."""
        os.kill(self._process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(LIMIT_S)
        self._reader.join(LIMIT_S)


def open_router_transport(link: str | ZenohConfig) -> ZenohRouterTransport:
    config = link if isinstance(link, ZenohConfig) else ZenohConfig(listen=[link])
    return ZenohRouterTransport(open_session(config, ROBOT))
