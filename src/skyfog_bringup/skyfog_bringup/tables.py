"""What `skyfog status`, `skyfog replicas` and `skyfog trace` print. Pure: reports in, tables out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from skyfog_bringup.timeline import Summary
from skyfog_router.policy.snapshot import ReplicaSnapshot, ServiceSnapshot
from skyfog_router.report import ServiceReport

NONE = "-"
STATE_STYLES = {"healthy": "green", "suspect": "yellow", "probing": "yellow", "backing_off": "yellow", "ejected": "red"}


def new_table(words: Sequence[str], numbers: Sequence[str], last: str = "") -> Table:
    """Columns of words, then of numbers, then one more of words."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in words:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    if last:
        table.add_column(last, no_wrap=True)
    return table


def milliseconds(value: float | None) -> str:
    """Three figures, as far as they tell anything."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def percent(part: float, whole: float) -> str:
    """A share; of nothing there is none. Less than all is never shown as 100 %, nor something as 0 %."""
    if not whole:
        return NONE
    share = 100 * part / whole
    if 0 < share < 0.1:
        return "<0.1 %"
    if 99.9 < share < 100:
        return ">99.9 %"
    return f"{share:.1f} %"


def status_table(reports: Sequence[ServiceReport]) -> Group:
    """One row a robot and service, and a line for each that is not well."""
    numbers = ("called", "failed", "p50 ms", "p99 ms", "SLO ms", "within", "extra", "open", "healthy")
    table = new_table(("robot", "service", "policy", "rank"), numbers)
    lines = []
    for report in reports:
        now = report.snapshot
        problem = not_well(now)
        table.add_row(
            report.origin.robot or NONE,
            report.service,
            now.policy,
            now.rank,
            f"{now.called:,}",
            Text(f"{now.failed:,}", style="red" if now.failed else ""),
            milliseconds(now.p50_ms),
            milliseconds(now.p99_ms),
            milliseconds(now.slo_ms),
            percent(now.within_slo, now.delivered + now.failed),
            percent(now.extra + now.rescues, now.called),
            f"{now.in_flight:,}",
            Text(_healthy(now), style="yellow" if problem else "green"),
        )
        if problem:
            lines.append(Text(f"{report.origin.robot or NONE} {report.service}: {problem}", style="yellow"))
    return Group(table, *lines)


def _healthy(now: ServiceSnapshot) -> str:
    return f"{sum(replica.state == 'healthy' for replica in now.replicas)}/{len(now.replicas)}"


def not_well(now: ServiceSnapshot) -> str:
    """What is wrong with a service's replicas and requests, in a few words."""
    words = [] if now.replicas else ["no replica"]
    if now.panic:
        words.append("panic: all are asked")
    words += [f"{_name(replica)} {_words(replica.state)}" for replica in now.replicas if replica.state != "healthy"]
    words += [f"{count:,} {name}" for name, count in sorted(now.failures.items())]
    return ", ".join(words)


def _name(replica: ReplicaSnapshot) -> str:
    return f"{replica.zone}/{replica.replica}"


def replicas_table(reports: Sequence[ServiceReport]) -> Group:
    """One row a replica as one robot sees it, and a line for each that is not well."""
    numbers = ("$/h", "busy", "queue", "asked", "won", "failed", "p50 ms", "p99 ms", "ejected")
    table = new_table(("robot", "service", "replica"), numbers, "state")
    lines = []
    for report in reports:
        robot = report.origin.robot or NONE
        for replica in report.snapshot.replicas:
            style = STATE_STYLES.get(replica.state, "")
            table.add_row(
                robot,
                report.service,
                f"{_name(replica)} (local)" if replica.local else _name(replica),
                f"{replica.price_per_hour:.3g}" if replica.price_per_hour else NONE,
                f"{replica.in_flight}/{replica.capacity}",
                f"{replica.queue_depth:,}",
                f"{replica.asked:,}",
                f"{replica.won:,}",
                f"{replica.failed:,}",
                milliseconds(replica.p50_ms),
                milliseconds(replica.p99_ms),
                f"{replica.ejections:,}",
                Text(_words(replica.state), style=style),
            )
            if replica.state != "healthy":
                lines.append(Text(f"{robot} {report.service} {_name(replica)} {_state(replica)}", style=style))
    return Group(table, *lines)


def _words(state: str) -> str:
    return state.replace("_", " ")


def _state(replica: ReplicaSnapshot) -> str:
    left = f" for {replica.back_in_ms / 1e3:.1f} s more" if replica.back_in_ms else ""
    why = f": {replica.why}" if replica.why else ""
    return f"{_words(replica.state)}{left}{why}"


def plain(reports: Sequence[ServiceReport]) -> list[dict[str, Any]]:
    """The reports as JSON: what is unknown is null."""
    return [
        {
            **dataclasses.asdict(report.origin),
            "service": report.service,
            "type": report.type,
            "stamp_ns": report.stamp_ns,
            **dataclasses.asdict(report.snapshot),
        }
        for report in reports
    ]


def plain_replicas(reports: Sequence[ServiceReport]) -> list[dict[str, Any]]:
    """The replicas of the reports as JSON."""
    return [
        {**dataclasses.asdict(report.origin), "service": report.service, **dataclasses.asdict(replica)}
        for report in reports
        for replica in report.snapshot.replicas
    ]


def summaries(of: Mapping[str, Summary], still_open: int) -> Iterator[Text | Table]:
    """A trace as a whole, a service at a time."""
    for service, summary in sorted(of.items()):
        if summary.requests:
            yield Text("\n".join(_summary_lines(service, summary)))
        if summary.replicas:
            yield _shares(summary)
    if still_open:
        yield Text(f"{still_open} still open where the trace ends")


def _summary_lines(service: str, summary: Summary) -> Iterator[str]:
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in summary.outcomes.most_common())
    yield f"{service}: {summary.requests:,} requests: {outcomes}"
    shown = ((name, summary.quantile_ms(q)) for name, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)))
    yield "  delivered in ms: " + ", ".join(f"{name} {milliseconds(value)}" for name, value in shown)
    whys = ", ".join(f"{count:,} {why}" for why, count in summary.sends.most_common())
    sends = summary.sends.total()
    yield f"  {sends:,} sends ({sends / summary.requests:.2f} a request): {whys or NONE}"


def _shares(summary: Summary) -> Table:
    table = new_table(("replica",), ("asked", "won", "share of answers", "no result", "withdrawn"), "ejected")
    delivered = len(summary.latencies_ms)
    for name, share in sorted(summary.replicas.items()):
        table.add_row(
            name,
            f"{share.asked:,}",
            f"{share.won:,}",
            percent(share.won, delivered),
            f"{share.refused:,}",
            f"{share.withdrawn:,}",
            f"{share.ejected:,}",
        )
    return table
