from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest

from skyfog_core.units import MS
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.membership import Announcement
from skyfog_sim.durations import Constant, Uniform
from skyfog_sim.kernel import Kernel
from skyfog_sim.net import KILL_NOTICE_NS, RECONNECT_NS, RESEND_NS, Link, LinkModel, Query, Session, WayModel

WHO = ReplicaKey("a", "0")
SAID = Announcement(boot=1)
LEASE_NS = 100 * MS
WAY_NS = 10 * MS
REQUEST = b"r" * 16
BUDGET_NS = 1_000 * MS


@dataclass
class FakeProcess:
    who: ReplicaKey = WHO
    frozen: bool = False
    killed: bool = False
    announced: Announcement | None = SAID


@dataclass
class FakeRobot:
    kernel: Kernel
    heard: list[tuple[int, str]] = field(default_factory=list)

    def note(self, what: str) -> None:
        self.heard.append((self.kernel.now_ns // MS, what))

    def on_join(self, replica: ReplicaKey, announcement: Announcement) -> None:
        self.note(f"join {announcement.boot}")

    def on_leave(self, replica: ReplicaKey, announcement: Announcement) -> None:
        self.note(f"leave {announcement.boot}")

    def on_ended(self, request_id: bytes, replica: ReplicaKey) -> None:
        self.note("ended")


class Pair:
    """One robot, one process, and a session between."""

    def __init__(self, there: WayModel | None = None) -> None:
        way = WayModel(Constant(WAY_NS))
        self.kernel = Kernel()
        self.robot, self.process = FakeRobot(self.kernel), FakeProcess()
        self.link = Link.of(LinkModel(there or way, way))
        self.session = Session(self.kernel, Random(3), self.link, self.robot, self.process, LEASE_NS)
        self.arrived: list[tuple[int, bytes]] = []

    def ask(self, request_id: bytes = REQUEST, answer: bool = True, budget_ns: int = BUDGET_NS) -> Query:
        def arrive(query: Query) -> None:
            self.arrived.append((self.kernel.now_ns // MS, query.request_id))
            if answer:
                self.session.answer(query, lambda: self.robot.note("reply"))

        return self.session.ask(request_id, budget_ns, arrive)

    def cut(self, there: int = 1, back: int = 1) -> None:
        self.link.there.cuts += there
        self.link.back.cuts += back
        self.link.change()

    def freeze(self, frozen: bool) -> None:
        self.process.frozen = frozen
        self.session.look()

    def at(self, ms: int, *calls: object) -> None:
        for call in calls:
            self.kernel.at(ms * MS, call)  # type: ignore[arg-type]


def test_a_query_is_answered_and_then_ends_once() -> None:
    pair = Pair()
    pair.ask()
    pair.kernel.run()
    assert pair.robot.heard == [(20, "reply"), (20, "ended")]
    assert not pair.session.queries


def test_a_query_without_an_answer_ends_by_its_time_out() -> None:
    pair = Pair()
    pair.ask(answer=False, budget_ns=70 * MS)
    pair.kernel.run()
    assert pair.robot.heard == [(70, "ended")]


def test_a_late_answer_reaches_nobody() -> None:
    pair = Pair()
    pair.ask(budget_ns=15 * MS)
    pair.kernel.run()
    assert pair.robot.heard == [(15, "ended")]


def test_a_withdrawn_query_ends_at_once_and_the_process_is_told() -> None:
    pair, told = Pair(), []
    pair.ask()
    pair.at(5, lambda: pair.session.withdraw(REQUEST, lambda: told.append(pair.kernel.now_ns // MS)))
    pair.kernel.run()
    assert pair.robot.heard == [(5, "ended")]
    assert told == [15]


def test_messages_keep_their_order_whatever_their_delays() -> None:
    pair = Pair(WayModel(Uniform(1 * MS, 50 * MS)))
    for i in range(30):
        pair.ask(bytes([i]) * 16, answer=False)
    pair.kernel.run()
    assert [request_id[0] for _, request_id in pair.arrived] == list(range(30))


def test_some_messages_overtake_where_they_are_drawn_to() -> None:
    pair = Pair(WayModel(Uniform(1 * MS, 50 * MS), reorder=0.5))
    for i in range(30):
        pair.ask(bytes([i]) * 16, answer=False)
    pair.kernel.run()
    order = [request_id[0] for _, request_id in pair.arrived]
    assert sorted(order) == list(range(30)) != order


@pytest.mark.parametrize(("resend_ns", "arrives"), [(0, []), (RESEND_NS, [(210, REQUEST)])])
def test_a_lost_message_is_gone_or_comes_later(resend_ns: int, arrives: list[tuple[int, bytes]]) -> None:
    pair = Pair(WayModel(Constant(WAY_NS), loss=1.0, resend_ns=resend_ns))
    pair.ask()
    pair.kernel.run()
    assert pair.arrived == arrives


def test_a_token_is_never_lost() -> None:
    pair = Pair()
    pair.link.back.losses.append(1.0)
    pair.link.back.model = WayModel(Constant(WAY_NS), resend_ns=0)
    pair.session.announce()
    pair.kernel.run()
    assert pair.robot.heard == [(210, "join 1")]


def test_a_short_cut_holds_messages_and_loses_none() -> None:
    pair = Pair()
    pair.session.announce()
    pair.at(20, pair.cut, pair.ask)
    pair.at(80, lambda: pair.cut(-1, -1))
    pair.kernel.run()
    assert pair.arrived == [(90, REQUEST)]
    assert pair.robot.heard == [(10, "join 1"), (100, "reply"), (100, "ended")]


@pytest.mark.parametrize(("there", "back"), [(1, 1), (1, 0), (0, 1)])
def test_a_cut_longer_than_the_lease_ends_queries_and_takes_the_token_away_until_it_is_healed(
    there: int, back: int
) -> None:
    pair = Pair()
    pair.session.announce()
    pair.at(20, lambda: pair.cut(there, back), lambda: pair.ask(answer=False))
    pair.at(200, lambda: pair.cut(-there, -back))
    pair.kernel.run()
    again = 200 + (RECONNECT_NS + WAY_NS) // MS
    assert pair.robot.heard == [(10, "join 1"), (120, "leave 1"), (120, "ended"), (again, "join 1")]


def test_one_way_only_the_way_that_is_cut_is_silent() -> None:
    pair = Pair()
    pair.at(0, lambda: pair.cut(there=0, back=1), pair.ask)
    pair.at(50, lambda: pair.cut(0, -1))
    pair.kernel.run()
    assert pair.arrived == [(10, REQUEST)]
    assert pair.robot.heard == [(60, "reply"), (60, "ended")]


def test_cuts_that_overlap_heal_when_the_last_one_does() -> None:
    pair = Pair()
    pair.at(0, pair.cut, pair.cut, pair.ask)
    pair.at(30, lambda: pair.cut(-1, -1))
    pair.at(60, lambda: pair.cut(-1, -1))
    pair.kernel.run()
    assert pair.arrived == [(70, REQUEST)]


def test_a_frozen_process_is_given_up_after_its_lease_and_comes_back() -> None:
    pair = Pair()
    pair.session.announce()
    pair.at(20, lambda: pair.freeze(True))
    pair.at(300, lambda: pair.freeze(False))
    pair.kernel.run()
    assert pair.robot.heard == [(10, "join 1"), (120, "leave 1"), (330, "join 1")]


def test_a_process_that_thaws_within_its_lease_was_never_away() -> None:
    pair = Pair()
    pair.session.announce()
    pair.at(20, lambda: pair.freeze(True))
    pair.at(110, lambda: pair.freeze(False))
    pair.kernel.run()
    assert pair.robot.heard == [(10, "join 1")]


def test_the_end_of_a_killed_process_is_seen_at_once() -> None:
    pair = Pair()
    pair.session.announce()
    pair.at(20, lambda: pair.ask(answer=False))
    pair.at(50, lambda: setattr(pair.process, "killed", True), pair.session.look)
    pair.kernel.run()
    seen = 50 + KILL_NOTICE_NS // MS
    assert pair.robot.heard == [(10, "join 1"), (seen, "leave 1"), (seen, "ended")]
    assert pair.session.gone


def test_behind_a_cut_a_killed_process_is_missed_only_after_the_lease() -> None:
    pair = Pair()
    pair.session.announce()
    pair.at(20, pair.cut)
    pair.at(50, lambda: setattr(pair.process, "killed", True), pair.session.look)
    pair.kernel.run()
    assert pair.robot.heard == [(10, "join 1"), (120, "leave 1")]


def test_a_query_to_who_is_gone_ends_at_once() -> None:
    pair = Pair()
    pair.process.killed = True
    pair.session.look()
    pair.at(50, pair.ask)
    pair.kernel.run()
    assert pair.robot.heard == [(50, "ended")]
    assert not pair.arrived
