"""Pictures of `skyfog bench uplink`: utility by policy on every drive, and one drive over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skyfog_bench.uplink.drives import build
from skyfog_bench.uplink.play import CONTENDERS, Table
from skyfog_core.units import S
from skyfog_sim.uplink import LOOK_NS
from skyfog_sim.uplink_contenders import ON_CAR, OURS, TURBO, TURBOS

COLOURS = {
    ON_CAR: "tab:gray",
    "one model": "tab:brown",
    "equal split": "tab:olive",
    TURBO: "tab:red",
    TURBOS[1].name: "tab:orange",
    OURS: "tab:blue",
}
COLUMNS = 4
SHOWN_S = 140  # of the drive over time


def bars(tables: Sequence[Table], path: Path) -> None:
    """One panel a drive: utility above that of the car's own models; lines: oracle and bound."""
    plt = _pyplot()
    across = min(COLUMNS, len(tables))
    down = -(-len(tables) // across)
    sheet, panels = plt.subplots(down, across, figsize=(3.3 * across, 2.6 * down + 0.6), squeeze=False)
    flat = [panel for row in panels for panel in row]
    for panel, table in zip(flat, tables, strict=False):
        best = table.best_known()
        for at, name in enumerate(CONTENDERS):
            result = table.played[name].result
            panel.bar(at, result.utility - best.bound.floor, color=COLOURS[name], label=name)
            if result.offloaded:
                panel.annotate(
                    f"{100 * result.miss_share:.1f}",
                    (at, max(0.0, result.utility - best.bound.floor)),
                    ha="center",
                    va="bottom",
                    fontsize=6,
                )
        panel.axhline(best.utility - best.bound.floor, color="black", linestyle="--", label="oracle")
        panel.axhline(best.bound.utility - best.bound.floor, color="black", linestyle=":", label="bound")
        panel.set_title(table.case.name, fontsize="small")
        panel.set_xticks([])
        panel.grid(visible=True, alpha=0.3)
    for panel in flat[len(tables) :]:
        panel.axis("off")
    for row in panels:
        row[0].set_ylabel("utility above the\ncar's own models", fontsize="small")
    handles, labels = flat[0].get_legend_handles_labels()
    sheet.legend(handles, labels, loc="lower center", ncols=4, fontsize="small", frameon=False)
    sheet.suptitle("Figures on the bars: % of offloaded frames missed", fontsize="small")
    sheet.tight_layout(rect=(0, 0.6 / (2.6 * down + 0.6), 1, 1))
    _save(plt, sheet, path)


def strip(table: Table, path: Path) -> None:
    """One drive over time: the link and what was thought of it, and utility second by second."""
    plt = _pyplot()
    drive = build(table.case)
    seconds = int(min(SHOWN_S, table.case.seconds))
    sheet, (link, worth) = plt.subplots(2, 1, figsize=(12, 6.5), sharex=True)
    rates = [drive.course.bps(at * S // 4, (at + 1) * S // 4) / 1e6 for at in range(4 * seconds)]
    link.step(np.arange(4 * seconds) / 4, rates, where="post", color="black", linewidth=1, label="link, 250 ms")
    seen = np.array(table.played[OURS].result.estimates[: seconds * S // LOOK_NS])
    times = np.arange(len(seen)) * LOOK_NS / S
    for column, label, colour in ((1, "median estimate", "tab:green"), (2, "granted", "tab:blue")):
        link.plot(times, seen[:, column], color=colour, linewidth=0.8, label=label)
    link.set(ylabel="Mbit/s", ylim=(0, 1.3 * max(rates)), title=table.case.name)
    link.legend(loc="upper right", ncols=3, fontsize="small")
    for name in CONTENDERS:
        course = table.played[name].result.utility_over_time[:seconds]
        width = 1.8 if name == OURS else 0.8
        worth.step(range(len(course)), course, where="post", color=COLOURS[name], linewidth=width, label=name)
    worth.set(xlabel="s", ylabel="utility, each second", xlim=(0, seconds))
    worth.legend(loc="lower right", ncols=6, fontsize="small")
    for panel in (link, worth):
        panel.grid(visible=True, alpha=0.3)
    sheet.tight_layout()
    _save(plt, sheet, path)


def _pyplot() -> Any:
    import matplotlib as mpl  # noqa: PLC0415 - takes a second to import

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    return plt


def _save(plt: Any, sheet: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.savefig(path, dpi=140)
    plt.close(sheet)
