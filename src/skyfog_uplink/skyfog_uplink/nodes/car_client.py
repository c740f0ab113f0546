"""One service of the car: images to the car's own model and, as planned, to the cloud; one topic of answers."""

from __future__ import annotations

import sys
from array import array
from pathlib import Path
from typing import Any

import structlog
from rclpy._rclpy_pybind11 import InvalidHandle, RCLError
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from skyfog_core.clock import SteadyClock
from skyfog_core.config.base import nearest
from skyfog_core.config.uplink import CarClientConfig
from skyfog_core.diagnosis import NO_ANSWER
from skyfog_core.errors import ConfigError, InvalidReply, Overloaded, Status, plain_reason
from skyfog_core.nodes.diagnostics import DiagnosticsPublisher
from skyfog_core.nodes.main import run
from skyfog_core.nodes.parameters import NODE_OPTIONS, blame, declare
from skyfog_core.nodes.relay import decoder, to_cdr
from skyfog_core.units import MS, S, ns_to_ms
from skyfog_interfaces.msg import CarDetections, UplinkPlan
from skyfog_interfaces.srv import Offload
from skyfog_uplink import diagnosis
from skyfog_uplink.client import Capture, ClientDriver, Told
from skyfog_uplink.nodes.calls import Calls
from skyfog_uplink.nodes.messages import capture_age_ns, plan_of
from skyfog_uplink.nodes.qos import LATCHED
from skyfog_uplink.nodes.tasks import cloud_request, scaled, task_of
from skyfog_uplink.policy.frames import Outcome
from skyfog_uplink.policy.merge import Publish
from skyfog_uplink.policy.model import FLOOR, Option, Service, Table
from skyfog_uplink.policy.tables import load_table

PERIOD_S = 1.0
DEPTH = 10
MAX_AGE_NS = 1 * S  # an image whose stamp says more was stamped by another clock
CAR_CALLS = 2  # one in the model, one that waits: a model that is slower than its camera leaves images out
CAR_LIMIT_MS = 5_000.0
CLOUD_CALLS = 32
CLOUD_LIMIT_MS = 2_000.0  # beyond the SLO; the shaper answers a second after it at the latest
SILENT_PERIODS = 5  # of the camera's
# A camera that is ahead of us is not queued.
IMAGES = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)

log = structlog.get_logger()


