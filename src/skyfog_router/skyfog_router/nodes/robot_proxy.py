"""The robot's end: each configured service under its own name and type, answered by the fleet."""

from __future__ import annotations

import secrets
import sys
import time
from pathlib import Path
from typing import Any

import structlog
from rclpy._rclpy_pybind11 import InvalidHandle, RCLError
from rclpy.node import Node

from skyfog_core.clock import SteadyClock
from skyfog_core.config.router import RobotProxyConfig, ServiceConfig
from skyfog_core.errors import ConfigError, Overloaded, RequestError, plain_reason
from skyfog_core.nodes.main import run
from skyfog_core.nodes.parameters import NODE_OPTIONS, blame, declare, follow
from skyfog_core.nodes.relay import DeferredService, decoder, to_cdr
from skyfog_core.nodes.types import has_status, service_type, type_hash
from skyfog_core.trace import FileTrace, NoTrace
from skyfog_core.wire.envelope import ENCODING
from skyfog_core.wire.keys import ServiceKeys, service_chunk
from skyfog_router import load
from skyfog_router.acl import Member
from skyfog_router.nodes.watch import RouterWatch
from skyfog_router.policy.actions import Deliver
from skyfog_router.policy.gather import field_of
from skyfog_router.policy.router import Router
from skyfog_router.robot import Endpoint, RouterDriver
from skyfog_router.transport.zenoh import ZenohRouterTransport, open_session

CHECK_NAMES_S = 2.0
LINGER_S = 0.5  # DDS drops a last answer that its reader has not fetched when the writer goes, and tells nobody

log = structlog.get_logger()


class RobotProxy(Node):
    """Parameters in, services out; every choice is the router policy's."""

    def __init__(self) -> None:
        super().__init__("robot_proxy", **NODE_OPTIONS)
        config = declare(self, RobotProxyConfig)
        names = _service_names(config)
        self._watch = RouterWatch(config, names)
        endpoints = [self._endpoint(config, key, names[key]) for key in config.services]
        member = Member("robot", config.fleet, tuple(names.values()))
        with blame("zenoh.tls" if config.zenoh.tls.ca else "zenoh.listen" if config.zenoh.listen else "zenoh.connect"):
            transport = ZenohRouterTransport(open_session(config.zenoh, member))
        trace = FileTrace(Path(config.trace)) if config.trace else NoTrace()
        robot = config.robot or f"robot-{secrets.token_hex(4)}"
        noted = self._watch.noting(trace)
        self._driver = RouterDriver(transport, SteadyClock(), noted, config.max_in_flight, robot)
        self._driver.start(endpoints)
        self._watch.begin(self, robot, self._driver.snapshots)
        self._reports = load.LoadReports(load.of_robot(self._driver), config.load_report_ms)
        self._proxied = [
            _ProxiedService(self, self._driver, names[key], entry, robot) for key, entry in config.services.items()
        ]
        self._told: set[str] = set()
        log.info("robot_proxy_ready", services=[service.name for service in self._proxied], fleet=config.fleet)
        self.create_timer(CHECK_NAMES_S, self._check_names)
        self._names = names
        follow(self, config, self._apply)

    def destroy_node(self) -> None:
        self._watch.close()
        self._reports.close()
        if self._driver.close():
            time.sleep(LINGER_S)
        super().destroy_node()

    def _apply(self, config: RobotProxyConfig) -> None:
        """Other rules for the services. Raises ConfigError for fields that a service's type does not have."""
        for key, entry in config.services.items():
            _check_fields(key, entry, service_type(entry.type))
        self._driver.reconfigure({name: config.services[key] for key, name in self._names.items()})

    def _endpoint(self, config: RobotProxyConfig, key: str, name: str) -> Endpoint:
        entry = config.services[key]
        with blame(f"services.{key}.type"):
            found, hashed = service_type(entry.type), type_hash(entry.type)
        with blame(f"services.{key}.name"):
            service_chunk(name)
        with blame("fleet"):
            keys = ServiceKeys(config.fleet, name)
        _check_fields(key, entry, found)
        router = Router(entry, config.zone, seed=secrets.randbits(32))
        return Endpoint(
            name,
            keys,
            hashed,
            decoder(found.Response),
            router,
            lambda: self._clients_of(name),
            encoding=ENCODING[entry.compress],
        )

    def _clients_of(self, name: str) -> int:
        """How many clients share a service's answers; one where ROS shuts down and can no longer tell."""
        try:
            return self.count_clients(name)
        except (RCLError, InvalidHandle):
            return 1

    def _check_names(self) -> None:
        """Say so once where another node offers one of our services: clients would get either's answer."""
        for service in self._proxied:
            if service.name not in self._told and self.count_services(service.name) > 1:
                self._told.add(service.name)
                log.error(
                    "two_services_of_one_name",
                    service=service.name,
                    why="another node offers it too: clients get whichever answers first; rename one of them, or give "
                    "the replica's machine another ROS_DOMAIN_ID",
                )


