"""The run as a picture: replicas against the target, by zone, and what became of the calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skyfog_bench.pool_live.stage import ZONES

WIDTH_IN, HEIGHT_IN = 11.0, 8.0
COLOURS = ("tab:blue", "tab:cyan", "tab:green")
LONGEST = 46  # characters of a label


def draw(timeline: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the picture, in the form of the path's suffix. Its folder is made."""
    import matplotlib as mpl  # noqa: PLC0415 - takes a second to import

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    at = [row["s"] for row in timeline]
    by_zone = list(zip(*([int(count) for count in row["by_zone"].split("/")] for row in timeline), strict=True))
    sheet, panels = plt.subplots(
        3, 1, figsize=(WIDTH_IN, HEIGHT_IN), sharex=True, gridspec_kw={"height_ratios": [3, 1, 2]}
    )
    pool, failures, latency = panels
    pool.stackplot(at, by_zone, labels=ZONES, colors=COLOURS, step="post")
    pool.step(at, [row["target"] for row in timeline], where="post", color="black", label="target")
    pool.step(
        at, [row["machines"] for row in timeline], where="post", color="tab:gray", linestyle=":", label="machines"
    )
    pool.set(ylabel="replicas with a token", ylim=(0, 1.9 * max(row["machines"] for row in timeline)))
    for row in timeline:
        if row["controller"] == "dead":
            pool.axvspan(row["s"], row["s"] + 1, color="tab:red", alpha=0.15, linewidth=0)
    _labels(pool, timeline)
    pool.legend(loc="upper left", ncols=5, fontsize="small", frameon=False)
    for lane, column, colour in (("idempotent", "failed", "tab:red"), ("once", "once", "tab:pink")):
        failed = [row[column] for row in timeline]
        failures.bar(at, failed, width=1.0, align="edge", color=colour, label=f"{lane}: {sum(failed)}", alpha=0.8)
    most = max(max(row["failed"], row["once"]) for row in timeline)
    failures.set(ylabel="calls failed", ylim=(0, max(2, most + 1)))
    failures.yaxis.get_major_locator().set_params(integer=True)
    failures.legend(loc="upper right", fontsize="small", frameon=False)
    for name, colour in (("p50_ms", "tab:blue"), ("max_ms", "tab:orange")):
        known = [(row["s"], row[name]) for row in timeline if row[name] is not None]
        latency.plot(*zip(*known, strict=True), color=colour, label=name.replace("_", ", "), linewidth=1)
    latency.set(ylabel="idempotent, ms", yscale="log", xlabel="seconds; red: no controller")
    latency.legend(loc="upper right", fontsize="small", frameon=False)
    for panel in panels:
        panel.grid(visible=True, alpha=0.3)
    sheet.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.savefig(path, dpi=140)
    plt.close(sheet)


def _labels(panel: Any, timeline: Sequence[Mapping[str, Any]]) -> None:
    """What was done, at when it was, each on a line of its own among its neighbours."""
    top = panel.get_ylim()[1]
    done = [(row["s"], row["did"]) for row in timeline if row["did"]]
    for place, (second, text) in enumerate(done):
        height = top * (0.88 - 0.055 * (place % 8))
        panel.axvline(second, color="black", linewidth=0.5, alpha=0.5)
        short = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
        late = second > timeline[-1]["s"] / 2  # so that it stays inside the panel
        where = {"xytext": (-2 if late else 2, 0), "ha": "right" if late else "left"}
        panel.annotate(short, (second, height), textcoords="offset points", fontsize="x-small", **where)
