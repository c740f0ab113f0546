"""Whose turn it is: what waits at a replica, in the order in which it will run.

A higher priority always goes first. Within one priority the robots share the replica's time, not its places in the
queue (start-time fair queueing, Goyal et al., SIGCOMM 1996): each robot has a tag, the service time that it has used,
and the robot with the least tag is next. A robot that begins to wait is put to the virtual time, the tag of the last
that was started: nobody saves up turns, and a newcomer waits for about one run of each other robot, however long
their queues are. A run is charged with its expected time when it starts, and with the difference when it ends.

When the queue is full, a newcomer may take somebody's place: the last one of the robot with most waiting, in the lowest
priority, goes if that priority is lower, or if that robot has more waiting than the newcomer's.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from skyfog_core.ids import RequestId

MAX_IDLE_FLOWS = 256  # robots that wait for nothing, and whose use is still remembered
LEAST_COST_NS = 1_000  # so that robots take turns where a run costs nothing, too


@dataclass(slots=True)
class Job:
    """One request at the replica, and everyone who asked for it."""

    request_id: RequestId
    robot: str
    priority: int
    arrived_ns: int
    deadline_ns: int
    tickets: list[Any] = field(default_factory=list)
    order: int = 0  # of arrival, set by Turns
    started_ns: int = 0
    charged_ns: int = 0
    attempt: int = 0  # the latest of the copies that came

    @property
    def queued_ns(self) -> int:
        """How long it waited before it was started."""
        return self.started_ns - self.arrived_ns


@dataclass(slots=True)
class _Flow:
    """One robot within one priority."""

    tag_ns: int
    waiting: dict[RequestId, Job] = field(default_factory=dict)  # in order of arrival
    running: int = 0

    @property
    def turn(self) -> tuple[int, int]:
        """Smaller goes first; only of a flow with something waiting."""
        return self.tag_ns, next(iter(self.waiting.values())).order

    @property
    def last(self) -> Job:
        return next(reversed(self.waiting.values()))


@dataclass(slots=True)
class _Lane:
    """One priority."""

    virtual_ns: int = 0
    flows: dict[str, _Flow] = field(default_factory=dict)
    waiting: dict[str, _Flow] = field(default_factory=dict)  # those of them with something waiting
    held: int = 0  # requests that wait or run
    prune_at: int = 16

    def flow(self, robot: str) -> _Flow:
        """The robot's flow; one that had nothing here begins at the virtual time."""
        flow = self.flows.get(robot)
        if flow is None:
            flow = self.flows[robot] = _Flow(self.virtual_ns)
        elif not flow.waiting and not flow.running:
            flow.tag_ns = max(flow.tag_ns, self.virtual_ns)
        return flow

    def tag_of(self, robot: str) -> int:
        flow = self.flows.get(robot)
        return self.virtual_ns if flow is None else max(flow.tag_ns, self.virtual_ns)

    def add(self, job: Job) -> None:
        """One more is held, and waits."""
        flow = self.waiting[job.robot] = self.flow(job.robot)
        flow.waiting[job.request_id] = job
        self.held += 1

    def take(self, job: Job) -> None:
        """It waits no more; whether it is still held is the caller's to say."""
        flow = self.flows[job.robot]
        del flow.waiting[job.request_id]
        if not flow.waiting:
            del self.waiting[job.robot]

    def prune(self) -> None:
        """Forget robots that have nothing here and no debt; where they are too many, their debts too."""
        if len(self.flows) < self.prune_at:
            return
        idle = [robot for robot, flow in self.flows.items() if not flow.waiting and not flow.running]
        for robot in idle:
            if len(idle) > MAX_IDLE_FLOWS or self.flows[robot].tag_ns <= self.virtual_ns:
                del self.flows[robot]
        self.prune_at = 2 * len(self.flows) + 16


