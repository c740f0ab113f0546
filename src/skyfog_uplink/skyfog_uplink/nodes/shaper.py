"""The car's end of the uplink: takes frames by a service, sends them as planned, says how the link is."""

from __future__ import annotations

import math
import sys
from array import array
from pathlib import Path
from typing import Any

import structlog
from rclpy._rclpy_pybind11 import InvalidHandle, RCLError
from rclpy.node import Node

from skyfog_core.clock import SteadyClock
from skyfog_core.config.uplink import ShaperNodeConfig
from skyfog_core.diagnosis import NO_ANSWER
from skyfog_core.errors import ConfigError, InvalidRequest, Overloaded, RequestError, Status, plain_reason
from skyfog_core.factories import load_factory
from skyfog_core.nodes.diagnostics import DiagnosticsPublisher
from skyfog_core.nodes.main import run
from skyfog_core.nodes.parameters import NODE_OPTIONS, blame, declare
from skyfog_core.nodes.relay import DeferredService
from skyfog_core.nodes.types import type_hash
from skyfog_core.trace import FileTrace, NoTrace
from skyfog_core.units import MS, ms_to_ns
from skyfog_interfaces.msg import UplinkLink, UplinkPlan, UplinkState
from skyfog_interfaces.srv import Offload
from skyfog_uplink import diagnosis
from skyfog_uplink.car import CarDriver, CarReport, Limits
from skyfog_uplink.nodes.messages import link_message, plan_of, state_message
from skyfog_uplink.nodes.qos import LATCHED, NEWEST
from skyfog_uplink.policy.estimate import LinkEstimator
from skyfog_uplink.policy.frames import Ended
from skyfog_uplink.policy.link import LinkState
from skyfog_uplink.policy.model import Table
from skyfog_uplink.policy.shape import Shaper
from skyfog_uplink.policy.tables import load_table
from skyfog_uplink.transport.base import CarTransport

PERIOD_S = 1.0
MAX_AGE_MS = 3_600_000.0

log = structlog.get_logger()


class ShaperNode(Node):
    """Parameters in, frames through; every choice is the policy's."""

    def __init__(self) -> None:
        super().__init__("shaper", **NODE_OPTIONS)
        self._config = config = declare(self, ShaperNodeConfig)
        with blame("table"):
            self._table = load_table(Path(config.table))
        with blame("trace"):
            trace = FileTrace(Path(config.trace)) if config.trace else NoTrace()
        transport = _open_transport(config)
        self._steady = SteadyClock()
        self._links = self.create_publisher(UplinkLink, "~/link", NEWEST)
        self._states = self.create_publisher(UplinkState, "~/state", LATCHED)
        self._diagnostics = DiagnosticsPublisher(self, hardware_id=config.car)
        self._before: CarReport | None = None
        self._driver = CarDriver(
            self._table,
            Shaper(self._table, config.shaper, LinkEstimator(config.estimator)),
            transport,
            self._steady,
            trace,
            _hashes(self._table),
            Limits(config.shaper.max_frame_bytes, config.plan_stale_ms * MS),
            self._on_link,
        )
        self._service = DeferredService(self, Offload, "~/offload", self._on_request)
        self.create_subscription(UplinkPlan, "allocator/plan", self._on_plan, LATCHED)
        self._driver.start()
        self.create_timer(PERIOD_S, self._tell)
        log.info("shaper_ready", table=self._table.name, car=config.car, fleet=config.fleet)

    def destroy_node(self) -> None:
        self._driver.close()
        super().destroy_node()

    def _on_plan(self, message: UplinkPlan) -> None:
        self._driver.plan(plan_of(message, self._steady.now_ns()))

    def _on_link(self, link: LinkState) -> None:
        try:
            self._links.publish(link_message(link, self.get_clock().now().to_msg()))
        except (RCLError, InvalidHandle) as error:  # we are shutting down
            log.warning("link_not_told", why=plain_reason(error))

    def _on_request(self, request: Offload.Request, header: Any) -> None:
        if not 0 <= request.age_ms <= MAX_AGE_MS:  # NaN neither
            self.refuse(InvalidRequest(f"age_ms: {request.age_ms} is not within 0 and {MAX_AGE_MS:.0f}"), header)
            return
        age_ns, payload, caller = ms_to_ns(request.age_ms), request.payload.tobytes(), _Caller(self, header)
        try:
            self._driver.offload(request.service, request.option, age_ns, payload, request.probe, caller)
        except (InvalidRequest, Overloaded) as error:
            self.refuse(error, header)

    def refuse(self, error: RequestError, header: Any) -> None:
        """Answer a frame that was not taken."""
        response = Offload.Response(outcome="withheld", why=str(error), link_ms=math.nan, cloud_ms=math.nan)
        response.status.code = int(error.status)
        response.status.message = f"{type(error).__name__}: {error}"
        self.respond(response, header)

    def respond(self, response: Offload.Response, header: Any) -> None:
        """Send one answer, from any thread."""
        try:
            self._service.respond(response, header)
        except (RCLError, InvalidHandle) as error:  # the client has gone, or we are shutting down
            log.warning("answer_not_sent", why=plain_reason(error))

    def _tell(self) -> None:
        try:
            report = self._driver.report()
        except Overloaded:
            self._diagnostics.publish({"uplink": NO_ANSWER})
            return
        stamp = self.get_clock().now().to_msg()
        self._states.publish(state_message(report, self._config.car, self._config.fleet, self._table, stamp))
        self._diagnostics.publish({"uplink": diagnosis.of_car(report, self._before)})
        self._before = report


class _Caller:
    """The car.Caller of one ROS request."""

    __slots__ = ("_header", "_node")

    def __init__(self, node: ShaperNode, header: Any) -> None:
        self._node, self._header = node, header

    def ended(self, ended: Ended, payload: bytes) -> None:
        response = Offload.Response(
            outcome=ended.outcome.value,
            why=ended.why,
            payload=array("B", payload),
            link_ms=math.nan if ended.link_ms is None else ended.link_ms,
            cloud_ms=math.nan if ended.cloud_ms is None else ended.cloud_ms,
        )
        response.status.code = int(ended.status)
        response.status.message = "" if ended.status is Status.OK else ended.why
        self._node.respond(response, self._header)


def _open_transport(config: ShaperNodeConfig) -> CarTransport:
    with blame("transport"):
        factory = load_factory(config.transport, "transport", "skyfog_bringup.uplink_link:open_link")
    with blame("zenoh.tls" if config.zenoh.tls.ca else "zenoh.listen" if config.zenoh.listen else "zenoh.connect"):
        transport: CarTransport = factory(config)
    return transport


def _hashes(table: Table) -> dict[str, bytes]:
    """Of the types that are installed here; a car may leave out what it has no client for."""
    found = {}
    for name in sorted({service.type for service in table.services}):
        try:
            found[name] = type_hash(name)
        except ConfigError as error:
            log.info("type_not_installed", type=name, why=str(error))
    return found


def main() -> None:
    """Entry point of `ros2 run skyfog_uplink shaper`."""
    sys.exit(run("shaper", lambda: [ShaperNode()]))


if __name__ == "__main__":
    main()
