"""A fleet at full size: a thousand robots, a hundred replicas, replicas that come and go ten times a second.

The same robots, processes and sessions as in a scenario, but for two savings: a session is made when it is first
used, and tokens reach all robots of a zone at once. Books are balanced at the end instead of after every event.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from skyfog_core.clock import Clock
from skyfog_core.config.router import RoutingConfig
from skyfog_core.rng import stream
from skyfog_core.units import MS, S
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.membership import Announcement
from skyfog_router.policy.router import Router
from skyfog_sim.check import Check
from skyfog_sim.cluster import MakeRouter, production_router
from skyfog_sim.durations import Duration, LogNormal, Uniform
from skyfog_sim.history import History
from skyfog_sim.kernel import Kernel
from skyfog_sim.net import Link, LinkModel, Session, WayModel
from skyfog_sim.replica import Mood, Process, ReplicaModel
from skyfog_sim.robot import Robot, RobotModel

LEASE_NS = 10 * S
AWAY_NS = 2 * S  # between the end of a process and the next one
NEAR = Uniform(1 * MS, 3 * MS)
FAR = Uniform(10 * MS, 30 * MS)
SERVICE = LogNormal(20 * MS, 0.5, most_ns=2 * S)
EVENTS = ("on_call", "on_reply", "on_error", "on_ended", "on_join", "on_leave", "on_timer")


@dataclass(frozen=True)
class ScaleModel:
    """How large, how busy, and how restless."""

    robots: int = 1_000
    replicas: int = 100
    zones: int = 10
    seconds: float = 10.0
    calls_per_s: float = 1.0  # of each robot
    churn_per_s: float = 10.0  # processes that end; each is replaced
    near: Duration = NEAR  # one way, within a zone
    far: Duration = FAR
    service: Duration = SERVICE
    concurrency: int = 32
    routing: RoutingConfig = field(default_factory=RoutingConfig)


class Quiet(History):
    """Keeps nothing."""

    def note(self, *_: Any, **__: Any) -> None:
        pass


class Unhurried(Check):
    """Looks at outcomes as they come, and at the policies' own books only at the end."""

    def policy(self, policy: Any) -> None:
        self._just_over.clear()


class Metered:
    """A router that measures how long each of its events takes, by a clock of the outside world."""

    def __init__(self, router: Router, clock: Clock) -> None:
        self._router, self._clock = router, clock
        self.spent_ns: Counter[str] = Counter()
        self.events: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._router, name)
        return partial(self._timed, name, found) if name in EVENTS else found

    def _timed(self, name: str, event: Any, *given: Any, **named: Any) -> Any:
        began_ns = self._clock.now_ns()
        actions = event(*given, **named)
        self.spent_ns[name] += self._clock.now_ns() - began_ns
        self.events[name] += 1
        return actions


class BigFleet:
    """Plays a ScaleModel."""

    def __init__(self, model: ScaleModel, seed: int = 0, make_router: MakeRouter = production_router) -> None:
        self.model, self.kernel, self.random = model, Kernel(), stream(seed, "scale")
        self.check = Unhurried(self.kernel, Quiet())
        self.processes: list[Process] = []
        self.churned = 0
        self._current: dict[ReplicaKey, Process] = {}
        self._told_ns: dict[tuple[ReplicaKey, int], int] = {}  # when the last news of a replica came to a zone
        self._sessions: dict[tuple[str, ReplicaKey], tuple[Session, Process]] = {}
        self._of_process: dict[int, list[Session]] = {}  # by boot
        self.replicas = [
            ReplicaModel(ReplicaKey(f"zone{i % model.zones}", f"{i:03}"), model.service, model.concurrency, 64)
            for i in range(model.replicas)
        ]
        self.robots = []
        for number in range(model.robots):
            told = RobotModel(f"robot{number}", f"zone{number % model.zones}")
            router = make_router(model.routing, told, seed)
            find = partial(self._find, told)
            self.robots.append(Robot(self.kernel, told, number, model.routing, router, find, self.check))

    def run(self) -> None:
        """To the last event. Raises Broken."""
        model, random = self.model, self.random
        end_ns = round(model.seconds * S)
        for replica in self.replicas:
            self._start(replica)
        for robot in self.robots:
            self.kernel.at(
                100 * MS + round(random.random() * S / model.calls_per_s), partial(self._calls, robot, end_ns)
            )
        if model.churn_per_s:
            self.kernel.at(200 * MS, partial(self._churn, end_ns))
        self.kernel.run(limit=1_000_000_000, after_each=self.check.event_over)
        for robot in self.robots:
            robot.router.check()
        for process in self.processes:
            process.desk.check()
        self.check.at_end(self.robots, self.processes)

    def _calls(self, robot: Robot, end_ns: int) -> None:
        robot.call()
        wait_ns = round(self.random.expovariate(self.model.calls_per_s) * S)
        if self.kernel.now_ns + wait_ns < end_ns:
            self.kernel.after(wait_ns, partial(self._calls, robot, end_ns))

    def _churn(self, end_ns: int) -> None:
        """One process drains and ends, or is killed; another comes."""
        process = self._current[self.random.choice(self.replicas).who]
        if not process.killed and not process.draining:
            self.churned += 1
            said = process.announced
            assert said is not None
            if self.random.random() < 0.5:
                self._tell(process.who, said, joined=False)
                process.draining = True
                self.kernel.after(AWAY_NS, partial(self._end, process))
            else:
                self._tell(process.who, said, joined=False)
                self._end(process)
        if self.kernel.now_ns < end_ns:
            self.kernel.after(round(self.random.expovariate(self.model.churn_per_s) * S), partial(self._churn, end_ns))

    def _end(self, process: Process) -> None:
        process.kill()
        for session in self._of_process.pop(process.boot, []):
            session.look()
        self.kernel.after(AWAY_NS, partial(self._start, process.model))

    def _start(self, model: ReplicaModel) -> None:
        boot = len(self.processes) + 1
        process = Process(self.kernel, self.random, model, Mood(), model.admission(), boot, self.check)
        self.processes.append(process)
        self._current[model.who] = process
        said = process.announced
        assert said is not None
        self._tell(model.who, said, joined=True)

    def _tell(self, who: ReplicaKey, said: Announcement, joined: bool) -> None:
        """Every robot sees the token come or go, those of one zone at once, and never its going before its coming."""
        for zone in range(self.model.zones):
            robots = self.robots[zone :: self.model.zones]
            delay = self.model.near if who.zone == f"zone{zone}" else self.model.far

            def arrive(robots: list[Robot] = robots) -> None:
                for robot in robots:
                    (robot.on_join if joined else robot.on_leave)(who, said)

            at_ns = max(self.kernel.now_ns + delay.draw(self.random), self._told_ns.get((who, zone), 0))
            self._told_ns[who, zone] = at_ns
            self.kernel.at(at_ns, arrive)

    def _find(self, robot: RobotModel, who: ReplicaKey) -> tuple[Session, Process] | None:
        process = self._current[who]
        found = self._sessions.get((robot.name, who))
        if found is None or found[1] is not process:
            way = WayModel(self.model.near if robot.zone == who.zone else self.model.far)
            number = int(robot.name.removeprefix("robot"))
            link = Link.of(LinkModel(way, way))
            found = Session(self.kernel, self.random, link, self.robots[number], process, LEASE_NS), process
            self._sessions[robot.name, who] = found
            self._of_process.setdefault(process.boot, []).append(found[0])
        return found
