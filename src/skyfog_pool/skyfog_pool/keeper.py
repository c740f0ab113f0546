"""A pool's policy and its store kept in step: what happened goes in, what is to be done comes out, time is an argument.

Every method is one turn: the policy is told, and what it decides is committed with its snapshot in one transaction;
only then are the effects returned. A controller that dies before the commit has decided nothing, one that dies after it
leaves rows from which its successor goes on: a replica without a machine is asked for again with the same token, one
that is to go is given back again, and a machine that no row knows is given back (reconcile.py).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from skyfog_core.config.pool import ServiceSpec
from skyfog_core.units import S
from skyfog_core.wire.keys import ReplicaKey
from skyfog_pool import report
from skyfog_pool.journal import Journal
from skyfog_pool.lifecycle import State
from skyfog_pool.policy.actions import Action, Drain, Launch, Terminate
from skyfog_pool.policy.make import make_policy
from skyfog_pool.policy.market import LaunchFault, Notice, Prices, Zone
from skyfog_pool.policy.place import PLACEMENTS
from skyfog_pool.policy.pool import PoolPolicy
from skyfog_pool.policy.view import Load
from skyfog_pool.provider.base import Ending, Instance, Order, Phase
from skyfog_pool.reconcile import SETTLE_NS, AskAgain, Finding, Gone, Has, Leak, reconcile
from skyfog_pool.spec import order_environment
from skyfog_pool.store import Row, Stamp, Store
from skyfog_pool.wishes import Wishes
from skyfog_pool.work import Ask, Effect, GiveBack, Outside, TellDrain, Work

ASK_TRIES = 4  # for one machine, when the provider does not say whether it came
ASK_PAUSE_NS = 2 * S  # before the second; twice as long before each further one
PROBED = frozenset({State.STARTING, State.READY, State.NOT_READY})


class Keeper:
    """One pool. To be used from one thread."""

    def __init__(
        self, pool: str, store: Store, zones: Sequence[Zone], outside: Outside, now_ns: int, *, watched: bool = False
    ) -> None:
        """`watched`: the fleet's network is watched, so that a ready replica must hold its token."""
        self.pool = pool
        self.work: dict[int, Work] = {}
        self.journal = Journal(store, outside, now_ns)
        self.trouble = ""  # what the provider last failed with, until it does not
        self._store, self._out = store, outside
        self.watched = watched
        self._tokens: set[int] = set()  # replicas that hold theirs
        self._leaks: set[str] = set()  # being given back now
        self._effects: list[Effect] = []
        self._machines: int | None = None  # that are not gone, by the newest listing
        self._listed_ns, self._settle_ns = now_ns, SETTLE_NS
        self._unsure_ns = now_ns  # when a launch was last given up, by us or a predecessor, whose machine may yet come
        self.has_begun = False
        self.wishes = Wishes(store)
        self.policy = self._restore(zones, now_ns)

    # Life

    @property
    def is_down(self) -> bool:
        """Taken down, and the provider has no machine of it, nor may have one yet that it did not tell of."""
        settled = self._listed_ns - self._unsure_ns >= self._settle_ns
        return self.wishes.wish == "down" and not self.work and self._machines == 0 and settled

    def _restore(self, zones: Sequence[Zone], now_ns: int) -> PoolPolicy:
        policy = make_policy(self.wishes.spec, zones, self.wishes.revision.version)
        text, saved = self._store.meta("policy"), Stamp.parse(self._store.meta("saved") or "")
        if text is not None and saved is not None:
            asleep_ns = round(self._out.stamp(now_ns).elapsed_s(saved) * S)
            policy.restore(json.loads(text), now_ns, asleep_ns)
        for row in self._store.replicas(live=True):
            who = policy.replicas[row.id]
            work = Work(row, who, now_ns, now_ns - 1, seen_state=row.state)
            self.work[row.id] = work
            self.journal.opened(row)
            if who.state in PROBED:
                self._watch(work, now_ns)
        self.journal.prices = policy.prices
        return policy

    def begin(self, now_ns: int) -> list[Effect]:
        """Once, after the first listing: what a controller that died had not finished telling."""
        with self._turn(now_ns) as effects:
            self.has_begun = True
            self._conform(self.wishes.spec, list(self.policy.zones.values()), now_ns)
            for work in self.work.values():
                if work.who.state is State.DRAINING and work.row.endpoint:
                    left_ns = max(0, (work.who.drain_by_ns or now_ns) - now_ns)
                    effects.append(TellDrain(work.row.id, work.row.endpoint, left_ns / 1e9))
        return effects

    def on_wish(self, zones: Sequence[Zone], now_ns: int) -> list[Effect]:
        """Another process wrote to the store: a revision, for which the provider has `zones`, or a wish."""
        with self._turn(now_ns) as effects:
            old, was_up = self.wishes.spec, self.wishes.wish == "up"
            self.wishes.read()
            self._conform(old, zones, now_ns)
            if self.wishes.wish == "down" and was_up:
                self.journal.note("down", None)
        return effects

    def _conform(self, old: ServiceSpec, zones: Sequence[Zone], now_ns: int) -> None:
        """Tell the policy what is wished, where it does not know."""
        adopted = self._store.meta("adopted")
        if self.wishes.wish == "down":
            self._apply(self.policy.down(now_ns), now_ns)
        elif adopted != str(self.wishes.revision.revision) or self.policy.is_going_down:
            self.journal.note(
                "revision", None, revision=self.wishes.revision.revision, version=self.wishes.revision.version
            )
            self._adopt_spec(old, zones, now_ns)

    def _adopt_spec(self, old: ServiceSpec, zones: Sequence[Zone], now_ns: int) -> None:
        config = self.wishes.spec.service.replica_policy
        for work in self.work.values():
            if work.readiness is not None:
                work.readiness.probe = self.wishes.spec.service.readiness_probe
        other = config.spot_placer != old.service.replica_policy.spot_placer
        actions = self.policy.on_spec(
            config,
            self.wishes.spec.resources.spot,
            self.wishes.revision.version,
            now_ns,
            zones=zones,
            placement=PLACEMENTS[config.spot_placer](zones) if other else None,
        )
        self._apply(actions, now_ns)

    def rest(self, now_ns: int) -> None:
        """The controller ends, and its successor is to know what it knew."""
        with self._turn(now_ns):
            self.journal.hurry()

    # What the provider says

    def on_listing(
        self, instances: Sequence[Instance], listed_ns: int, now_ns: int, settle_ns: int = SETTLE_NS
    ) -> list[Effect]:
        """Every machine of the pool, asked for at `listed_ns`."""
        with self._turn(now_ns) as effects:
            self.journal.bill([work.row for work in self.work.values()], instances, self.policy.target, now_ns)
            self._machines = sum(machine.phase is not Phase.GONE for machine in instances)
            self._listed_ns, self._settle_ns = listed_ns, settle_ns
            known = [work.known for work in self.work.values() if not work.gone]
            for finding in reconcile(known, instances, listed_ns, now_ns, settle_ns):
                self._find(finding, now_ns)
            self._give_up_waiting(now_ns)
        return effects

    def on_prices(self, prices: Mapping[str, Prices], now_ns: int) -> list[Effect]:
        with self._turn(now_ns) as effects:
            self._apply(self.policy.on_prices(prices, now_ns), now_ns)
            self.journal.reprice(prices, self.policy.target, now_ns)
        return effects

    def on_launched(self, replica: int, instance: Instance, now_ns: int) -> list[Effect]:
        with self._turn(now_ns) as effects:
            work = self.work.get(replica)
            if work is None:  # ended meanwhile
                self._leak(instance)
            else:
                work.asking = False
                self._has(work, instance, now_ns)
        return effects

    def on_launch_refused(self, replica: int, fault: LaunchFault, message: str, now_ns: int) -> list[Effect]:
        """Certainly no machine came."""
        with self._turn(now_ns) as effects:
            work = self.work.get(replica)
            if work is not None:
                work.asking, work.gone = False, True
                work.row.why = message
                self._launch_failed(work, fault, now_ns)
        return effects

    def on_launch_unknown(self, replica: int, message: str, now_ns: int) -> list[Effect]:
        """Whether a machine came the next listing tells."""
        with self._turn(now_ns) as effects:
            work = self.work.get(replica)
            if work is not None:
                work.asking, work.changed_ns = False, now_ns
                work.not_before_ns = now_ns + ASK_PAUSE_NS * 2 ** max(0, work.tries - 1)
                work.row.why = message
                self.journal.dirty.add(replica)
                self.journal.note("launch_unknown", replica, why=message)
        return effects

    def on_given_back(self, replica: int | None, instance: str, error: str, now_ns: int) -> list[Effect]:
        """`error`: why the provider did not take it back; empty: it did, and its going is seen in a listing."""
        with self._turn(now_ns) as effects:
            self._leaks.discard(instance)
            work = None if replica is None else self.work.get(replica)
            if work is not None:
                work.returning = False
                if error and work.who.state is State.SHUTTING_DOWN:
                    work.row.why = error
                    self._apply(self.policy.on_cleanup_failed(work.row.id, now_ns), now_ns)
        return effects

    # What replicas, robots and time say

    def on_probe(self, replica: int, ok: bool, why: str, now_ns: int) -> list[Effect]:
        with self._turn(now_ns) as effects:
            work = self.work.get(replica)
            if work is not None and work.readiness is not None:
                work.readiness.on_probe(ok, why, now_ns)
                self._judge(work, now_ns)
        return effects

    def on_token(self, key: ReplicaKey, held: bool, now_ns: int) -> list[Effect]:
        with self._turn(now_ns) as effects:
            replica = report.replica_number(self.pool, key.replica)
            if replica is not None:
                (self._tokens.add if held else self._tokens.discard)(replica)
                work = self.work.get(replica)
                if work is not None and work.readiness is not None:
                    work.readiness.on_token(held)
                    self._judge(work, now_ns)
        return effects

    def on_runner(self, replica: int, status: report.Status, now_ns: int) -> list[Effect]:
        """What a replica's runner says of itself."""
        with self._turn(now_ns) as effects:
            work = self.work.get(replica)
            if work is None:
                return effects
            if status.notice is not None:
                self._notice(work, Notice.of(status.notice.kind, status.notice.in_s, now_ns), now_ns)
            state, is_doomed = work.who.state, work.who.is_doomed
            if status.phase in {"drained", "ended"} and (state is State.DRAINING or (state in PROBED and is_doomed)):
                self._apply(self.policy.on_drained(replica, now_ns), now_ns)
            elif status.phase == "ended" and state in PROBED:
                work.row.why = status.message or f"ended with status {status.exit_status}"
                self._apply(self.policy.on_failed(replica, State.FAILED, now_ns), now_ns)
        return effects

    def on_load(self, load: Load, now_ns: int) -> list[Effect]:
        with self._turn(now_ns) as effects:
            self._apply(self.policy.on_load(load, now_ns), now_ns)
        return effects

    def on_timer(self, now_ns: int) -> list[Effect]:
        """Once a second, and when the policy's next_timer_ns says."""
        with self._turn(now_ns) as effects:
            for work in list(self.work.values()):
                self._judge(work, now_ns)
            self._apply(self.policy.on_timer(now_ns), now_ns)
        return effects

    # Findings

    def _find(self, finding: Finding, now_ns: int) -> None:
        if isinstance(finding, Leak):
            self._leak(finding.instance)
            return
        work = self.work[finding.replica]
        match finding:
            case Has(instance=instance):
                self._has(work, instance, now_ns)
            case Gone(ending=ending):
                self._gone(work, ending, now_ns)
            case AskAgain():
                self._ask_again(work, now_ns)

    def _has(self, work: Work, instance: Instance, now_ns: int) -> None:
        row = work.row
        told = (instance.id, instance.endpoint or row.endpoint, instance.price_per_hour or row.price_per_hour)
        if told != (row.instance, row.endpoint, row.price_per_hour):
            if row.instance != instance.id:
                work.asked_ns = now_ns
                self.journal.note("machine", row.id, instance=instance.id, zone=instance.zone)
            row.instance, row.endpoint, row.price_per_hour = told
            self._change(work, now_ns)
        if instance.phase is Phase.GONE:
            self._gone(work, instance.ending, now_ns)
            return
        if instance.phase is Phase.RUNNING and work.who.started_ns is None:  # also one that is to go at once: it costs
            row.started_unix, row.billed = self._out.unix_s(), str(self._out.stamp(now_ns))
            self._apply(self.policy.on_started(row.id, now_ns), now_ns)
            if work.who.state is State.STARTING:
                row.why = ""
                self._watch(work, now_ns)
        if work.who.state is State.SHUTTING_DOWN and not work.returning and instance.phase is not Phase.STOPPING:
            self._give_back(work, now_ns)
        if instance.notice is not None and (work.who.notice is None or work.who.notice.kind == "rebalance"):
            left_s = None if instance.goes_unix_s is None else instance.goes_unix_s - self._out.unix_s()
            self._notice(work, Notice.of(instance.notice, left_s, now_ns), now_ns)

    def _gone(self, work: Work, ending: Ending, now_ns: int) -> None:
        replica, state = work.row.id, work.who.state
        work.gone = True
        lost = ending is Ending.PREEMPTED or (ending is Ending.NONE and work.row.market == "spot" and work.row.instance)
        if state in {State.SHUTTING_DOWN, State.FAILED_CLEANUP}:
            preempted = ending is Ending.PREEMPTED and state is State.SHUTTING_DOWN
            tell = self.policy.on_preempted if preempted else self.policy.on_terminated
            self._apply(tell(replica, now_ns), now_ns)
        elif lost:
            work.row.why = "the market took its machine"
            self._apply(self.policy.on_preempted(replica, now_ns), now_ns)
        elif state in {State.PENDING, State.PROVISIONING}:
            work.row.why = work.row.why or "its machine ended before it ran"
            self._launch_failed(work, "error", now_ns)
        else:
            by = "was given back by somebody else" if ending is Ending.RETURNED else "ended by itself"
            work.row.why = f"its machine {by}"
            self._apply(self.policy.on_failed(replica, State.FAILED, now_ns), now_ns)

    def _ask_again(self, work: Work, now_ns: int) -> None:
        if work.tries >= ASK_TRIES:
            # A machine that shows up yet is given back as a leak: no live row has its token.
            work.gone, self._unsure_ns = True, now_ns
            work.row.why = f"asked {work.tries} times: {work.row.why}"
            self._launch_failed(work, "error", now_ns)
        elif now_ns >= work.not_before_ns:
            self._ask(work, now_ns)

    def _give_up_waiting(self, now_ns: int) -> None:
        limit_ns = round(self.wishes.spec.service.readiness_probe.initial_delay_seconds * S)
        for work in list(self.work.values()):
            late = now_ns - work.asked_ns >= limit_ns
            if late and work.who.state is State.PROVISIONING and not work.asking:
                work.row.why = f"its machine did not run within {limit_ns / S:g} s"
                self._launch_failed(work, "error", now_ns)

    def _launch_failed(self, work: Work, fault: LaunchFault, now_ns: int) -> None:
        if work.who.state is State.SHUTTING_DOWN:
            self._apply(self.policy.on_terminated(work.row.id, now_ns), now_ns)
        else:
            self.journal.note("launch_failed", work.row.id, fault=fault, zone=work.row.zone, why=work.row.why)
            self._apply(self.policy.on_launch_failed(work.row.id, fault, now_ns), now_ns)

    def _leak(self, instance: Instance) -> None:
        if instance.id not in self._leaks:
            self._leaks.add(instance.id)
            self.journal.note("leak", None, instance=instance.id, zone=instance.zone, was_replica=instance.replica)
            self._effects.append(GiveBack(None, instance.id))

    def _notice(self, work: Work, notice: Notice, now_ns: int) -> None:
        if work.who.notice is None or work.who.notice.kind != notice.kind:
            self.journal.note("notice", work.row.id, kind=notice.kind)
            self._change(work, now_ns)
            self._apply(self.policy.on_notice(work.row.id, notice, now_ns), now_ns)

    def _watch(self, work: Work, now_ns: int) -> None:
        """A machine that runs is probed."""
        work.watch(self.wishes.spec.service.readiness_probe, now_ns, self.watched)
        assert work.readiness is not None
        work.readiness.on_token(work.row.id in self._tokens)

    def _judge(self, work: Work, now_ns: int) -> None:
        state, replica = work.who.state, work.row.id
        if work.readiness is None or state not in PROBED:
            return
        verdict = work.readiness.verdict(now_ns)
        if verdict is None or verdict is state:
            return
        if verdict is State.READY:
            work.row.ready_unix = work.row.ready_unix or self._out.unix_s()
            work.row.why = ""
            self._apply(self.policy.on_ready(replica, now_ns), now_ns)
            return
        work.row.why = work.readiness.why
        if state is State.READY:
            self._apply(self.policy.on_not_ready(replica, now_ns), now_ns)
        if verdict is not State.NOT_READY and work.who.state in PROBED:
            self._apply(self.policy.on_failed(replica, verdict, now_ns), now_ns)

    # Decisions

    def _apply(self, actions: Iterable[Action], now_ns: int) -> None:
        for action in actions:
            match action:
                case Launch():
                    self._launch(action, now_ns)
                case Drain(replica=replica, within_ns=within_ns, because=because):
                    self.journal.note("drain", replica, because=because)
                    endpoint = self.work[replica].row.endpoint
                    if endpoint:
                        self._effects.append(TellDrain(replica, endpoint, within_ns / 1e9))
                case Terminate(replica=replica, because=because):
                    self.journal.note("terminate", replica, because=because)
                    self._give_back(self.work[replica], now_ns)

    def _launch(self, action: Launch, now_ns: int) -> None:
        row = Row(
            action.replica,
            self._out.token(),
            action.version,
            action.zone,
            action.market,
            State.PENDING,
            action.because,
            self._out.unix_s(),
        )
        work = Work(row, self.policy.replicas[row.id], now_ns, now_ns)
        self.work[row.id] = work
        self.journal.note("launch", row.id, zone=row.zone, market=row.market, version=row.version, because=row.because)
        self._apply(self.policy.on_provisioning(row.id, now_ns), now_ns)
        self._ask(work, now_ns)

    def _ask(self, work: Work, now_ns: int) -> None:
        row = work.row
        work.asking, work.asked_ns, work.tries = True, now_ns, work.tries + 1
        spec = self.wishes.of_version(row.version)
        environment = order_environment(spec, self.pool, row, self.journal.price(row))
        order = Order(self.pool, row.id, row.version, row.token, row.zone, row.market, environment)
        self._effects.append(Ask(row.id, order))

    def _give_back(self, work: Work, now_ns: int) -> None:
        if work.gone:
            self._apply(self.policy.on_terminated(work.row.id, now_ns), now_ns)
        elif work.row.instance and not work.returning:
            work.returning = True
            self._effects.append(GiveBack(work.row.id, work.row.instance))
        # else: a launch under way is answered, or a listing tells whether there is a machine

    # A turn

    def _change(self, work: Work, now_ns: int) -> None:
        work.changed_ns = now_ns
        self.journal.dirty.add(work.row.id)

    @contextlib.contextmanager
    def _turn(self, now_ns: int) -> Iterator[list[Effect]]:
        self._effects = []
        effects = self._effects
        yield effects
        self._follow(now_ns)
        meta = {"adopted": str(self.wishes.revision.revision)} if self.has_begun else {}
        self.journal.save([work.row for work in self.work.values()], self.policy, meta, now_ns)
        self.work = {replica: work for replica, work in self.work.items() if work.row.is_live}

    def _follow(self, now_ns: int) -> None:
        """Rows take over the states of the policy's books."""
        for work in list(self.work.values()):
            if work.seen_state is work.who.state:
                continue
            old, work.seen_state = work.seen_state, work.who.state
            work.row.state = work.who.state
            self._change(work, now_ns)
            self.journal.note(
                "state", work.row.id, state=work.row.state.value, was=old.value if old else "", why=work.row.why
            )
            if work.row.id not in self.policy.replicas:
                self.journal.ended(work.row)
