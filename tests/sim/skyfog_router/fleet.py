"""A robot and its replicas over modelled links, with the real policies on both ends.

A killed replica's queries end without an answer after KILL_NOTICE_NS and its token goes with them. A frozen one
neither answers nor ends anything; after LEASE_NS the robot's session gives it up: its queries end, its token goes. A
thawed one goes on with what it had; if it was given up, its old answers reach nobody and it announces itself anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from sim.kernel import Alarm, Kernel

from skyfog_core.errors import ERROR_OF_STATUS, Status
from skyfog_core.units import MS, S
from skyfog_core.wire.envelope import VERSION, Header
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.membership import Announcement
from skyfog_router.policy.actions import Action, Cancel, Deliver, Fail, Send
from skyfog_router.policy.admission import Admission, AdmissionAction, Answer, Refuse, Start
from skyfog_router.policy.router import Router

HASH = bytes(32)
SAID = Announcement()
KILL_NOTICE_NS = 8 * MS
LEASE_NS = 400 * MS


@dataclass(frozen=True)
class Model:
    """How fast one replica and its link are."""

    who: ReplicaKey
    link_ns: tuple[int, int]  # one way, least and most
    service_ns: tuple[int, int]
    concurrency: int = 1
    max_queue: int = 2

    @property
    def slowest_ns(self) -> int:
        """An answer without queueing takes no longer."""
        return 2 * self.link_ns[1] + self.service_ns[1]


class Query:
    """One request on its way to one process of a replica, and back: at most one reply, exactly one end."""

    def __init__(self, robot: Robot, request_id: bytes, who: ReplicaKey) -> None:
        self.robot, self.request_id, self.who = robot, request_id, who
        self.over = False

    def answer(self, status: Status, message: str) -> None:
        if not self.over:
            self.end(lambda: self.robot.on_answer(self, status, message))

    def lost(self) -> None:
        if not self.over:
            self.end(lambda: None)

    def end(self, before: Callable[[], None]) -> None:
        self.over = True
        before()
        self.robot.on_ended(self)


class Process:
    """One run of a replica, from its start to its kill."""

    def __init__(self, fleet: Fleet, model: Model) -> None:
        self.fleet, self.model, self.kernel = fleet, model, fleet.kernel
        self.desk = Admission(HASH, model.concurrency, model.max_queue, 300 * S, can_abandon=False)
        self.alarm = Alarm(self.kernel, self.desk.next_timer_ns, lambda: self.do(self.on_timer))
        self.starts: Counter[bytes] = Counter()
        self.queries: list[Query] = []
        self.killed = self.frozen = self.given_up = False
        self.held: list[Callable[[], None]] = []
        self.kernel.after(fleet.link_ns(model), self.announce)

    def do(self, call: Callable[[], None]) -> None:
        """Run `call` in this process: now, when it thaws, or never."""
        if self.frozen:
            self.held.append(call)
        elif not self.killed:
            call()
            self.desk.check()
            self.alarm.reset()

    def announce(self) -> None:
        if not self.killed and not self.frozen:
            self.fleet.robot.on_join(self.model.who)

    def on_timer(self) -> None:
        self.perform(self.desk.on_timer(self.kernel.now_ns))

    def on_query(self, query: Query, header: Header) -> None:
        self.perform(self.desk.on_query(header, query, self.kernel.now_ns))

    def on_cancel(self, request_id: bytes) -> None:
        self.perform(self.desk.on_cancel(request_id))

    def on_done(self, request_id: bytes) -> None:
        self.perform(self.desk.on_done(request_id, None, self.kernel.now_ns))

    def perform(self, actions: list[AdmissionAction]) -> None:
        for action in actions:
            match action:
                case Start():
                    self.starts[action.request_id] += 1
                    self.fleet.note("start", action.request_id, self.model.who)
                    took_ns = self.fleet.random.randint(*self.model.service_ns)
                    self.kernel.after(took_ns, lambda i=action.request_id: self.do(lambda: self.on_done(i)))
                case Answer():
                    self.send_back(action.ticket, Status.OK, "")
                case Refuse():
                    self.send_back(action.ticket, action.status, action.message)

    def send_back(self, query: Query, status: Status, message: str) -> None:
        def arrive() -> None:
            if not self.killed:
                query.answer(status, message)

        self.kernel.after(self.fleet.link_ns(self.model), arrive)

    def give_up(self) -> None:
        """The robot's session notices that this process is gone."""
        self.fleet.robot.on_leave(self.model.who)
        for query in self.queries:
            query.lost()
        self.queries.clear()

    def kill(self) -> None:
        self.killed, self.frozen = True, False
        self.kernel.after(KILL_NOTICE_NS, self.give_up)

    def freeze(self) -> None:
        self.frozen = True
        self.kernel.after(LEASE_NS, self.lease_over)

    def lease_over(self) -> None:
        if self.frozen and not self.given_up:
            self.given_up = True
            self.give_up()

    def thaw(self) -> None:
        self.frozen = False
        held, self.held = self.held, []
        for call in held:
            self.do(call)
        if self.given_up:
            self.given_up = False
            self.kernel.after(self.fleet.link_ns(self.model), self.announce)


