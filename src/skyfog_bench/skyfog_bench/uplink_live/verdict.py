"""Rows and goals of `skyfog bench uplink_live`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from skyfog_bench.measure import growth
from skyfog_bench.report import Goal
from skyfog_bench.uplink_live.record import Figures, Line, Run, figures, outcomes, service_rows
from skyfog_bench.uplink_live.stage import Look
from skyfog_core.units import S
from skyfog_uplink.policy.model import Table

CLOSE = 0.10  # live and simulation: of the utility, in points of a share
COMPARES_S = 30.0  # a window that is shorter holds too few decisions to compare by
MISSED = 0.01
BACK_S = 2.0  # from the link's return to the first acknowledgement
OVER_S = 2.0  # from a gateway's death to the first answer by way of another
GROWTH_MB = 3.0
ROWS = 50  # of a timeline
SHARES = ("met", "by_cloud", "offloaded", "missed", "withheld")


@dataclass(frozen=True, slots=True)
class Fault:
    """What was struck, from when to when it counts."""

    what: str
    begin_ns: int
    end_ns: int


def table_rows(table: Table) -> list[dict[str, Any]]:
    """What the options need, as it was measured."""
    return [
        {
            "service": service.name,
            "option": at,
            "name": option.name,
            "accuracy": option.accuracy,
            "bytes_p50": option.bytes.quantile(0.5),
            "bytes_p99": option.bytes.quantile(0.99),
            "pre_p50_ms": option.pre_ms.quantile(0.5),
            "pre_p99_ms": option.pre_ms.quantile(0.99),
            "exec_p50_ms": option.exec_ms.quantile(0.5),
            "exec_p99_ms": option.exec_ms.quantile(0.99),
        }
        for service in table.services
        for at, option in enumerate(service.options)
    ]


def drive_rows(
    link: str,
    table: Table,
    live: Run,
    simulated: Sequence[Figures],
    timeline: Sequence[Mapping[str, Any]],
    looks: Sequence[Look],
) -> list[dict[str, Any]]:
    """One link: the timeline, thinned; each service; live beside simulation; what the machine was doing."""
    step = max(1, len(timeline) // ROWS)
    rows: list[dict[str, Any]] = [{"link": link, **row} for row in timeline[::step]]
    rows += [{"link": link, **row} for row in service_rows(table, live)]
    seen = figures(table, live)
    for name in Figures.__slots__:
        beside = [getattr(each, name) for each in simulated]
        rows.append(
            {
                "link": link,
                "figure": name.replace("_", " "),
                "live": getattr(seen, name),
                "simulation": mean(beside),
                "lowest": min(beside),
                "highest": max(beside),
                "difference": difference(name, getattr(seen, name), mean(beside)),
            }
        )
    rows.append({"link": link, **{f"ended_{outcome}": count for outcome, count in sorted(outcomes(live).items())}})
    rows.append({"link": link, **machine_row(looks)})
    return rows


def difference(name: str, live: float, simulated: float) -> float:
    """Of a share in points; of the rest relative to the larger."""
    apart = abs(live - simulated)
    return apart if name in SHARES else apart / max(abs(live), abs(simulated), 1e-9)


def machine_row(looks: Sequence[Look]) -> dict[str, Any]:
    """Processors and memory over a run."""
    return {
        "idle_share": mean(look.idle for look in looks),
        "our_processors": mean(look.ours for look in looks),
        "at_most": max(look.ours for look in looks),
        "shaper_mb": looks[-1].shaper_mb,
        "shaper_grew_mb": growth([look.shaper_mb for look in looks]),
    }


def drive_goals(link: str, table: Table, live: Run, simulated: Sequence[Figures]) -> list[Goal]:
    """Of one link."""
    seen = figures(table, live)
    goals = []
    for name in ("utility", *SHARES):
        apart = difference(name, getattr(seen, name), mean(getattr(each, name) for each in simulated))
        what = f"{link}: {name.replace('_', ' ')}, live and simulation apart"
        short = f"{live.seconds:.0f} s are too short to compare" if live.seconds < COMPARES_S else ""
        goals.append(Goal(what, CLOSE, None if short else apart, why=short))
    goals.append(Goal(f"{link}: missed of the offloaded", MISSED, seen.missed))
    goals.append(Goal(f"{link}: images without any answer", 0, sum(not one.heard for one in live.seen)))
    return goals


def fault_rows(live: Run, faults: Sequence[Fault], looks: Sequence[Look]) -> list[dict[str, Any]]:
    """One row a fault."""
    rows = []
    for fault in faults:
        seen = [one for one in live.seen if fault.begin_ns <= one.shot_ns < fault.end_ns]
        mine = [look for look in looks if fault.begin_ns <= look.at_ns < fault.end_ns]
        rows.append(
            {
                "fault": fault.what,
                "seconds": (fault.end_ns - fault.begin_ns) / S,
                "images": len(seen),
                "answered": sum(one.answered for one in seen),
                "by_cloud": sum(one.cloud_ms is not None for one in seen),
                "without_any": sum(not one.heard for one in seen),
                "link_up_after_s": _after(live.links, fault, lambda line: bool(line["up"])),
                "cloud_after_s": _cloud_after(live, fault),
                **machine_row(mine),
            }
        )
    return rows


def _after(lines: Sequence[Line], fault: Fault, holds: Any) -> float | None:
    """Seconds from the fault's begin to the first line of which something holds after one of which it did not."""
    been = False
    for line in lines:
        if fault.begin_ns <= line["at_ns"] < fault.end_ns:
            if holds(line) and been:
                return float((line["at_ns"] - fault.begin_ns) / S)
            been = been or not holds(line)
    return None


def _cloud_after(live: Run, fault: Fault) -> float | None:
    """Seconds from the fault's begin to the first answer by the cloud for an image that was captured after it."""
    found = [
        one.shot_ns + round(one.cloud_ms * 1e6)
        for one in live.seen
        if one.cloud_ms is not None and fault.begin_ns <= one.shot_ns < fault.end_ns
    ]
    return (min(found) - fault.begin_ns) / S if found else None


def fault_goals(live: Run, faults: Sequence[Fault], looks: Sequence[Look]) -> list[Goal]:
    """Of the cut and the killed gateway; `faults` as the bench strikes: cut, back, killed."""
    cut, back, killed = faults
    goals = [Goal("faults: images without any answer", 0, sum(not one.heard for one in live.seen))]
    seen_s = _after(live.links, back, lambda line: bool(line["up"]))
    why = "" if seen_s is not None else "the link was never seen to be back"
    goals.append(Goal("link cut and back: until the car sees it", BACK_S, seen_s, "s", why=why))
    over_s = _cloud_after(live, killed)
    why = "" if over_s is not None else "the cloud answered no more"
    goals.append(Goal("gateway killed: until the cloud answers again", OVER_S, over_s, "s", why=why))
    mine = [look.shaper_mb for look in looks if cut.begin_ns <= look.at_ns < cut.end_ns]
    goals.append(Goal("link cut: the shaper's memory grew by", GROWTH_MB, growth(mine), "MB"))
    return goals
