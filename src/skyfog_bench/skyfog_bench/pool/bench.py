"""`skyfog bench pool`: what a pool costs, and how much of the time it is at target, under every policy.

Recorded markets (SkyServe's, where they are) and generated ones; the same cold start of 183 s (SkyServe), notices of
120 s, target and requests for all policies; beside them the omniscient optimum, and the published figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from skyfog_bench.pool import plot
from skyfog_bench.pool.autoscale import autoscaling_rows
from skyfog_bench.pool.markets import Course, folder, generated, head, recorded
from skyfog_bench.pool.play import (
    OURS,
    OURS_SERVES,
    PUBLISHED,
    PUBLISHED_SERVES,
    SKYPILOT,
    Played,
    Table,
    play,
)
from skyfog_bench.processes import Processes
from skyfog_bench.report import Goal, Report
from skyfog_core import extras
from skyfog_core.environments import INSTALL_COMMAND, python_of
from skyfog_core.errors import ConfigError
from skyfog_sim.machines import MachineModel
from skyfog_sim.market_stats import stats, together
from skyfog_sim.requests import Pattern

PATTERNS: tuple[Pattern, ...] = ("poisson", "bursty", "diurnal")
# What goals are judged for: ours, and what it stands beside.
CHOICES = {"on_notice drain (default)": (OURS, PUBLISHED), "on_notice serve": (OURS_SERVES, PUBLISHED_SERVES)}
NO_TRACES = "the recorded markets are not here (see SKYFOG_SPOT_TRACES)"

# SkyServe, arXiv 2411.01438: of the replays of its section 5.
PUBLISHED_ROWS = (
    {"published": "SpotHedge", "percent_at_target": "99 to 100", "cost_to_on_demand": "0.57 on average (0.56 to 0.59)"},
    {"published": "SpotHedge", "percent_at_target": "99 to 100", "cost_to_on_demand": "omniscient x 1.05 to 1.20"},
    {"published": "even spread", "percent_at_target": "27 to 63", "cost_to_on_demand": ""},
    {"published": "round robin", "percent_at_target": "82 to 99", "cost_to_on_demand": ""},
)


@dataclass(frozen=True, slots=True)
class Size:
    """How much is replayed."""

    days: float  # of each recorded market, from its beginning
    courses: int  # recorded markets, of all
    generated: int
    generated_days: float
    seeds: int
    patterns: tuple[Pattern, ...]
    autoscale_days: float


FULL = Size(days=60, courses=20, generated=2, generated_days=30, seeds=1, patterns=PATTERNS, autoscale_days=7)
QUICK = Size(days=2, courses=2, generated=1, generated_days=3, seeds=1, patterns=("bursty",), autoscale_days=1)


def run(_processes: Processes, size: Size, seed: int, say: Callable[[str], None], out: Path | None = None) -> Report:
    """Replay everything. With `out`, pictures are written beside that file.

    Raises ConfigError where highspy is not installed, and cannot be; TraceError where a recorded market cannot be read.
    """
    extras.need("bench", "highspy")
    skypilot = _skypilot()
    seeds = range(seed, seed + size.seeds)
    tables = [play(course, seeds, size.patterns, skypilot, say, MachineModel()) for course in courses(size, seed)]
    report = Report("pool", seed)
    for table in tables:
        report.rows.append(market_row(table))
    for table in tables:
        report.rows += policy_rows(table)
    for table in tables:
        report.rows += latency_rows(table)
    report.rows += autoscaling_rows(generated(seed, 1, size.autoscale_days), seed, say)
    report.rows += PUBLISHED_ROWS
    report.goals += goals(tables, skypilot is not None)
    if out is not None:
        plot.frontier(tables, out.with_suffix(".png"))
        plot.strip(tables[0], OURS, out.with_suffix(".strip.png"))
    return report


def courses(size: Size, seed: int) -> list[Course]:
    """The markets, recorded ones first."""
    root = folder()
    found = [] if root is None else [head(course, size.days) for course in list(recorded(root))[: size.courses]]
    return found + list(generated(seed, size.generated, size.generated_days))


def _skypilot() -> Path | None:
    try:
        return python_of("skypilot")
    except ConfigError:
        return None  # not in a workspace


# rows


def market_row(table: Table) -> Mapping[str, Any]:
    """What was replayed."""
    market = table.course.market
    zones = stats(market)
    shares = [100 * zone.available for zone in zones]
    return {
        "market": market.name,
        "days": market.length_ns / 86_400e9,
        "zones": len(zones),
        "target": table.course.target,
        "percent_of_time_with_spot": f"{min(shares):.0f} to {max(shares):.0f}",
        "outages_a_zone_and_day": fmean(z.outages_per_day for z in zones),
        "correlation_in_a_region": together(market, same_region=True),
        "between_regions": together(market, same_region=False),
        "note": table.course.note,
    }


def policy_rows(table: Table) -> list[Mapping[str, Any]]:
    """One line a policy, and the optimum."""
    rows: list[Mapping[str, Any]] = []
    for one in table.played:
        counts = [result.count for result in one.results]
        rows.append(
            {
                "market": table.course.name,
                "policy": one.who.name,
                "percent_at_target": 100 * one.at_target,
                "cost_to_on_demand": one.relative_cost,
                "cost_to_omniscient": one.usd / table.optimum.usd,
                "usd_a_day": one.usd / (table.course.market.length_ns / 86_400e9),
                "spot_launches": round(fmean(count.launches["spot"] for count in counts)),
                "on_demand_launches": round(fmean(count.launches["on_demand"] for count in counts)),
                "launch_failures": round(fmean(count.launch_failures for count in counts)),
                "preemptions": round(fmean(count.preemptions for count in counts)),
                "replay_s": one.wall_s,
            }
        )
    blank = dict.fromkeys(rows[0])
    optimum = {"percent_at_target": 100.0, "cost_to_on_demand": table.optimum.usd / table.on_demand_usd}
    optimum |= {"cost_to_omniscient": 1.0, "usd_a_day": table.optimum.usd / (table.course.market.length_ns / 86_400e9)}
    rows.append({**blank, "market": table.course.name, "policy": "omniscient", **optimum})
    return rows


def latency_rows(table: Table) -> list[Mapping[str, Any]]:
    """One line a policy and pattern of requests: means over seeds."""
    return [
        {
            "market": table.course.name,
            "policy": one.who.name,
            "requests": pattern,
            "count": round(fmean(seen.requests for seen in found)),
            "p50_s": fmean(seen.p50_s for seen in found),
            "p90_s": fmean(seen.p90_s for seen in found),
            "p99_s": fmean(seen.p99_s for seen in found),
            "failed": round(fmean(seen.failed for seen in found)),
            "begun_again": round(fmean(seen.retried for seen in found)),
        }
        for one in table.played
        for pattern, found in one.latencies.items()
    ]


# goals


def goals(tables: Sequence[Table], has_skypilot: bool) -> list[Goal]:
    """On the recorded markets where they are; the generated ones have goals of their own.

    For each choice of `on_notice`; each stands beside SpotHedge with the same.
    """
    known = [table for table in tables if table.course.recorded]
    made = [table for table in tables if not table.course.recorded]
    found: list[Goal] = []
    for choice, pair in CHOICES.items():
        found += _goals_of(known, pair, f"recorded, {choice}", "" if known else NO_TRACES)
        found += _goals_of(made, pair, f"generated, {choice}", "")
    found += [_against_skypilot(known or made, pair[0], choice, has_skypilot) for choice, pair in CHOICES.items()]
    slowest = max((_need(table, OURS).wall_s, table.course.name) for table in tables)
    found.append(Goal(f"slowest replay of ours, with requests ({slowest[1]})", 10.0, slowest[0], "s"))
    return found


def _goals_of(tables: Sequence[Table], pair: tuple[str, str], which: str, why: str) -> list[Goal]:
    ours, theirs = ([_need(table, name) for table in tables] for name in pair)
    pairs = list(zip(ours, theirs, strict=True))
    optima = [table.optimum.usd for table in tables]

    def goal(
        name: str, limit: float, values: Sequence[float], pick: Callable[..., float], at_least: bool, unit: str
    ) -> Goal:
        value = pick(values) if values else None
        return Goal(f"{which}: {name}", limit, value, unit, why=why, at_least=at_least)

    return [
        goal("time at target, mean", 99.5, [100 * one.at_target for one in ours], fmean, True, "%"),
        goal("time at target, worst market", 99.5, [100 * one.at_target for one in ours], min, True, "%"),
        goal(
            "at target beside SpotHedge, mean",
            0.0,
            [100 * (a.at_target - b.at_target) for a, b in pairs],
            fmean,
            True,
            "%",
        ),
        goal(
            "at target beside SpotHedge, worst market",
            -2.0,
            [100 * (a.at_target - b.at_target) for a, b in pairs],
            min,
            True,
            "%",
        ),
        goal("cost to on demand only, mean", 0.55, [one.relative_cost for one in ours], fmean, False, ""),
        goal("cost to SpotHedge, worst market", 1.02, [a.usd / b.usd for a, b in pairs], max, False, ""),
        goal(
            "cost to omniscient, mean",
            1.10,
            [one.usd / usd for one, usd in zip(ours, optima, strict=True)],
            fmean,
            False,
            "",
        ),
        goal(
            "cost to omniscient, worst market",
            1.10,
            [one.usd / usd for one, usd in zip(ours, optima, strict=True)],
            max,
            False,
            "",
        ),
    ]


def _against_skypilot(tables: Sequence[Table], ours: str, choice: str, is_there: bool) -> Goal:
    name = f"cost to SkyPilot 0.14's own classes, {choice}, mean"
    if not is_there:
        return Goal(name, 1.0, None, why=f"not installed: {INSTALL_COMMAND} skypilot")
    return Goal(name, 1.0, fmean(_need(table, ours).usd / _need(table, SKYPILOT).usd for table in tables))


def _need(table: Table, name: str) -> Played:
    found = table.of(name)
    assert found is not None, name
    return found
