"""What one robot knows of the replicas of one service: load, latency, health, and who is fit to be asked."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from random import Random

from skyfog_core.config.router import RoutingConfig
from skyfog_core.ids import RequestId
from skyfog_core.units import MS, S
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.membership import Announcement
from skyfog_router.policy.actions import Action, Eject, Load, Readmit
from skyfog_router.policy.health import FROZEN, HealthPolicy, Medians, State
from skyfog_router.policy.latency import LatencySketch
from skyfog_router.policy.replica import PRIOR_ANSWERS, TRIAL_EVERY_NS, Replica
from skyfog_router.policy.zones import Zones

KNOWN = 8.0  # answers of the service from which on its latency counts as known
USUAL, UNUSUAL = 0.7, 2.3  # -ln S of a wait beyond the median, beyond the 90 % quantile
LOST_UNHEARD = 4  # copies that lost in a row, after which one is heard though its wait is not unusual
STALE_NS = 10 * S  # a replica not heard of for so long is tried on the side
MOST_AWAY = 256


class Fleet:
    """All live replicas of one service. `on_…` methods return what should be logged: Eject, Readmit."""

    def __init__(self, config: RoutingConfig, zone: str, random: Random) -> None:
        self.config = config
        self.zone = zone
        self.random = random
        self.pool = LatencySketch()
        self.zones = Zones()
        self.policy = HealthPolicy(config.health)
        self.replicas: dict[ReplicaKey, Replica] = {}
        self.last_winner: ReplicaKey | None = None
        self._away: OrderedDict[ReplicaKey, Replica] = OrderedDict()  # left; still answering, or cut off for a while
        self._came = 0
        # What the questions below need of `replicas`, kept by event, since there may be a hundred of them.
        self._remote: list[Replica] = []
        self._local: Replica | None = None
        self._busy: dict[ReplicaKey, Replica] = {}  # with open requests
        self._sick: dict[ReplicaKey, Replica] = {}  # remote ones that are not healthy
        self._medians = Medians()  # of remote ones
        self._back_ns = 0  # nobody pushes back after
        self._no_trial_ns = 0  # nobody is on trial before, but for what resets this

    def reconfigure(self, config: RoutingConfig) -> None:
        self.config = config
        self.policy.config = config.health
        self._no_trial_ns = 0
        for replica in self._remote:
            self._tell_median(replica)

    def join(self, key: ReplicaKey, said: Announcement, now_ns: int) -> None:
        """A replica came, or a new process in its place, of which nothing is known."""
        known = self.replicas.get(key) or self._away.pop(key, None)
        if known is None or known.said.boot != said.boot:
            weight = int.from_bytes(hashlib.blake2b(str(key).encode(), digest_size=8).digest())
            known = Replica(key, said, self.pool, weight=weight, heard_ns=now_ns, told_ns=now_ns)
        known.said = said
        if key not in self.replicas:
            self._came += 1
        known.number = self.replicas[key].number if key in self.replicas else self._came
        self.replicas[key] = known
        self._members_changed()

    def leave(self, key: ReplicaKey) -> None:
        """A replica drains, died or is cut off. What it did is kept for a while: it may be back."""
        replica = self.replicas.pop(key, None)
        if replica is not None:
            self._members_changed()
            self._away[key] = replica
            if len(self._away) > MOST_AWAY:
                self._away.popitem(last=False)

    def close(self) -> None:
        """Nothing is under way any more."""
        for replica in [*self.replicas.values(), *self._away.values()]:
            replica.open.clear()
        self._busy.clear()
        self._no_trial_ns = 0

    def find(self, key: ReplicaKey) -> Replica | None:
        """A replica that is there, or was until lately."""
        return self.replicas.get(key) or self._away.get(key)

    def remote(self) -> list[Replica]:
        """Those that are not on the robot. Not to be changed by the caller."""
        return self._remote

    def local(self) -> Replica | None:
        """The fallback on the robot itself."""
        return self._local

    def panic(self) -> bool:
        """Whether health is not believed at present."""
        return self.policy.panic(len(self._remote) - len(self._sick), len(self._remote))

    @property
    def learns(self) -> bool:
        """Whether unknown replicas are tried by copies on the side."""
        config = self.config
        return config.policy in {"slo", "hedged"} and config.repeat == "idempotent" and config.extra_load > 0

    def known(self) -> bool:
        """Whether enough answers came to plan by."""
        return self.pool.count >= KNOWN

    def fit(self, now_ns: int) -> list[Replica]:
        """Remote replicas that may be asked for an answer: not ejected, not on trial, not pushing back."""
        if (not self._sick and self._back_ns <= now_ns) or self.panic():
            return self._remote
        return [r for r in self._remote if r.health.state is State.HEALTHY and r.back_ns <= now_ns] or self._remote

    def unfit(self, now_ns: int) -> list[Replica]:
        """Remote replicas that `fit` leaves out for their health alone: for who would fail otherwise."""
        if not self._sick or self.panic():
            return []
        return [r for r in self._remote if r.key in self._sick and r.back_ns <= now_ns]

    def check(self) -> None:
        """Raise AssertionError if what is kept beside `replicas` is not what they say."""
        there = self.replicas
        remote = [r for r in there.values() if not r.said.local]
        assert self._remote == remote
        assert self._local is next((r for r in there.values() if r.said.local), None)
        assert self._busy == {key: r for key, r in there.items() if r.open}
        assert self._sick == {r.key: r for r in remote if r.health.state is not State.HEALTHY}
        assert all(r.back_ns <= self._back_ns for r in remote)
        numbers = [r.number for r in there.values()]
        assert numbers == sorted(numbers)

    # events

    def on_sent(self, key: ReplicaKey, request_id: RequestId, now_ns: int) -> None:
        replica = self.replicas.get(key)
        if replica is not None:
            replica.open[request_id] = now_ns
            self._busy[key] = replica
            replica.asked += 1
            replica.sent_since += 1

    def on_answer(self, key: ReplicaKey, request_id: RequestId, load: Load, now_ns: int) -> list[Action]:
        """A valid answer."""
        replica, took_ns = self._over(key, request_id, now_ns)
        if replica is None:
            return []
        self._told(replica, load, now_ns)
        net_ns = max(1, took_ns - load.queue_ns)
        self._slow(replica, net_ns, now_ns)
        replica.sketch.answer(net_ns, now_ns)
        if not replica.said.local:
            self.pool.answer(net_ns, now_ns)
        replica.took(took_ns, now_ns)
        health = replica.health
        health.on_answer(self.config.health, net_ns, now_ns)
        self._tell_median(replica)
        replica.answered += 1
        ejected = self._judge(replica, now_ns)
        if ejected or health.state is State.HEALTHY:
            return ejected
        if health.state is State.EJECTED and health.why != FROZEN:
            return []  # to what it was asked before; only to silence an answer is the cure
        health.readmit()
        self._state_changed(replica)
        return [Readmit(key)]

    def on_refused(self, key: ReplicaKey, request_id: RequestId, load: Load, now_ns: int) -> None:
        """It did not run: nothing is learnt but its load, and that it lives."""
        replica, _ = self._over(key, request_id, now_ns)
        if replica is not None:
            self._told(replica, load, now_ns)
            replica.back_ns = max(replica.back_ns, now_ns + load.retry_after_ns)
            self._back_ns = max(self._back_ns, replica.back_ns)
            replica.health.on_sign_of_life(now_ns)

    def on_failed(self, key: ReplicaKey, request_id: RequestId, why: str, load: Load, now_ns: int) -> list[Action]:
        """An answer that is none, a service that raised, or a link that was lost."""
        replica, took_ns = self._over(key, request_id, now_ns)
        if replica is None:
            return []
        self._told(replica, load, now_ns)
        replica.sketch.never(now_ns)
        self.zones.observe(key, True, now_ns)
        replica.took(took_ns, now_ns)
        replica.health.on_failure(why)
        replica.failed += 1
        return self._judge(replica, now_ns)

    def on_given_up(self, key: ReplicaKey, request_id: RequestId, now_ns: int) -> list[Action]:
        """Nobody waits for its answer any more: another was first, or time is over."""
        replica, waited_ns = self._over(key, request_id, now_ns)
        if replica is None:
            return []
        asked_ns = now_ns - waited_ns
        if asked_ns >= replica.told_ns and replica.sent_since:  # withdrawn: it waits there no longer
            replica.sent_since -= 1
        if replica.sketch.count >= PRIOR_ANSWERS:
            hazard = replica.sketch.hazard(waited_ns)
            replica.health.on_silence(hazard, asked_ns, now_ns)
            if hazard > UNUSUAL:
                self.zones.observe(key, True, now_ns)
        replica.lost += 1
        replica.sketch.censor(waited_ns, now_ns)
        if not replica.said.local:
            self.pool.censor(waited_ns, now_ns)
        if waited_ns > replica.peak_ewma_ns(now_ns):
            replica.took(waited_ns, now_ns)
        return self._judge(replica, now_ns)

    def on_deadline_missed(self, key: ReplicaKey, request_id: RequestId, now_ns: int) -> list[Action]:
        """It had all the time there was."""
        replica = self.find(key)
        if replica is not None and request_id in replica.open:
            replica.health.on_failure("no answer by the deadline")
            replica.failed += 1
        return self.on_given_up(key, request_id, now_ns)

    def listen(self, key: ReplicaKey, request_id: RequestId, now_ns: int) -> bool:
        """Whether to hear a copy that has lost to its end: one at a time a replica, if it takes unusually long.

        Who withdraws every loser when another is first never learns that a replica has turned bad, only that it was
        not the first.
        """
        replica = self.replicas.get(key)
        if replica is None or replica.local or replica.heard or replica.sketch.count < PRIOR_ANSWERS:
            return False
        asked_ns = replica.open.get(request_id)
        if asked_ns is None:
            return False
        hazard = replica.sketch.hazard(now_ns - asked_ns)
        if hazard < (USUAL if replica.lost >= LOST_UNHEARD else UNUSUAL):
            return False
        replica.heard, replica.lost = request_id, 0
        return True

    def look(self, now_ns: int) -> list[Action]:
        """Eject who is overdue, let those try again whose ejection is over."""
        actions: list[Action] = []
        concerned = {**self._busy, **self._sick}
        for replica in sorted(concerned.values(), key=lambda replica: replica.number):
            if replica.health.state is State.EJECTED and replica.health.until_ns <= now_ns:
                if self.config.repeat == "idempotent" and self.config.extra_load:
                    replica.health.try_again()
                else:  # no copy on the side is allowed
                    replica.health.readmit(probation=True)
                    actions.append(Readmit(replica.key))
                self._state_changed(replica)
            elif replica.open and replica.health.state is State.HEALTHY:
                actions += self._judge(replica, now_ns)
        return actions

    def on_trial(self, now_ns: int) -> Iterator[Replica]:
        """Whom a real request may be copied to, to see how it does: after an ejection, unknown, or long unheard.

        Only the policies that plan by latencies try the unknown and the unheard.
        """
        if now_ns < self._no_trial_ns:
            return
        due_ns = now_ns + STALE_NS
        for replica in self._remote:
            if replica.health.state is State.EJECTED:
                continue  # _state_changed tells when that is no longer so
            if replica.health.state is State.HEALTHY and not self.learns:
                continue
            on_trial = replica.health.state is State.PROBING or replica.sketch.count < PRIOR_ANSWERS
            replica_ns = max(replica.tried_ns + TRIAL_EVERY_NS, replica.back_ns)
            if not on_trial:
                replica_ns = max(replica_ns, replica.heard_ns + STALE_NS + 1)
            if replica_ns <= now_ns:
                if replica.open:
                    continue  # _over tells when that is no longer so
                yield replica
            due_ns = min(due_ns, replica_ns)
        self._no_trial_ns = due_ns

    # inside

    def _members_changed(self) -> None:
        there = self.replicas
        self._remote = [r for r in there.values() if not r.said.local]
        self._local = next((r for r in there.values() if r.said.local), None)
        self._busy = {key: r for key, r in there.items() if r.open}
        self._sick = {r.key: r for r in self._remote if r.health.state is not State.HEALTHY}
        self._back_ns = max((r.back_ns for r in self._remote), default=0)
        self._no_trial_ns = 0
        self._medians = Medians()
        for replica in self._remote:
            self._tell_median(replica)

    def _state_changed(self, replica: Replica) -> None:
        if replica.health.state is State.HEALTHY or replica.said.local:
            self._sick.pop(replica.key, None)
        elif replica.key in self.replicas:
            self._sick[replica.key] = replica
        self._no_trial_ns = 0
        self._tell_median(replica)

    def _tell_median(self, replica: Replica) -> None:
        if not replica.said.local and replica.key in self.replicas:
            enough = replica.health.answers >= self.config.health.outlier_samples
            self._medians.tell(replica.key, replica.health.median_ns if enough else None)

    def _over(self, key: ReplicaKey, request_id: RequestId, now_ns: int) -> tuple[Replica | None, int]:
        replica = self.find(key)
        if replica is None:
            return None, 0
        asked_ns = replica.open.pop(request_id, None)
        if replica.heard == request_id:
            replica.heard = None
        if not replica.open:
            self._busy.pop(key, None)
            if replica.sketch.count < PRIOR_ANSWERS + 1.0 or now_ns - replica.heard_ns > STALE_NS or key in self._sick:
                self._no_trial_ns = 0
        return (None, 0) if asked_ns is None else (replica, max(1, now_ns - asked_ns))

    def _told(self, replica: Replica, load: Load, now_ns: int) -> None:
        replica.heard_ns = now_ns
        if load.service_ns:
            old = replica.service_ns or float(load.service_ns)
            replica.service_ns = 0.8 * old + 0.2 * load.service_ns
        replica.ahead, replica.told_ns, replica.sent_since = load.queue_depth + load.running, now_ns, 0

    def _slow(self, replica: Replica, took_ns: int, now_ns: int) -> None:
        usual = replica.sketch.quantile(0.9) if replica.sketch.count >= PRIOR_ANSWERS else None
        if usual is not None:
            self.zones.observe(replica.key, took_ns > usual, now_ns)

    def _judge(self, replica: Replica, now_ns: int) -> list[Action]:
        health = replica.health
        if replica.said.local or replica.key not in self.replicas:
            return []
        if health.state is State.EJECTED:
            return []
        judge = self.policy.verdict if health.state is State.HEALTHY else self.policy.on_trial
        why = judge(health, replica.silence(now_ns), self._medians.beside(replica.key))
        if not why:
            return []
        out = len(self._sick) - (replica.key in self._sick)
        if not self.policy.may_eject(out, len(self._remote)):
            return []
        for_ns = health.eject(self.config.health, why, now_ns)
        self._state_changed(replica)
        return [Eject(replica.key, for_ns, f"{why} (out for {for_ns / MS:.0f} ms)")]
