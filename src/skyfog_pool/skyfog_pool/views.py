"""What `skyfog pool status` shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from skyfog_pool.store import Event

STALE_S = 10.0  # a controller tells its state once a second

_STYLES = {"READY": "green", "NOT_READY": "yellow", "DRAINING": "yellow", "PREEMPTED": "magenta"}


def seconds(value: float | None) -> str:
    """A duration in two units at most."""
    if value is None:
        return "-"
    whole = round(value)
    for unit, size, lower, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size}{unit}" + (f" {rest}{lower}" if rest else "")
    return f"{whole}s"


def usd(value: float | None) -> str:
    """To the cent, and finer where it is little."""
    return "-" if value is None else f"${value:.4f}" if abs(value) < 1 else f"${value:,.2f}"


def saved(now: float, on_demand: float) -> str:
    """Against on demand, in percent."""
    if on_demand <= 0:
        return ""
    percent = 100 * (1 - now / on_demand)
    return f"{percent:.0f}% below on demand" if percent >= 0 else f"{-percent:.0f}% above on demand"


def head(now: Mapping[str, Any], controller: int | None, unix_s: float) -> Text:
    """Pool, target, costs, and whether anybody looks after it."""
    what = (
        f"{now['pool']}  {now['ready']} of {now['target']} ready  version {now['version']}  "
        f"{now['provider']}  {now['service']}  placement {now['placer']}"
    )
    hour = saved(now["usd_per_hour"], now["on_demand_usd_per_hour"])
    so_far = saved(now["usd"], now["on_demand_usd"])
    costs = f"costs {usd(now['usd_per_hour'])}/h{f' ({hour})' if hour else ''}; "
    costs += f"{usd(now['usd'])} so far{f' ({so_far})' if so_far else ''}"
    text = Text(f"{what}\n{costs}")
    old_s = unix_s - now["at_unix"]
    if now["wish"] == "down":
        text.append("\nit is taken down", "yellow")
    if now["holding"]:
        text.append(f"\nholding back: {now['holding']}", "yellow")
    if now["trouble"]:
        text.append(f"\nprovider: {now['trouble']}", "red")
    if controller is None:
        text.append(f"\nno controller runs (as of {seconds(old_s)} ago): skyfog pool up {now['source']}", "red")
    elif old_s > STALE_S:
        text.append(f"\nits controller, process {controller}, has told nothing for {seconds(old_s)}", "red")
    return text


def replicas(rows: Iterable[Mapping[str, Any]]) -> Table:
    """One line each: where, on which market, in what state, and why."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("id", "zone", "market", "state", "ver", "age", "$/h", "ms", "endpoint", "why"):
        table.add_column(
            name, no_wrap=name != "why", justify="right" if name in {"id", "ver", "age", "$/h", "ms"} else "left"
        )
    for row in rows:
        state = row["state"] + (f" ({row['notice']})" if row["notice"] else "")
        latency = row["latency_ms"]
        table.add_row(
            str(row["id"]),
            row["zone"],
            row["market"],
            Text(state, _STYLES.get(row["state"], "red" if row["state"].startswith("FAILED") else "")),
            str(row["version"]),
            seconds(row["age_s"]),
            f"{row['price_per_hour']:.4f}",
            "-" if latency is None else f"{latency:.0f}",
            row["endpoint"].removeprefix("http://") or "-",
            Text(row["why"] or row["because"]),
        )
    return table


def zones(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Prices, and what the placement thinks of each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("zone", "spot $/h", "on demand $/h", "replicas", "belief"):
        table.add_column(name, justify="left" if name in {"zone", "belief"} else "right")
    for row in rows:
        belief = "; ".join(
            part for part in (row["belief"], f"paused ({row['paused']})" if row["paused"] else "") if part
        )
        prices = ["-" if row[key] is None else f"{row[key]:.4f}" for key in ("spot", "on_demand")]
        table.add_row(row["zone"], *prices, str(row["replicas"]), belief)
    return table


def events(found: Iterable[Event]) -> Table:
    """Oldest first."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for event in found:
        at = datetime.fromtimestamp(event.at_unix, UTC).astimezone().strftime("%H:%M:%S")
        table.add_row(at, "" if event.replica is None else str(event.replica), Text(said(event)))
    return table


def said(event: Event) -> str:
    """An event as a line."""
    fields = event.fields
    match event.name:
        case "state":
            was = f"{fields['was']} -> " if fields.get("was") else ""
            return f"{was}{fields['state']}" + (f": {fields['why']}" if fields.get("why") else "")
        case "launch":
            return f"launch in {fields['zone']} ({fields['market']}, version {fields['version']}): {fields['because']}"
        case name:
            rest = ", ".join(f"{key} {value}" for key, value in fields.items() if value not in {"", None})
            return name.replace("_", " ") + (f": {rest}" if rest else "")


def status(
    now: Mapping[str, Any],
    ended: Sequence[Mapping[str, Any]],
    newest: Sequence[Event],
    controller: int | None,
    unix_s: float,
) -> RenderableType:
    """All of it."""
    parts: list[RenderableType] = [head(now, controller, unix_s)]
    for title, table, is_there in (
        ("Replicas", replicas([*now["replicas"], *ended]), now["replicas"] or ended),
        ("Zones", zones(now["zones"]), now["zones"]),
        ("Events", events(newest), newest),
    ):
        if is_there:
            parts += [Text(f"\n{title}", "bold"), table]
    return Group(*parts)


def pools(rows: Iterable[Mapping[str, Any]]) -> Table:
    """One line each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("pool", "ready", "target", "version", "provider", "$/h", "$ so far", "controller"):
        table.add_column(name)
    for row in rows:
        table.add_row(
            row["pool"],
            str(row["ready"]),
            str(row["target"]),
            str(row["version"]),
            row["provider"],
            f"{row['usd_per_hour']:.4f}",
            f"{row['usd']:.4f}",
            "down"
            if row["controller"] is None and row["wish"] == "down" and not row["replicas"]
            else "dead"
            if row["controller"] is None
            else str(row["controller"]),
        )
    return table
