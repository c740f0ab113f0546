"""The order in which things are done: scan, then each object from the table into the bin, then scan again. Pure.

    SCAN --last view--> PICK --nothing left to try--> SCAN (a new round, which also verifies) --nothing seen--> Finish
                         |  open, above, down, close, up, over the bin, open
                         |  a step fails before the object is held: its next grasp, else the next object
                         |  it slipped, or the bin cannot be reached: open where it is, and try in the next round

Every method returns the one step to perform next. Whoever performs it reports what became of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from skyfog_core.poses import Pose
from skyfog_planning.picking.grasp import Grasp, GripperLimits, downward, grasps, raised
from skyfog_planning.picking.locate import Limits, Located, Points, Region, find_objects

Clouds = Sequence[tuple[str, Points]]


@dataclass(frozen=True, slots=True)
class Look:
    """Move to a view and return the segmented points seen from there."""

    view: int


@dataclass(frozen=True, slots=True)
class Reach:
    """Move the tool. `straight`: along a line, else as the planner likes.

    `held` is in the gripper; of the other objects on the table only `touched` may be in the fingers' way.
    """

    base_from_tool: Pose
    straight: bool
    held: Located | None
    touched: Located | None
    what: str


@dataclass(frozen=True, slots=True)
class Grip:
    """Open or close the fingers to `opening_m` between them, and report the opening that was reached."""

    opening_m: float
    what: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing is left to do."""

    outcome: Outcome


Step = Look | Reach | Grip | Finish


