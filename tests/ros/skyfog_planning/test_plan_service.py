"""The planning service as a ROS 2 user meets it: a service and an action to call, and a callback to embed."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("ompl", reason="ompl is not installed: ./ws extra planning")

import psutil
from action_msgs.msg import GoalStatus
from geometry_msgs.msg import Pose
from rclpy.action import ActionClient
from rclpy.node import Node
from sensor_msgs.msg import JointState, PointCloud2, PointField
from shape_msgs.msg import SolidPrimitive

from skyfog_interfaces.action import PlanMotion as PlanMotionAction
from skyfog_interfaces.msg import CollisionObject, Status
from skyfog_interfaces.srv import PlanMotion
from skyfog_planning.problems import load_set
from support.processes import LIMIT_S, Process, Processes, living_children, wait_until
from support.ros import Fleet, caller, free_domain, from_executor, ros_node

JOINTS = [f"panda_joint{n}" for n in range(1, 8)]
READY = [0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785]
TURNED = [1.2, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785]
TYPE = "skyfog_interfaces/srv/PlanMotion"


def joints(positions: list[float]) -> JointState:
    return JointState(name=JOINTS, position=positions)


def box(
    identity: str, size: tuple[float, float, float], at: tuple[float, float, float], yaw: float = 0.0
) -> CollisionObject:
    made = CollisionObject(id=identity, primitives=[SolidPrimitive(type=SolidPrimitive.BOX, dimensions=list(size))])
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = at
    pose.orientation.z, pose.orientation.w = math.sin(yaw / 2), math.cos(yaw / 2)
    made.primitive_poses = [pose]
    return made


POST = box("post", (0.05, 0.05, 1.0), (0.25, 0.17, 0.5))  # between READY and TURNED


# A low ceiling, so that the forearm cannot pass over the shoulder, and fins left and right of the arm.
LOW = [0.0, 0.6, 0.0, -2.4, 0.0, 3.0, 0.785]
PRISON = [box("ceiling", (3.0, 3.0, 0.02), (0.0, 0.0, 0.8))] + [
    box(f"fin {side}", (1.0, 0.02, 0.78), (0.325, side * 0.563, 0.39), yaw=side * math.radians(60)) for side in (-1, 1)
]


def ask(kind: Any = PlanMotion.Request, **changes: Any) -> Any:
    fields = {"start": joints(READY), "goal_joints": joints(TURNED), "objects": [POST], "seed": 1, **changes}
    return kind(**fields)


@pytest.fixture(scope="module")
def domain() -> int:
    return free_domain()


@pytest.fixture(scope="module")
def server(domain: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with Processes(tmp_path_factory.mktemp("plan")) as processes:
        node = processes.python("plan", "-m", "skyfog_planning.nodes.plan", env={"ROS_DOMAIN_ID": str(domain)})
        node.wait_for("planner_ready", 2 * LIMIT_S)  # it loads the planning libraries in two processes
        yield node


@pytest.fixture(scope="module")
def client(server: Process, domain: int) -> Iterator[Node]:
    with ros_node(domain) as node:
        yield node


def test_a_plan_leads_from_start_to_goal_and_says_how_it_was_found(client: Node) -> None:
    response = caller(client, PlanMotion, "/plan_motion").call(ask())
    assert (response.status.code, response.status.message) == (Status.OK, "")
    assert response.code == PlanMotion.Response.SUCCESS
    assert response.trajectory.joint_names == JOINTS
    points = response.trajectory.points
    assert list(points[0].positions) == pytest.approx(READY)
    assert list(points[-1].positions) == pytest.approx(TURNED)
    times = [point.time_from_start.sec + point.time_from_start.nanosec * 1e-9 for point in points]
    assert max(b - a for a, b in itertools.pairwise(times)) < 0.0201
    assert response.path_length_rad > 1.21  # around the post: the straight way is 1.2 rad
    assert 0 < response.min_clearance_m < 0.5
    assert (response.planner, response.seed) == ("RRTConnect", 1)
    assert response.iterations > 0
    assert response.total_ms > response.plan_ms > 0


def cloud(points: list[tuple[float, float, float]]) -> PointCloud2:
    import numpy as np

    made = PointCloud2(height=1, width=len(points), point_step=12, row_step=12 * len(points))
    made.fields = [
        PointField(name=axis, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, axis in enumerate("xyz")
    ]
    made.data.frombytes(np.array(points, np.float32).tobytes())
    return made


@pytest.mark.parametrize(
    ("changes", "code", "part"),
    [
        ({"start": JointState(name=JOINTS[:6], position=READY[:6])}, "INVALID", "no position for panda_joint7"),
        ({"planner": "RRTconect"}, "INVALID", "did you mean 'RRTConnect'"),
        ({"robot": "ur5"}, "INVALID", "there are: panda"),
        ({"objects": [CollisionObject(id="x")]}, "INVALID", "objects[x]: has no shape"),
        ({"max_velocity_scaling": 1.5}, "INVALID", "max_velocity_scaling: 1.5"),
        ({"time_budget_s": math.nan}, "INVALID", "time_budget_s: nan"),
        ({"start": joints([0.0, 3.0, *READY[2:]])}, "START_OUTSIDE_LIMITS", "panda_joint2 is 3.0000 rad"),
        ({"objects": [box("wall", (0.2, 0.2, 0.2), (0.3, 0.0, 0.6))]}, "START_IN_COLLISION", "with wall"),
        ({"cloud": cloud([(0.307, 0.0, 0.59)])}, "START_IN_COLLISION", "with cloud"),
        ({"objects": [box("wall", (0.2, 0.2, 0.2), (0.111, 0.286, 0.6))]}, "GOAL_IN_COLLISION", "with wall"),
        ({"goal_joints": joints([9.0, *READY[1:]])}, "GOAL_OUTSIDE_LIMITS", "panda_joint1 is 9.0000 rad"),
        ({"goal_joints": JointState(), "goal_pose": POST.primitive_poses[0]}, "GOAL_IN_COLLISION", "with post"),
        ({"goal_joints": JointState(), "goal_pose": box("", (1, 1, 1), (2.0, 0.0, 0.5)).primitive_poses[0]},
         "GOAL_UNREACHABLE", "panda_tcp at (2.000, 0.000, 0.500)"),
        ({"start": joints(LOW), "goal_joints": joints([2.8, *LOW[1:]]), "objects": PRISON, "time_budget_s": 0.5},
         "NO_PLAN_IN_TIME", "no plan within 0.5 s"),
    ],
)  # fmt: skip
def test_a_request_without_a_plan_is_told_why(client: Node, changes: dict[str, Any], code: str, part: str) -> None:
    response = caller(client, PlanMotion, "/plan_motion").call(ask(**changes))
    assert part in response.status.message
    assert response.code == getattr(PlanMotion.Response, code)
    assert response.status.code != Status.OK
    assert not response.trajectory.points


def workers_of(server: Process) -> set[int]:
    zygotes = [child for child in living_children(server.popen.pid) if _is_zygote(child)]
    return {worker.pid for zygote in zygotes for worker in living_children(zygote.pid)}


def _is_zygote(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):  # it ends while we look
        return "zygote" in " ".join(process.cmdline())
    return False


def test_the_action_reports_and_a_cancelled_goal_ends_at_once_with_its_worker(client: Node, server: Process) -> None:
    action = ActionClient(client, PlanMotionAction, "/plan_motion")
    assert action.wait_for_server(LIMIT_S)
    reported = threading.Event()
    heard: list[Any] = []

    def on_feedback(message: Any) -> None:
        heard.append(message.feedback)
        reported.set()

    before = workers_of(server)
    endless = ask(PlanMotionAction.Goal, anytime=True, time_budget_s=30.0)
    accepted = from_executor(client, lambda: action.send_goal_async(endless, on_feedback))
    assert reported.wait(LIMIT_S)
    from_executor(client, accepted.cancel_goal_async)
    ended = from_executor(client, accepted.get_result_async)
    assert ended.status == GoalStatus.STATUS_CANCELED
    assert ended.result.code == PlanMotion.Response.WITHDRAWN
    assert heard[0].iterations > 0
    wait_until("the end of its worker", lambda: not before & workers_of(server))
    again = from_executor(client, lambda: action.send_goal_async(ask(PlanMotionAction.Goal)))
    done = from_executor(client, again.get_result_async)
    assert (done.status, done.result.code) == (GoalStatus.STATUS_SUCCEEDED, PlanMotion.Response.SUCCESS)
    assert done.result.trajectory.points
    action.destroy()


@pytest.mark.alone  # beside others the quick one may be the later one
def test_the_first_of_two_replicas_wins_and_the_losers_worker_is_killed(fleet: Fleet) -> None:
    """One replica plans at once, the other would search for a minute: it is told, and its process ends."""
    embedded = "skyfog_planning.nodes.plan:PlanService"
    common = {"service": "/plan_motion", "type": TYPE, "embedded": embedded}
    quick = fleet.replica("quick", **common)
    slow = fleet.replica("slow", **common, nodes={"plan_motion": {"planner": "RRT", "workers": 1}})
    robot = fleet.robot(services={"plan_motion": {"type": TYPE, "deadline_ms": 60_000, "fan_out": 2}})
    for zone in ("quick", "slow"):  # each loads the planning libraries in two processes, all four at the same time
        robot.wait_for(f"replica={zone}/0", 2 * LIMIT_S)
    # RRT grows one tree only, and does not find into the other bin in time.
    queries = load_set("bin_to_bin")
    request = ask(
        start=joints(queries.starts[1].tolist()),
        goal_joints=joints(queries.goals[1].tolist()),
        objects=[box(f"b{i}", size, centre) for i, (size, centre) in enumerate(queries.boxes)],
        time_budget_s=50.0,
        seed=0,
    )
    with ros_node(fleet.robot_domain) as node:
        client = caller(node, PlanMotion, "/plan_motion")
        wait_until("both replicas", lambda: len(workers_of(quick)) == 1 and len(workers_of(slow)) == 1)
        losers = workers_of(slow)
        response = client.call(request, limit_s=60.0)
        assert (response.status.message, response.code) == ("", PlanMotion.Response.SUCCESS)
        assert response.planner == "RRTConnect"
        wait_until("the end of the loser's worker", lambda: not losers & workers_of(slow))
        wait_until("its slot is free again", lambda: len(workers_of(slow)) == 1)
    assert slow.popen.poll() is None
