"""Hears what the robots and cars of this ROS domain tell of themselves, on topics of any name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions

from skyfog_bringup.uplink_tables import Part, UplinkReport, joined
from skyfog_interfaces.msg import RouterState, UplinkLink, UplinkState
from skyfog_router.nodes.state import PERIOD_S, from_message, state_qos
from skyfog_router.report import ServiceReport
from skyfog_uplink.nodes.messages import link_of, state_of
from skyfog_uplink.nodes.qos import LATCHED, NEWEST

DEPTH = 1_000
SETTLE_S = 2.0  # after the newest of them was first heard of: discovery brings one after the other
GONE_AFTER_S = 5 * PERIOD_S
SPIN_S = 0.05

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Kind(Generic[R]):
    """Topics of one type. `read` gives who tells, of what, and the report."""

    message: Any
    qos: QoSProfile
    read: Callable[[str, Any], tuple[str, str, R]]

    @property
    def type_name(self) -> str:
        package = self.message.__module__.partition(".")[0]
        return f"{package}/msg/{self.message.__name__}"


class Listener(Generic[R]):
    """The newest report of everything that is told."""

    def __init__(self, node: Node, executor: SingleThreadedExecutor, kinds: Sequence[Kind[R]]) -> None:
        self._node, self._executor = node, executor
        self._kinds = {kind.type_name: kind for kind in kinds}
        self._topics: dict[str, Any] = {}
        self._heard: dict[tuple[str, str, str], tuple[float, R]] = {}
        self._newest_s = time.monotonic()

    def reports(self) -> list[R]:
        """By who tells, and of what; of those heard lately."""
        since = time.monotonic() - GONE_AFTER_S
        found = {(who, what, topic): report for (topic, who, what), (at, report) in self._heard.items() if at >= since}
        return [found[key] for key in sorted(found)]

    def listen(self, seconds: float) -> None:
        """Take in what comes for this long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._find()
            self._executor.spin_once(min(left, SPIN_S))

    def first(self, limit_s: float) -> list[R]:
        """The reports of all who are there, as soon as nobody new is heard of; none where nobody is within limit_s."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            self.listen(SPIN_S)
            if self._heard and time.monotonic() - self._newest_s >= SETTLE_S and not self._awaited():
                break
        return self.reports()

    def _awaited(self) -> bool:
        """Whether somebody is known to publish who was not heard yet."""
        told = {topic: {who for on, who, _ in self._heard if on == topic} for topic in self._topics}
        return any(self._node.count_publishers(topic) > len(heard) for topic, heard in told.items())

    def _find(self) -> None:
        for topic, types in self._node.get_topic_names_and_types():
            kind = next((self._kinds[name] for name in types if name in self._kinds), None)
            if kind is not None and topic not in self._topics:
                self._topics[topic] = self._subscribe(topic, kind)

    def _subscribe(self, topic: str, kind: Kind[R]) -> Any:
        def on_message(message: Any) -> None:
            who, what, report = kind.read(topic, message)
            if (topic, who, what) not in self._heard:
                self._newest_s = time.monotonic()
            self._heard[topic, who, what] = (time.monotonic(), report)

        return self._node.create_subscription(kind.message, topic, on_message, kind.qos)


def _robot(_topic: str, message: RouterState) -> tuple[str, str, ServiceReport]:
    report = from_message(message)
    return report.origin.robot, report.service, report


def _state(topic: str, message: UplinkState) -> tuple[str, str, Part]:
    car, fleet, table, report = state_of(message)
    return topic.rpartition("/")[0], "state", Part(topic.rpartition("/")[0], car, fleet, table, report=report)


def _link(topic: str, message: UplinkLink) -> tuple[str, str, Part]:
    return topic.rpartition("/")[0], "link", Part(topic.rpartition("/")[0], link=link_of(message, time.monotonic_ns()))


class UplinkListener:
    """The newest of each car: what its shaper tells of itself and of the link."""

    def __init__(self, parts: Listener[Part]) -> None:
        self._parts = parts

    def reports(self) -> list[UplinkReport]:
        """By car; of those heard lately."""
        return joined(self._parts.reports())

    def listen(self, seconds: float) -> None:
        """Take in what comes for this long."""
        self._parts.listen(seconds)

    def first(self, limit_s: float) -> list[UplinkReport]:
        """As Listener.first."""
        return joined(self._parts.first(limit_s))


@contextmanager
def robots() -> Iterator[Listener[ServiceReport]]:
    """Listens to robots until the block ends."""
    with _node() as (node, executor):
        yield Listener(node, executor, [Kind(RouterState, state_qos(DEPTH), _robot)])


@contextmanager
def cars() -> Iterator[UplinkListener]:
    """Listens to cars until the block ends."""
    with _node() as (node, executor):
        yield UplinkListener(
            Listener(node, executor, [Kind(UplinkState, LATCHED, _state), Kind(UplinkLink, NEWEST, _link)])
        )


@contextmanager
def _node() -> Iterator[tuple[Node, SingleThreadedExecutor]]:
    """Ctrl-C is Python's, as anywhere."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = Node("skyfog_status", start_parameter_services=False, enable_rosout=False)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        yield node, executor
    finally:
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        rclpy.try_shutdown()
