"""Three replicas and several lanes that call them side by side, and what can be done to them.

A lane is a robot proxy with a policy of its own, or a peer. All lanes call the same replica processes at the same
rate, call i of each finds the same drawn service time at a replica, and a fault hits all of them at one moment.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from skyfog_bench.cgroup import MemoryCap
from skyfog_bench.draws import ServiceTimes
from skyfog_bench.fleet import ROBOT, START_LIMIT_S, Fleet, Replica
from skyfog_bench.messages import LONE_LANE, index_of, lane_of
from skyfog_bench.pace import Call
from skyfog_bench.processes import Process, Processes
from skyfog_pool.provider.netem.network import CLEAR, Impairment, Network

SERVICE = "echo"
BYTES = 1_024
CONCURRENCY = 32  # a replica is never the bottleneck: the draws are
ANSWER_LIMIT_S = 10.0
BURST, BURST_HZ = 10, 20.0  # calls of each lane between looks at who takes part
BE_LIMIT_S = 10.0
GARBAGE = "skyfog_bench.garbage"
BURN = "skyfog_bench.burn"
FAULT_ZONE = "a"  # the fastest replica, so that every policy wants it

Calls = dict[str, list[Call]]


class Stage:
    """The fleet, and the faults."""

    def __init__(
        self,
        processes: Processes,
        times: Mapping[str, ServiceTimes],
        seed: int,
        network: Network | None = None,
        router: str = "",
        name: str = "bench",
    ) -> None:
        self.processes = processes
        self.network = network
        self.fleet = Fleet(processes, name, network=network, router=router)
        self.lanes: dict[str, int] = {}
        self.replicas: dict[str, Replica] = {}
        self.all_replicas: list[Replica] = []  # the dead ones too: what they ran counts
        self._times = times
        self._seed = seed
        self._burning: list[Process] = []
        self._caps: dict[str, MemoryCap] = {}
        self._stand_ins: dict[str, Process] = {}
        self._next_index = 0
        self._others: list[Process] = []  # robots and their client

    def add_lane(self, lane: str, routing: dict[str, Any], program: Sequence[str] = (ROBOT,)) -> None:
        """To be called for every lane before `start`; see Fleet.lane."""
        self._others.append(self.fleet.lane(lane, SERVICE, routing, program))
        self.lanes[lane] = len(self.lanes)

    def start(self) -> None:
        """Replicas and a client; returns when every lane has been answered OK and every replica takes part."""
        for zone in self._times:
            self.start_replica(zone)
        self.client = self.fleet.client()
        self._others.append(self.client)
        for lane in self.lanes:
            self.client.ask(START_LIMIT_S + 5, do="wait", service=lane, limit_s=START_LIMIT_S)
        self.until_healed(START_LIMIT_S)

    def start_replica(self, zone: str) -> None:
        """Also in the place of one that is gone."""
        echo = {**self.drawn(zone), "faulty": True}
        self.replicas[zone] = self.fleet.replica(SERVICE, zone, counted=True, echo=echo, concurrency=CONCURRENCY)
        self.all_replicas.append(self.replicas[zone])

    def drawn(self, zone: str) -> dict[str, Any]:
        """The parameters of nodes.echo.EchoConfig for the draws of a zone."""
        times = self._times[zone]
        return {
            "zone": zone,
            "seed": self._seed,
            "median_ms": times.median_ms,
            "slow_share": times.slow_share,
            "slow_ms": times.slow_ms,
        }

    # calling

    def call(self, count: int, hz: float, limit_s: float, during: Callable[[], None] | None = None) -> Calls:
        """`count` calls of each lane at `hz` while `during` runs."""
        first, self._next_index = self._next_index, self._next_index + count
        self.client.send(do="paced", lanes=self.lanes, size=BYTES, count=count, hz=hz, limit_s=limit_s, first=first)
        if during is not None:
            during()
        answer = self.client.receive(count / hz + limit_s + 10)["calls"]
        return {lane: [Call(*call) for call in calls] for lane, calls in answer.items()}

    @property
    def next_index(self) -> int:
        """Of the next call in each lane."""
        return self._next_index

    def executions(self, first: int) -> Counter[int]:
        """Executions of calls from index `first` on by lane, in all replicas that ever were."""
        found: Counter[int] = Counter()
        for replica in self.all_replicas:
            for numbered, times in replica.executions().items():
                if index_of(numbered) >= first:
                    found[lane_of(numbered)] += times
        del found[LONE_LANE]
        return found

    def twice(self) -> int:
        """Calls that one replica process ran more than once."""
        return sum(times > 1 for replica in self.all_replicas for times in replica.executions().values())

    # faults

    def kill(self, zone: str = FAULT_ZONE) -> None:
        self.processes.kill(self.replicas[zone].process)

    def freeze(self, zone: str = FAULT_ZONE) -> None:
        self.replicas[zone].process.signal(signal.SIGSTOP)

    def be(self, zone: str = FAULT_ZONE, **how: float) -> None:
        """Make a replica's service misbehave: see nodes/echo.py."""
        self.replicas[zone].process.ask(BE_LIMIT_S, do="be", **how)

    def contend(self, burners: int, zone: str = FAULT_ZONE) -> None:
        """Pin a replica to one core, and let `burners` others compete for it."""
        core = min(os.sched_getaffinity(0))
        _pin(self.replicas[zone].process.pid, {core})
        self._burning += [self.processes.start("burner", BURN, str(core), domain=0) for _ in range(burners)]

    def leak(self, mb_per_call: float, room_mb: float, zone: str = FAULT_ZONE) -> None:
        """Let a replica leak until the kernel kills it. Raises BenchError where no limit can be set."""
        pid = self.replicas[zone].process.pid
        room = psutil.Process(pid).memory_info().rss + round(room_mb * 1e6)
        self._caps[zone] = MemoryCap(pid, room)
        self.be(zone, leak_mb=mb_per_call)

    def go_mad(self, zone: str = FAULT_ZONE) -> None:
        """Put a replica that answers garbage in a replica's place."""
        self.kill(zone)
        self._stand_ins[zone] = self.fleet.stand_in(zone, GARBAGE, SERVICE, zone, str(self._seed))

    def shape(self, how: Impairment, *zones: str, both: bool = True, to_robot: bool = False) -> None:
        """Impair the links between the robot and `zones`; without `both` only what comes from (or to) the robot."""
        assert self.network is not None
        for zone in zones:
            ends = (zone, "robot") if to_robot else ("robot", zone)
            self.network.shape(*ends, how, both=both)

    # and their end

    def heal(self) -> None:
        """Undo every fault that is still there; replicas that are gone come back under their names."""
        if self.network is not None:
            self.shape(CLEAR, *self.replicas)
        self.processes.end(self._burning)
        self.processes.end(list(self._stand_ins.values()))
        self._uncap()
        for zone, replica in list(self.replicas.items()):
            if not replica.process.alive() or zone in self._stand_ins:
                self.start_replica(zone)
                continue
            replica.process.signal(signal.SIGCONT)
            _pin(replica.process.pid, os.sched_getaffinity(0))
            self.be(zone)
        self._burning, self._stand_ins = [], {}

    def end(self) -> None:
        """End everything that was started here; what the replicas ran can still be counted."""
        self._uncap()
        replicas = [replica.process for replica in self.replicas.values()]
        self.processes.end([*self._others, *self._burning, *self._stand_ins.values(), *replicas])

    def _uncap(self) -> None:
        """Take memory limits away, and the replicas below them, which may not have come to their end."""
        for zone, cap in self._caps.items():
            self.processes.end([self.replicas[zone].process])
            cap.remove()
        self._caps = {}

    def until_healed(self, limit_s: float) -> list[str]:
        """Call until somebody has used every replica and everybody the one that faults hit, or `limit_s` is over.

        Returns the lanes that did not. Raises BenchError where a replica does not take part at all.
        """
        before = {zone: self._by_lane(replica) for zone, replica in self.replicas.items()}
        until = time.monotonic() + limit_s
        last = time.monotonic() + START_LIMIT_S
        while True:
            self.call(BURST, BURST_HZ, ANSWER_LIMIT_S)
            used = {zone: set(self._by_lane(replica) - before[zone]) for zone, replica in self.replicas.items()}
            idle = [zone for zone, lanes in used.items() if not lanes]
            away = [name for name, lane in self.lanes.items() if lane not in used[FAULT_ZONE]]
            if not idle and (not away or time.monotonic() > until):
                return away
            if time.monotonic() > last:
                raise self.replicas[idle[0]].process.fault(f"takes no calls within {START_LIMIT_S:.0f} s")

    @staticmethod
    def _by_lane(replica: Replica) -> Counter[int]:
        found: Counter[int] = Counter()
        for numbered, times in replica.executions().items():
            found[lane_of(numbered)] += times
        found.pop(LONE_LANE, None)
        return found


def _pin(pid: int, cores: set[int]) -> None:
    """All threads of a process; those that it starts later inherit it."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            os.sched_setaffinity(int(task.name), cores)
        except ProcessLookupError:
            continue  # a thread that has just ended
