"""A world played to the production Router and Admission, on the simulation's robot, links and processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from skyfog_bench.fogros2ft.draws import World
from skyfog_core.config.router import PolicyName, RoutingConfig
from skyfog_core.errors import Status
from skyfog_core.ids import RequestId
from skyfog_core.rng import stream
from skyfog_core.units import S, ns_to_ms
from skyfog_core.wire.keys import ReplicaKey
from skyfog_sim.cluster import production_router
from skyfog_sim.durations import Constant
from skyfog_sim.kernel import Kernel
from skyfog_sim.net import Link, LinkModel, Session, WayModel
from skyfog_sim.replica import Mood, Process, ReplicaModel
from skyfog_sim.robot import Robot, RobotModel
from skyfog_sim.scale import Quiet, Unhurried

WARM_REQUESTS = 100  # not counted: the policy knows nothing yet
EXTRA_LOAD = 0.4  # of what broadcast spends, for the policies that keep to a budget
LEASE_NS = 10 * S
MAX_QUEUE = 64


def routing(policy: PolicyName, replicas: int, deadline_ms: int) -> RoutingConfig:
    """One policy as the benchmark runs it, with `slo` left to find the latency that its extra load can pay for."""
    more = {"extra_load": EXTRA_LOAD * (replicas - 1)} if policy in {"hedged", "slo"} else {}
    return RoutingConfig.model_validate({"policy": policy, "deadline_ms": deadline_ms, **more})


@dataclass(frozen=True, slots=True)
class Played:
    """One cell and seed; requests after the warm-up."""

    latencies_ms: tuple[float, ...]  # in order of calling; of those that were answered
    failed: int
    copies: float  # beyond the first, a request
    busy_s: float  # of all replicas together, a request


@dataclass(frozen=True, slots=True)
class Way:
    """One direction of one path as a duration: it depends on when a message is sent, and on nothing else."""

    kernel: Kernel
    took_ns: Callable[[int], int]
    most_ns: int = 60 * S

    def draw(self, _random: Random) -> int:
        return self.took_ns(self.kernel.now_ns)


class Watch(Unhurried):
    """The invariants, and how long replicas work."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel, Quiet())
        self.clock = kernel
        self.busy_ns: Counter[RequestId] = Counter()

    def started(self, process: Process, request_id: RequestId) -> None:
        super().started(process, request_id)
        self.busy_ns[request_id] -= self.clock.now_ns

    def finished(self, process: Process, request_id: RequestId, status: Status) -> None:
        super().finished(process, request_id, status)
        self.busy_ns[request_id] += self.clock.now_ns


class Replayed(Process):
    """A process whose service takes what the world says."""

    def __init__(self, world: World, number: int, *given: Any) -> None:
        super().__init__(*given)
        self._world, self._number, self._clock = world, number, given[0]

    def work_ns(self, request_id: RequestId) -> int:
        return self._world.work_ns(number_of(request_id), self._number, self._clock.now_ns)


def number_of(request_id: RequestId) -> int:
    """Of a robot's requests, from 0: ids count from 1."""
    return int.from_bytes(request_id[8:], "big") - 1


def play(world: World, config: RoutingConfig, replicas: int, seed: int = 0, warm: int = WARM_REQUESTS) -> Played:
    """All requests of a world, with the first `replicas` of its replicas. Raises skyfog_sim.check.Broken."""
    kernel = Kernel()
    watch, random = Watch(kernel), stream(seed, "replay")
    told = RobotModel("robot")
    served: dict[ReplicaKey, tuple[Session, Process]] = {}
    router = production_router(config, told, seed)
    robot = Robot(kernel, told, 0, config, router, served.get, watch)
    processes: list[Process] = []
    for number in range(replicas):
        who = ReplicaKey(f"cloud{number}", "0")
        model = ReplicaModel(who, Constant(0), 1, MAX_QUEUE, can_stop=world.recording.can_stop)
        process = Replayed(world, number, kernel, random, model, Mood(), model.admission(), number + 1, watch)
        there, back = Way(kernel, partial(world.there_ns, number)), Way(kernel, partial(world.back_ns, number))
        session = Session(kernel, random, Link.of(LinkModel(WayModel(there), WayModel(back))), robot, process, LEASE_NS)
        served[who] = session, process
        processes.append(process)
        session.announce()
    for call_ns in world.calls_ns:
        kernel.at(call_ns, robot.call)
    kernel.run(limit=10_000 * len(world.calls_ns), after_each=watch.event_over)
    router.check()
    for one in processes:
        one.desk.check()
    watch.at_end([robot], processes)
    return _played(watch, warm)


def _played(watch: Watch, warm: int) -> Played:
    calls = {i: call for i, call in watch.calls.items() if number_of(i) >= warm}
    took = [ns_to_ms(call.over_ns - call.began_ns) for call in calls.values() if call.outcome == "delivered"]
    return Played(
        tuple(took),
        len(calls) - len(took),
        sum(call.asked - 1 for call in calls.values()) / len(calls),
        sum(watch.busy_ns[i] for i in calls) / S / len(calls),
    )
