"""The pick_place action against a paper cell: what is done, what is told, and what happens when it is withdrawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient

from skyfog_interfaces.action import PickPlace
from skyfog_interfaces.msg import Status
from support.cell import Cell
from support.processes import LIMIT_S, Processes, wait_until
from support.ros import free_domain, from_executor, ros_node

CONFIG = Path(__file__).parents[3] / "config" / "base" / "pick_place.yaml"


class Stage:
    """The action's node as a process, the cell and the client in this one."""

    def __init__(self, node: Any, process: Any) -> None:
        self.cell = Cell(node)
        self.process = process
        self._client = ActionClient(node, PickPlace, "/pick_place")
        self._node = node
        assert self._client.wait_for_server(LIMIT_S)

    def ask(self, send: Callable[[], Any]) -> Any:
        return from_executor(self._node, send)

    def begin(self, goal: PickPlace.Goal) -> Any:
        return self.ask(lambda: self._client.send_goal_async(goal))

    def run(self, goal: PickPlace.Goal) -> Any:
        handle = self.begin(goal)
        assert handle.accepted
        return self.ask(handle.get_result_async)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    parameters = yaml.safe_load(CONFIG.read_text())
    parameters["/**/pick_place"]["ros__parameters"]["call_limit_s"] = 5.0
    (tmp_path / "pick.yaml").write_text(yaml.safe_dump(parameters))
    domain = free_domain()
    with Processes(tmp_path) as processes, ros_node(domain) as node:
        words = ("-m", "skyfog_planning.nodes.pick_place", "--ros-args", "--params-file", str(tmp_path / "pick.yaml"))
        process = processes.python("pick_place", *words, env={"ROS_DOMAIN_ID": str(domain)})
        process.wait_for("pick_place_ready")
        yield Stage(node, process)


def test_a_cube_is_seen_taken_and_let_go_over_the_bin(stage: Stage) -> None:
    done = stage.run(PickPlace.Goal())
    assert done.status == GoalStatus.STATUS_SUCCEEDED
    result = done.result
    assert (result.status.code, result.placed, list(result.placed_names), result.left) == (Status.OK, 1, ["cube"], 0)
    assert list(result.failures) == []
    carried = [plan for plan in stage.cell.plans if plan.attached]
    assert [one.id for one in carried[0].attached] == ["cube_0"]
    assert {one.id for one in carried[0].objects} >= {"table", "bin_right"}
    descents = [plan for plan in stage.cell.plans if plan.allowed_collisions and plan.cartesian]
    tool = descents[0].goal_pose.position
    assert (tool.x, tool.y) == pytest.approx((0.5, 0.0), abs=0.01)


def test_a_plan_that_fails_is_told_and_the_goal_is_aborted_with_what_is_left(stage: Stage) -> None:
    stage.cell.fails.add("straight")
    done = stage.run(PickPlace.Goal())
    assert done.status == GoalStatus.STATUS_ABORTED
    assert (done.result.status.code, done.result.placed, done.result.left) == (Status.FAILED, 0, 1)
    assert "objects are left after 3 rounds" in done.result.status.message
    assert any("cube: descend: /plan_motion: no way there" in failure for failure in done.result.failures)


def test_a_goal_can_be_withdrawn_and_the_next_one_is_taken(stage: Stage) -> None:
    handle = stage.begin(PickPlace.Goal())
    wait_until("a first plan", lambda: bool(stage.cell.plans))
    stage.ask(handle.cancel_goal_async)
    done = stage.ask(handle.get_result_async)
    assert done.status == GoalStatus.STATUS_CANCELED
    assert done.result.status.message == "cancelled"
    assert stage.run(PickPlace.Goal()).status == GoalStatus.STATUS_SUCCEEDED


def test_there_is_one_arm_so_that_a_second_goal_is_refused(stage: Stage) -> None:
    handle = stage.begin(PickPlace.Goal())
    assert handle.accepted
    assert not stage.begin(PickPlace.Goal()).accepted
    stage.process.wait_for("goal_refused")
    assert stage.ask(handle.get_result_async).status == GoalStatus.STATUS_SUCCEEDED


def test_only_the_classes_that_were_asked_for_are_picked(stage: Stage) -> None:
    result = stage.run(PickPlace.Goal(class_names=["banana"])).result
    assert (result.status.code, result.placed, result.left) == (Status.OK, 0, 0)
    assert stage.cell.on_table
