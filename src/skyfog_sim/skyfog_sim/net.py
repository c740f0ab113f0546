"""Links between robots and replicas: delay, loss, disorder, and what a cut does to a session.

As zenoh over TCP behaves. Each pair of a robot and a process of a replica has a session; it carries messages in order,
but for those that are drawn to overtake. While a direction is cut its messages are held. A session that hears nothing
of the other end for its lease (cut either way, frozen or killed) goes down: what was held is lost, the robot sees the
replica's token go and its queries end. Once the cut is healed the session comes up again, and the token with it.

    UP --silent for the lease, or killed--> DOWN --heard again, same process--> UP
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from skyfog_core.ids import RequestId
from skyfog_core.units import MS
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.membership import Announcement
from skyfog_sim.durations import Duration
from skyfog_sim.kernel import Kernel

KILL_NOTICE_NS = 8 * MS  # until the end of a killed process is seen
RECONNECT_NS = 20 * MS
RESEND_NS = 200 * MS  # least time-out of TCP's retransmission


@dataclass(frozen=True, slots=True)
class WayModel:
    """One direction of a link."""

    delay: Duration
    loss: float = 0.0  # share of messages
    resend_ns: int = RESEND_NS  # later by this where lost; 0: gone for good. Tokens are always sent again
    reorder: float = 0.0  # share of messages that may overtake earlier ones
    twice: float = 0.0  # share of messages that come twice, as by two zenoh routers


@dataclass(frozen=True, slots=True)
class LinkModel:
    """Both directions between one robot and one replica."""

    there: WayModel
    back: WayModel

    @property
    def most_ns(self) -> int:
        """There and back, without loss."""
        return self.there.delay.most_ns + self.back.delay.most_ns


@dataclass(slots=True)
class Way:
    """One direction as it is now: faults change it, for all sessions that ever use it."""

    model: WayModel
    cuts: int = 0
    late_ns: int = 0  # added to each message
    losses: list[float] = field(default_factory=list)  # added to the model's


@dataclass(slots=True)
class Link:
    """What lies between one robot and one replica, whichever process that is."""

    there: Way
    back: Way
    sessions: list[Session] = field(default_factory=list)

    @classmethod
    def of(cls, model: LinkModel) -> Link:
        return cls(Way(model.there), Way(model.back))

    def change(self) -> None:
        """A cut began or ended."""
        self.sessions = [session for session in self.sessions if not session.gone]
        for session in self.sessions:
            session.look()


class RobotEnd(Protocol):
    """What a session tells its robot."""

    def on_join(self, replica: ReplicaKey, announcement: Announcement) -> None: ...
    def on_leave(self, replica: ReplicaKey, announcement: Announcement) -> None: ...
    def on_ended(self, request_id: RequestId, replica: ReplicaKey) -> None: ...


class ReplicaEnd(Protocol):
    """What a session wants to know of its process."""

    @property
    def who(self) -> ReplicaKey: ...
    @property
    def frozen(self) -> bool: ...
    @property
    def killed(self) -> bool: ...
    @property
    def announced(self) -> Announcement | None: ...


class _Channel:
    """The messages of one direction of one session."""

    def __init__(self, kernel: Kernel, random: Random, way: Way) -> None:
        self._kernel, self._random, self._way = kernel, random, way
        self._last_ns = 0
        self._epoch = 0
        self._held: list[tuple[Callable[[], None], bool]] = []

    def carry(self, call: Callable[[], None], certain: bool = False) -> bool:
        """`call` at the other end, later. Returns False where the message is lost for good."""
        way, model, random = self._way, self._way.model, self._random
        if way.cuts:
            self._held.append((call, certain))
            return True
        delay_ns = model.delay.draw(random) + way.late_ns
        loss = model.loss + sum(way.losses)
        if loss and random.random() < loss:
            if not model.resend_ns and not certain:
                return False
            delay_ns += model.resend_ns or RESEND_NS
        arrival_ns = self._kernel.now_ns + delay_ns
        if certain or not (model.reorder and random.random() < model.reorder):
            arrival_ns = self._last_ns = max(arrival_ns, self._last_ns)
        epoch = self._epoch

        def arrive() -> None:
            if epoch == self._epoch:
                call()

        self._kernel.at(arrival_ns, arrive)
        if model.twice and not certain and random.random() < model.twice:
            self._kernel.at(arrival_ns + model.delay.draw(random), arrive)
        return True

    def flush(self) -> None:
        """Send what was held, unless the cut goes on."""
        if not self._way.cuts and self._held:
            held, self._held = self._held, []
            for call, certain in held:
                self.carry(call, certain)

    def drop(self) -> None:
        """The session is down: nothing that is under way arrives."""
        self._held.clear()
        self._epoch += 1
        self._last_ns = 0


class Session:
    """One robot and one process of a replica, while both are there."""

    def __init__(
        self, kernel: Kernel, random: Random, link: Link, robot: RobotEnd, process: ReplicaEnd, lease_ns: int
    ) -> None:
        self._kernel, self._link, self._robot, self._process = kernel, link, robot, process
        self._lease_ns = lease_ns
        self._there = _Channel(kernel, random, link.there)
        self._back = _Channel(kernel, random, link.back)
        self.queries: dict[RequestId, Query] = {}
        self.up = True
        self._silent_since_ns: int | None = None
        self._token: Announcement | None = None  # as the robot sees it
        link.sessions.append(self)
        self.look()

    @property
    def gone(self) -> bool:
        """Down for good."""
        return self._process.killed and not self.up

    def ask(self, request_id: RequestId, budget_ns: int, arrive: Callable[[Query], None]) -> Query:
        """Send a query. It ends once it is answered, withdrawn or lost, or by its time-out, in an event of its own."""
        query = Query(self, request_id)
        if not self.up:
            self._kernel.after(0, query.end)
            return query
        self.queries[request_id] = query
        self._there.carry(lambda: arrive(query))
        self._kernel.after(budget_ns, query.end)
        return query

    def withdraw(self, request_id: RequestId, arrive: Callable[[], None]) -> None:
        """End a query early, and tell the process, whom it may not reach."""
        query = self.queries.get(request_id)
        if query is not None:
            query.over = True
            self._kernel.after(0, lambda: self.forget(query))
            self._there.carry(arrive)

    def answer(self, query: Query, reply: Callable[[], None]) -> None:
        """A reply is sent; `reply` runs at the robot when it arrives, unless the query is over by then."""

        def arrive() -> None:
            if not query.over:
                reply()
                query.end()

        if self.up:
            self._back.carry(arrive)

    def announce(self) -> None:
        """The process holds another token now, or none."""
        if self.up:
            said = self._process.announced
            self._back.carry(lambda: self._tell(said), certain=True)

    def look(self) -> None:
        """Something of the link or the process changed."""
        cut = bool(self._link.there.cuts or self._link.back.cuts)
        if self._process.killed and not cut and self.up:
            self._kernel.after(KILL_NOTICE_NS, self._down)
        elif cut or self._process.frozen or self._process.killed:
            if self._silent_since_ns is None:
                self._silent_since_ns = self._kernel.now_ns
                since_ns = self._silent_since_ns
                self._kernel.after(self._lease_ns, lambda: self._lease_over(since_ns))
        elif self._silent_since_ns is not None:
            self._silent_since_ns = None
            if not self.up:
                self._kernel.after(RECONNECT_NS, self._reconnect)
        if self.up:
            self._there.flush()
            self._back.flush()

    def forget(self, query: Query) -> None:
        """The query is over."""
        if self.queries.get(query.request_id) is query:
            del self.queries[query.request_id]
        self._robot.on_ended(query.request_id, self._process.who)

    def _tell(self, said: Announcement | None) -> None:
        old, self._token = self._token, said
        if said is not None and said != old:
            self._robot.on_join(self._process.who, said)
        if old is not None and old != said:
            self._robot.on_leave(self._process.who, old)

    def _lease_over(self, since_ns: int) -> None:
        if self._silent_since_ns == since_ns:
            self._down()

    def _down(self) -> None:
        if not self.up:
            return
        self.up = False
        self._there.drop()
        self._back.drop()
        self._tell(None)
        for query in list(self.queries.values()):
            query.end()

    def _reconnect(self) -> None:
        if self._silent_since_ns is None and not self.up and not self._process.killed:
            self.up = True
            self.announce()


class Query:
    """One request on its way to one process of a replica, and back: at most one reply, exactly one end."""

    __slots__ = ("over", "request_id", "session")

    def __init__(self, session: Session, request_id: RequestId) -> None:
        self.session, self.request_id = session, request_id
        self.over = False

    def end(self) -> None:
        """No reply follows."""
        if not self.over:
            self.over = True
            self.session.forget(self)
