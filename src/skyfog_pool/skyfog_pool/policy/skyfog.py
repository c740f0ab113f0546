"""Our default placement: least expected cost, with a price on every second below the target.

    what a second below target costs   `allowance`: dearer where the service is below target for more than it allows
    how soon machines will be lost     `lifetime`: per zone and number held; and what a loss says of other machines
    where machines are to be had       `room`: refusals, and when to ask again
    how long a replacement takes       the mean of the cold starts seen
    what it all comes to               `risk`

Every minute, and when something happened, it judges how many spot machines to want, spares among them, and how many
on-demand machines to hold beyond those that stand in for missing spot. A loss, or the notice of one, is answered at
once: spot is asked for where it is likely, and on demand besides; whichever order is not needed is cancelled before it
costs much. After a loss the machines beside it are the next to go: their replacements start before that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from skyfog_core.units import S
from skyfog_pool.lifecycle import State
from skyfog_pool.policy.census import Census, count
from skyfog_pool.policy.learnt import LATENCY_NS, Learnt
from skyfog_pool.policy.lifetime import HOUR_S, WINDOW_S
from skyfog_pool.policy.market import LaunchFailed, MarketEvent, Started, Zone
from skyfog_pool.policy.risk import Risk
from skyfog_pool.policy.spread import Spread
from skyfog_pool.policy.view import Plan, Replica, Retire, Start, View

# Risks fall with age, without any event: it judges again after a tenth of the time since something happened.
JUDGE_MIN_NS, JUDGE_MAX_NS, JUDGE_SHARE = 60 * S, 600 * S, 0.1
# A machine that comes is what was expected: no cause to judge anew at once, and again for each, which can go on for
# ever where machines come within a second.
CALM_NS = 10 * S
KEEP = 0.9  # see Risk.spares
MOST_SPARES = 4
AHEAD_S = 4 * HOUR_S  # a machine is placed, and moved, for about so long
MOVE_GAIN = 0.1  # a move must save so much of the machine's price beyond what it costs
SLOW_FROM = 0.5  # a zone whose latency passes so much of the SLO counts as dearer, in proportion
STRAIN_MOST = 3.0  # with requests over the SLO already, a second below target counts up to so many times


class Skyfog:
    """The default placement: what it has learnt, and what it wants."""

    def __init__(self, zones: Iterable[Zone]) -> None:
        self.learnt = Learnt(zones)
        self.wanted = 0  # spot replicas
        self.over = 0  # of them, lasting spares
        self.od_spares = 0  # on-demand replicas beyond those that stand in
        self.moving: int | None = None  # the replica that is to move to a better zone
        self._event_ns = 0  # the last thing that happened
        self._judge_ns = 0  # when to judge again
        self._judged_ns = 0  # the last time
        self._judged_for = -1  # the target of the last judgement

    def observe(self, event: MarketEvent, now_ns: int) -> None:
        """Learn from what happened."""
        if self.learnt.observe(event, now_ns):
            self._event_ns = now_ns
            calm_ns = self._judged_ns + CALM_NS if isinstance(event, Started) else now_ns
            self._judge_ns = min(self._judge_ns, max(now_ns, calm_ns))
        if isinstance(event, LaunchFailed):
            self.moving = None

    def decide(self, view: View, now_ns: int) -> Plan:
        """What to start and what to retire."""
        self.learnt.know(view.zones.values())
        census = count(view.replicas, self.moving)
        if self.moving is not None and all(replica.id != self.moving for replica in census.at_risk):
            self.moving = None
        self.learnt.look(census, view.target, view.config.availability, now_ns)
        this = Round(self, view, census, now_ns)
        if now_ns >= self._judge_ns or self._judged_for != view.target:
            this.judge()
            self._judged_ns = now_ns
            pause_ns = round((now_ns - self._event_ns) * JUDGE_SHARE)
            self._judge_ns = now_ns + max(JUDGE_MIN_NS, min(JUDGE_MAX_NS, pause_ns))
            self._judged_for = view.target
        this.fill_spot()
        this.fill_on_demand()
        return Plan(tuple(this.start), tuple(this.retire), min((self._judge_ns, *this.again_ns)))

    def beliefs(self) -> dict[str, str]:
        """Of each zone, for those who look."""
        return {name: book.belief() for name, book in sorted(self.learnt.books.items())}

    def snapshot(self, now_ns: int) -> dict[str, Any]:
        """What it has learnt, as plain data for JSON; times as ages."""
        return self.learnt.snapshot(now_ns) | {"wanted": [self.wanted, self.over, self.od_spares]}

    def restore(self, state: Mapping[str, Any], now_ns: int) -> None:
        """Take up what `snapshot` gave. Zones that are unknown now are skipped."""
        self.learnt.restore(state, now_ns)
        self.wanted, self.over, self.od_spares = state["wanted"]


class Round:
    """One decision."""

    def __init__(self, placement: Skyfog, view: View, census: Census, now_ns: int) -> None:
        self.me, self.learnt = placement, placement.learnt
        self.view, self.census, self.now_ns = view, census, now_ns
        config = view.config
        self.base = min(config.base_ondemand_fallback_replicas, view.target) if view.use_spot else view.target
        self.slots = view.target - self.base  # of the target, for spot to fill
        self.spread = Spread(census.stood(), min(config.min_zones, view.target))
        self._hear()
        self.start: list[Start] = []
        self.retire: list[Retire] = []
        self.again_ns: list[int] = []
        self.ready_left = census.takes_requests  # once what is retired is gone
        self.od_price, self.od_zones = self._on_demand_offer()
        self.prices = {
            zone: price.spot * self._slowness(zone)
            for zone, price in view.prices.items()
            if zone in placement.learnt.books and price.spot < self.od_price and math.isfinite(price.spot)
        }
        self._risk: Risk | None = None
        self._ahead: Risk | None = None

    def _hear(self) -> None:
        """Zones whose replicas are silent, all that were ready."""
        silent = {each.zone for each in self.view.replicas if each.state is State.NOT_READY}
        for zone in silent - {each.zone for each in self.view.replicas if each.is_ready}:
            if zone in self.learnt.books:
                self.learnt.books[zone].silent_ns = self.now_ns

    def _on_demand_offer(self) -> tuple[float, list[str]]:
        """The price of the first, and all zones: first those that nothing speaks against, by price."""
        offers = [
            (
                not self.learnt.books[zone].on_demand.admits(0, self.now_ns)
                or self.learnt.books[zone].is_silent(self.now_ns),
                price.on_demand,
                zone,
            )
            for zone, price in self.view.prices.items()
            if zone in self.learnt.books and math.isfinite(price.on_demand)
        ]
        offers.sort()
        good = [offer for offer in offers if not offer[0]] or offers
        return (good[0][1] if good else math.inf), [zone for _, _, zone in good]

    def _slowness(self, zone: str) -> float:
        """From 1 on: how much dearer the zone counts for its latency, as robots see it."""
        slo_ms, book = self.view.config.slo_ms, self.learnt.books[zone]
        if slo_ms is None or book.latency_ms is None or self.now_ns - book.latency_ns > LATENCY_NS:
            return 1.0
        return 1.0 + max(0.0, book.latency_ms / slo_ms - SLOW_FROM)

    # what is wanted

    def judge(self) -> None:
        """How many spot replicas, how many on-demand spares, and whether a replica is better off elsewhere."""
        me, config = self.me, self.view.config
        held = self.census.by_zone()
        if self.slots == 0:
            me.wanted = me.over = me.od_spares = 0
            return
        zones = self._admitted(self.census.placed)
        here = {zone: number for zone, number in held.items() if zone in self.prices}
        if config.num_overprovision is None:
            rooms = {zone: self._room_in(zone) for zone in self.prices}
            me.over = self.ahead.over_provision(rooms, min(MOST_SPARES, self.slots), me.over, self._keep_usd())
            lasting = self.risk.trimmed(here, self.slots + me.over)
            running = max(0, me.wanted - self.slots - me.over) + me.od_spares
            more, me.od_spares = self.risk.spares(lasting, zones, min(MOST_SPARES, self.slots), running, KEEP)
        else:
            me.over, more, me.od_spares = config.num_overprovision, 0, 0
        me.wanted = self.slots + me.over + more
        if self.census.spot < self.slots and self.census.od_ready:
            if not self.risk.pays_to_move(here, zones):
                me.wanted = self.census.spot + (me.od_spares == 0)  # one shows how the zone stands
        elif not self.learnt.is_short and me.moving is None and not (self.census.warm or self.census.ordered):
            me.moving = self._elsewhere_for_safety() or self._better_elsewhere(here)

    def _room_in(self, zone: str) -> float:
        """Spot machines that the zone can hold, as far as we know."""
        ceiling = self.learnt.books[zone].spot.ceiling
        return math.inf if ceiling is None else ceiling

    def _keep_usd(self) -> float:
        return (1.0 - KEEP) * min(self.prices.values(), default=0.0)

    @property
    def risk(self) -> Risk:
        """Now, with what the last losses say."""
        if self._risk is None:
            self._risk = self._risk_of(0.0)
        return self._risk

    @property
    def ahead(self) -> Risk:
        """On average over the time for which a machine is placed."""
        if self._ahead is None:
            self._ahead = self._risk_of(AHEAD_S)
        return self._ahead

    def _risk_of(self, ahead_s: float) -> Risk:
        config = self.view.config
        most = self.slots + MOST_SPARES + (config.num_overprovision or 0) + len(self.view.replicas)
        hazards = {zone: self.learnt.books[zone].lifetimes.hazards(most, ahead_s) for zone in self.prices}
        if ahead_s == 0.0:
            for sick in self.learnt.books.values():
                if sick.lost_ns is None or self.now_ns - sick.lost_ns > WINDOW_S * S:
                    continue
                for zone, rates in hazards.items():
                    more = self.learnt.contagion.chance(sick.zone, self.learnt.books[zone].zone) * HOUR_S / WINDOW_S
                    hazards[zone] = [rates[0], *(rate + more for rate in rates[1:])]
        assert self.learnt.allowance is not None
        second_usd = self.learnt.allowance.second_usd(min(self.prices.values(), default=0.0)) * self._strain()
        od_price = self.od_price if config.dynamic_ondemand_fallback else math.inf
        cold_s = self.learnt.cold.value
        cold_h = cold_s / HOUR_S
        loss_usd = cold_h * (od_price if math.isfinite(od_price) else max(self.prices.values(), default=0.0))
        return Risk(
            self.prices, od_price, hazards, second_usd * self.learnt.gap_s, loss_usd, cold_h, max(1, self.slots)
        )

    def _strain(self) -> float:
        """From 1 on: a service that misses its SLO already can spare less."""
        load, config = self.view.load, self.view.config
        if load is None or load.over_slo is None or config.slo_ms is None:
            return 1.0
        return min(STRAIN_MOST, max(1.0, load.over_slo / (1.0 - config.slo_target)))

    def _admitted(self, placed: Mapping[str, int]) -> list[str]:
        """Zones where a spot machine may be asked for now; not those from which a replica is to move away."""
        zones = [z for z in self.prices if self.learnt.books[z].spot.admits(placed.get(z, 0), self.now_ns)]
        risky = {replica.zone for replica in self.census.at_risk}
        zones = [zone for zone in zones if zone not in risky]
        return [zone for zone in zones if not self.learnt.books[zone].is_silent(self.now_ns)] or zones

    def _elsewhere_for_safety(self) -> int | None:
        """A replica of the fullest zone, where the pool stands in too few and another has machines."""
        stood = self.spread.stood
        if not self.spread.lacks(1) or not set(self._admitted(self.census.placed)) - stood.keys():
            return None
        movable = [each for each in self.census.ready if stood[each.zone] > 1]
        return max(movable, key=lambda each: (stood[each.zone], each.id)).id if movable else None

    def _better_elsewhere(self, held: dict[str, int]) -> int | None:
        """A replica whose move to another zone saves more than it costs: two machines for a cold start."""
        risk = self.ahead
        spares = max(0, sum(held.values()) - self.slots)
        zone = risk.worst(held, spares)
        if zone is None or not any(replica.zone == zone for replica in self.census.ready):
            return None
        left = {**held, zone: held[zone] - 1}
        to = risk.best(left, spares, [name for name in self._admitted(self.census.placed) if name != zone])
        if to is None or self.learnt.books[to].spot.ceiling is not None:
            return None
        if to in self.spread.stood and not self.spread.can_spare(zone):
            return None
        moved = {**left, to: left.get(to, 0) + 1}
        gain = self.prices[zone] + risk.usd(held, spares) - self.prices[to] - risk.usd(moved, spares)
        if gain <= self.prices[zone] * (risk.cold_h * HOUR_S / AHEAD_S + MOVE_GAIN):
            return None
        return max(replica.id for replica in self.census.ready if replica.zone == zone)

    # spot

    def fill_spot(self) -> None:
        """Order what is missing, cancel and retire what is too much."""
        held, placed = self.census.by_zone(), dict(self.census.placed)
        total, wanted = self.census.spot, self.me.wanted
        while total < wanted:
            here = {name: number for name, number in held.items() if name in self.prices}
            zones = self.spread.of(self._admitted(placed), wanted - total)
            zone = self.ahead.best(here, max(0, wanted - self.slots), zones)
            if zone is None:
                rooms = [self.learnt.books[name].spot.retry_ns for name in self.prices]
                self.again_ns = [retry_ns for retry_ns in rooms if retry_ns > self.now_ns]
                break
            held[zone] = held.get(zone, 0) + 1
            placed[zone] = placed.get(zone, 0) + 1
            total += 1
            self.spread.stood[zone] += 1
            self.start.append(Start(zone, "spot", self._why(zone, total)))
        surplus = total - wanted
        latest_first = list(reversed(self.census.ordered))
        for replica in sorted(latest_first, key=lambda each: not self.spread.can_spare(each.zone)):
            if surplus > 0:
                surplus -= 1
                self.spread.leave(replica.zone)
                self.retire.append(Retire(replica.id, "cancelled before it came: enough others did"))
        for replica in self._goers(surplus):
            self._let_go(replica, "more spot machines than the risk asks for")
        if len(self.census.ready) + len(self.census.warm) >= wanted:
            for replica in self.census.at_risk:
                because = "moved to a better zone" if replica.id == self.me.moving else "at risk, and replaced"
                self._let_go(replica, because)

    def _why(self, zone: str, number: int) -> str:
        price = f"{self.view.prices[zone].spot:.3f} USD/h"
        if number > self.slots:
            return f"spare: cheaper than the time below target that it saves; {price}"
        if self.census.at_risk:
            return f"takes the place of a replica at risk; {price}"
        return f"below target; least price and risk: {price}"

    def _goers(self, number: int) -> list[Replica]:
        """Spot machines to give up: first those that are not ready, where they cost and risk most, the youngest."""
        goers: list[Replica] = []
        held = {zone: count for zone, count in self.census.by_zone().items() if zone in self.prices}
        left = [*self.census.warm, *self.census.ready]
        while left and len(goers) < number:
            first = [each for each in left if not each.is_ready] or left
            first = [each for each in first if self.spread.can_spare(each.zone)] or first
            among = {each.zone for each in first}
            here = {name: number for name, number in held.items() if name in among}
            zone = self.ahead.worst(here, max(0, self.me.wanted - self.slots))
            goer = max(
                (each for each in first if zone is None or each.zone == zone),
                key=lambda each: (each.launched_ns, each.id),
            )
            left.remove(goer)
            self.spread.leave(goer.zone)
            goers.append(goer)
            if goer.zone in held:
                held[goer.zone] -= 1
        return goers

    def _let_go(self, replica: Replica, because: str) -> bool:
        """Retire it, unless that would leave too few ready."""
        if replica.is_ready:
            if self.ready_left <= self.view.target:
                return False
            self.ready_left -= 1
        self.retire.append(Retire(replica.id, because))
        return True

    # on demand

    def fill_on_demand(self) -> None:
        """Order what stands in for spot that is not there, retire what is too much."""
        census = self.census
        cover = len(census.ready) + len(census.warm) + len(census.at_risk)
        if not self.learnt.is_short:  # there is time; and an order where nothing was refused will come
            books = self.learnt.books
            cover += sum(books[each.zone].spot.trusted(census.placed[each.zone]) for each in census.ordered)
            cover += sum(books[each.zone].spot.ceiling is None for each in self.start)
        wanted = self.base
        if self.view.config.dynamic_ondemand_fallback or not self.prices:
            wanted += max(0, self.slots - cover) + self.me.od_spares
        because = "always on demand, as the spec says" if wanted <= self.base else "stands in for spot"
        missing = max(0, wanted - census.on_demand)
        for left in range(missing, 0, -1):
            zone = next(iter(self.spread.of(self.od_zones, left)), None)
            if zone is not None:
                self.spread.stood[zone] += 1
                self.start.append(Start(zone, "on_demand", because))
        surplus = census.on_demand - wanted
        for replica in (*reversed(census.od_ordered), *reversed(census.od_warm), *reversed(census.od_ready)):
            if surplus > 0 and self._let_go(replica, "spot is there again"):
                surplus -= 1
