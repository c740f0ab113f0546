"""The fleet of a pool's simulation: what runs on its machines joins as a replica, behind the production Admission."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from skyfog_core.units import MS, S
from skyfog_core.wire.keys import ReplicaKey
from skyfog_pool.provider.base import Instance
from skyfog_pool.report import replica_name
from skyfog_sim.cluster import Cluster
from skyfog_sim.durations import Duration
from skyfog_sim.net import Link, LinkModel
from skyfog_sim.replica import Mood, Process, ReplicaModel

LOOK_NS = 50 * MS  # between looks whether a draining replica is idle


class Runner:
    """What a machine runs: nothing while it warms up, then a replica's process."""

    def __init__(self, fleet: PoolFleet, machine: Instance) -> None:
        self._fleet = fleet
        self.who = ReplicaKey(machine.zone, replica_name(machine.pool, machine.replica))
        self.process: Process | None = None
        self.is_over = False  # the service has ended, or its machine has
        self.has_failed = False  # by itself

    @property
    def answers(self) -> bool:
        """Whether a probe would be answered with 200."""
        return not self.is_over and self.process is not None and self.process.announced is not None

    @property
    def is_reached(self) -> bool:
        """Whether the controller hears of it: its zone is not cut off."""
        return self.who.zone not in self._fleet.cut

    def drain(self, within_ns: int, drained: Callable[[], None]) -> None:
        """Drop the token, finish what is here, tell; or tell when the time is over."""
        process = self.process
        if process is None or self.is_over:
            self._fleet.kernel.after(0, drained)
            return
        if not process.draining:
            process.do(lambda: self._fleet.cluster.drain(process, True))
        until_ns = self._fleet.kernel.now_ns + within_ns

        def look() -> None:
            if self.is_over or process.desk.is_idle or self._fleet.kernel.now_ns >= until_ns:
                drained()
            else:
                self._fleet.kernel.after(LOOK_NS, look)

        self._fleet.kernel.after(LOOK_NS, look)

    def kill(self) -> None:
        """SIGKILL, or the machine is gone."""
        self.is_over = True
        if self.process is not None and not self.process.killed:
            self._fleet.cluster.end(self.process)

    def fail(self) -> None:
        """The service ends by itself."""
        if not self.is_over:
            self.has_failed = True
            self.kill()


class PoolFleet:
    """Adds replicas to a cluster that begins without any."""

    def __init__(
        self, cluster: Cluster, random: Random, warm_up: Duration, model: ReplicaModel, link: LinkModel
    ) -> None:
        self.cluster, self.kernel = cluster, cluster.kernel
        self.cut: set[str] = set()  # zones that nobody reaches
        self.is_failing = False  # services end soon after they began
        self._random, self._warm_up, self._model, self._link = random, warm_up, model, link

    def start(self, machine: Instance, slowness: float) -> Runner:
        """A machine runs: its service warms up, then it holds its token."""
        runner = Runner(self, machine)
        self.kernel.after(round(self._warm_up.draw(self._random) * slowness), lambda: self._ready(runner))
        return runner

    def partition(self, zone: str, is_cut: bool) -> None:
        """Nothing gets into the zone or out of it."""
        (self.cut.add if is_cut else self.cut.discard)(zone)
        for (_, who), link in self.cluster.links.items():
            if who.zone == zone:
                link.there.cuts = link.back.cuts = int(is_cut)
                link.change()

    def _ready(self, runner: Runner) -> None:
        if runner.is_over:
            return
        model, cluster = _of(self._model, runner.who), self.cluster
        cluster.moods[runner.who] = Mood()
        for robot in cluster.robots:
            link = cluster.links[robot.name, runner.who] = Link.of(self._link)
            link.there.cuts = link.back.cuts = int(runner.who.zone in self.cut)
        cluster.start(model)
        runner.process = cluster.processes[-1]
        if self.is_failing:
            self.kernel.after(round(self._random.uniform(0, 2) * S), runner.fail)


def _of(model: ReplicaModel, who: ReplicaKey) -> ReplicaModel:
    return ReplicaModel(who, model.service, model.concurrency, model.max_queue, can_abandon=model.can_abandon)
