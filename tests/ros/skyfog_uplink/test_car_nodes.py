"""Real nodes over a link of their own process: both models answer, and whatever dies, the car's goes on."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import QoSProfile

from skyfog_core.units import S
from skyfog_interfaces.msg import CarDetections, Scene, UplinkPlan
from skyfog_interfaces.srv import Offload
from support.car import HEIGHT, WIDTH, Car, surroundings
from support.processes import Process, wait_until
from support.ros import caller, ros_node

WARN, ERROR = DiagnosticStatus.WARN[0], DiagnosticStatus.ERROR[0]


def all_of(car: Car) -> tuple[Process, Process, Process]:
    return car.allocator(floor_warn_s=1.0), car.shaper(), car.client()


def right_half(answer: CarDetections) -> bool:
    """Whether the box is where the cloud saw it, in pixels of the image as captured."""
    (seen,) = answer.detections
    box = seen.bbox
    found = (box.center.position.x, box.center.position.y, box.size_x, box.size_y)
    return seen.class_name == "cloud" and found == pytest.approx((0.75 * WIDTH, 0.5 * HEIGHT, 0.5 * WIDTH, HEIGHT))


def told(what: str, look: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    """The first newest message for which this holds; the next one may say something else again."""
    newest: list[Any] = []

    def seen() -> bool:
        newest[:] = [look()]
        return newest[0] is not None and holds(newest[0])

    wait_until(what, seen)
    return newest[0]


def in_the_cloud(plan: UplinkPlan) -> bool:
    """Whether it has the one service there."""
    return plan.grants[0].option_name in {"half", "whole"}


def test_both_models_answer_and_every_figure_is_told(car: Car) -> None:
    all_of(car)
    with surroundings(car.domain) as around:
        answers = around.wait_for("cloud", 20)
        assert all(right_half(answer) for answer in answers)
        assert {answer.option for answer in answers} <= {"half", "whole"}
        assert all(0 < answer.latency_ms <= 1_000 for answer in answers)
        assert all(answer.accuracy in {0.5, 0.7} for answer in answers)
        # Beside the planned half the whole may be probed: then the half's answer is not final.
        wait_until("the best answer is final", lambda: any(a.option == "whole" and a.final for a in [*around.answers]))
        wait_until("the car's model answers too", lambda: "car" in around.sources())
        link = told("the link", lambda: around.link, lambda link: link.up)
        assert 0 < link.rate_p05_bps <= link.rate_p50_bps < 1e9
        assert 25 < link.rtt_ms < 10_000
        plan = told("the plan has it in the cloud", lambda: around.plan, in_the_cloud)
        assert plan.table == "test"
        assert sum(grant.rate_bps for grant in plan.grants) <= plan.budget_bps * 1.001
        # Its utility is that of the last second, in which a stalled machine may have answered nothing.
        state = told(
            "the state tells it",
            lambda: around.state,
            lambda state: state.services[0].on_time >= 10 and state.services[0].utility > 0.3,
        )
        assert (state.connected, state.gateway, state.car, state.table) == (True, "loopback", "car", "test")
        (service,) = state.services
        misses = service.late + service.lost + service.outage + service.cut + service.refused
        assert service.frames == service.on_time + misses + service.withheld + service.replaced
        assert service.on_time_share == pytest.approx(service.on_time / (service.on_time + misses))
        wait_until("all are well", lambda: around.diagnoses.get("allocator: front", (9, ""))[0] == 0)
        wait_until("so is the link", lambda: around.diagnoses.get("allocator: link") == (0, "up"))


def test_the_option_follows_what_a_faster_link_allows(car: Car) -> None:
    all_of(car)
    with surroundings(car.domain) as around:
        wait_until("the whole image goes", lambda: any(answer.option == "whole" for answer in list(around.answers)))


@pytest.mark.parametrize("victim", ["allocator", "shaper"])
def test_the_cars_own_model_goes_on_when_a_node_is_killed_and_the_cloud_comes_back_with_it(
    car: Car, victim: str
) -> None:
    allocator, shaper, _ = all_of(car)
    with surroundings(car.domain) as around:
        around.wait_for("cloud")
        (allocator if victim == "allocator" else shaper).signal(signal.SIGKILL)

        def only_car() -> bool:
            around.wait_for("car", 5)
            return around.sources() == {"car"}

        wait_until("only the car answers", only_car)
        (car.allocator if victim == "allocator" else car.shaper)()
        around.wait_for("cloud")


@pytest.mark.parametrize("fault", ["silent", "away", "deaf"])
def test_the_cars_own_model_goes_on_in_an_outage_and_the_cloud_comes_back_after_it(car: Car, fault: str) -> None:
    all_of(car)
    with surroundings(car.domain) as around:
        around.wait_for("cloud")
        (car.link / fault).touch()

        def only_car() -> bool:
            around.wait_for("car", 5)
            return around.sources() == {"car"}

        wait_until("only the car answers", only_car)

        def warned(who: str, why: str = "") -> bool:
            level, text = around.diagnoses.get(who, (0, "nothing yet"))
            return level == WARN and why in text

        if fault == "deaf":
            wait_until("misses are told", lambda: warned("shaper: uplink"))
        else:
            wait_until("it is told of the link", lambda: warned("allocator: link"))
            wait_until("of the service", lambda: warned("allocator: front", "on the model of the car for"))
        if fault == "away":
            wait_until("why is told", lambda: warned("shaper: uplink", "no gateway is there"))
        (car.link / fault).unlink()
        around.wait_for("cloud")


def test_when_the_model_on_the_car_fails_it_is_an_error_and_the_cloud_still_answers(car: Car) -> None:
    all_of(car)
    with surroundings(car.domain) as around:
        around.wait_for("cloud")

        def failing() -> bool:
            return around.diagnoses.get("car_client: front", (ERROR, "nothing yet"))[0] == ERROR

        wait_until("the model on the car was found", lambda: not failing())
        around.on_car.clear()
        off_ns = time.time_ns()
        wait_until("it is told", failing)

        def captured_since() -> list[CarDetections]:
            stamped = [(answer.header.stamp, answer) for answer in [*around.answers] if answer.source == "cloud"]
            return [answer for stamp, answer in stamped if stamp.sec * S + stamp.nanosec > off_ns]

        wait_until("the cloud answers", lambda: len(captured_since()) >= 3)
        assert not any(answer.replaces for answer in captured_since())
        around.on_car.set()
        around.wait_for("car")


def test_a_camera_that_stalls_is_told_and_goes_on(car: Car) -> None:
    all_of(car)
    with surroundings(car.domain) as around:
        around.wait_for("cloud")
        around.camera.cancel()
        wait_until("it is told", lambda: "no image for" in around.diagnoses.get("car_client: front", (0, ""))[1])
        around.camera.reset()
        around.wait_for("cloud")


def test_a_stamp_of_another_clock_is_taken_for_now(car: Car) -> None:
    all_of(car)
    with surroundings(car.domain) as around:
        around.jump_s = -3_600
        for answer in around.wait_for("cloud", 5):
            assert 0 < answer.latency_ms <= 1_000
        around.jump_s = 3_600
        around.wait_for("cloud", 5)


def test_a_client_without_any_other_node_publishes_the_cars_answers(car: Car) -> None:
    car.client()
    with surroundings(car.domain) as around:
        around.wait_for("car", 5)
        assert around.sources() == {"car"}


def test_what_cannot_be_offloaded_is_refused_with_the_reason(car: Car) -> None:
    car.shaper().wait_for("gateway_found")
    with ros_node(car.domain) as node:
        offload = caller(node, Offload, "/shaper/offload", QoSProfile(depth=100))
        cases = {
            "no service 'rear'": {"service": "rear"},
            "options 0 to 1, not 7": {"option": 7},
            "0 bytes": {"payload": b""},
            "age_ms: nan": {"age_ms": math.nan},
            "age_ms: -1.0": {"age_ms": -1.0},
        }
        for why, wrong in cases.items():
            response = offload.call(Offload.Request(**{"service": "front", "payload": b"x", **wrong}))
            assert response.status.code == response.status.INVALID_REQUEST
            assert why in response.why
            assert not response.payload
        response = offload.call(Offload.Request(service="front", payload=b"x"))
        assert (response.outcome, response.why) == ("withheld", "the plan has it on the floor")
        answers = [offload.begin(Offload.Request(service="front", payload=b"x")) for _ in range(50)]
        assert {answer.result(30).outcome for answer in answers} == {"withheld"}


def test_a_scene_changes_what_services_weigh(car: Car) -> None:
    car.table.write_text(car.table.read_text() + "scenes: {reverse: {weights: {front: 4.0}}}\n")
    all_of(car)
    with surroundings(car.domain) as around, ros_node(car.domain) as node:
        around.wait_for("cloud")
        scenes = node.create_publisher(Scene, "scene", 1)
        wait_until("somebody listens", lambda: scenes.get_subscription_count() > 0)
        before = told("the plan has it in the cloud", lambda: around.plan, in_the_cloud).utility
        node.create_timer(0.2, lambda: scenes.publish(Scene(name="reverse", speed_mps=1.0)))
        wait_until("the plan is worth more", lambda: around.plan.utility > 2 * before)
