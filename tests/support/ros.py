"""A ROS client in the test's own process, and the fleet's nodes as processes."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future as Answer
from concurrent.futures import wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rclpy
import yaml
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile

from skyfog_core.ports import claim_domain, free_tcp_port, release_domain
from support.processes import LIMIT_S, Process, Processes

ECHO = "skyfog_interfaces/srv/Echo"


KEPT_DOMAINS = 16
_claimed: deque[int] = deque()


def free_domain() -> int:
    """A ROS domain of our own, so that runs beside each other do not meet; the newest few are kept."""
    while len(_claimed) >= KEPT_DOMAINS:
        release_domain(_claimed.popleft())
    _claimed.append(claim_domain())
    return _claimed[-1]


class Fleet:
    """One robot and its replicas, each in a process."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        self.processes = processes
        self.folder = folder
        self.port = free_tcp_port()
        self.robot_domain = free_domain()
        self.replica_domain = free_domain()
        self.endpoint = f"tcp/127.0.0.1:{self.port}"

    def robot(self, **parameters: Any) -> Process:
        """A robot_proxy; ready when this returns."""
        given = {"fleet": "test", "zenoh": {"listen": [self.endpoint]}, **parameters}
        process = self.node("robot_proxy", "robot", given, self.robot_domain)
        process.wait_for("robot_proxy_ready")
        return process

    def replica(self, zone: str, **parameters: Any) -> Process:
        """A replica_proxy; may not be announced yet when this returns."""
        given: dict[str, Any] = {
            "fleet": "test",
            "zone": zone,
            "service": "/echo",
            "type": ECHO,
            "zenoh": {"connect": [self.endpoint]},
            **parameters,
        }
        return self.node("replica_proxy", zone, given, self.replica_domain)

    def node(self, executable: str, name: str, parameters: dict[str, Any], domain: int) -> Process:
        extra = parameters.pop("nodes", {})
        content = {node: {"ros__parameters": values} for node, values in {executable: parameters, **extra}.items()}
        path = self.folder / f"{name}-{len(self.processes.all)}.yaml"
        path.write_text(yaml.safe_dump(content))
        tests = str(Path(__file__).parent.parent)
        return self.processes.python(
            name,
            "-m",
            f"skyfog_router.nodes.{executable}",
            "--ros-args",
            "--params-file",
            str(path),
            env={"ROS_DOMAIN_ID": str(domain), "PYTHONPATH": f"{tests}:{os.environ.get('PYTHONPATH', '')}"},
        )


class Caller:
    """An ordinary rclpy client: knows nothing of Skyfog."""

    def __init__(self, node: Node, srv_type: Any, name: str, qos: QoSProfile | None) -> None:
        self._client = (
            node.create_client(srv_type, name) if qos is None else node.create_client(srv_type, name, qos_profile=qos)
        )

    def ready(self) -> None:
        assert self._client.wait_for_service(LIMIT_S), f"no service {self._client.srv_name}"

    def begin(self, request: Any) -> Answer[Any]:
        answer: Answer[Any] = Answer()
        self._client.call_async(request).add_done_callback(lambda future: answer.set_result(future.result()))
        return answer

    def call(self, request: Any, limit_s: float = LIMIT_S) -> Any:
        return self.begin(request).result(limit_s)


@contextmanager
def ros_node(domain: int) -> Iterator[Node]:
    """A spinning node in a domain."""
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node(f"test_client_{domain}", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    spinner = threading.Thread(target=executor.spin, daemon=True)
    spinner.start()
    try:
        yield node
    finally:
        executor.shutdown(timeout_sec=5.0)
        rclpy.try_shutdown(context=context)
        spinner.join(5.0)
        node.destroy_node()


def caller(node: Node, srv_type: Any, name: str, qos: QoSProfile | None = None) -> Caller:
    """A client, once its service is there."""
    made = Caller(node, srv_type, name, qos)
    made.ready()
    return made


def from_executor(node: Node, send: Callable[[], Any]) -> Any:
    """The result of the future that `send` returns, e.g. an action client's.

    Sent from the executor's own thread: an action client loses an answer that comes before it returns.
    """
    return _result(_result(node.executor.create_task(send)))


def _result(future: Any) -> Any:
    answer: Answer[Any] = Answer()
    future.add_done_callback(lambda done: answer.set_result(done.result()))
    return answer.result(LIMIT_S)


def all_done(answers: list[Answer[Any]], limit_s: float = LIMIT_S) -> list[Any]:
    """Every result, or TimeoutError with how many are missing."""
    done, missing = wait(answers, limit_s)
    if missing:
        raise TimeoutError(f"{len(missing)} of {len(answers)} calls not answered within {limit_s} s")
    return [answer.result() for answer in done]
