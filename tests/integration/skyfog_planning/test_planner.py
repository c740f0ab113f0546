"""Plans for the Panda: each problem set, each kind of goal and thing, and each way to fail."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from skyfog_planning.anytime import Planner
from skyfog_planning.check import Checker, Verdict
from skyfog_planning.collision import ArmModel, Scene
from skyfog_planning.options import Options
from skyfog_planning.planners.table import planners
from skyfog_planning.problem import (
    Body,
    Box,
    Code,
    Cylinder,
    JointGoal,
    Mesh,
    PlanError,
    PoseGoal,
    Progress,
    Sphere,
    translation,
)
from skyfog_planning.problem_maker import DOWN, make_set, recipes
from skyfog_planning.problems import SETS, load_set
from skyfog_planning.robots import read_robot

pytest.importorskip("ompl", reason="ompl is not installed: ./ws extra planning")
pytest.importorskip("pyroboplan", reason="pyroboplan is not installed: ./ws extra planning")

from support.arms import LOW, LOW_BEHIND, POST, PRISON, READY, TURNED, box, named, panda_problem


def at(x: float, y: float, z: float) -> np.ndarray:
    """The tool pointing down."""
    pose = translation(x, y, z)
    pose[:3, :3] = DOWN
    return pose


def refused(by: Planner, /, **fields: Any) -> PlanError:
    with pytest.raises(PlanError) as caught:
        by.plan(panda_problem(**fields))
    return caught.value


@pytest.mark.parametrize("name", SETS)
def test_queries_of_each_set_are_solved_and_pass_the_check(planner: Planner, checker: Checker, name: str) -> None:
    queries = load_set(name)
    assert len(queries) >= 100
    for number in (0, 33, 66):
        problem = queries.problem(number, seed=number + 1, budget_s=25.0)
        plan = planner.plan(problem)
        assert checker.check(problem, plan.trajectory).problems == ()
        assert plan.path_length_rad >= np.linalg.norm(queries.goals[number] - queries.starts[number]) - 1e-6


@pytest.mark.parametrize("name", SETS)
def test_every_stored_query_begins_and_ends_free(checker: Checker, name: str) -> None:
    queries = load_set(name)
    robot = read_robot(queries.robot)
    problem = queries.problem(0, seed=1)
    for configuration in np.concatenate([queries.starts, queries.goals]):
        assert (robot.lower <= configuration).all()
        assert (configuration <= robot.upper).all()
        assert checker.touching(problem, configuration) is None


def test_a_set_is_made_again_as_it_is_stored(planner: Planner) -> None:
    made = make_set("table", recipes()["table"], planner, ArmModel(planner.robot), queries=2)
    stored = load_set("table")
    assert made.boxes == stored.boxes
    assert np.allclose(made.starts, stored.starts[:2], atol=1e-4)


def test_planner_and_checker_agree_on_what_touches(checker: Checker) -> None:
    """Two implementations, one answer: but where a hull, or a surface without an inside, makes the difference."""
    rng = np.random.default_rng(7)
    robot = read_robot("panda")
    arm = ArmModel(robot)
    for name in ("table", "narrow_bins"):
        problem = load_set(name).problem(0, seed=1)
        scene = Scene(arm, problem, "hulls")
        drawn = rng.uniform(robot.lower, robot.upper, (300, 7))
        free = np.array([scene.valid(q) for q in drawn])
        found = np.array([checker.touching(problem, q) is None for q in drawn])
        assert 30 < free.sum() < 270
        assert (free == found).mean() > 0.99
        assert [bool(scene.touching(q)) for q in drawn] == [not one for one in free]


def test_the_same_seed_gives_the_same_plan_and_another_seed_another(planner: Planner) -> None:
    problem = load_set("shelf").problem(5, seed=11, budget_s=30.0)
    first, again, other = (planner.plan(one) for one in (problem, problem, replace(problem, seed=12)))
    assert np.array_equal(first.trajectory.positions, again.trajectory.positions)
    assert np.array_equal(first.trajectory.times, again.trajectory.times)
    assert first.iterations == again.iterations
    assert first.iterations != other.iterations


def test_a_pose_goal_is_reached_with_the_tool(planner: Planner, checker: Checker) -> None:
    problem = panda_problem(goal=PoseGoal(at(0.5, 0.2, 0.3)), bodies=(POST,))
    plan = planner.plan(problem)
    reached = checker.tool_pose(problem, plan.trajectory.positions[-1])
    assert np.linalg.norm(reached[:3, 3] - [0.5, 0.2, 0.3]) <= 0.001
    assert plan.stages.ik_ms > 0


def test_another_link_may_be_meant(planner: Planner, checker: Checker) -> None:
    problem = panda_problem(goal=PoseGoal(at(0.5, 0.0, 0.4), link="panda_hand"))
    plan = planner.plan(problem)
    assert checker.tool_pose(problem, plan.trajectory.positions[-1])[2, 3] == pytest.approx(0.4 - 0.1034, abs=0.002)


def test_a_straight_line_of_the_tool_stays_straight(planner: Planner, checker: Checker) -> None:
    problem = panda_problem(goal=PoseGoal(at(0.45, 0.0, 0.3)))
    above = planner.plan(problem).trajectory.positions[-1]
    line = panda_problem(above.tolist(), goal=PoseGoal(at(0.45, 0.0, 0.1)), cartesian=True)
    plan = planner.plan(line)
    places = np.array([checker.tool_pose(line, q)[:3, 3] for q in plan.trajectory.positions])
    assert np.abs(places[:, :2] - [0.45, 0.0]).max() < 0.003
    assert (places[0, 2], places[-1, 2]) == (pytest.approx(0.3, abs=0.002), pytest.approx(0.1, abs=0.002))
    blocked = replace(line, bodies=(box("lid", (0.3, 0.3, 0.02), 0.45, 0.0, 0.2),))
    with pytest.raises(PlanError, match=r"the straight line ends after 0\.0\d+ of 0\.2\d+ m: .* with lid") as caught:
        planner.plan(blocked)
    assert caught.value.code is Code.CARTESIAN_BLOCKED


WALL = (0.02, 0.6, 1.2)
SHAPES: dict[str, tuple[Any, np.ndarray]] = {
    "box": (Box((0.05, 0.05, 1.0)), translation(0.25, 0.17, 0.5)),
    "cylinder": (Cylinder(1.0, 0.025), translation(0.25, 0.17, 0.5)),
    "sphere": (Sphere(0.05), translation(0.25, 0.17, 0.55)),
    "mesh": (
        Mesh(
            np.array([(x, y, z) for x in (-0.02, 0.02) for y in (-0.02, 0.02) for z in (0.0, 1.0)], float),
            np.array(
                [(0, 1, 2), (1, 2, 3), (4, 5, 6), (5, 6, 7), (0, 4, 1), (1, 4, 5), (2, 3, 6), (3, 6, 7)], np.int32
            ),
        ),
        translation(0.25, 0.17, 0.0),
    ),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_every_shape_is_gone_around(planner: Planner, checker: Checker, kind: str) -> None:
    straight = planner.plan(panda_problem())
    problem = panda_problem(bodies=(Body("thing", (SHAPES[kind],)),))
    assert "touches thing" in checker.check(problem, straight.trajectory).problems[0]
    assert planner.plan(problem).path_length_rad > straight.path_length_rad + 0.01


def test_a_point_cloud_is_gone_around(planner: Planner, checker: Checker) -> None:
    heights = np.linspace(0.2, 1.0, 40)
    post = np.stack([np.full(40, 0.25), np.full(40, 0.17), heights], axis=1)
    problem = panda_problem(cloud=post, cloud_resolution_m=0.03)
    straight = planner.plan(panda_problem())
    assert "touches cloud" in checker.check(problem, straight.trajectory).problems[0]
    assert planner.plan(problem).path_length_rad > straight.path_length_rad


def test_what_the_tool_carries_needs_room_too(planner: Planner) -> None:
    pole = Body("pole", ((Box((0.02, 0.02, 0.6)), translation(0.0, 0.0, 0.25)),))
    table = box("table", (1.0, 2.0, 0.02), 0.6, 0.0, 0.1)
    assert planner.plan(panda_problem(bodies=(table,))).path_length_rad == pytest.approx(1.2)
    error = refused(planner, bodies=(table,), attached=(pole,))
    assert (error.code, "pole with table" in str(error)) == (Code.START_IN_COLLISION, True)


def test_an_allowed_object_may_be_touched_by_the_tool_only(planner: Planner) -> None:
    cube = box("cube", (0.05, 0.05, 0.05), 0.307, 0.0, 0.49)  # between the fingers at READY
    assert "panda_leftfinger" not in str(refused(planner, bodies=(box("arm", (0.2, 0.2, 0.2), -0.2, 0.0, 0.6),)))
    wide = box("cube", (0.05, 0.1, 0.05), 0.307, 0.0, 0.49)
    assert refused(planner, bodies=(wide,)).code is Code.START_IN_COLLISION
    planner.plan(panda_problem(bodies=(wide,), allowed=frozenset({"cube"})))
    planner.plan(panda_problem(bodies=(cube,), allowed=frozenset({"cube"})))


@pytest.mark.parametrize(
    ("fields", "code", "part"),
    [
        ({"begin": [0.0, 3.0, *READY[2:]]}, Code.START_OUTSIDE_LIMITS, "panda_joint2 is 3.0000"),
        ({"end": [0.0, 3.0, *READY[2:]]}, Code.GOAL_OUTSIDE_LIMITS, "panda_joint2 is 3.0000"),
        ({"begin": [0, 0, 0, -3.0, 0, 0.0, 0]}, Code.START_IN_COLLISION, "panda_link5 with panda_hand"),
        ({"bodies": (box("b", (0.2, 0.2, 0.2), 0.3, 0, 0.6),)}, Code.START_IN_COLLISION, "panda_hand with b"),
        ({"bodies": (box("b", (0.2, 0.2, 0.2), 0.111, 0.286, 0.6),)}, Code.GOAL_IN_COLLISION, "panda_hand with b"),
        ({"goal": PoseGoal(at(2, 0, 0.5))}, Code.GOAL_UNREACHABLE, "no joint positions put panda_tcp at (2.000"),
        ({"goal": PoseGoal(at(0.5, 0, 0.3)), "bodies": (box("b", (0.1, 0.1, 0.1), 0.5, 0, 0.3),)},
         Code.GOAL_IN_COLLISION, "IK solutions, all blocked"),
        ({"goal": PoseGoal(at(0.5, 0, 0.3), link="panda_hnad")}, Code.INVALID, "no link 'panda_hnad'"),
        ({"begin": LOW, "end": LOW_BEHIND, "bodies": PRISON, "budget_s": 0.5}, Code.NO_PLAN_IN_TIME, "within 0.5 s"),
        ({"planner": "RRTConect"}, Code.INVALID, "did you mean 'RRTConnect'"),
        ({"robot": "panda", "start": {"panda_joint1": 0.0}}, Code.INVALID, "no position for panda_joint2"),
    ],
)  # fmt: skip
def test_each_kind_of_failure_has_its_own_error(
    planner: Planner, fields: dict[str, Any], code: Code, part: str
) -> None:
    error = refused(planner, **fields)
    assert (error.code, part in str(error)) == (code, True), str(error)


def test_a_plan_that_fails_the_check_is_never_returned(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def always_wrong(_self: Checker, _problem: Any, trajectory: Any) -> Verdict:
        seen.append(trajectory)
        return Verdict(("hand touches wall at 0.50 of the way",), 0.0)

    monkeypatch.setattr(Checker, "check", always_wrong)
    error = refused(planner, budget_s=3.0)
    assert error.code is Code.NO_PLAN_IN_TIME
    assert "its check failed: hand touches wall" in str(error)
    assert len(seen) > 3  # it did try again: an attempt is timed in three ways


def test_the_checker_finds_a_wall_that_the_planner_did_not_know(planner: Planner, checker: Checker) -> None:
    problem = panda_problem()
    trajectory = planner.plan(problem).trajectory
    assert checker.check(problem, trajectory).passed
    wall = box("wall", (0.3, 0.005, 1.0), 0.25, 0.12, 0.5, yaw=0.4)
    verdict = checker.check(replace(problem, bodies=(wall,)), trajectory)
    assert "touches wall" in verdict.problems[0]


def test_more_time_gives_a_shorter_plan_and_is_reported(planner: Planner) -> None:
    heard: list[Progress] = []
    problem = load_set("shelf").problem(3, seed=4, budget_s=30.0)
    first = planner.plan(problem)
    more_s = max(1.5, 10 * first.stages.total_ms / 1e3)
    best = planner.plan(replace(problem, anytime=True, budget_s=more_s), heard.append)
    assert best.path_length_rad < first.path_length_rad
    assert heard
    assert heard[-1].best_path_length_rad <= heard[0].best_path_length_rad
    assert heard[-1].iterations > heard[0].iterations
    straight = float(np.linalg.norm(np.subtract(list(problem.goal.positions.values()), list(problem.start.values()))))
    good = planner.plan(replace(problem, quality=1.3 * best.path_length_rad / straight, budget_s=20.0))
    assert good.path_length_rad <= 1.3 * best.path_length_rad + 1e-6


@pytest.mark.parametrize("name", ["BITstar", "LBKPIECE1", "AORRTC", "PRM"])
def test_planners_are_chosen_by_name(planner: Planner, name: str) -> None:
    plan = planner.plan(panda_problem(bodies=(POST,), planner=name))
    assert plan.planner == name
    assert name in planners()


def test_spheres_may_be_planned_with_and_the_meshes_still_decide(checker: Checker) -> None:
    planner = Planner(read_robot("panda"), Options(geometry="spheres"))
    problem = panda_problem(bodies=(POST,))
    assert checker.check(problem, planner.plan(problem).trajectory).passed


def test_start_and_goal_may_be_one(planner: Planner) -> None:
    plan = planner.plan(panda_problem(end=READY))
    assert plan.path_length_rad == 0.0
    assert plan.trajectory.times[-1] > 0


def test_slower_is_slower(planner: Planner) -> None:
    fast, slow = (planner.plan(panda_problem(velocity_scaling=share)) for share in (1.0, 0.25))
    assert slow.trajectory.times[-1] > 2.5 * fast.trajectory.times[-1]


def test_an_empty_scene_has_no_smallest_distance(planner: Planner) -> None:
    assert planner.plan(panda_problem()).min_clearance_m == math.inf
    assert planner.plan(panda_problem(end=TURNED, goal=JointGoal(named(TURNED)))).min_clearance_m == math.inf
