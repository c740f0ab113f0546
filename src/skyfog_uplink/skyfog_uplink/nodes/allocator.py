"""Shares the car's uplink between its services: link and scene in, plans out."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import structlog
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data

from skyfog_core.clock import SteadyClock
from skyfog_core.config.uplink import AllocatorNodeConfig
from skyfog_core.nodes.diagnostics import DiagnosticsPublisher
from skyfog_core.nodes.main import run
from skyfog_core.nodes.parameters import NODE_OPTIONS, blame, declare
from skyfog_core.units import MS, S
from skyfog_interfaces.msg import Scene, UplinkLink, UplinkPlan
from skyfog_uplink import diagnosis
from skyfog_uplink.nodes.messages import link_of, plan_message
from skyfog_uplink.nodes.qos import LATCHED, NEWEST
from skyfog_uplink.policy.allocate import Allocator
from skyfog_uplink.policy.model import FLOOR
from skyfog_uplink.policy.plan import Plan
from skyfog_uplink.policy.tables import load_table

PERIOD_S = 1.0
TICK_S = 0.02
DEPTH = 10
REPEAT_NS = 500 * MS  # a plan that still holds is told again, so that who follows it knows that somebody plans
LOG_NS = 1 * S  # a line of log at most so often
SCENE_AGE_NS = 2 * S  # the speed of a scene counts before that of the odometry for so long

log = structlog.get_logger()


class AllocatorNode(Node):
    """Parameters in, plans out; every choice is the policy's. All callbacks run in the one thread of the executor."""

    def __init__(self) -> None:
        super().__init__("allocator", **NODE_OPTIONS)
        self._config = config = declare(self, AllocatorNodeConfig)
        with blame("table"):
            self._table = load_table(Path(config.table))
        self._steady = SteadyClock()
        self._allocator = Allocator(self._table, config.allocator)
        self._plan: Plan | None = None
        self._told_ns = 0
        self._logged: dict[str, str] = {}
        self._logged_ns = -LOG_NS
        self._link_ns: int | None = None
        self._up = False
        self._scene = ""
        self._scene_ns = -SCENE_AGE_NS
        self._speed_mps = 0.0
        self._floors = diagnosis.Floors()
        self._plans = self.create_publisher(UplinkPlan, "~/plan", LATCHED)
        self._diagnostics = DiagnosticsPublisher(self, hardware_id=self._table.name)
        self.create_subscription(UplinkLink, "shaper/link", self._on_link, NEWEST)
        self.create_subscription(Scene, "scene", self._on_scene, DEPTH)
        self.create_subscription(Odometry, "odom", self._on_odometry, qos_profile_sensor_data)
        self.create_timer(TICK_S, self._on_tick)
        self.create_timer(PERIOD_S, self._diagnose)
        log.info("allocator_ready", table=self._table.name, services=len(self._table.services))

    def _on_link(self, message: UplinkLink) -> None:
        now_ns = self._steady.now_ns()
        self._link_ns, self._up = now_ns, bool(message.up)
        self._follow(self._allocator.on_link(link_of(message, now_ns), now_ns), now_ns)

    def _on_scene(self, message: Scene) -> None:
        self._scene, self._scene_ns = message.name, self._steady.now_ns()
        self._look(message.speed_mps)

    def _on_odometry(self, message: Odometry) -> None:
        if self._steady.now_ns() - self._scene_ns >= SCENE_AGE_NS:
            linear = message.twist.twist.linear
            self._look(math.hypot(linear.x, linear.y))

    def _look(self, speed_mps: float) -> None:
        if not math.isfinite(speed_mps):
            return  # the speed known before stays
        now_ns = self._steady.now_ns()
        self._speed_mps = abs(speed_mps)
        self._follow(self._allocator.on_scene(self._scene, self._speed_mps, now_ns), now_ns)

    def _on_tick(self) -> None:
        now_ns = self._steady.now_ns()
        due_ns = self._allocator.next_timer_ns()
        if due_ns is None or due_ns <= now_ns:
            self._follow(self._allocator.on_timer(now_ns), now_ns)
        if self._plan is not None and now_ns - self._told_ns >= REPEAT_NS:
            self._tell(self._plan, now_ns)

    def _follow(self, plan: Plan | None, now_ns: int) -> None:
        if plan is None:
            return
        if _options(plan) != self._logged and now_ns - self._logged_ns >= LOG_NS:
            self._logged, self._logged_ns = _options(plan), now_ns
            log.info("plan", number=plan.number, because=plan.because, **self._logged)
        self._plan = plan
        self._floors.on_plan(plan, now_ns)
        self._tell(plan, now_ns)

    def _tell(self, plan: Plan, now_ns: int) -> None:
        self._told_ns = now_ns
        self._plans.publish(plan_message(plan, self._table, self.get_clock().now().to_msg()))

    def _diagnose(self) -> None:
        if self._plan is None:
            return
        now_ns = self._steady.now_ns()
        age_s = math.inf if self._link_ns is None else (now_ns - self._link_ns) / S
        services = diagnosis.of_plan(self._plan, self._floors, self._config.floor_warn_s, now_ns)
        self._diagnostics.publish({"link": diagnosis.of_link(age_s, self._up), **services})


def _options(plan: Plan) -> dict[str, str]:
    return {grant.service: "floor" if grant.option == FLOOR else str(grant.option) for grant in plan.grants}


def main() -> None:
    """Entry point of `ros2 run skyfog_uplink allocator`."""
    sys.exit(run("allocator", lambda: [AllocatorNode()]))


if __name__ == "__main__":
    main()
