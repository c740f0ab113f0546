"""`skyfog bench uplink`: utility, deadlines, misses and flaps on replayed links, under every way to share them.

The same link, round trips, scenes and draws of each frame for all. "oracle" knows the trace and "bound" is what no
policy can exceed; skyfog_uplink/doc/how_it_is_measured.md says what each contender is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from skyfog_bench.processes import Processes
from skyfog_bench.report import Goal, Report
from skyfog_bench.uplink import plot
from skyfog_bench.uplink.drives import FOLDER, Case, cases, hour_cases
from skyfog_bench.uplink.play import CONTENDERS, Played, Table, play
from skyfog_sim.uplink_contenders import ON_CAR, OURS, TURBO
from skyfog_uplink.policy.frames import Outcome

NO_TRACES = f"the recorded traces are not here (see {FOLDER})"


@dataclass(frozen=True, slots=True)
class Size:
    """How much is replayed."""

    seconds: float  # of each generated link
    recorded_seconds: float  # of each recorded one at most
    traces: int  # of each kind
    hour_seconds: float  # of the drives that only ours replays, for its processor time


FULL = Size(seconds=300, recorded_seconds=3_600, traces=6, hour_seconds=3_600)
QUICK = Size(seconds=30, recorded_seconds=30, traces=1, hour_seconds=60)


def run(_processes: Processes, size: Size, seed: int, say: Callable[[str], None], out: Path | None = None) -> Report:
    """Replay everything. With `out`, pictures are written beside that file."""
    chosen = list(cases(size.seconds, size.recorded_seconds, size.traces, seed))
    hours = list(hour_cases(size.hour_seconds, seed))
    tables, alone = play(chosen, hours, say)
    report = Report("uplink", seed)
    for table in tables:
        report.rows += policy_rows(table)
    for table in tables:
        report.rows += cause_rows(table)
    for table in tables:
        report.rows += service_rows(table)
    report.rows += [hour_row(case, alone[case]) for case in hours]
    report.goals += [*goals(tables), hour_goal(alone)]
    if out is not None:
        plot.bars(tables, out.with_suffix(".png"))
        plot.strip(_to_show(tables), out.with_suffix(".strip.png"))
    return report


def _to_show(tables: Sequence[Table]) -> Table:
    """The last recorded drive of the richest table, else the first."""
    known = [table for table in tables if table.case.recorded and table.case.table == "car"]
    return (known or list(tables))[-1 if known else 0]


# rows


def policy_rows(table: Table) -> list[Mapping[str, Any]]:
    """One line a contender, then the oracle and the bound."""
    best = table.best_known()
    rows: list[Mapping[str, Any]] = [_policy_row(table, name, table.played[name]) for name in CONTENDERS]
    blank = dict.fromkeys(rows[0])
    head = {"trace": table.case.trace, "table": table.case.table}
    for name, utility in (("oracle", best.utility), ("bound", best.bound.utility)):
        figures = {"policy": name, "utility": utility, "to_oracle_percent": 100 * utility / best.utility}
        rows.append({**blank, **head, **figures, "gain_percent": _gain(table, utility)})
    return rows


def _policy_row(table: Table, name: str, played: Played) -> dict[str, Any]:
    result = played.result
    minutes, outcomes = result.seconds / 60, result.outcomes
    return {
        "trace": table.case.trace,
        "table": table.case.table,
        "policy": name,
        "utility": result.utility,
        "to_oracle_percent": 100 * table.to_oracle(name),
        "gain_percent": _gain(table, result.utility),
        "in_time_percent": 100 * result.in_time_share,
        "offloaded_percent": 100 * result.offloaded / max(1, result.frames),
        "missed_percent": 100 * result.miss_share,
        "withheld_percent": 100 * outcomes[Outcome.WITHHELD] / max(1, result.frames),
        "replaced_percent": 100 * outcomes[Outcome.REPLACED] / max(1, result.frames),
        "flaps_a_minute": result.flaps / minutes,
        "link_used_percent": 100 * result.utilisation,
        "probes_percent": 100 * result.probe_bytes / max(1, result.sent_bytes),
        "in_vain_percent": 100 * result.wasted_bytes / max(1, result.sent_bytes),
        "cpu_s_an_hour": played.cpu_s_an_hour,
    }


def _gain(table: Table, utility: float) -> float | None:
    """What it adds to the car's own models, of what the oracle adds; None where that is nothing."""
    best = table.best_known()
    room = best.utility - best.bound.floor
    return 100 * (utility - best.bound.floor) / room if room > 1e-4 else None