class Turns:
    """What waits, by priority and robot. Pure."""

    def __init__(self) -> None:
        self._lanes: dict[int, _Lane] = {}
        self._jobs: dict[RequestId, Job] = {}
        self._deadlines: list[tuple[int, RequestId]] = []  # a heap; some are gone already
        self._order = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        """In order of arrival."""
        return iter(self._jobs.values())

    def get(self, request_id: RequestId) -> Job | None:
        return self._jobs.get(request_id)

    def add(self, job: Job) -> None:
        """A request begins to wait."""
        job.order, self._order = self._order, self._order + 1
        self._lanes.setdefault(job.priority, _Lane()).add(job)
        self._jobs[job.request_id] = job
        heapq.heappush(self._deadlines, (job.deadline_ns, job.request_id))
        if len(self._deadlines) > 2 * len(self._jobs) + 64:
            self._deadlines = [(one.deadline_ns, one.request_id) for one in self]
            heapq.heapify(self._deadlines)

    def remove(self, request_id: RequestId) -> Job | None:
        """It waits no more, and does not run."""
        job = self._jobs.pop(request_id, None)
        if job is not None:
            self._lanes[job.priority].take(job)
            self._gone(job.priority)
        return job

    def first_deadline_ns(self) -> int | None:
        """Of those that wait."""
        while self._deadlines and not self._is_true(*self._deadlines[0]):
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def remove_due(self, by_ns: int) -> list[Job]:
        """Those with a deadline by then, first due first: they wait no more."""
        jobs: list[Job] = []
        while (first_ns := self.first_deadline_ns()) is not None and first_ns <= by_ns:
            jobs.append(self._jobs[self._deadlines[0][1]])
            self.remove(jobs[-1].request_id)
        return jobs

    def next(self) -> Job:
        """Whose turn it is. Raises ValueError where nothing waits."""
        priority = max(priority for priority, lane in self._lanes.items() if lane.waiting)
        flow = min(self._lanes[priority].waiting.values(), key=lambda flow: flow.turn)
        return next(iter(flow.waiting.values()))

    def start(self, job: Job, expected_ns: int) -> None:
        """It runs from now on; it need not have waited."""
        lane = self._lanes.setdefault(job.priority, _Lane())
        flow = lane.flow(job.robot)
        if self._jobs.pop(job.request_id, None) is not None:
            lane.take(job)
        else:
            lane.held += 1
        job.charged_ns = max(LEAST_COST_NS, expected_ns)
        lane.virtual_ns = max(lane.virtual_ns, flow.tag_ns)
        flow.tag_ns += job.charged_ns
        flow.running += 1

    def end(self, job: Job, took_ns: int) -> None:
        """It runs no more, and took this long."""
        flow = self._lanes[job.priority].flows[job.robot]
        flow.running -= 1
        flow.tag_ns += max(LEAST_COST_NS, took_ns) - job.charged_ns
        self._gone(job.priority)

    def ahead_of(self, robot: str, priority: int, cost_ns: int) -> int:
        """How many of those that wait would run before a newcomer of this robot, if each run takes `cost_ns`."""
        higher = (lane for p, lane in self._lanes.items() if p > priority)
        ahead = sum(len(flow.waiting) for lane in higher for flow in lane.waiting.values())
        lane = self._lanes.get(priority)
        if lane is None:
            return ahead
        cost_ns = max(LEAST_COST_NS, cost_ns)
        own = lane.waiting.get(robot)
        turn_ns = lane.tag_of(robot) + cost_ns * (len(own.waiting) if own else 0)
        for flow in lane.waiting.values():
            before = len(flow.waiting) if flow is own else max(0, (turn_ns - flow.tag_ns) // cost_ns + 1)
            ahead += min(len(flow.waiting), before)
        return ahead

    def victim(self, robot: str, priority: int) -> Job | None:
        """Who gives its place to a newcomer of this robot; None where the newcomer has no better claim."""
        lowest = min((p for p, lane in self._lanes.items() if lane.waiting), default=None)
        if lowest is None or lowest > priority:
            return None
        lane = self._lanes[lowest]
        most = max(lane.waiting.values(), key=lambda flow: (len(flow.waiting), flow.tag_ns, flow.last.order))
        if lowest < priority:
            return most.last
        own = lane.waiting.get(robot)
        waiting = len(own.waiting) if own else 0
        # With one more it must still have less: fewer places, or as many and less time used.
        less = (waiting + 1, lane.tag_of(robot)) < (len(most.waiting), most.tag_ns)
        return most.last if less else None

    def check(self) -> None:
        """Raise AssertionError if a request is counted twice or under the wrong robot."""
        held = {
            i: job for lane in self._lanes.values() for flow in lane.flows.values() for i, job in flow.waiting.items()
        }
        assert held == self._jobs
        assert {(job.deadline_ns, i) for i, job in held.items()} <= set(self._deadlines)
        for priority, lane in self._lanes.items():
            assert lane.held == sum(len(flow.waiting) + flow.running for flow in lane.flows.values()) > 0
            assert lane.waiting == {robot: flow for robot, flow in lane.flows.items() if flow.waiting}
            for robot, flow in lane.flows.items():
                assert flow.running >= 0
                assert all((job.robot, job.priority) == (robot, priority) for job in flow.waiting.values())

    def _is_true(self, deadline_ns: int, request_id: RequestId) -> bool:
        job = self._jobs.get(request_id)
        return job is not None and job.deadline_ns == deadline_ns

    def _gone(self, priority: int) -> None:
        """One request less; where none is left there is nothing to be fair about."""
        lane = self._lanes[priority]
        lane.held -= 1
        lane.prune()
        if not lane.held:
            del self._lanes[priority]
