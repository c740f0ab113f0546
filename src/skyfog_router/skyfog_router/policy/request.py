"""One request, from its call to its one outcome.

    OPEN --an answer that will do (gather)------------------------> DONE (Deliver; the losers are cancelled)
    OPEN --deadline-----------------------------------------------> DONE (the best answer so far, or Fail)
    OPEN --everybody who may be asked answered, none validly------> DONE (Fail with the best-known reason)

Whom to ask, and when, is the fan-out policy's (fanout, slo); whether one more copy is allowed, retry's. A request that
has nobody to ask stays open until its deadline, since a replica may come. So does one whose replicas were lost (killed,
link gone): they may come back.

The fallback on the robot itself is asked last: when no other replica is there, the fleet is in panic or all others have
failed this request, else when the time left is what it needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skyfog_core.config.router import RoutingConfig
from skyfog_core.errors import (
    DeadlineExceeded,
    InvalidRequest,
    LinkLost,
    NoQuorum,
    NoReplica,
    NotExecuted,
    OutcomeUnknown,
    RequestError,
)
from skyfog_core.ids import RequestId
from skyfog_core.units import MS, ns_to_ms
from skyfog_core.wire.keys import ReplicaKey
from skyfog_router.policy.actions import NO_LOAD, Action, Cancel, Deliver, Fail, Load, Send, Why
from skyfog_router.policy.fanout import Copy, FanOut, Plan, Situation
from skyfog_router.policy.fleet import Fleet
from skyfog_router.policy.gather import Gather, Given, Quorum
from skyfog_router.policy.load_budget import LoadBudget
from skyfog_router.policy.rank import order
from skyfog_router.policy.replica import Replica
from skyfog_router.policy.retry import may_send, pause_ns

LOST_PAUSE_NS = 20 * MS  # a killed process is gone from the membership by then
LISTEN = 2  # times as long as it has taken, a copy that has lost is heard at most
LOCAL_QUANTILE = 0.95  # of the fallback's latency, for which time is kept
LOCAL_SLACK = 1.3
LOCAL_UNKNOWN = 0.5  # of the time there is, while nothing is known of the fallback


@dataclass(frozen=True, slots=True)
class Rules:
    """What the requests of one service share."""

    config: RoutingConfig
    fan_out: FanOut
    fleet: Fleet
    budget: LoadBudget


@dataclass(slots=True)
class _Pause:
    """A replica that refused, or whose link was lost: not asked again by this request before `until_ns`."""

    until_ns: int
    times: int
    error: RequestError


class Request:
    """Pure; every event returns the actions to perform, in order."""

    def __init__(
        self,
        request_id: RequestId,
        now_ns: int,
        slo_ns: int | None,
        rules: Rules,
        gather: Gather,
        affinity: bytes,
        budget_ms: int | None = None,
    ) -> None:
        """`slo_ns`: a duration, None where there is none yet. `budget_ms`: the caller's own, where it has one."""
        self.request_id = request_id
        self.started_ns = now_ns
        allowed_ms = rules.config.deadline_ms if budget_ms is None else min(budget_ms, rules.config.deadline_ms)
        self.deadline_ns = now_ns + max(0, allowed_ms) * MS
        self.slo_ns = min(self.deadline_ns, now_ns + slo_ns) if slo_ns else self.deadline_ns
        self.look_ns = self.deadline_ns  # when on_timer is due
        self.asked: dict[ReplicaKey, int] = {}  # no answer yet -> when asked
        self.trials: set[ReplicaKey] = set()  # of these, copies that are heard to the end
        self._hears = rules.config.policy != "broadcast"  # losers that take unusually long
        self.heard_until_ns = now_ns  # by when, once the request itself is over
        self.ended: dict[ReplicaKey, RequestError] = {}  # answered without a result, or lost
        self.attempts = 0
        self.done = False
        self._rules, self._gather, self._affinity = rules, gather, affinity
        self._queued: dict[ReplicaKey, float] = {}  # ns that a copy was to wait there
        self._pauses: dict[ReplicaKey, _Pause] = {}
        self._gave: set[ReplicaKey] = set()  # answered validly, and more answers are wanted
        self._rejoined: set[ReplicaKey] = set()  # asked, and a new process since: not asked yet
        self._may_have_run = False  # somewhere, even if a new process has taken that replica's place since
        self._hopeless = False  # the request itself is at fault
        self._slo_told = rules.config.answer == "first"
        self._by_slo = False  # the best of what had come by the SLO was delivered

    def advance(self, now_ns: int) -> list[Action]:
        """Ask whom the policy wants asked now, and decide when to look again."""
        if self.done or now_ns >= self.deadline_ns:
            return []
        self.look_ns = self.deadline_ns if self._slo_told else min(self.deadline_ns, self.slo_ns)
        actions: list[Action] = []
        if not self._hopeless and self._gather.wanted(len(self._gave)):
            plan = self._plan(now_ns)
            for replica, why in plan.ask:
                actions += self._ask(replica, why, now_ns)
            if plan.look_ns is not None:
                self.look_ns = min(self.look_ns, max(plan.look_ns, now_ns + 1))
            actions += self._ask_local(now_ns)
            for pause in self._pauses.values():
                if pause.until_ns > now_ns:
                    self.look_ns = min(self.look_ns, pause.until_ns)
        return actions

    def ask_beside(self, replica: Replica, now_ns: int) -> list[Action]:
        """One more copy to a replica on trial, whose answer is heard to the end."""
        if self.done or replica.key in self.asked or replica.key in self.ended or not self.attempts:
            return []
        if self.attempts + 1 >= self._rules.config.max_attempts:
            return []  # the last one is for what goes wrong
        actions = self._ask(replica, "probe", now_ns)
        if actions:
            self.trials.add(replica.key)
        return actions

    def on_reply(self, replica: ReplicaKey, response: Any, now_ns: int, load: Load = NO_LOAD) -> list[Action]:
        """A valid reply. Late and unknown ones are nothing."""
        if self.done or replica not in self.asked:
            return []
        del self.asked[replica]
        self._gave.add(replica)
        given = self._gather.take(Given(replica, response, load.service_ns))
        return self._deliver(given, now_ns) if given else self._go_on(now_ns)

    def on_error(self, replica: ReplicaKey, error: RequestError, load: Load, now_ns: int) -> list[Action]:
        """`replica` answered without a result, or the link to it ended (LinkLost): ask others, or give up."""
        if self.done or replica not in self.asked:
            return []
        del self.asked[replica]
        self._may_have_run |= not isinstance(error, NotExecuted)
        self._hopeless |= isinstance(error, InvalidRequest)
        times = self._pauses[replica].times + 1 if replica in self._pauses else 1
        again_ns = now_ns + pause_ns(times, LOST_PAUSE_NS if isinstance(error, LinkLost) else load.retry_after_ns)
        if isinstance(error, LinkLost) and replica in self._rejoined:
            self._rejoined.discard(replica)  # that was the old process
        elif self._may_come_again(error, load) and again_ns < self.deadline_ns:
            self._pauses[replica] = _Pause(again_ns, times, error)
        else:
            self._pauses.pop(replica, None)
            self.ended[replica] = error
        return self._go_on(now_ns)

    def on_join(self, replica: ReplicaKey, now_ns: int) -> list[Action]:
        """A replica came, or came back as a new process: it may be asked (again)."""
        self.ended.pop(replica, None)
        self._pauses.pop(replica, None)
        if replica in self.asked:
            self._rejoined.add(replica)
        return self.advance(now_ns)

    def on_timer(self, now_ns: int) -> list[Action]:
        """A moment that was planned, the SLO, or the deadline."""
        if self.done:
            return []
        if now_ns >= self.deadline_ns:
            return self._late(now_ns)
        if not self._slo_told and now_ns >= self.slo_ns:
            self._slo_told = True
            given = self._gather.at_slo()
            if given:
                self._by_slo = True
                return self._deliver(given, now_ns)
        return self.advance(now_ns)

    def in_time(self, now_ns: int) -> bool:
        """Whether an answer delivered now is within the SLO, however late the timer that had it delivered."""
        return now_ns <= self.slo_ns or self._by_slo

    def close(self, error: RequestError, now_ns: int) -> list[Action]:
        """The service shuts down: the best answer so far, or a failure that is no more certain than it may be."""
        given = self._gather.at_end()
        self.trials.clear()  # nobody is there to hear them
        self._hears = False
        if given:
            return self._deliver(given, now_ns)
        ran = self._may_have_run or self.asked or self._gave
        return self._fail(OutcomeUnknown(str(error)) if ran else error, now_ns)

    # inside

    def _plan(self, now_ns: int) -> Plan:
        fleet = self._rules.fleet
        config = self._rules.config
        busy = sum(
            1 for key in self.asked.keys() - self.trials if key in fleet.replicas and not fleet.replicas[key].local
        )
        room = min(config.fan_out - busy, config.max_attempts - self.attempts)
        least = self._gather.wanted(len(self._gave))
        if room < 1 or least < 1 or not may_send(config, self.attempts, len(self.asked), self._may_have_run):
            return Plan()
        everybody = config.policy == "broadcast"
        free = fleet.remote() if everybody else fleet.fit(now_ns)
        if self.asked or self.ended or self._pauses or self._gave:
            taken = {*self.asked, *self.ended, *self._gave}
            taken |= {key for key, pause in self._pauses.items() if pause.until_ns > now_ns}
            free = [r for r in free if r.key not in taken]
            if not free and not everybody:  # rather one that is ejected than none
                free = [r for r in fleet.remote() if r.key not in taken]
        fresh = free if everybody else order(fleet, free, self._affinity, now_ns)
        unfit = [r for r in fleet.unfit(now_ns) if self._free(r.key, now_ns) and r not in free]
        copies = [
            Copy(replica, now_ns - asked_ns, self._queued[key])
            for key, asked_ns in self.asked.items()
            if key not in self._rejoined
            and key not in self.trials
            and (replica := fleet.find(key))
            and not replica.local
        ]
        answers = len(self._gave)
        moment = Situation(
            now_ns, self.started_ns, self.slo_ns, self.deadline_ns, copies, fresh, unfit, least, room, answers
        )
        return self._rules.fan_out.plan(fleet, self._rules.budget, moment)

    def _free(self, key: ReplicaKey, now_ns: int) -> bool:
        """Whether this request may ask a replica now."""
        if key in self.asked or key in self.ended or key in self._gave:
            return False
        pause = self._pauses.get(key)
        return pause is None or pause.until_ns <= now_ns

    def _ask(self, replica: Replica, why: Why, now_ns: int) -> list[Action]:
        if not may_send(self._rules.config, self.attempts, len(self.asked), self._may_have_run):
            return []
        if why == "first" and self.attempts:
            why = "retry"
        self.asked[replica.key] = now_ns
        self._queued[replica.key] = replica.wait_ns(now_ns)
        self.trials.discard(replica.key)  # of an earlier copy
        budget_ms = max(1, (self.deadline_ns - now_ns) // MS)
        self._rules.fleet.on_sent(replica.key, self.request_id, now_ns)
        self.attempts += 1
        return [Send(self.request_id, replica.key, self.attempts - 1, budget_ms, why)]

    def _ask_local(self, now_ns: int) -> list[Action]:
        fleet = self._rules.fleet
        local = fleet.local()
        if local is None or not self._free(local.key, now_ns):
            return []
        if fleet.remote() and not fleet.panic() and self._others():
            needs_ns = local.sketch.quantile(LOCAL_QUANTILE)
            target_ns = self.slo_ns if self._rules.config.slo_ms else self.deadline_ns
            unknown_ns = (target_ns - self.started_ns) * LOCAL_UNKNOWN
            keep_ns = unknown_ns if needs_ns is None else needs_ns * LOCAL_SLACK
            due_ns = max(self.started_ns, round(target_ns - keep_ns))
            if now_ns < due_ns:
                self.look_ns = min(self.look_ns, due_ns)
                return []
        return self._ask(local, "local", now_ns)

    def _others(self) -> bool:
        """Whether a replica that is not on the robot may still answer."""
        if self.asked.keys() - self.trials:
            return True
        lost = {key for key, pause in self._pauses.items() if isinstance(pause.error, LinkLost)}
        given_up = {*self.ended, *self._gave, *lost}
        return any(replica.key not in given_up for replica in self._rules.fleet.remote())

    def _go_on(self, now_ns: int) -> list[Action]:
        """After an answer that does not end the request."""
        more = self.advance(now_ns)
        live = self._rules.fleet.replicas
        if more or self.asked or self._waits(now_ns):
            return more
        given = self._gather.at_end()
        if given:
            return self._deliver(given, now_ns)
        told = [*self.ended.values(), *(pause.error for pause in self._pauses.values())]
        if any(isinstance(error, LinkLost) for error in told) and not self._hopeless:
            return []  # somebody may come back before the deadline
        if not live and not self._hopeless:
            return []
        return self._fail(self._reason(), now_ns)

    def _may_come_again(self, error: RequestError, load: Load) -> bool:
        """Whether a replica that answered so may be asked once more: a live one knows a request by its id."""
        if isinstance(error, LinkLost):
            return self._rules.config.repeat == "idempotent"
        return isinstance(error, NotExecuted) and load.retry_after_ns > 0

    def _waits(self, now_ns: int) -> bool:
        """Whether somebody may still be asked later."""
        if self._hopeless or not self._gather.wanted(len(self._gave)):
            return False
        if any(self._pauses[key].until_ns > now_ns for key in self._pauses if key in self._rules.fleet.replicas):
            return may_send(self._rules.config, self.attempts, 0, self._may_have_run)
        free = any(self._free(key, now_ns) for key in self._rules.fleet.replicas)
        return free and may_send(self._rules.config, self.attempts, 0, self._may_have_run)

    def _deliver(self, given: Given, now_ns: int) -> list[Action]:
        replica = self._rules.fleet.find(given.replica)
        local = replica is not None and replica.local
        took_ns = now_ns - self.started_ns
        deliver = Deliver(
            self.request_id, given.replica, given.response, took_ns, local, self.attempts, given.service_ns
        )
        return [deliver, *self._close(now_ns)]

    def _fail(self, error: RequestError, now_ns: int) -> list[Action]:
        return [Fail(self.request_id, error, now_ns - self.started_ns), *self._close(now_ns)]

    def _late(self, now_ns: int) -> list[Action]:
        self.trials.clear()  # nor are they heard any longer
        given = self._gather.at_end()
        return self._deliver(given, now_ns) if given else self._fail(self._too_late(now_ns), now_ns)

    def _close(self, now_ns: int) -> list[Action]:
        self.done = True
        if self.trials & self.asked.keys():
            self.heard_until_ns = self.deadline_ns
        if self._hears and now_ns < self.deadline_ns:
            for key, asked_ns in self.asked.items():
                if key not in self.trials and self._rules.fleet.listen(key, self.request_id, now_ns):
                    self.trials.add(key)
                    until_ns = min(self.deadline_ns, now_ns + LISTEN * (now_ns - asked_ns))
                    self.heard_until_ns = max(self.heard_until_ns, until_ns)
        return [Cancel(self.request_id, replica) for replica in sorted(self.asked) if replica not in self.trials]

    def _reason(self) -> RequestError:
        """Everybody answered without a result: certain only if everybody is certain."""
        told = self.ended | {key: pause.error for key, pause in self._pauses.items()}
        text = "; ".join(f"{replica}: {error}" for replica, error in sorted(told.items()))
        if isinstance(self._gather, Quorum) and self._gather.disagreement:
            return NoQuorum("; ".join(part for part in (self._gather.disagreement, text) if part))
        if not told:
            if self._may_have_run:
                return OutcomeUnknown("a process that is gone may have run it")
            return NoReplica("nobody could be asked")
        unsure = [error for error in told.values() if not isinstance(error, NotExecuted)]
        if self._may_have_run and not unsure:
            return OutcomeUnknown(f"{text}; a process that is gone may have run it")
        first = unsure[0] if unsure else next(iter(told.values()))
        return type(first)(text)

    def _too_late(self, now_ns: int) -> RequestError:
        waited = f"after {ns_to_ms(now_ns - self.started_ns):.0f} ms"
        if self.attempts == 0:
            return NoReplica(f"no replica was there to ask, {waited}")
        told = self.ended | {key: pause.error for key, pause in self._pauses.items()}
        if isinstance(self._gather, Quorum) and self._gather.disagreement:
            return NoQuorum(f"{self._gather.disagreement}, {waited}")
        if not self.asked and told and not self._may_have_run:
            return NoReplica(f"{self._reason()}, {waited}")
        text = [f"{replica}: no answer" for replica in sorted(self.asked)]
        text += [f"{replica}: {error}" for replica, error in sorted(told.items())]
        return DeadlineExceeded(
            f"no valid reply {waited} ({'; '.join(text) or 'who was asked is a new process since'})"
        )
