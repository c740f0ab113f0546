"""What must hold of a pool, looked at after every event and every decision.

bounds      never more machines of live replicas than the policy may hold, never two for one token or one replica
decisions   a replica is launched once, drained once, given back once: again only where the provider did not take it
timer       what was due is over when the timer has rung
books       the policy's own check(); machine time and USD are exactly what the policy was told, over all restarts; and
            the provider's bill but for the time in which the controller did not see
reachable   a replica that the policy takes for READY answers, but for a short time of detection
restored    within a bound after the last fault as many are ready as are wanted
leak        at the end, taken down, the provider has no machine, the policy no replica and no timer
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import isclose
from typing import TYPE_CHECKING, Any

from skyfog_core.units import S
from skyfog_pool.lifecycle import State
from skyfog_pool.policy.actions import Action, Drain, Launch, Terminate
from skyfog_pool.policy.books import Spent
from skyfog_pool.policy.market import Market, Prices
from skyfog_pool.policy.pool import PoolPolicy
from skyfog_pool.provider.base import Instance
from skyfog_sim.check import Broken
from skyfog_sim.history import History
from skyfog_sim.kernel import Kernel
from skyfog_sim.pool_cloud import HOUR_NS, PoolCloud

if TYPE_CHECKING:
    from skyfog_sim.cluster import Cluster
    from skyfog_sim.pool_controller import Row

SEEN_NS = 8 * S  # until a listing tells of a machine that runs, or is gone
DETECT_NS = 10 * S  # until the controller knows of a replica that does not answer any more
AGAIN = "the provider has not taken it back yet"


class Ticking:
    """A machine's time and cost as the policy was told of it."""

    def __init__(self, zone: str, market: Market, now_ns: int, price: float) -> None:
        self.zone, self.market, self.price = zone, market, price
        self.began_ns = self.since_ns = now_ns
        self.machine_ns, self.usd = 0, 0.0

    def settle(self, now_ns: int) -> None:
        took_ns, self.since_ns = now_ns - self.since_ns, now_ns
        self.machine_ns += took_ns
        self.usd += self.price * took_ns / HOUR_NS


