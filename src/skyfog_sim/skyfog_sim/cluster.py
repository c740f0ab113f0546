"""Many robots, many replicas, and the links between: one scenario from its first call to its last event."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from skyfog_core.config.router import RoutingConfig
from skyfog_core.rng import stream
from skyfog_core.units import MS
from skyfog_core.wire.keys import ReplicaKey
from skyfog_router.policy.admission import Admission
from skyfog_router.policy.router import Router
from skyfog_sim.check import Broken, Check
from skyfog_sim.history import History
from skyfog_sim.inject import Injector
from skyfog_sim.kernel import Kernel, NotOver
from skyfog_sim.net import Link, Session
from skyfog_sim.replica import Mood, Process, ReplicaModel
from skyfog_sim.robot import Robot, RobotModel
from skyfog_sim.scenario import Scenario

MAX_CALLS = 50_000  # of the kernel, in one history

LOOK_NS = 5 * MS  # between looks whether a process that is to end has finished its work

MakeRouter = Callable[[RoutingConfig, RobotModel, int], Router]
MakeAdmission = Callable[[ReplicaModel], Admission]


def production_router(config: RoutingConfig, model: RobotModel, seed: int) -> Router:
    """The router as a robot's proxy makes it."""
    return Router(config, model.zone, seed)


class Cluster:
    """Plays one scenario. Other policies than production's are for tests of the invariants."""

    def __init__(
        self,
        scenario: Scenario,
        make_router: MakeRouter = production_router,
        make_admission: MakeAdmission = ReplicaModel.admission,
    ) -> None:
        self.scenario = scenario
        self.kernel, self.history = Kernel(), History()
        self.check = Check(self.kernel, self.history, all_must_succeed=scenario.safe is not None)
        self.random = stream(scenario.seed, "cluster")
        self.faults_met: set[str] = set()
        self.processes: list[Process] = []
        self.moods = {model.who: Mood() for model in scenario.replicas}
        self.links = {key: Link.of(model) for key, model in scenario.links.items()}  # by robot and replica
        self._make_admission = make_admission
        self._current: dict[ReplicaKey, Process] = {}
        self._sessions: dict[tuple[str, ReplicaKey], Session] = {}
        self.robots = [
            Robot(
                self.kernel,
                model,
                number,
                scenario.routing,
                make_router(scenario.routing, model, scenario.seed),
                partial(self._find, model.name),
                self.check,
            )
            for number, model in enumerate(scenario.robots)
        ]

    def run(self) -> None:
        """To the last event. Raises Broken."""
        for model in self.scenario.replicas:
            self.start(model)
        for at_ns, robot in self.scenario.calls:
            self.kernel.at(at_ns, self.robots[robot].call)
        injector = Injector(self)
        for fault in self.scenario.faults:
            self.kernel.at(fault.at_ns, partial(injector.begin, fault))
        try:
            self.kernel.run(limit=MAX_CALLS, after_each=self.check.event_over)
        except NotOver as error:
            raise Broken("leak", str(error)) from None
        except AssertionError as error:
            raise Broken("books", str(error)) from error
        self.check.at_end(self.robots, self.processes)

    # for the injector

    def start(self, model: ReplicaModel) -> None:
        """A new process of a replica."""
        boot = len(self.processes) + 1
        desk = self._make_admission(model)
        process = Process(self.kernel, self.random, model, self.moods[model.who], desk, boot, self.check)
        process.on_memory_gone = partial(self._out_of_memory, process)
        self.processes.append(process)
        self._current[model.who] = process
        for robot in self.robots:
            link = self.links.get((robot.name, model.who))
            if link is not None:
                session = Session(self.kernel, self.random, link, robot, process, self.scenario.lease_ns)
                self._sessions[robot.name, model.who] = session
                session.announce()

    def process(self, target: int) -> Process | None:
        """What runs now as the replica of that number."""
        process = self._current[self.scenario.replicas[target].who]
        return None if process.killed else process

    def end(self, process: Process) -> None:
        """SIGKILL."""
        process.kill()
        self.look(process)

    def look(self, process: Process) -> None:
        """It was killed, frozen or thawed: its sessions take notice."""
        for session in self._sessions_of(process):
            session.look()

    def drain(self, process: Process, draining: bool) -> None:
        process.drain(draining)
        self._announce(process)

    def terminate(self, process: Process, limit_ns: int) -> None:
        """SIGTERM: it ends once nothing is left to do, or after `limit_ns`."""
        process.terminate()
        self._announce(process)
        until_ns = self.kernel.now_ns + limit_ns

        def look() -> None:
            if process.killed:
                return
            if process.desk.is_idle or self.kernel.now_ns >= until_ns:
                process.end()
                self.kernel.after(0, partial(self.end, process))
            else:
                self.kernel.after(LOOK_NS, partial(process.do, look))

        look()

    def _announce(self, process: Process) -> None:
        for session in self._sessions_of(process):
            session.announce()

    def _out_of_memory(self, process: Process) -> None:
        if not process.killed:
            self.history.note(self.kernel.now_ns, "no memory", replica=process.name)
            self.end(process)
            self.kernel.after(self.scenario.restart_ns, partial(self.start, process.model))

    def _find(self, robot: str, who: ReplicaKey) -> tuple[Session, Process] | None:
        session = self._sessions.get((robot, who))
        return (session, self._current[who]) if session else None

    def _sessions_of(self, process: Process) -> Iterator[Session]:
        if self._current[process.who] is process:
            yield from (s for r in self.robots if (s := self._sessions.get((r.name, process.who))) is not None)
