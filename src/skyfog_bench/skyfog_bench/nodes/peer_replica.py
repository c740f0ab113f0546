"""The same drawn echo service for the peers that do not go through a Skyfog replica: ROS 2, zenoh and gRPC.

`python -m skyfog_bench.nodes.peer_replica CONFIG`, a JSON object with `service`, `zenoh` (endpoint), `grpc` (port, 0:
none) and `echo` (fields of EchoConfig).
"""

from __future__ import annotations

import contextlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import rclpy
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile

from skyfog_bench.baselines.zenoh_echo import KEY
from skyfog_bench.messages import answer
from skyfog_bench.nodes.client import DEPTH
from skyfog_bench.nodes.echo import DrawnEcho, EchoConfig
from skyfog_core.cancel import Cancellation
from skyfog_core.config.router import ZenohConfig
from skyfog_interfaces.srv import Echo
from skyfog_router.transport.zenoh import open_session

THREADS = 32  # as many as a Skyfog replica runs at once


def _zenoh(service: DrawnEcho, endpoint: str) -> Any:
    session: Any = open_session(ZenohConfig(connect=[endpoint]))
    pool = ThreadPoolExecutor(THREADS)

    def run(query: Any) -> None:
        data = query.payload.to_bytes()
        service.take(data, Cancellation())
        with query:
            query.reply(KEY, answer(data))

    session.declare_queryable(KEY, lambda query: pool.submit(run, query), complete=True)
    return session


def _grpc(service: DrawnEcho, port: int) -> Any:
    from skyfog_bench.baselines.grpc_echo import serve  # noqa: PLC0415 - an extra, which need not be there

    def run(data: bytes, context: Any) -> bytes:
        cancellation = Cancellation()
        context.add_callback(cancellation.cancel)
        service.take(data, cancellation)
        return answer(data)

    return serve(port, run)[0]


def main() -> None:
    """Serve until a signal."""
    config = json.loads(sys.argv[1])
    service = DrawnEcho(EchoConfig(**config["echo"]))
    rclpy.init()
    node = Node("peer_replica")
    node.create_service(
        Echo,
        config["service"],
        service,
        qos_profile=QoSProfile(depth=DEPTH),
        callback_group=ReentrantCallbackGroup(),
    )
    session = _zenoh(service, config["zenoh"])
    server = _grpc(service, config["grpc"]) if config["grpc"] else None
    executor = MultiThreadedExecutor(THREADS)
    executor.add_node(node)
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        executor.spin()
    if server is not None:
        server.stop(None)
    session.close()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
