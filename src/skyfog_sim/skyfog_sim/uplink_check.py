"""What must hold on every drive, whatever strikes it, looked at as it happens. A policy is judged by what it did.

once      each frame given to the sender ends exactly once, and nothing is sent of one that has ended
floor     every capture has an answer by its deadline where the car's own model was ready by then
in time   what is called on time, or published as in time, is before the deadline, and wholly sent
bytes     the chunks of a frame are its bytes, in order, each once
rate      over any stretch no service is sent above what the plans granted it, beyond one burst
budget    a plan grants no more than its budget; a floor has no rate
books     every policy's own check(), and the sender's counts against ours
misses    of offloaded frames no more than `most_missed`, but for one a service and fault
leak      a while after the drive nothing is open
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from skyfog_core.config.uplink import ShaperConfig
from skyfog_core.units import MS, S
from skyfog_sim.check import Broken
from skyfog_sim.uplink_drive import Drive
from skyfog_sim.uplink_result import NONE, Tally
from skyfog_uplink.policy.frames import MISSES, Ended, Frame, Outcome, SendChunk
from skyfog_uplink.policy.model import FLOOR, Service
from skyfog_uplink.policy.plan import Plan

EXCUSED_NS = 1 * MS


@dataclass(slots=True)
class _Tokens:
    """A bucket that is filled as the plans say: what is allowed to be sent."""

    rate_bps: float = 0.0
    depth: float = 0.0  # bytes
    level: float = 0.0
    as_of_ns: int = 0

    def grant(self, rate_bps: float, depth: float, now_ns: int) -> None:
        self.fill(now_ns)
        # A deeper bucket begins with what the old one had; one that never had a rate begins full.
        self.level = depth if self.rate_bps == 0 and self.depth == 0 else min(self.level, depth)
        self.rate_bps, self.depth = rate_bps, depth

    def fill(self, now_ns: int) -> None:
        since_ns = max(0, now_ns - self.as_of_ns)
        self.level = min(self.depth, self.level + self.rate_bps * since_ns / (8 * S))
        self.as_of_ns = now_ns


class CheckedTally(Tally):
    """A Tally that raises Broken."""

    def __init__(self, drive: Drive, contender: str, config: ShaperConfig | None = None) -> None:
        super().__init__(drive, contender)
        self._config = config or ShaperConfig()
        self._services = {service.name: service for service in drive.table.services}
        self._given: set[int] = set()
        self._over: set[int] = set()
        self._progress: Counter[int] = Counter()  # bytes sent, by frame
        self._due: dict[tuple[int, int], int] = {}  # deadline by service and row, in the car's clock
        self._tokens = {(name, probe): _Tokens() for name in self._services for probe in (False, True)}
        self.jumped = False  # the clock did: deadlines before and after mean different things
        self.met: Counter[str] = Counter()

    def plan(self, plan: Plan, now_ns: int) -> None:
        super().plan(plan, now_ns)
        self.met["plans"] += 1
        total = sum(grant.rate_bps for grant in plan.grants)
        if total > plan.budget_bps * (1 + 1e-9) + 1e-6:
            raise Broken("budget", f"plan {plan.number} grants {total:.0f} of {plan.budget_bps:.0f} bit/s")
        for grant in plan.grants:
            if grant.option == FLOOR and grant.rate_bps:
                raise Broken("budget", f"{grant.service} is on its floor at {grant.rate_bps:.0f} bit/s")
            service = self._services[grant.service]
            for option, rate, probe in ((grant.option, grant.rate_bps, False), (grant.probe, grant.probe_bps, True)):
                if option != FLOOR:
                    depth = self._depth(service, option, rate)
                    self._tokens[grant.service, probe].grant(rate, depth, now_ns)

    def _depth(self, service: Service, option: int, rate_bps: float) -> float:
        largest = service.options[option].bytes.values[-1]
        return max(rate_bps * self._config.burst_ms / 8e3, largest, self._config.chunk_bytes)

    def captured(self, service: int, row: int, now_ns: int) -> None:
        self._due[service, row] = now_ns + round(self._drive.table.services[service].slo_ms * MS)

    def given(self, frame: Frame, now_ns: int) -> None:
        if frame.id in self._given:
            raise Broken("once", f"frame {frame.id} is given twice")
        self._given.add(frame.id)

    def sent(self, action: SendChunk, now_ns: int) -> None:
        if action.frame in self._over or action.frame not in self._given:
            raise Broken("once", f"bytes of frame {action.frame}, which is over or was never given")
        if action.offset != self._progress[action.frame] or action.offset + action.size > action.total:
            raise Broken("bytes", f"frame {action.frame}: {action.size} at {action.offset} of {action.total}")
        self._progress[action.frame] += action.size
        tokens = self._tokens[action.service, action.probe]
        tokens.fill(now_ns)
        tokens.level -= action.size
        if tokens.level < -2:
            raise Broken(
                "rate", f"{action.service} is {-tokens.level:.0f} bytes above its rate of {tokens.rate_bps:.0f}"
            )
        super().sent(action, now_ns)

    def ended(self, ended: Ended, found: tuple[int, int, int] | None, now_ns: int) -> None:
        frame = ended.frame
        if found is None or frame.id in self._over or frame.id not in self._given:
            raise Broken("once", f"frame {frame.id} ends as {ended.outcome.value}, and is over or was never given")
        self._over.add(frame.id)
        self.met[ended.outcome.value] += 1
        sent = self._progress.pop(frame.id, 0)
        if ended.outcome is Outcome.ON_TIME and (now_ns > frame.deadline_ns or sent != frame.size):
            raise Broken("in time", f"frame {frame.id}: {sent} of {frame.size} bytes, {now_ns - frame.deadline_ns} ns")
        if (ended.outcome in {Outcome.WITHHELD, Outcome.REPLACED}) != (sent == 0):
            raise Broken("books", f"frame {frame.id} ended as {ended.outcome.value} after {sent} bytes")
        super().ended(ended, found, now_ns)

    def published(self, service: int, row: int, option: int, late: bool, now_ns: int) -> None:
        super().published(service, row, option, late, now_ns)
        if not late and now_ns > self._due[service, row] + EXCUSED_NS and not self.jumped:
            raise Broken("in time", f"capture {row} of service {service} is answered after its deadline, as in time")

    def check_end(self, faults: int, most_missed: float) -> None:
        """After the drive and a while. Raises Broken."""
        if self._given != self._over:
            raise Broken("leak", f"{len(self._given - self._over)} frames never ended")
        if not self.jumped:
            for at, service in enumerate(self._drive.table.services):
                ready = self._drive.frames[at].floor_ns <= service.slo_ms * MS
                unanswered = int(((self.best[at] == NONE) & ready).sum())
                if unanswered:
                    raise Broken("floor", f"{unanswered} captures of {service.name} have no answer")
        misses = sum(outcomes[outcome] for outcomes in self.outcomes for outcome in MISSES)
        offloaded = misses + sum(outcomes[Outcome.ON_TIME] for outcomes in self.outcomes)
        if misses > most_missed * offloaded + len(self._services) * faults:
            raise Broken("misses", f"{misses} of {offloaded} offloaded frames, with {faults} faults")
