"""A pool's controller in simulation: the production policy, reconciliation and readiness, in a thin shell that may die.

As in production, what the policy decided is in the store before anybody is asked to do it. The controller may be
killed at any moment, also between the decision and the commit, and between the commit and the deed; what was asked of
the provider goes on without it. Its successor knows the store and what the provider tells; its steady clock begins
anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from skyfog_core.config.pool import ReadinessProbe, ReplicaPolicyConfig
from skyfog_core.units import MS, S
from skyfog_pool.lifecycle import State
from skyfog_pool.policy.actions import Action, Drain, Launch, Terminate
from skyfog_pool.policy.market import LaunchFault, Notice
from skyfog_pool.policy.pool import PoolPolicy
from skyfog_pool.policy.view import Load
from skyfog_pool.provider.base import Ending, Instance, Order, Phase
from skyfog_pool.readiness import Readiness
from skyfog_pool.reconcile import AskAgain, Gone, Has, Known, Leak, reconcile
from skyfog_sim.durations import Uniform
from skyfog_sim.kernel import Alarm, Kernel
from skyfog_sim.pool_cloud import Machine, PoolCloud

if TYPE_CHECKING:
    from skyfog_sim.pool_check import PoolCheck

POOL = "pool"
LISTING_NS = 5 * S
PROBE_NS = 2 * S
SETTLE_NS = 6 * S
ASK_TRIES = 4
HEAR_NS = Uniform(5 * MS, 100 * MS)  # from a runner to the controller
PROBE = ReadinessProbe(initial_delay_seconds=60, consecutive_failure_threshold_timeout=15)
PROBED = frozenset({State.STARTING, State.READY, State.NOT_READY})

DieAt = Literal["now", "before_commit", "after_commit"]


@dataclass(frozen=True, slots=True)
class Row:
    """What the store knows of a replica beside the policy's books."""

    order: Order
    machine: str = ""  # once the provider has named it


@dataclass
class Store:
    """What outlives the controller: plain data, committed as one."""

    config: ReplicaPolicyConfig
    use_spot: bool = True
    version: int = 1
    wish: Literal["up", "down"] = "up"
    policy: dict[str, Any] | None = None
    saved_ns: int = 0  # true time
    rows: dict[int, Row] = field(default_factory=dict)


@dataclass(slots=True)
class Doing:
    """What this controller does about a replica now."""

    asking: bool = False
    returning: bool = False
    tries: int = 0
    asked_ns: int = 0
    changed_ns: int = 0
    readiness: Readiness | None = None
    drains: bool = False


class Died(Exception):
    """The controller is killed in the middle of a turn."""


