"""What must hold, looked at after every event. A policy is judged by what it did, never by what it says it did.

outcome     exactly one a request, of a request that was made, by its deadline and one tick
answer      what is delivered answers this request, and its replica gave that answer
asked       who is asked holds a token, has no copy of this request now, and gets no more budget than is left
loose end   with the outcome, every copy that is still out is withdrawn, but for probes, and losers that are heard to
            their end: one a process and robot, and none under broadcast
twice       no process runs a request twice, but one that its service itself declined
repeat      at_most_once is sent once; if_not_executed again only if every copy before certainly did not run
truth       a request that fails as certainly not executed never ran, and never will
load        copies beyond the first are within the budget of extra load, but for those counted as rescues
books       every policy's own check(), and its counters against ours
leak        at the end nothing is open, running, waiting or outstanding, and nothing wakes itself for ever
safety      with a healthy, reachable replica that has room, no idempotent request fails
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from skyfog_core.config.router import RoutingConfig
from skyfog_core.errors import NotExecuted, RequestError, SkyfogError, Status
from skyfog_core.ids import RequestId
from skyfog_core.units import MS, ns_to_ms
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.membership import Announcement
from skyfog_router.policy.actions import Action, Cancel, Deliver, Fail, Send, Why
from skyfog_router.policy.load_budget import LoadBudget
from skyfog_sim.history import History
from skyfog_sim.kernel import Kernel
from skyfog_sim.replica import Body, Process
from skyfog_sim.robot import Robot

TICK_NS = 1 * MS
PROCESSES_OF_A_NAME = 2  # that a robot may still wait for: an old one and the one in its place


class Broken(SkyfogError):
    """An invariant does not hold; `invariant` is its name above."""

    def __init__(self, invariant: str, why: str) -> None:
        super().__init__(f"{invariant}: {why}")
        self.invariant = invariant


@dataclass(slots=True)
class Call:
    """What is known of one request, from outside of the policies."""

    robot: Robot
    began_ns: int
    config: RoutingConfig
    out: dict[ReplicaKey, Why] = field(default_factory=dict)  # asked, neither heard nor ended
    answered: set[ReplicaKey] = field(default_factory=set)  # a valid reply came
    asked: int = 0
    unsure: int = 0  # copies that may run or have run, as far as the robot can know
    ran: set[int] = field(default_factory=set)  # boot numbers of the processes where it ran, or runs
    outcome: str = ""
    over_ns: int = 0
    never_runs: bool = False  # the caller was told so

    @property
    def deadline_ns(self) -> int:
        return self.began_ns + self.config.deadline_ms * MS

    @property
    def pays_copies(self) -> bool:
        """Whether copies beside the first are the budget's, rather than what the policy or the answer is made of."""
        return self.config.policy in {"hedged", "slo"} and self.config.answer == "first"