@dataclass(slots=True)
class Outcome:
    """What became of it."""

    placed: list[str] = field(default_factory=list)  # class names, in order
    failures: list[str] = field(default_factory=list)  # "cube: approach: …"
    rounds: int = 0
    left: int = 0  # objects seen in the last scan that are still there
    why: str = ""  # why it ended early; empty where nothing was left


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done, and with what."""

    views: int
    region: Region
    limits: Limits
    gripper: GripperLimits
    class_names: tuple[str, ...]  # empty: all
    bin_centre: tuple[float, float, float]  # where the tool opens above the bin
    bin_spread_m: float  # objects are let go this far from the centre, in turn
    lift_m: float
    max_rounds: int
    deadline_ns: int


SPOTS = ((0.0, 0.0), (1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0))
HELD_SHARE = 0.5  # of the object's width must stay between the closed fingers


class PickPlace:
    """The policy of one goal."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.outcome = Outcome()
        self.target: Located | None = None
        self.objects: list[Located] = []  # on the table, as of the last scan, less what was taken
        self._clouds: list[tuple[str, Points]] = []
        self._todo: deque[Located] = deque()
        self._grasps: deque[Grasp] = deque()
        self._steps: deque[Step] = deque()
        self._last: Step | None = None
        self._views_taken = 0  # in this round
        self._placed_since_scan = False

    def start(self, now_ns: int) -> Step:
        """The first step."""
        return self._scan(now_ns)

    def on_looked(self, clouds: Clouds, now_ns: int) -> Step:
        """What was seen from the view of the last Look."""
        assert isinstance(self._last, Look)
        self._clouds += clouds
        self._views_taken += 1
        return self._next(now_ns)

    def on_done(self, opening_m: float, now_ns: int) -> Step:
        """The last Reach arrived, with this opening between the fingers."""
        assert isinstance(self._last, Reach)
        if self._last.held is not None and not self._holds(opening_m):
            return self._give_up(self._last.what, "lost on the way", now_ns)
        return self._next(now_ns)

    def on_gripped(self, opening_m: float, now_ns: int) -> Step:
        """The last Grip ended with this opening."""
        assert isinstance(self._last, Grip)
        if self._last.what == "close":
            assert self.target is not None
            if not self._holds(opening_m):
                return self._give_up("close", f"{opening_m * 1e3:.0f} mm between the fingers: not held", now_ns)
        elif self._last.what == "release" and self.target is not None:
            self.outcome.placed.append(self.target.class_name)
            self._placed_since_scan = True
            self._forget_target()
        return self._next(now_ns)

    def on_failed(self, why: str, now_ns: int) -> Step:
        """The last step could not be done."""
        last = self._last
        if isinstance(last, Look):
            self.outcome.failures.append(f"view {last.view}: {why}")
            return self._next(now_ns)
        what = last.what if isinstance(last, Reach | Grip) else "step"
        if self.target is None:  # on the way back from an object that was given up
            self.outcome.failures.append(f"{what}: {why}")
            return self._next(now_ns)
        return self._give_up(what, why, now_ns)

    def on_cancel(self) -> Step:
        """No further step is wanted."""
        return self._finish("cancelled")

    def _holds(self, opening_m: float) -> bool:
        return opening_m >= HELD_SHARE * self._grasps[0].width

    def _next(self, now_ns: int) -> Step:
        if self._steps:
            return self._take(self._steps.popleft())
        if isinstance(self._last, Look):
            return self._scanned(now_ns)
        return self._pick(now_ns)

    def _scan(self, now_ns: int) -> Step:
        if now_ns >= self.task.deadline_ns:
            return self._finish("out of time")
        self._clouds, self._views_taken, self._placed_since_scan = [], 0, False
        self.outcome.rounds += 1
        self._steps = deque(Look(view) for view in range(self.task.views))
        return self._take(self._steps.popleft())

    def _scanned(self, now_ns: int) -> Step:
        if not self._views_taken:
            return self._finish("no view could be taken")
        wanted = self.task.class_names
        self.objects = find_objects(self._clouds, self.task.region, self.task.limits)
        self._todo = deque(one for one in self.objects if not wanted or one.class_name in wanted)
        self.outcome.left = len(self._todo)
        return self._pick(now_ns)

    def _pick(self, now_ns: int) -> Step:
        """The next object of this round, else a new round, else the end."""
        if now_ns >= self.task.deadline_ns:
            return self._finish("out of time")
        while self._todo:
            self.target = self._todo.popleft()
            self._grasps = deque(grasps(self.target, self.task.gripper))
            if self._grasps:
                return self._begin_grasp(now_ns)
            self._note("grasp", f"{self.target.width * 1e3:.0f} mm is too wide for the gripper")
            self.target = None
        left, rounds = self.outcome.left, self.outcome.rounds
        if rounds < self.task.max_rounds and (left or self._placed_since_scan):
            return self._scan(now_ns)
        return self._finish(f"objects are left after {rounds} rounds" if left else "")

    def _begin_grasp(self, now_ns: int) -> Step:
        assert self.target is not None
        pose, lift = self._grasps[0].base_from_tool, self.task.lift_m
        held, opening = self.target, self.task.gripper.max_opening
        over = self._over_bin()
        self._steps = deque(
            [
                Grip(opening, "open"),
                Reach(raised(pose, lift), straight=False, held=None, touched=None, what="approach"),
                Reach(pose, straight=True, held=None, touched=held, what="descend"),
                Grip(0.0, "close"),
                Reach(raised(pose, lift), straight=True, held=held, touched=held, what="lift"),
                Reach(over, straight=False, held=held, touched=None, what="carry"),
                Grip(opening, "release"),
            ]
        )
        return self._next(now_ns)

    def _over_bin(self) -> Pose:
        x, y, z = self.task.bin_centre
        dx, dy = SPOTS[len(self.outcome.placed) % len(SPOTS)]
        spread = self.task.bin_spread_m
        return downward(x + dx * spread, y + dy * spread, z, 0.0)

    def _give_up(self, what: str, why: str, now_ns: int) -> Step:
        """The grasp failed. Not held yet: the next grasp; else, and after the last one, leave this object."""
        self._note(what, why)
        self._steps.clear()
        pose = self._grasps[0].base_from_tool
        self._grasps.popleft()
        if what in ("approach", "open") and self._grasps:
            return self._begin_grasp(now_ns)
        if what in ("descend", "close", "lift", "carry"):
            self._steps = deque([Grip(self.task.gripper.max_opening, "let go")])
            if what != "carry":
                up = raised(pose, self.task.lift_m)
                self._steps.append(Reach(up, straight=True, held=None, touched=self.target, what="retreat"))
        self._forget_target(keep=True)
        return self._next(now_ns)

    def _forget_target(self, keep: bool = False) -> None:
        if self.target is not None and not keep:
            self.objects = [one for one in self.objects if one is not self.target]
            self.outcome.left -= 1
        self.target = None

    def _note(self, what: str, why: str) -> None:
        assert self.target is not None
        self.outcome.failures.append(f"{self.target.class_name}: {what}: {why}")

    def _finish(self, why: str) -> Step:
        self.outcome.why = why
        return self._take(Finish(self.outcome))

    def _take(self, step: Step) -> Step:
        self._last = step
        return step
