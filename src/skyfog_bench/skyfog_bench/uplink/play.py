"""Every contender on every drive, in two processes at most."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context

from skyfog_bench.uplink.drives import Case, build
from skyfog_sim.uplink import Contender, UplinkWorld
from skyfog_sim.uplink_contenders import BASELINES, OURS, TURBOS, ours
from skyfog_sim.uplink_oracle import OracleResult, oracle
from skyfog_sim.uplink_result import UplinkResult

PROCESSES = 2
CONTENDERS: dict[str, Contender] = {
    **BASELINES,
    **{contender.name: contender for contender in TURBOS},
    OURS: ours(),
}
ORACLE = "oracle"


@dataclass(frozen=True)
class Played:
    """One contender on one drive."""

    result: UplinkResult
    cpu_s: float

    @property
    def cpu_s_an_hour(self) -> float:
        return self.cpu_s / self.result.seconds * 3_600


@dataclass
class Table:
    """All contenders on one drive."""

    case: Case
    oracle: OracleResult | None = None
    played: dict[str, Played] = field(default_factory=dict)

    def turbo(self) -> Played:
        """The better of its two."""
        return max((self.played[one.name] for one in TURBOS), key=lambda played: played.result.utility)

    def to_oracle(self, name: str) -> float:
        return self.played[name].result.utility / self.best_known().utility

    def best_known(self) -> OracleResult:
        assert self.oracle is not None
        return self.oracle


def play(
    cases: Sequence[Case], alone: Sequence[Case], say: Callable[[str], None]
) -> tuple[list[Table], dict[Case, Played]]:
    """Replay all contenders on `cases`, ours on those `alone`, which are of other lengths."""
    tables = {case: Table(case) for case in cases}
    assert not set(alone) & set(cases)
    hours: dict[Case, Played] = {}
    # The longest come first. A drive's tasks stand side by side: each process builds it once.
    tasks = [(case, OURS) for case in alone]
    tasks += [(case, name) for case in cases for name in (OURS, *(n for n in CONTENDERS if n != OURS), ORACLE)]
    pool = ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn"))
    try:
        futures = {pool.submit(_task, case, name): (case, name) for case, name in tasks}
        for future in as_completed(futures):
            case, name = futures[future]
            found = future.result()
            if case not in tables:
                assert isinstance(found, Played)
                hours[case] = found
            elif isinstance(found, OracleResult):
                tables[case].oracle = found
            else:
                tables[case].played[name] = found
            utility = found.utility if isinstance(found, OracleResult) else found.result.utility
            say(f"{case.name}, {name}: utility {utility:.4f}")
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return [tables[case] for case in cases], hours


def _task(case: Case, name: str) -> Played | OracleResult:
    drive = build(case)
    if name == ORACLE:
        return oracle(drive)
    world = UplinkWorld(drive, CONTENDERS[name])
    begun = time.process_time()
    return Played(world.run(), time.process_time() - begun)