class PoolCheck:
    """Watches controller and cloud, and raises Broken."""

    def __init__(self, kernel: Kernel, history: History) -> None:
        self._kernel, self._history = kernel, history
        self.met: Counter[str] = Counter()  # decisions and states, for the tally
        self._decided: set[tuple[type[Action], int]] = set()
        self._ticking: dict[int, Ticking] = {}
        self._ended: dict[int, Ticking] = {}
        self._prices: dict[str, Prices] = {}
        self._states: dict[int, State] = {}
        self._silent_since: dict[int, int] = {}
        self._watching_since_ns = 0
        self._died_ns = 0
        self.blind_ns = 0  # in which the controller did not see prices or machines
        self._most_held = 0
        self.leaks: set[str] = set()
        self.cloud: PoolCloud | None = None

    # of the controller

    def policy(self, policy: PoolPolicy, event: str, now_ns: int) -> None:
        """The policy has decided."""
        try:
            policy.settle(now_ns)
            policy.check()
        except AssertionError as error:
            raise Broken("books", f"{type(error).__name__}: {error}") from error
        due_ns = policy.next_timer_ns()
        if event == "on_timer" and due_ns is not None and due_ns <= now_ns:
            raise Broken("timer", f"due at {due_ns} ns, {now_ns - due_ns} ns ago, and it has just rung")

    def committed(self, policy: PoolPolicy, actions: Sequence[Action], event: str, arguments: Sequence[Any]) -> None:
        """A decision stands."""
        self._note_event(event, arguments)
        for action in actions:
            self._decision(action)
        for replica, who in policy.replicas.items():
            if self._states.get(replica) is not who.state:
                self._states[replica] = who.state
                self.met[who.state.value] += 1
                where = f"{who.zone}, {who.market}, version {who.version}"
                self._note("state", f"#{replica}", f"{who.state.value}  ({where})")
            if who.started_ns is not None and replica not in self._ticking:
                price = self._prices[who.zone].of(who.market)
                self._ticking[replica] = Ticking(who.zone, who.market, self._kernel.now_ns, price)
        for replica in self._states.keys() - policy.replicas.keys():
            self._states.pop(replica)
            self._note("over", f"#{replica}", "")
            if replica in self._ticking:
                ticking = self._ticking.pop(replica)
                ticking.settle(self._kernel.now_ns)
                self._ended[replica] = ticking
        self._bounds(policy)
        self._sums(policy)

    def controller_died(self) -> None:
        self._note("CRASH", "", "the controller is killed")
        self._died_ns = self._kernel.now_ns
        self._silent_since.clear()

    def controller_began(self) -> None:
        self._note("began", "", "a controller")
        self.blind_ns += self._kernel.now_ns - self._died_ns
        self._watching_since_ns = self._kernel.now_ns

    def leak(self, instance: Instance) -> None:
        """The controller gives back a machine that is nobody's."""
        self.leaks.add(instance.token)
        self.met["leak given back"] += 1

    # of the world, after each event

    def looked(self, policy: PoolPolicy, rows: dict[int, Row], cluster: Cluster) -> None:
        """The controller lives: what it takes for READY answers, and every robot sees it."""
        now_ns = self._kernel.now_ns
        for replica, who in policy.replicas.items():
            if who.state is not State.READY or self._is_reached(rows.get(replica), cluster):
                self._silent_since.pop(replica, None)
                continue
            since_ns = max(self._silent_since.setdefault(replica, now_ns), self._watching_since_ns)
            if now_ns - since_ns > DETECT_NS:
                raise Broken("reachable", f"replica {replica} is READY, and has not answered since {since_ns} ns")

    def _is_reached(self, row: Row | None, cluster: Cluster) -> bool:
        assert self.cloud is not None
        machine = None if row is None else self.cloud.machines.get(row.order.token)
        runner = None if machine is None else machine.runner
        if runner is None or not runner.answers or not runner.is_reached:
            return False
        return all(cluster.check.sees(robot.name, runner.who) for robot in cluster.robots)

    def at_end(self, policy: PoolPolicy) -> None:
        """The pool was taken down."""
        assert self.cloud is not None
        alive = [machine.told.id for machine in self.cloud.alive()]
        if alive:
            raise Broken("leak", f"machines that nobody takes back: {alive}")
        if policy.replicas or policy.next_timer_ns() is not None:
            raise Broken("leak", f"left at the end: {list(policy.replicas.values())}, {policy.next_timer_ns()}")
        self._bill(policy)

    # inside

    def _decision(self, action: Action) -> None:
        key = type(action), action.replica
        self._note(type(action).__name__.lower(), f"#{action.replica}", action.because)
        self.met[type(action).__name__.lower()] += 1
        again = isinstance(action, Terminate) and action.because == AGAIN
        if key in self._decided and not again:
            raise Broken("decisions", f"{action} a second time")
        if isinstance(action, Drain) and (Terminate, action.replica) in self._decided:
            raise Broken("decisions", f"{action} of what was given back")
        if not isinstance(action, Launch) and (Launch, action.replica) not in self._decided:
            raise Broken("decisions", f"{action} of what was never launched")
        self._decided.add(key)

    def _bounds(self, policy: PoolPolicy) -> None:
        assert self.cloud is not None
        # A spec that allows fewer finds more there: they go, and may take their time.
        self._most_held = max(self._most_held, policy.most_held)
        mine = [machine for machine in self.cloud.alive() if machine.told.replica in policy.replicas]
        if len(mine) > 2 * self._most_held:
            raise Broken("bounds", f"{len(mine)} machines; at most {2 * self._most_held} are allowed")
        several = [replica for replica, count in Counter(m.told.replica for m in mine).items() if count > 1]
        if several:
            raise Broken("bounds", f"replicas {several} have more than one machine")

    def _sums(self, policy: PoolPolicy) -> None:
        """What the policy says that it spent is what it was told."""
        for ticking in self._ticking.values():
            ticking.settle(self._kernel.now_ns)
        told: dict[tuple[Market, str], Spent] = {}
        for ticking in (*self._ended.values(), *self._ticking.values()):
            sums = told.setdefault((ticking.market, ticking.zone), Spent())
            sums.machine_ns += ticking.machine_ns
            sums.usd += ticking.usd
        spent = policy.ledger.books.spent
        for key in told.keys() | spent.keys():
            mine, seen = spent.get(key, Spent()), told.get(key, Spent())
            if mine.machine_ns != seen.machine_ns or not isclose(mine.usd, seen.usd, rel_tol=1e-6, abs_tol=1e-9):
                raise Broken("books", f"{key}: {mine} in the books, {seen} as told")

    def _bill(self, policy: PoolPolicy) -> None:
        """The provider's bill is what the policy spent, but for what the controller did not see."""
        assert self.cloud is not None
        billed = self.cloud.bill()
        unseen = 0.0
        for machine in self.cloud.machines.values():
            if machine.started_ns is None or machine.ended_ns is None:
                continue
            if machine.told.token in self.leaks:
                unseen += machine.usd
                continue
            told = self._ended.get(machine.told.replica)
            began_ns, ended_ns = (machine.ended_ns,) * 2 if told is None else (told.began_ns, told.since_ns)
            late_ns = max(began_ns - machine.started_ns, ended_ns - machine.ended_ns)
            if late_ns > SEEN_NS + self.blind_ns:
                raise Broken("books", f"{machine.told.id} was seen {late_ns} ns late")
            prices = [price.of(machine.told.market) for price in self.cloud.ever[machine.told.zone]]
            unseen += max(prices) * (abs(began_ns - machine.started_ns) + abs(ended_ns - machine.ended_ns)) / HOUR_NS
            unseen += (max(prices) - min(prices)) * self.blind_ns / HOUR_NS
        spent = policy.ledger.books.total().usd
        if abs(spent - billed) > unseen + 1e-9:
            raise Broken("books", f"the provider bills {billed} USD, {spent} are in the books, {unseen} were unseen")

    def _note_event(self, event: str, arguments: Sequence[Any]) -> None:
        if event == "on_prices":
            prices: dict[str, Prices] = arguments[0]
            for ticking in self._ticking.values():
                ticking.settle(self._kernel.now_ns)
                ticking.price = prices[ticking.zone].of(ticking.market)
            self._prices = dict(prices)
        elif event not in {"on_timer", "on_load"}:
            self._note(event, f"#{arguments[0]}" if arguments and isinstance(arguments[0], int) else "", "")

    def _note(self, event: str, replica: str, detail: str) -> None:
        self._history.note(self._kernel.now_ns, event, replica=replica, detail=detail)
