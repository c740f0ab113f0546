"""The replica's end: a queryable in front of a ROS service, or with the service inside this process."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import Any

import structlog
from rclpy.node import Node

from skyfog_core.clock import SteadyClock
from skyfog_core.config.router import ReplicaProxyConfig
from skyfog_core.nodes.main import run
from skyfog_core.nodes.parameters import NODE_OPTIONS, blame, declare, params_files
from skyfog_core.trace import FileTrace, NoTrace
from skyfog_core.units import S, ms_to_ns
from skyfog_core.wire.keys import ServiceKeys, chunk, replica_key, service_chunk
from skyfog_core.wire.membership import Announcement
from skyfog_core.wire.payload import COMPRESS
from skyfog_router.acl import Member
from skyfog_router.nodes.handlers import EmbeddedHandler, ForwardHandler, load_embedded
from skyfog_router.policy.admission import Admission
from skyfog_router.relay.types import service_type, type_hash
from skyfog_router.replica import ReplicaDriver
from skyfog_router.transport.base import ReplicaTransport
from skyfog_router.transport.delay import DelayedReplicaTransport
from skyfog_router.transport.zenoh import ZenohReplicaTransport, open_session

CHECK_TARGET_S = 0.2

log = structlog.get_logger()


class ReplicaProxy(Node):
    """Parameters in, a driver out. Announced as soon as the service behind it can be called."""

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
        self._driver = ReplicaDriver(
            transport, self._handler, admission, SteadyClock(), trace, encoding=COMPRESS[config.compress]
        )
        self._driver.start(keys, who)
        log.info("replica_ready", service=config.service, type=config.type, replica=str(who))
        self._announced = False
        self._announcement = Announcement(
            boot=secrets.randbits(32),
            price_per_hour=config.price_per_hour,
            capacity=config.concurrency,
            local=config.local,
        )
        self._announce_when_ready()
        if isinstance(self._handler, ForwardHandler):
            self.create_timer(CHECK_TARGET_S, self._announce_when_ready)

    def destroy_node(self) -> None:
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

    def _announce_when_ready(self) -> None:
        ready = not isinstance(self._handler, ForwardHandler) or self._handler.is_ready()
        if ready != self._announced:
            self._announced = ready
            self._driver.announce(self._announcement if ready else None)
            if not ready:
                log.warning("withdrawn", why="the service behind this replica is gone; back when it is")


def main() -> None:
    """Entry point of `ros2 run skyfog_router replica_proxy`."""
    sys.exit(run("replica_proxy", lambda: ReplicaProxy().nodes))


if __name__ == "__main__":
    main()
