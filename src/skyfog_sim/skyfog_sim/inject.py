"""Performs faults on a cluster, and undoes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from skyfog_core.units import MS
from skyfog_core.wire.envelope import VERSION, Header
from skyfog_core.wire.keys import ReplicaKey
from skyfog_sim.faults import OF_ROBOTS, Fault, FaultKind
from skyfog_sim.net import Link
from skyfog_sim.replica import TYPE_HASH, Mood, Reply

if TYPE_CHECKING:
    from skyfog_sim.cluster import Cluster

STRANGER = "stranger"  # a robot that is not simulated

Undo = Callable[[], None]


class Injector:
    """`begin` performs a fault if it means anything just now; it is undone after its time."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self._scenario, self._kernel = cluster, cluster.scenario, cluster.kernel
        self._strangers = 0
        self._of_kind: dict[FaultKind, Callable[[Fault], Undo | None]] = {
            "kill": self._kill,
            "freeze": self._freeze,
            "slow": self._slow,
            "overload": self._overload,
            "garbage": self._in_mood("garbage"),
            "failing": self._in_mood("failing"),
            "declining": self._in_mood("declining"),
            "drain": self._drain,
            "terminate": self._terminate,
            "leak": self._leak,
            "partition": partial(self._cut, there=1, back=1),
            "offline": partial(self._cut, there=1, back=1),
            "deaf": partial(self._cut, there=1, back=0),
            "mute": partial(self._cut, there=0, back=1),
            "delay": self._delay,
            "loss": self._loss,
            "reconfigure": self._reconfigure,
            "stop": self._stop,
        }

    def begin(self, fault: Fault) -> None:
        undo = self._of_kind[fault.kind](fault)
        if undo is None:
            return
        self._cluster.faults_met.add(fault.kind)
        self._note("FAULT", fault)
        self._kernel.after(fault.for_ns, partial(self._end, fault, undo))

    def _end(self, fault: Fault, undo: Undo) -> None:
        if undo is not _nothing:
            self._note("healed", fault)
            undo()

    def _note(self, event: str, fault: Fault) -> None:
        scenario, of_robot = self._scenario, fault.kind in OF_ROBOTS
        robot = scenario.robots[fault.target].name if of_robot else ""
        replica = "" if of_robot else scenario.replicas[fault.target].who
        self._cluster.history.note(self._kernel.now_ns, event, robot, replica=replica, detail=str(fault))

    # of processes

    def _kill(self, fault: Fault) -> Undo | None:
        process = self._cluster.process(fault.target)
        if process is None:
            return None
        self._cluster.end(process)
        return partial(self._cluster.start, process.model)

    def _freeze(self, fault: Fault) -> Undo | None:
        process = self._cluster.process(fault.target)
        if process is None or process.frozen:
            return None
        process.frozen = True
        self._cluster.look(process)

        def thaw() -> None:
            if not process.killed:
                process.thaw()
                self._cluster.look(process)

        return thaw

    def _overload(self, fault: Fault) -> Undo | None:
        process = self._cluster.process(fault.target)
        if process is None:
            return None
        for _ in range(int(fault.amount)):
            self._strangers += 1
            request_id = b"\xff" * 8 + self._strangers.to_bytes(8, "big")
            header = Header(VERSION, request_id, 0, self._scenario.routing.deadline_ms, TYPE_HASH, robot=STRANGER)
            process.do(partial(process.on_query, header, _Stranger()))
        return _nothing

    def _drain(self, fault: Fault) -> Undo | None:
        process = self._cluster.process(fault.target)
        if process is None or process.draining:
            return None
        process.do(partial(self._cluster.drain, process, True))
        return partial(process.do, partial(self._cluster.drain, process, False))

    def _terminate(self, fault: Fault) -> Undo | None:
        process = self._cluster.process(fault.target)
        if process is None:
            return None
        process.do(partial(self._cluster.terminate, process, round(fault.amount * MS)))

        def start() -> None:
            if process.killed:
                self._cluster.start(process.model)
            else:  # it is not done yet, or frozen
                self._kernel.after(fault.for_ns, start)

        return start

    def _leak(self, fault: Fault) -> Undo | None:
        process = self._cluster.process(fault.target)
        if process is None or process.leak is not None:
            return None
        process.begin_leak(int(fault.amount))
        return _nothing

    # of the service

    def _mood(self, fault: Fault) -> Mood:
        return self._cluster.moods[self._scenario.replicas[fault.target].who]

    def _slow(self, fault: Fault) -> Undo:
        mood = self._mood(fault)
        mood.slowness *= fault.amount

        def undo() -> None:
            mood.slowness /= fault.amount

        return undo

    def _in_mood(self, name: str) -> Callable[[Fault], Undo]:
        def begin(fault: Fault) -> Undo:
            mood = self._mood(fault)
            setattr(mood, name, True)
            return partial(setattr, mood, name, False)

        return begin

    # of links

    def _struck(self, fault: Fault) -> Iterator[Link]:
        """The links of a replica, a zone, or a robot; never those on the robot itself, nor of who is to stay safe."""
        model = self._scenario.replicas[fault.target] if fault.kind not in OF_ROBOTS else None
        robot = self._scenario.robots[fault.target].name if model is None else ""
        spared = {r.who for r in self._scenario.replicas if r.owner or r.who == self._scenario.safe}

        def hit(name: str, who: ReplicaKey) -> bool:
            if who in spared:
                return False
            if model is None:
                return name == robot
            return who == model.who or (fault.zone and who.zone == model.who.zone)

        return (link for (name, who), link in self._cluster.links.items() if hit(name, who))

    def _cut(self, fault: Fault, there: int, back: int) -> Undo:
        links = list(self._struck(fault))

        def change(sign: int) -> None:
            for link in links:
                link.there.cuts += sign * there
                link.back.cuts += sign * back
                link.change()

        change(1)
        return partial(change, -1)

    def _delay(self, fault: Fault) -> Undo:
        return self._worsen(fault, late_ns=round(fault.amount * MS))

    def _loss(self, fault: Fault) -> Undo:
        return self._worsen(fault, loss=fault.amount)

    def _worsen(self, fault: Fault, late_ns: int = 0, loss: float = 0.0) -> Undo:
        ways = [way for link in self._struck(fault) for way in (link.there, link.back)]
        for way in ways:
            way.late_ns += late_ns
            way.losses.append(loss)

        def undo() -> None:
            for way in ways:
                way.late_ns -= late_ns
                way.losses.remove(loss)

        return undo

    # of robots

    def _reconfigure(self, fault: Fault) -> Undo | None:
        self._cluster.robots[fault.target].reconfigure(self._scenario.later_routing)
        return _nothing

    def _stop(self, fault: Fault) -> Undo | None:
        robot = self._cluster.robots[fault.target]
        if robot.stopped:
            return None
        robot.stop()
        return _nothing


class _Stranger:
    """Nobody waits for the answer."""

    def reply(self, reply: Reply) -> None:
        pass


def _nothing() -> None:
    """What needs no undoing."""