class Controller:
    """One life of a controller. `is_dead` when it is over: then nothing that was asked is answered any more."""

    def __init__(
        self,
        kernel: Kernel,
        random: Random,
        store: Store,
        cloud: PoolCloud,
        make_policy: Callable[[Store], PoolPolicy],
        check: PoolCheck,
        load: Callable[[], Load],
    ) -> None:
        self._kernel, self._random, self._store, self._cloud, self._check = kernel, random, store, cloud, check
        self._load = load
        self.is_dead = False
        self.die_at: DieAt | None = None
        self._began_ns = kernel.now_ns - random.randint(1, 3_600) * S  # steady time begins anew, somewhere
        self.rows = dict(store.rows)
        self._doing: dict[int, Doing] = {}
        self.policy = make_policy(store)
        if store.policy is not None:
            self.policy.restore(store.policy, self.now_ns, kernel.now_ns - store.saved_ns)
        for replica, who in self.policy.replicas.items():
            doing = self._doing[replica] = Doing(asked_ns=self.now_ns, changed_ns=self.now_ns - 1)
            if who.state in PROBED:
                doing.readiness = self._readiness(who.state)
        self._alarm = Alarm(kernel, self._next_ns, lambda: self.tell("on_timer"))
        self.has_begun = False  # it has seen the provider's machines
        self._list()
        self._probe()

    @property
    def now_ns(self) -> int:
        """By its steady clock."""
        return self._kernel.now_ns - self._began_ns

    def kill(self) -> None:
        self.is_dead = True
        self._check.controller_died()

    def tell(self, event: str, *arguments: Any) -> None:
        """One turn: the policy is told, its decision is committed, then it is carried out."""
        if self.is_dead:
            return
        try:
            actions = self._turn(event, arguments)
        except Died:
            self.kill()
            return
        for action in actions:
            self._perform(action)
        self._alarm.reset()

    def wish(self) -> None:
        """The store says what is wished: another spec, or an end."""
        store = self._store
        if store.wish == "down":
            self.tell("down")
        elif (store.config, store.use_spot, store.version) != (
            self.policy.config,
            self.policy.use_spot,
            self.policy.version,
        ):
            self.tell("on_spec", store.config, store.use_spot, store.version)

    # inside: one turn

    def _turn(self, event: str, arguments: Sequence[Any]) -> list[Action]:
        actions: list[Action] = getattr(self.policy, event)(*arguments, self.now_ns)
        for action in actions:
            if isinstance(action, Launch):
                token = f"t{action.replica}-{self._random.randrange(10**6)}"
                order = Order(POOL, action.replica, action.version, token, action.zone, action.market)
                self.rows[action.replica] = Row(order)
                self._doing[action.replica] = Doing(changed_ns=self.now_ns)
        self._check.policy(self.policy, event, self.now_ns)
        if self.die_at == "before_commit":
            raise Died
        self._commit()
        self._check.committed(self.policy, actions, event, arguments)
        if self.die_at == "after_commit":
            raise Died
        return actions

    def _commit(self) -> None:
        live = self.policy.replicas
        self.rows = {replica: row for replica, row in self.rows.items() if replica in live}
        self._doing = {replica: doing for replica, doing in self._doing.items() if replica in live}
        store = self._store
        store.policy, store.saved_ns = self.policy.snapshot(self.now_ns), self._kernel.now_ns
        store.rows = dict(self.rows)

    def _perform(self, action: Action) -> None:
        replica = action.replica
        if replica not in self._doing:
            return  # ended in the same turn
        match action:
            case Launch():
                self.tell("on_provisioning", replica)
                self._ask(replica)
            case Drain(within_ns=within_ns):
                self._drain(replica, within_ns)
            case Terminate():
                self._give_back(replica)

    def _ask(self, replica: int) -> None:
        doing = self._doing.get(replica)
        if doing is None or self.is_dead:
            return
        doing.asking, doing.asked_ns, doing.tries = True, self.now_ns, doing.tries + 1

        def launched(told: Instance) -> None:
            if not self.is_dead and replica in self._doing:
                doing.asking = False
                self._has(replica, told)

        def failed(fault: LaunchFault | None) -> None:
            if self.is_dead or replica not in self._doing:
                return
            doing.asking, doing.changed_ns = False, self.now_ns
            if fault is not None:
                self._no_machine(replica, fault)

        self._cloud.launch(self.rows[replica].order, launched, failed)

    def _drain(self, replica: int, within_ns: int) -> None:
        machine, doing = self._machine(replica), self._doing[replica]
        runner = None if machine is None else machine.runner

        def drained() -> None:
            if runner is not None and runner.is_reached:
                self._kernel.after(HEAR_NS.draw(self._random), lambda: self.tell("on_drained", replica))

        if runner is not None and runner.is_reached and not doing.drains:
            doing.drains = True
            runner.drain(within_ns, drained)

    def _give_back(self, replica: int) -> None:
        row, doing = self.rows[replica], self._doing[replica]
        if not row.machine or doing.returning:
            return  # its launch is answered yet, or a listing tells whether there is a machine
        doing.returning = True

        def answered(taken: bool) -> None:
            if not self.is_dead and replica in self._doing:
                doing.returning = False
                if not taken:
                    self.tell("on_cleanup_failed", replica)

        self._cloud.terminate(row.order.token, answered)

    # inside: what the provider tells

    def _list(self) -> None:
        if self.is_dead:
            return
        asked_ns = self.now_ns
        self._cloud.instances(lambda told: self._listed(told, asked_ns), lambda: None)
        self.tell("on_prices", self._cloud.prices())
        self._kernel.after(LISTING_NS, self._list)

    def _listed(self, told: list[Instance], asked_ns: int) -> None:
        if self.is_dead:
            return
        known = [
            Known(
                replica,
                row.order.token,
                row.order.market,
                self.policy.replicas[replica].state,
                row.machine,
                self._doing[replica].asked_ns,
                self._doing[replica].changed_ns,
                self._doing[replica].asking,
            )
            for replica, row in self.rows.items()
        ]
        for finding in reconcile(known, told, asked_ns, self.now_ns, SETTLE_NS):
            match finding:
                case Leak(instance=instance):
                    self._check.leak(instance)
                    self._cloud.terminate(instance.token, lambda _taken: None)
                case Has(replica=replica, instance=instance):
                    self._has(replica, instance)
                case Gone(replica=replica, ending=ending):
                    self._gone(replica, ending)
                case AskAgain(replica=replica):
                    self._ask_again(replica)
        if not self.has_begun and not self.is_dead:
            self.has_begun = True
            self.wish()
            for action in self.policy.resume(self.now_ns):
                if not isinstance(action, Launch):  # those were asked for again just now, where nobody had
                    self._perform(action)

    def _has(self, replica: int, told: Instance) -> None:
        if replica not in self.rows or self.is_dead:
            return
        row, doing = self.rows[replica], self._doing[replica]
        if not row.machine:
            self.rows[replica] = replace(row, machine=told.id)
            doing.asked_ns = doing.changed_ns = self.now_ns
        who = self.policy.replicas[replica]
        if told.phase is Phase.GONE:
            self._gone(replica, told.ending)
            return
        if told.phase is Phase.RUNNING and who.started_ns is None:
            doing.readiness = self._readiness(State.STARTING)
            self.tell("on_started", replica)
        if told.notice is not None and who.notice is None and replica in self.rows:
            self.tell("on_notice", replica, Notice(told.notice))
        if who.state is State.SHUTTING_DOWN and replica in self.rows and told.phase is not Phase.STOPPING:
            self._give_back(replica)

    def _gone(self, replica: int, ending: Ending) -> None:
        if replica not in self.rows or self.is_dead:
            return
        who, row = self.policy.replicas[replica], self.rows[replica]
        lost = ending is Ending.PREEMPTED or (ending is Ending.NONE and row.order.market == "spot" and row.machine)
        if who.state in {State.SHUTTING_DOWN, State.FAILED_CLEANUP}:
            self.tell("on_terminated", replica)
        elif lost:
            self.tell("on_preempted", replica)
        elif who.started_ns is None:
            self._no_machine(replica, "error")
        else:
            self.tell("on_terminated", replica)

    def _ask_again(self, replica: int) -> None:
        if replica not in self.rows or self.is_dead:
            return
        if self._doing[replica].tries >= ASK_TRIES:
            self._no_machine(replica, "error")
        else:
            if self.policy.replicas[replica].state is State.PENDING:
                self.tell("on_provisioning", replica)
            self._ask(replica)

    def _no_machine(self, replica: int, fault: LaunchFault) -> None:
        self.tell("on_launch_failed", replica, fault)

    def hear_notice(self, machine: Machine, notice: Notice) -> None:
        """A runner passes on what the cloud told it."""
        replica, runner = machine.told.replica, machine.runner
        if self.is_dead or runner is None or not runner.is_reached or replica not in self.rows:
            return
        at_ns = None if notice.at_ns is None else notice.at_ns - self._began_ns
        hear = HEAR_NS.draw(self._random)
        self._kernel.after(hear, lambda: self.tell("on_notice", replica, Notice(notice.kind, at_ns)))

    # inside: what replicas tell

    def _probe(self) -> None:
        if self.is_dead:
            return
        for replica in list(self.rows):
            self._judge(replica)
        if self._store.config.qps:
            self.tell("on_load", self._load())
        self._kernel.after(PROBE_NS, self._probe)

    def _judge(self, replica: int) -> None:
        if replica not in self.rows or self.is_dead:
            return
        doing, who, machine = self._doing[replica], self.policy.replicas[replica], self._machine(replica)
        if doing.readiness is None or who.state not in PROBED or machine is None:
            return
        runner = machine.runner
        reached = runner is not None and runner.is_reached
        if runner is not None and reached and runner.has_failed:
            self.tell("on_failed", replica, State.FAILED)
            return
        ok = runner is not None and reached and runner.answers
        doing.readiness.on_probe(ok, "no answer", self.now_ns)
        verdict = doing.readiness.verdict(self.now_ns)
        if verdict is None or verdict is who.state:
            return
        if verdict is State.READY:
            self.tell("on_ready", replica)
            return
        if who.state is State.READY:
            self.tell("on_not_ready", replica)
        if verdict is not State.NOT_READY:
            self.tell("on_failed", replica, verdict)

    def _machine(self, replica: int) -> Machine | None:
        return self._cloud.machines.get(self.rows[replica].order.token) if replica in self.rows else None

    def _readiness(self, state: State) -> Readiness:
        return Readiness(PROBE, self.now_ns, self.now_ns, state=state, needs_token=False, grace_ns=3 * S)

    def _next_ns(self) -> int | None:
        due_ns = None if self.is_dead else self.policy.next_timer_ns()
        return None if due_ns is None else due_ns + self._began_ns
