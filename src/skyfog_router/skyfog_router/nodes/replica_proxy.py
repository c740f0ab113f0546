"""The replica's end: a queryable in front of a ROS service, or with the service inside this process."""

from __future__ import annotations

import os
import secrets
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from rclpy.node import Node

from skyfog_core.clock import SteadyClock
from skyfog_core.config.router import ReplicaProxyConfig
from skyfog_core.nodes.main import run
from skyfog_core.nodes.parameters import NODE_OPTIONS, blame, declare, follow, params_files
from skyfog_core.nodes.types import service_type, type_hash
from skyfog_core.trace import FileTrace, NoTrace
from skyfog_core.units import S, ms_to_ns
from skyfog_core.wire.envelope import ENCODING
from skyfog_core.wire.keys import ServiceKeys, chunk, replica_key, service_chunk
from skyfog_core.wire.membership import Announcement
from skyfog_router import load
from skyfog_router.acl import Member
from skyfog_router.nodes.handlers import EmbeddedHandler, ForwardHandler, load_embedded
from skyfog_router.nodes.watch import ReplicaWatch
from skyfog_router.policy.admission import Admission
from skyfog_router.replica import ReplicaDriver
from skyfog_router.transport.base import ReplicaTransport
from skyfog_router.transport.delay import DelayedReplicaTransport
from skyfog_router.transport.zenoh import ZenohReplicaTransport, open_session

CHECK_TARGET_S = 0.2
MOST_WITHIN_S = 86_400.0

log = structlog.get_logger()