def _check_fields(key: str, entry: ServiceConfig, found: Any) -> None:
    """Raises ConfigError where a field that is named in the config is not in the service's type."""
    response, request = found.Response(), found.Request()
    with blame(f"services.{key}.affinity_field"):
        if entry.affinity_field:
            field_of(request, entry.affinity_field)
    with blame(f"services.{key}.quorum_fields"):
        for path in entry.quorum_fields:
            field_of(response, path)
    with blame(f"services.{key}.quality_field"):
        value = field_of(response, entry.quality_field) if entry.quality_field else 0.0
        if not isinstance(value, int | float):
            raise ConfigError(f"{entry.quality_field!r} is a {type(value).__name__}, not a number")


def _service_names(config: RobotProxyConfig) -> dict[str, str]:
    """Each entry's ROS name, leading slash included. Raises ConfigError where two entries share one."""
    names: dict[str, str] = {}
    for key, entry in config.services.items():
        name = "/" + (entry.name or key).lstrip("/")
        for other, taken in names.items():
            if taken == name:
                with blame(f"services.{key}.{'name' if entry.name else 'type'}"):
                    raise ConfigError(f"two services of one name: {name} is offered by services.{other} already")
        names[key] = name
    return names


class _ProxiedService:
    """One service: requests to the driver, answers back to whoever called."""

    def __init__(self, node: Node, driver: RouterDriver, name: str, entry: ServiceConfig, robot: str) -> None:
        found = service_type(entry.type)
        self._driver = driver
        self._key = name
        self._robot = robot.encode()
        self._affinity_field = entry.affinity_field
        self._response_type = found.Response
        self._has_status = has_status(found)
        self._service = DeferredService(node, found, name, self._on_request)

    @property
    def name(self) -> str:
        return self._service.name

    def _on_request(self, request: Any, header: Any) -> None:
        try:
            field = self._affinity_field
            affinity = str(field_of(request, field)).encode() if field else self._robot
            self._driver.call(self._key, to_cdr(request), _Answer(self, header), affinity)
        except Overloaded as error:
            self.fail(error, header)

    def deliver(self, answer: Deliver, header: Any) -> None:
        """Give the client a replica's response, with who it was where the type can say so."""
        if self._has_status:
            status = answer.response.status
            status.replica, status.local, status.asked = str(answer.replica), answer.local, min(answer.asked, 65_535)
        self.respond(answer.response, header)

    def respond(self, response: Any, header: Any) -> None:
        try:
            self._service.respond(response, header)
        except (RCLError, InvalidHandle) as error:  # the client has gone, or we are shutting down
            log.warning("answer_not_sent", service=self.name, why=plain_reason(error))

    def fail(self, error: RequestError, header: Any) -> None:
        """Tell the client. A type without a Status can carry no failure, and an empty answer would be a lie."""
        if not self._has_status:
            log.error("not_answered", service=self.name, error=type(error).__name__, why=str(error))
            return
        response = self._response_type()
        response.status.code = int(error.status)
        response.status.message = f"{type(error).__name__}: {error}"
        self.respond(response, header)


class _Answer:
    """The robot.Caller of one ROS request."""

    __slots__ = ("_header", "_service")

    def __init__(self, service: _ProxiedService, header: Any) -> None:
        self._service = service
        self._header = header

    def deliver(self, answer: Deliver) -> None:
        self._service.deliver(answer, self._header)

    def fail(self, error: RequestError) -> None:
        self._service.fail(error, self._header)


def main() -> None:
    """Entry point of `ros2 run skyfog_router robot_proxy`."""
    sys.exit(run("robot_proxy", lambda: [RobotProxy()]))


if __name__ == "__main__":
    main()
