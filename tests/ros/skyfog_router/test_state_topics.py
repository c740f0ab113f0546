"""~/state and /diagnostics as another ROS node sees them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node

from skyfog_core.errors import Overloaded
from skyfog_interfaces.msg import RouterState
from skyfog_router.nodes.state import UINT32_MAX, StatePublisher, from_message, state_qos, to_message
from skyfog_router.policy.snapshot import ServiceSnapshot
from skyfog_router.report import Origin
from support.processes import wait_until
from support.ros import free_domain, ros_node
from support.snapshots import replica, service

TYPES = {"/detect": "skyfog_interfaces/srv/Detect", "/plan": "skyfog_interfaces/srv/PlanMotion"}
ORIGIN = Origin("anna", "skyfog")


@dataclass
class Heard:
    """What arrived at another node."""

    states: list[RouterState] = field(default_factory=list)
    diagnostics: list[DiagnosticArray] = field(default_factory=list)

    def statuses(self, name: str) -> list[DiagnosticStatus]:
        return [status for array in self.diagnostics for status in array.status if status.name.endswith(name)]


@contextmanager
def published(snapshots: dict[str, ServiceSnapshot] | Overloaded, once: bool = False) -> Iterator[tuple[Node, Heard]]:
    """`once`: only before anybody listens."""

    def ask() -> dict[str, ServiceSnapshot]:
        if isinstance(snapshots, Overloaded):
            raise snapshots
        return snapshots

    domain = free_domain()
    with ros_node(domain) as robot, ros_node(domain) as other:
        publisher = StatePublisher(robot, ORIGIN, TYPES, ask)
        publisher.publish()
        for timer in robot.timers if once else ():
            timer.cancel()
        heard = Heard()
        topic = f"{robot.get_name()}/state"
        other.create_subscription(RouterState, topic, heard.states.append, state_qos(10))
        other.create_subscription(DiagnosticArray, "/diagnostics", heard.diagnostics.append, 10)
        yield robot, heard


def test_who_comes_later_gets_the_newest_state_of_each_service_and_a_stamp() -> None:
    with published({"/detect": service(), "/plan": service(called=7, p99_ms=None)}, once=True) as (_, heard):
        wait_until("both services", lambda: {state.service for state in heard.states} == set(TYPES))
    newest = {state.service: state for state in heard.states}
    detect, plan = newest["/detect"], newest["/plan"]
    assert (detect.robot, detect.fleet, detect.type) == ("anna", "skyfog", TYPES["/detect"])
    assert (detect.called, detect.sends, detect.slo_ms, detect.p99_ms) == (101, 130, 200.0, 150.0)
    assert [state.zone for state in detect.replicas] == ["us-west", "us-east"]
    assert detect.stamp.sec > 0
    assert math.isnan(plan.p99_ms)


def test_each_service_has_a_diagnosis_named_by_its_node() -> None:
    with published({"/detect": service(), "/plan": service(replicas=())}) as (robot, heard):
        wait_until("diagnostics", lambda: bool(heard.statuses(": /plan")))
        (plan, *_), (detect, *_) = heard.statuses(": /plan"), heard.statuses(": /detect")
        assert plan.name == f"{robot.get_name()}: /plan"
    assert (plan.level, plan.message) == (DiagnosticStatus.ERROR, "no replica is there")
    assert detect.level == DiagnosticStatus.OK
    assert detect.hardware_id == "anna"
    assert {pair.key: pair.value for pair in detect.values}["slo"] == "200 ms"


def test_a_router_that_does_not_answer_is_stale() -> None:
    with published(Overloaded("busy")) as (_, heard):
        wait_until("diagnostics", lambda: bool(heard.statuses(": /plan")))
    assert {status.level for array in heard.diagnostics for status in array.status} == {DiagnosticStatus.STALE}
    assert heard.states == []


SNAPSHOTS: list[dict[str, Any]] = [
    {},
    {"p50_ms": None, "p99_ms": None, "slo_ms": None, "failures": {"NoReplica": 3, "NoQuorum": 1}},
    {"panic": True, "local": 4, "replicas": ()},
    {"replicas": (replica(state="ejected", why="x", local=True, p50_ms=None, back_in_ms=12.5),)},
]


@pytest.mark.parametrize("changes", SNAPSHOTS)
def test_a_message_says_all_that_the_snapshot_says(changes: dict[str, Any]) -> None:
    given = service(**changes)
    stamp = RouterState().stamp
    stamp.sec, stamp.nanosec = 3, 5
    report = from_message(to_message(ORIGIN, "/detect", TYPES["/detect"], given, stamp))
    assert report.snapshot == given
    assert (report.origin, report.service, report.stamp_ns) == (ORIGIN, "/detect", 3_000_000_005)


def test_what_a_replica_says_of_itself_cannot_break_the_message() -> None:
    with published({"/detect": service(replicas=(replica(capacity=2**40, queue_depth=2**50),))}) as (_, heard):
        wait_until("a state", lambda: bool(heard.states))
    (state,) = heard.states[0].replicas
    assert (state.capacity, state.queue_depth) == (UINT32_MAX, UINT32_MAX)