class ReplicaProxy(Node):
    """Parameters in, a driver out. Announced while the service behind it can be called, and it is not draining."""

    def __init__(self) -> None:
        super().__init__("replica_proxy", **NODE_OPTIONS)
        config = declare(self, ReplicaProxyConfig)
        self.nodes: list[Node] = [self]
        with blame("type"):
            srv_type, hashed = service_type(config.type), type_hash(config.type)
        with blame("fleet"):
            chunk("fleet", config.fleet)
        with blame("zone"):
            chunk("zone", config.zone)
        with blame("replica"):
            who = replica_key(config.zone, config.replica)
        with blame("service"):
            keys = ServiceKeys(config.fleet, config.service)
        self._watch = ReplicaWatch(config)
        self._handler = self._make_handler(config, srv_type)
        with blame("zenoh.tls" if config.zenoh.tls.ca else "zenoh.connect" if config.zenoh.connect else "zenoh.listen"):
            session = open_session(config.zenoh, Member("replica", config.fleet, (config.service,)))
        trace = FileTrace(Path(config.trace)) if config.trace else NoTrace()
        admission = Admission(
            hashed,
            config.concurrency,
            config.max_queue,
            config.remember_s * S,
            self._handler.can_abandon,
            self._handler.can_stop,
        )
        transport: ReplicaTransport = ZenohReplicaTransport(session)
        if config.added_latency_ms:
            transport = DelayedReplicaTransport(transport, ms_to_ns(config.added_latency_ms))
        encoding = ENCODING[config.compress]
        noted = self._watch.noting(trace)
        self._driver = ReplicaDriver(transport, self._handler, admission, SteadyClock(), noted, encoding=encoding)
        self._driver.start(keys, who)
        log.info("replica_ready", service=config.service, type=config.type, replica=str(who))
        self._announcing = threading.Lock()  # guards what follows: who drains and who warms up has a thread of his own
        self._announced = False
        self._draining = self._wants_draining = config.draining
        self._drain_ms = config.drain_ms
        self._cold = ""  # why the service cannot be asked yet
        self._driver.drain(config.draining)
        self._announcement = Announcement(
            boot=secrets.randbits(32),
            price_per_hour=config.price_per_hour,
            capacity=config.concurrency,
            local=config.local,
            robot=config.robot,
        )
        follow(self, config, self._apply)
        self._watch.begin(self, who, self._driver, self._absent, self._drain)
        told = load.of_replica(self._driver, self._announcement.boot)
        self._reports = load.LoadReports(told, config.load_report_ms)
        warm_up = self._handler.warm_up if config.warm_up and isinstance(self._handler, EmbeddedHandler) else None
        if warm_up is not None:
            self._cold = "it warms up"
            threading.Thread(target=self._warm, args=(warm_up,), name="warm-up", daemon=True).start()
        self._announce_when_ready()
        if isinstance(self._handler, ForwardHandler):
            self.create_timer(CHECK_TARGET_S, self._announce_when_ready)

    def finish(self, done: Callable[[], None]) -> None:
        """Finish what runs and waits within `drain_ms`, before ROS goes down (ending.CanFinish)."""
        log.info("finishing", limit_ms=self._drain_ms)
        self._driver.finish(self._drain_ms, done)

    @property
    def is_busy(self) -> bool:
        """Whether a thread of the service would keep this process from ending."""
        return isinstance(self._handler, EmbeddedHandler) and self._handler.is_busy

    def destroy_node(self) -> None:
        self._watch.close()
        self._reports.close()
        self._driver.close()
        super().destroy_node()

    def _make_handler(self, config: ReplicaProxyConfig, srv_type: Any) -> ForwardHandler | EmbeddedHandler:
        if not config.embedded:
            return ForwardHandler(self, srv_type, config.target or config.service)
        embedded = self._embedded_node(service_chunk(config.service).replace(".", "_"))
        with blame("embedded"):
            callback = load_embedded(config.embedded, embedded)
        return EmbeddedHandler(srv_type, callback, config.concurrency)

    def _embedded_node(self, name: str) -> Node:
        """The embedded service's own node, so that its parameters stand under its own name in the same files."""
        files = [word for path in params_files() for word in ("--params-file", str(path))]
        node = Node(
            name,
            namespace=self.get_namespace(),
            cli_args=["--ros-args", *files],
            use_global_arguments=False,  # a `__node` remap of this process means the proxy
            **NODE_OPTIONS,
        )
        self.nodes.append(node)
        return node

    def _apply(self, config: ReplicaProxyConfig) -> None:
        """The live parameters were set."""
        self._drain_ms = config.drain_ms
        if config.draining != self._wants_draining:  # what /drain asked for stays, whatever else is set
            self._wants_draining = self._draining = config.draining
            self._driver.drain(config.draining)
            log.info("draining" if config.draining else "draining_ended")
            self._announce_when_ready()

    def _drain(self, within_s: float | None) -> None:
        """The machine is to go: robots are told first. Any thread."""
        self._draining = True
        self._announce_when_ready()
        within_ms = None if within_s is None else round(min(within_s, MOST_WITHIN_S) * 1_000)
        self._driver.drain(True, within_ms)
        log.info("draining", within_ms=within_ms)

    def _warm(self, warm_up: Callable[[], None]) -> None:
        """Let the service do what its first request would wait for. One that cannot even do that stays unannounced."""
        try:
            warm_up()
        except Exception as error:
            self._cold = f"its warm-up failed: {type(error).__name__}: {error}"
            log.exception("warm_up_failed")
        else:
            self._cold = ""
            log.info("warm")
        self._announce_when_ready()

    def _announce_when_ready(self) -> None:
        with self._announcing:
            ready = not isinstance(self._handler, ForwardHandler) or self._handler.is_ready()
            announced = ready and not self._draining and not self._cold
            if announced != self._announced:
                self._announced = announced
                self._driver.announce(self._announcement if announced else None)
                if not ready:
                    log.warning("withdrawn", why="the service behind this replica is gone; back when it is")

    def _absent(self) -> str:
        """Why no robot is told of this replica; empty while one is."""
        if self._draining:
            return "it drains"
        return "" if self._announced else self._cold or "the service behind it is not there"


def main() -> None:
    """Entry point of `ros2 run skyfog_router replica_proxy`."""
    proxies: list[ReplicaProxy] = []

    def nodes() -> list[Node]:
        proxies.append(ReplicaProxy())
        return proxies[0].nodes

    status = run("replica_proxy", nodes)
    if any(proxy.is_busy for proxy in proxies):
        log.warning("service_left_running", why="it cannot be stopped, and its time to finish is over")
        sys.stderr.flush()
        os._exit(status)  # Python would wait for its thread
    sys.exit(status)


if __name__ == "__main__":
    main()