class CarClient(Node):
    """Parameters in, images through; every choice is a policy's."""

    def __init__(self) -> None:
        super().__init__("car_client", **NODE_OPTIONS)
        config = declare(self, CarClientConfig)
        with blame("table"):
            table = load_table(Path(config.table))
        self._spec = spec = _service(table, config.service)
        with blame("service"):
            self._task = task_of(spec.type, self)
        self._steady = SteadyClock()
        self._decode = decoder(self._task.srv.Response)
        self._car = Calls(self, self._task.srv, config.on_car, self._steady, CAR_LIMIT_MS, CAR_CALLS)
        limit_ms = spec.slo_ms + CLOUD_LIMIT_MS
        self._cloud = Calls(self, Offload, "shaper/offload", self._steady, limit_ms, CLOUD_CALLS)
        self._answers = self.create_publisher(CarDetections, "~/detections", DEPTH)
        self._diagnostics = DiagnosticsPublisher(self, hardware_id=spec.name)
        self._before: diagnosis.ClientReport | None = None
        stale_ns = config.plan_stale_ms * MS
        self._driver = ClientDriver(table, spec.name, self, self._steady, config.publish, stale_ns)
        self._driver.start()
        self.create_subscription(UplinkPlan, "allocator/plan", self._on_plan, LATCHED)
        self.create_subscription(Image, config.image, self._on_image, IMAGES)
        self.create_timer(PERIOD_S, self._tell)
        log.info("car_client_ready", service=spec.name, image=config.image, on_car=config.on_car)

    def destroy_node(self) -> None:
        self._driver.close()
        super().destroy_node()

    def _on_plan(self, message: UplinkPlan) -> None:
        self._driver.plan(plan_of(message, self._steady.now_ns()))

    def _on_image(self, image: Image) -> None:
        age_ns = capture_age_ns(image.header.stamp, self.get_clock().now().nanoseconds, MAX_AGE_NS)
        try:
            self._driver.image(image, age_ns)
        except Overloaded as error:
            log.warning("image_dropped", why=str(error))

    def _tell(self) -> None:
        try:
            report = self._driver.report()
        except Overloaded:
            found = NO_ANSWER
        else:
            found = diagnosis.of_client(report, self._before, max(PERIOD_S, SILENT_PERIODS / self._spec.rate_hz))
            self._before = report
        self._diagnostics.publish({self._spec.name: found})

    # client.Peers

    def ask_car(self, capture: Capture) -> bool:
        def done(response: Any | None) -> None:
            self._driver.car_answered(capture, self._result(response, "the model on the car"))

        return self._car.begin(self._task.srv.Request(image=capture.image), done)

    def can_offload(self) -> bool:
        return self._cloud.ready()

    def encode(self, capture: Capture, option: Option) -> bytes:
        return to_cdr(cloud_request(self._task.srv, capture.image, option))

    def offload(self, capture: Capture, option: int, probe: bool, payload: bytes) -> None:
        def done(response: Offload.Response | None) -> None:
            self._driver.cloud_answered(capture, option, self._of_cloud(response))

        age_ms = ns_to_ms(self._steady.now_ns() - capture.captured_ns)
        request = Offload.Request(
            service=self._spec.name, option=option, probe=probe, age_ms=age_ms, payload=array("B", payload)
        )
        if not self._cloud.begin(request, done):
            self._driver.cloud_answered(capture, option, None)

    def publish(self, told: Told, how: Publish) -> None:
        image: Image = told.capture.image
        option = None if told.option == FLOOR else self._spec.options[told.option]
        detections = self._task.detections(told.answer, image)
        message = CarDetections(
            header=image.header,
            source=how.source,
            option="" if option is None else option.name,
            final=how.final,
            replaces=how.replaces,
            late=how.late,
            latency_ms=ns_to_ms(self._steady.now_ns() - told.capture.captured_ns),
            accuracy=self._spec.accuracy(told.option),
            detections=detections if option is None else scaled(detections, image, option),
        )
        try:
            self._answers.publish(message)
        except (RCLError, InvalidHandle) as error:  # we are shutting down
            log.warning("answer_not_published", why=plain_reason(error))

    def _of_cloud(self, response: Offload.Response | None) -> Any | None:
        if response is None or response.outcome != Outcome.ON_TIME.value:
            return None
        try:
            answer = self._decode(response.payload.tobytes())
        except InvalidReply as error:
            log.warning("answer_unreadable", service=self._spec.name, why=str(error))
            return None
        return self._result(answer, "the cloud")

    def _result(self, response: Any | None, who: str) -> Any | None:
        """A response that says what is seen, else None."""
        if response is None:
            return None
        failed = response.status.code != Status.OK
        why = response.status.message if failed else self._task.wrong(response)
        if failed or why:
            log.warning("no_result", service=self._spec.name, who=who, why=why)
            return None
        return response


def _service(table: Table, name: str) -> Service:
    """Raises ConfigError for a service that is not in the table, or none of whose options sends an image."""
    with blame("service"):
        names = [service.name for service in table.services]
        if name not in names:
            raise ConfigError(
                f"{name!r} is not in the table {table.name}{nearest(name, names)} (known: {', '.join(names)})"
            )
        spec = table.services[table.index(name)]
        for option in spec.options:
            if option.codec == "none":
                raise ConfigError(f"{name}: its option {option.name} sends no image")
    return spec


def main() -> None:
    """Entry point of `ros2 run skyfog_uplink car_client`."""
    sys.exit(run("car_client", lambda: [CarClient()]))


if __name__ == "__main__":
    main()
