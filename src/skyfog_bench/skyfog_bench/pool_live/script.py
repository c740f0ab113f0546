"""What is done to the live pool, and when: as a share of the run's length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from skyfog_bench.pool_live.stage import LivePool
from skyfog_core.wire.keys import ReplicaKey

Taken = list[tuple[int, ReplicaKey]]  # when it was told, and who


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that is done. `begin` returns what the timeline says of it, and who was given notice."""

    at_s: float
    begin: Callable[[LivePool], tuple[str, Taken]]


def _preempt(count: int, notice_s: float | None) -> Callable[[LivePool], tuple[str, Taken]]:
    def begin(pool: LivePool) -> tuple[str, Taken]:
        taken = pool.preempt(count, notice_s)
        who = ", ".join(str(key) for _, key in taken) or "nobody"
        if notice_s is None:
            return f"{who} preempted without notice", []
        return f"{who} given {notice_s:g} s notice", taken

    return begin


def _kill(pool: LivePool) -> tuple[str, Taken]:
    pool.kill_controller()
    return "controller killed", []


def _restart(pool: LivePool) -> tuple[str, Taken]:
    pool.start_controller()
    return "controller started again", []


class _Zone:
    """A fault of the zone that is busiest when it begins, until it is healed."""

    def __init__(self) -> None:
        self.name = ""

    def cut(self, pool: LivePool) -> tuple[str, Taken]:
        if pool.why_no_partition:
            return f"no partition: {pool.why_no_partition}", []
        self.name = pool.busiest_zone()
        pool.cloud.partition(self.name)
        return f"zone {self.name} cut off", []

    def heal(self, pool: LivePool) -> tuple[str, Taken]:
        if self.name:
            pool.cloud.heal(self.name)
        return f"zone {self.name} joined again" if self.name else "", []

    def sell_out(self, pool: LivePool) -> tuple[str, Taken]:
        self.name = pool.busiest_zone()
        taken = pool.preempt(100, pool.size.notice_s, self.name)
        pool.cloud.capacity(self.name, 0)
        return f"zone {self.name} has no spot machines any more, {len(taken)} given notice", taken

    def restock(self, pool: LivePool) -> tuple[str, Taken]:
        pool.cloud.capacity(self.name, 16)
        return f"zone {self.name} has spot machines again", []


def full(seconds: float, notice_s: float) -> list[Act]:
    """Preemptions with and without notice, the controller killed twice, one zone cut off, one sold out."""
    cut, sold_out = _Zone(), _Zone()
    acts = [
        (0.05, _preempt(1, notice_s)),
        (0.13, _preempt(1, None)),
        (0.21, _preempt(2, notice_s)),
        (0.30, _kill),
        (0.31, _preempt(2, None)),  # nobody is there to see it
        (0.35, _restart),
        (0.45, cut.cut),
        (0.57, cut.heal),
        (0.66, sold_out.sell_out),
        (0.69, _kill),
        (0.71, _restart),
        (0.80, sold_out.restock),
        (0.84, _preempt(1, None)),
        (0.90, _preempt(1, notice_s)),
    ]
    return [Act(share * seconds, begin) for share, begin in acts]


def quick(seconds: float, notice_s: float) -> list[Act]:
    """One of each."""
    cut = _Zone()
    acts = [
        (0.08, _preempt(1, notice_s)),
        (0.25, _kill),
        (0.27, _preempt(1, None)),
        (0.36, _restart),
        (0.52, cut.cut),
        (0.70, cut.heal),
        (0.74, _kill),
        (0.80, _restart),
    ]
    return [Act(share * seconds, begin) for share, begin in acts]