class Check:
    """Watches a cluster and raises Broken."""

    def __init__(self, kernel: Kernel, history: History, all_must_succeed: bool = False) -> None:
        self._kernel, self._history = kernel, history
        self._all_must_succeed = all_must_succeed
        self.calls: dict[RequestId, Call] = {}
        self.outcomes: Counter[str] = Counter()
        self._sends: dict[str, Counter[str]] = defaultdict(Counter)  # by robot and why
        self._paid: Counter[str] = Counter()  # by robot: copies that the budget pays
        self._allowed: dict[str, float] = {}  # by robot: copies within the budget so far
        self._live: Counter[tuple[str, ReplicaKey]] = Counter()  # tokens seen; two while a new process takes over
        self._deadlines: list[tuple[int, RequestId]] = []
        self._just_over: list[Call] = []
        self._heard: dict[tuple[str, ReplicaKey], list[Call]] = defaultdict(list)  # over, a loser still out
        self._runs: Counter[tuple[int, RequestId]] = Counter()  # by boot number

    @property
    def sends(self) -> Counter[str]:
        """By why, of all robots."""
        return sum(self._sends.values(), Counter[str]())

    def sees(self, robot: str, replica: ReplicaKey) -> bool:
        """Whether a robot sees a replica's token."""
        return self._live[robot, replica] > 0

    # robot.Watcher

    def called(self, robot: Robot, request_id: RequestId) -> None:
        budget = LoadBudget(robot.config.extra_load)
        self._allowed[robot.name] = self._allowed.get(robot.name, budget.burst) + budget.ratio
        call = self.calls[request_id] = Call(robot, self._kernel.now_ns, robot.config)
        heapq.heappush(self._deadlines, (call.deadline_ns, request_id))
        self._note("call", robot, request_id)

    def joined(self, robot: Robot, replica: ReplicaKey, announcement: Announcement) -> None:
        self._live[robot.name, replica] += 1
        self._note("join", robot, replica=replica, detail=f"boot {announcement.boot}")

    def left(self, robot: Robot, replica: ReplicaKey, announcement: Announcement) -> None:
        self._live[robot.name, replica] -= 1
        self._note("leave", robot, replica=replica, detail=f"boot {announcement.boot}")

    def heard(self, robot: Robot, request_id: RequestId, replica: ReplicaKey, error: RequestError | None) -> None:
        call = self.calls[request_id]
        call.out.pop(replica, None)
        if error is None:
            call.answered.add(replica)
        else:
            call.unsure -= isinstance(error, NotExecuted)
        self._note("reply", robot, request_id, replica, f"{type(error).__name__}: {error}" if error else "")

    def ended(self, robot: Robot, request_id: RequestId, replica: ReplicaKey) -> None:
        self.calls[request_id].out.pop(replica, None)

    def acted(self, robot: Robot, action: Action) -> None:
        match action:
            case Send():
                self._sent(robot, action)
            case Cancel():
                self.calls[action.request_id].out.pop(action.replica, None)
                self._note("cancel", robot, action.request_id, action.replica)
            case Deliver():
                self._delivered(robot, action)
            case Fail():
                self._failed(robot, action)
            case _:
                self._note(type(action).__name__.lower(), robot, replica=action.replica, detail=str(action))

    def policy(self, policy: Any) -> None:
        """A policy handled an event."""
        while self._just_over:
            call = self._just_over.pop()
            left = [(who, why) for who, why in call.out.items() if why != "probe"]
            if any(call.config.policy == "broadcast" or self._too_many_heard(call, who) for who, _ in left):
                told = ", ".join(f"{who} ({why})" for who, why in left)
                raise Broken("loose end", f"{call.outcome}, and still out: {told}")
        try:
            policy.check()
        except AssertionError as error:
            raise Broken("books", f"{type(policy).__name__}: {error}") from error

    def _too_many_heard(self, call: Call, who: ReplicaKey) -> bool:
        heard = self._heard[call.robot.name, who]
        heard[:] = [other for other in heard if who in other.out] + [call]
        return len(heard) > PROCESSES_OF_A_NAME

    # replica.Watcher

    def started(self, process: Process, request_id: RequestId) -> None:
        call = self.calls.get(request_id)
        self._history.note(self._kernel.now_ns, "start", "", request_id, process.name)
        self._runs[process.boot, request_id] += 1
        if self._runs[process.boot, request_id] > 1:
            raise Broken("twice", f"{process.name} runs {request_id.hex()} again")
        if call is not None:
            call.ran.add(process.boot)
            if call.config.repeat != "idempotent" and len(call.ran) > 1:
                raise Broken("repeat", f"{request_id.hex()} runs on {process.name}, and ran elsewhere")
            if call.never_runs:
                raise Broken("truth", f"{process.name} runs {request_id.hex()}, which failed as not executed")

    def finished(self, process: Process, request_id: RequestId, status: Status) -> None:
        self._history.note(self._kernel.now_ns, "done", "", request_id, process.name, status.name)
        if status is Status.NOT_EXECUTED:  # the service says that it did nothing
            self._runs[process.boot, request_id] -= 1
            if request_id in self.calls:
                self.calls[request_id].ran.discard(process.boot)

    # the cluster's

    def event_over(self) -> None:
        """Nothing may be open past its deadline, whoever had an event."""
        while self._deadlines and self._deadlines[0][0] + TICK_NS < self._kernel.now_ns:
            _, request_id = heapq.heappop(self._deadlines)
            if not self.calls[request_id].outcome:
                raise Broken("outcome", f"{request_id.hex()} is open past its deadline")

    def at_end(self, robots: list[Robot], processes: list[Process]) -> None:
        """Nothing may be left."""
        for request_id, call in self.calls.items():
            if not call.outcome:
                raise Broken("leak", f"{request_id.hex()} is open at the end")
            if call.out:
                raise Broken("leak", f"{request_id.hex()} has copies out at the end: {call.out}")
        for robot in robots:
            self._counters(robot)
            if robot.outstanding:
                raise Broken("leak", f"{robot.name} has queries out at the end: {robot.outstanding}")
            if robot.router.next_timer_ns() is not None:
                raise Broken("leak", f"{robot.name} has a timer at the end")
        for process in processes:
            if not process.killed and (process.jobs or not process.desk.is_idle):
                raise Broken("leak", f"{process.name} has {len(process.jobs)} running, {process.desk.depth} waiting")

    def _sent(self, robot: Robot, action: Send) -> None:
        request_id, call = action.request_id, self.calls[action.request_id]
        left_ms = (call.deadline_ns - self._kernel.now_ns) / MS
        detail = f"attempt {action.attempt}, {action.budget_ms} ms left, {action.why}"
        self._note("send", robot, request_id, action.replica, detail)
        self._sends[robot.name][action.why] += 1
        if call.outcome:
            raise Broken("asked", f"{action} after {call.outcome}")
        if self._live[robot.name, action.replica] <= 0:
            raise Broken("asked", f"{action}: holds no token")
        if action.replica in call.out:
            raise Broken("asked", f"{action}: has it already")
        if action.attempt != call.asked or not 1 <= action.budget_ms <= max(1, left_ms):
            raise Broken("asked", f"{action}: attempt {call.asked} comes next, {left_ms:.3f} ms are left")
        if call.config.repeat == "at_most_once" and call.asked:
            raise Broken("repeat", f"{action}: at_most_once, and sent before")
        if call.config.repeat == "if_not_executed" and call.unsure:
            raise Broken("repeat", f"{action}: {call.unsure} copies before may have run")
        if action.why in {"hedge", "probe"} or (action.why == "copy" and call.pays_copies):
            self._paid[robot.name] += 1
            if self._paid[robot.name] > self._allowed[robot.name] + 1e-6:
                raise Broken(
                    "load", f"{action}: {self._paid[robot.name]} copies, {self._allowed[robot.name]:.1f} allowed"
                )
        call.out[action.replica] = action.why
        call.asked += 1
        call.unsure += 1

    def _delivered(self, robot: Robot, action: Deliver) -> None:
        call = self._over(robot, action, "delivered")
        body = action.response
        self._note("deliver", robot, action.request_id, action.replica, f"after {ns_to_ms(action.took_ns):.3f} ms")
        if not isinstance(body, Body) or body.request_id != action.request_id:
            raise Broken("answer", f"{action} answers another request")
        if not call.ran or action.replica not in call.answered:
            raise Broken("answer", f"{action}, which gave no answer")

    def _failed(self, robot: Robot, action: Fail) -> None:
        name = type(action.error).__name__
        call = self._over(robot, action, name)
        self._note("fail", robot, action.request_id, detail=f"{name}: {action.error}")
        if isinstance(action.error, NotExecuted):
            call.never_runs = True
            if call.ran:
                raise Broken("truth", f"{action.request_id.hex()} fails as {name}, but ran")
        if self._all_must_succeed:
            raise Broken("safety", f"{action.request_id.hex()} fails: {name}: {action.error}")

    def _over(self, robot: Robot, action: Deliver | Fail, outcome: str) -> Call:
        call, now_ns = self.calls[action.request_id], self._kernel.now_ns
        if call.outcome:
            raise Broken("outcome", f"{action.request_id.hex()}: {outcome} after {call.outcome}")
        if now_ns > call.deadline_ns + TICK_NS:
            late_ms = ns_to_ms(now_ns - call.deadline_ns)
            raise Broken("outcome", f"{action.request_id.hex()}: {outcome} {late_ms:.3f} ms after its deadline")
        if action.took_ns != now_ns - call.began_ns:
            raise Broken("outcome", f"{action} is said to have taken {action.took_ns} ns")
        call.outcome, call.over_ns = outcome, now_ns
        self.outcomes[outcome] += 1
        self._just_over.append(call)
        return call

    def _counters(self, robot: Robot) -> None:
        """What a router tells of itself is what was seen."""
        told, sends = robot.router.snapshot(self._kernel.now_ns), self._sends[robot.name]
        outcomes = Counter(call.outcome for call in self.calls.values() if call.robot is robot)
        delivered = outcomes.pop("delivered", 0)
        seen = {
            "called": delivered + outcomes.total(),
            "delivered": delivered,
            "failed": outcomes.total(),
            "failures": dict(outcomes),
            "sends": sends.total(),
            "extra": sends["copy"] + sends["hedge"] + sends["probe"],
            "rescues": sends["rescue"],
            "in_flight": 0,
        }
        wrong = {name: (getattr(told, name), value) for name, value in seen.items() if getattr(told, name) != value}
        if wrong:
            raise Broken("books", f"{robot.name} tells other numbers than were seen: {wrong}")
        if told.within_slo > delivered or told.local > delivered:
            raise Broken("books", f"{robot.name}: more within the SLO or answered locally than delivered: {told}")

    def _note(
        self, event: str, robot: Robot, request_id: RequestId = b"", replica: object = "", detail: str = ""
    ) -> None:
        self._history.note(self._kernel.now_ns, event, robot.name, request_id, replica, detail)