def cause_rows(table: Table) -> list[Mapping[str, Any]]:
    """Of the frames that were to be offloaded, what became of each, in thousandths."""
    rows: list[Mapping[str, Any]] = []
    for name in CONTENDERS:
        outcomes = table.played[name].result.outcomes
        total = outcomes.total()
        if name == ON_CAR or not total:
            continue
        shares = {outcome.value: 1_000 * outcomes[outcome] / total for outcome in Outcome}
        rows.append({"of_1000": table.case.name, "policy": name, "frames": total, **shares})
    return rows


def service_rows(table: Table) -> list[Mapping[str, Any]]:
    """Ours beside TURBO's better half, by service."""
    pairs = zip(table.played[OURS].result.services, table.turbo().result.services, strict=True)
    return [
        {
            "drive": table.case.name,
            "service": ours.name,
            "frames": ours.frames,
            "in_time_percent": 100 * ours.in_time / max(1, ours.frames),
            "offloaded_percent": 100 * ours.offloaded / max(1, ours.frames),
            "missed_percent": 100 * ours.misses / max(1, ours.offloaded),
            "accuracy": ours.utility,
            "turbo_offloaded_percent": 100 * theirs.offloaded / max(1, theirs.frames),
            "turbo_missed_percent": 100 * theirs.misses / max(1, theirs.offloaded),
            "turbo_accuracy": theirs.utility,
        }
        for ours, theirs in pairs
    ]


def hour_row(case: Case, played: Played) -> Mapping[str, Any]:
    """A long drive of ours alone: what it took."""
    result = played.result
    return {
        "alone": case.name,
        "seconds": case.seconds,
        "frames": result.frames,
        "plans": result.plans,
        "utility": result.utility,
        "missed_percent": 100 * result.miss_share,
        "cpu_s": played.cpu_s,
        "cpu_s_an_hour": played.cpu_s_an_hour,
    }


# goals


def goals(tables: Sequence[Table]) -> list[Goal]:
    """On recorded traces where they are; generated ones have goals of their own."""
    found: list[Goal] = []
    for which, recorded in (("recorded", True), ("generated", False)):
        mine = [table for table in tables if table.case.recorded is recorded]
        found += _goals_of(mine, which, "" if mine else NO_TRACES)
    return found


def hour_goal(hours: Mapping[Case, Played]) -> Goal:
    """Replaying an hour must not take one."""
    slowest, name = max((played.cpu_s_an_hour, case.name) for case, played in hours.items())
    return Goal(f"CPU time for an hour's drive, ours ({name})", 60.0, slowest, "s")


def _goals_of(tables: Sequence[Table], which: str, why: str) -> list[Goal]:
    ours = [table.played[OURS].result.utility for table in tables]
    published = [mine / table.played[TURBO].result.utility for mine, table in zip(ours, tables, strict=True)]
    better = [mine / table.turbo().result.utility for mine, table in zip(ours, tables, strict=True)]
    oracle = [100 * table.to_oracle(OURS) for table in tables]
    missed = [100 * table.played[OURS].result.miss_share for table in tables]
    offloaded = sum(table.played[OURS].result.offloaded for table in tables)
    lost = sum(service.misses for table in tables for service in table.played[OURS].result.services)
    some = bool(tables)
    mean = fmean(oracle) if some else None
    share = 100 * lost / max(1, offloaded) if some else None
    least = min(100 * table.played[OURS].result.in_time_share for table in tables) if some else None
    return [
        Goal(f"{which}: utility to {TURBO}'s, worst", 1.0, min(published) if some else None, why=why, at_least=True),
        Goal(
            f"{which}: utility to {TURBO}'s with much or little junk, mean",
            1.0,
            fmean(better) if some else None,
            why=why,
            at_least=True,
        ),
        Goal(
            f"{which}: utility to {TURBO}'s with much or little junk, worst",
            1.0,
            min(better) if some else None,
            why=why,
            at_least=True,
        ),
        Goal(f"{which}: utility to the oracle's, mean", 95, mean, "%", why=why, at_least=True),
        Goal(f"{which}: missed of offloaded, mean", 1.0, share, "%", why=why),
        Goal(f"{which}: missed of offloaded, worst", 1.0, max(missed) if some else None, "%", why=why),
        Goal(f"{which}: answered in time, by car or cloud, worst", 99.0, least, "%", why=why, at_least=True),
    ]
