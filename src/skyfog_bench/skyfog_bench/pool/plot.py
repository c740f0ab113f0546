"""Pictures of `skyfog bench pool`: cost against time at target, and one pool over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skyfog_bench.pool.play import Table
from skyfog_sim.pool_replay import PoolResult

COLOURS = {
    "on demand only": "tab:gray",
    "even spread": "tab:brown",
    "round robin": "tab:olive",
    "ASG-like mix": "tab:purple",
    "spothedge": "tab:red",
    "spothedge, serves on": "tab:red",
    "spothedge, 2 extra": "tab:pink",
    "dynamic_fallback": "tab:orange",
    "SkyPilot 0.14's own": "tab:green",
    "skyfog": "tab:blue",
    "skyfog, serves on": "tab:blue",
}
MARKERS = {  # often in one place; a cross where replicas serve on
    "skyfog": ("*", 14),
    "skyfog, serves on": ("P", 11),
    "spothedge": ("D", 10),
    "spothedge, serves on": ("X", 9),
    "dynamic_fallback": ("o", 5),
}
LEAST_MISSED = 0.01  # %: the axis is logarithmic
COLUMNS = 4
DAY_NS = 86_400e9


def frontier(tables: Sequence[Table], path: Path) -> None:
    """One panel a market: cost to on demand only against the share of time below target. Lower left is better."""
    plt = _pyplot()
    across = min(COLUMNS, len(tables))
    down = -(-len(tables) // across)
    sheet, panels = plt.subplots(down, across, figsize=(3.4 * across, 3.0 * down + 0.6), squeeze=False)
    flat = [panel for row in panels for panel in row]
    for panel, table in zip(flat, tables, strict=False):
        for one in table.played:
            missed = max(LEAST_MISSED, 100 * (1 - one.at_target))
            marker, size = MARKERS.get(one.who.name, ("o", 7))
            look = {"marker": marker, "markersize": size, "color": COLOURS[one.who.name], "linestyle": ""}
            panel.plot(missed, one.relative_cost, label=one.who.name, **look)
        panel.axhline(table.optimum.usd / table.on_demand_usd, color="black", linestyle="--", label="omniscient")
        panel.axvline(0.5, color="black", linestyle=":", linewidth=1)
        panel.set(xscale="log", xlim=(LEAST_MISSED / 1.5, 150), ylim=(0, 1.1), title=table.course.name)
        panel.set_xlabel("% of time below target")
        panel.grid(visible=True, alpha=0.3)
    for panel in flat[len(tables) :]:
        panel.axis("off")
    for row in panels:
        row[0].set_ylabel("cost, on demand only = 1")
    handles, labels = flat[0].get_legend_handles_labels()
    sheet.legend(handles, labels, loc="lower center", ncols=5, fontsize="small", frameon=False)
    sheet.tight_layout(rect=(0, 0.6 / (3.0 * down + 0.6), 1, 1))
    _save(plt, sheet, path)


def strip(table: Table, name: str, path: Path) -> None:
    """One pool over time: what each zone has, what is ready of each market, and the target."""
    one = table.of(name)
    if one is None:
        return
    plt = _pyplot()
    zones = table.course.market.zones
    heights = [0.5] * len(zones) + [3.0]
    sheet, panels = plt.subplots(
        len(heights), 1, figsize=(11, 0.45 * len(zones) + 3.6), sharex=True, height_ratios=heights, squeeze=False
    )
    result = one.results[0]
    days = result.length_ns / DAY_NS
    for panel, zone in zip(panels[:, 0], zones, strict=False):
        times = [at / DAY_NS for at in zone.spot_capacity.times_ns]
        values = [min(value, table.course.target) for value in zone.spot_capacity.values]
        panel.fill_between(
            [*times, days], [*values, values[-1]], step="post", color="tab:green", alpha=0.6, linewidth=0
        )
        panel.set(ylim=(0, table.course.target), yticks=[])
        panel.set_ylabel(zone.zone.name, rotation=0, ha="right", va="center", fontsize="small")
    _ready(panels[-1][0], result, days)
    panels[0][0].set_title(f"{table.course.name}, {name}: spot machines to be had in each zone, and replicas ready")
    sheet.tight_layout()
    _save(plt, sheet, path)


def _ready(panel: Any, result: PoolResult, days: float) -> None:
    times = [*(sample.at_ns / DAY_NS for sample in result.series), days]
    spot = [sample.ready_spot for sample in result.series]
    both = [sample.ready for sample in result.series]
    panel.fill_between(times, [*spot, spot[-1]], step="post", color="tab:blue", alpha=0.7, linewidth=0, label="spot")
    panel.fill_between(
        times,
        [*spot, spot[-1]],
        [*both, both[-1]],
        step="post",
        color="tab:orange",
        alpha=0.9,
        linewidth=0,
        label="on demand",
    )
    targets = [sample.target for sample in result.series]
    panel.step(times, [*targets, targets[-1]], where="post", color="black", linewidth=1, label="target")
    panel.set(xlabel="days", ylabel="replicas ready", xlim=(0, days), ylim=(0, None))
    panel.legend(loc="lower right", ncols=3, fontsize="small")


def _pyplot() -> Any:
    import matplotlib as mpl  # noqa: PLC0415 - takes a second to import

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    return plt


def _save(plt: Any, sheet: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.savefig(path, dpi=140)
    plt.close(sheet)