class Robot:
    """The router policy, and the books of its callers."""

    def __init__(self, fleet: Fleet, router: Router) -> None:
        self.fleet, self.router, self.kernel = fleet, router, fleet.kernel
        self.alarm = Alarm(self.kernel, router.next_timer_ns, lambda: self.perform(router.on_timer(self.kernel.now_ns)))
        self.began_ns: dict[bytes, int] = {}
        self.outcomes: dict[bytes, list[tuple[str, int]]] = {}

    def call(self) -> None:
        request_id = len(self.began_ns).to_bytes(16, "big")
        self.began_ns[request_id] = self.kernel.now_ns
        self.outcomes[request_id] = []
        self.perform(self.router.on_call(request_id, self.kernel.now_ns))

    def on_answer(self, query: Query, status: Status, message: str) -> None:
        now_ns = self.kernel.now_ns
        if not self.router.is_open(query.request_id):
            return
        if status is Status.OK:
            self.perform(self.router.on_reply(query.request_id, query.who, b"", now_ns))
        else:
            error = ERROR_OF_STATUS[status](message)
            self.perform(self.router.on_error(query.request_id, query.who, error, now_ns))

    def on_ended(self, query: Query) -> None:
        self.perform(self.router.on_ended(query.request_id, query.who, self.kernel.now_ns))

    def on_join(self, who: ReplicaKey) -> None:
        self.fleet.note("join", b"", who)
        self.perform(self.router.on_join(who, SAID, self.kernel.now_ns))

    def on_leave(self, who: ReplicaKey) -> None:
        self.fleet.note("leave", b"", who)
        self.router.on_leave(who, SAID, self.kernel.now_ns)
        self.perform([])

    def perform(self, actions: list[Action]) -> None:
        now_ns = self.kernel.now_ns
        for action in actions:
            match action:
                case Send():
                    self.fleet.send(action)
                case Cancel():
                    self.fleet.cancel(action)
                case Deliver():
                    self.outcomes[action.request_id].append(("delivered", now_ns))
                    self.fleet.note("deliver", action.request_id, action.replica)
                case Fail():
                    self.outcomes[action.request_id].append((type(action.error).__name__, now_ns))
                    self.fleet.note(f"fail {action.error}", action.request_id, None)
        self.router.check()
        self.alarm.reset()


class Fleet:
    """One robot, one process a replica, and the links between."""

    def __init__(self, models: list[Model], router: Router, random: Random) -> None:
        self.kernel, self.random = Kernel(), random
        self.history: list[tuple[int, str, bytes, ReplicaKey | None]] = []
        self.robot = Robot(self, router)
        self.processes: list[Process] = []
        self.current: dict[ReplicaKey, Process] = {}
        for model in models:
            self.start(model)

    def note(self, event: str, request_id: bytes, who: ReplicaKey | None) -> None:
        self.history.append((self.kernel.now_ns, event, request_id, who))

    def start(self, model: Model) -> None:
        """A new process of a replica."""
        process = Process(self, model)
        self.processes.append(process)
        self.current[model.who] = process

    def link_ns(self, model: Model) -> int:
        return self.random.randint(*model.link_ns)

    def send(self, action: Send) -> None:
        process = self.current[action.replica]
        query = Query(self.robot, action.request_id, action.replica)
        process.queries = [q for q in process.queries if not q.over] + [query]
        header = Header(VERSION, action.request_id, action.attempt, action.budget_ms, HASH)
        self.note("send", action.request_id, action.replica)
        if process.killed:
            self.kernel.after(KILL_NOTICE_NS, query.lost)
        self.kernel.after(self.link_ns(process.model), lambda: process.do(lambda: process.on_query(query, header)))

    def cancel(self, action: Cancel) -> None:
        process = self.current[action.replica]
        for query in process.queries:
            if query.request_id == action.request_id:
                query.over = True  # withdrawn: no reply follows
        self.kernel.after(self.link_ns(process.model), lambda: process.do(lambda: process.on_cancel(action.request_id)))
