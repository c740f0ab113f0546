"""A live run as a picture: what the link could carry, was believed to, and carried; options and latencies over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skyfog_bench.uplink_live.record import MISSED, Run
from skyfog_core.units import S
from skyfog_uplink.policy.model import FLOOR, Table

WIDTH_IN, HEIGHT_IN = 11.0, 9.0
COLOURS = ("tab:blue", "tab:orange", "tab:green")
HEADROOM = 1.15


@dataclass(frozen=True, slots=True)
class Scene:
    """One run and its timeline; `marks` are (second, what happened)."""

    name: str
    table: Table
    run: Run
    timeline: Sequence[Mapping[str, Any]]
    marks: Sequence[tuple[float, str]] = ()


def draw(scene: Scene, path: Path) -> None:
    """Write the picture, in the form of the path's suffix. Its folder is made."""
    import matplotlib as mpl  # noqa: PLC0415 - takes a second to import

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    sheet, panels = plt.subplots(
        3, 1, figsize=(WIDTH_IN, HEIGHT_IN), sharex=True, gridspec_kw={"height_ratios": [3, 2, 2]}
    )
    _rates(panels[0], scene)
    _options(panels[1], scene)
    _latencies(panels[2], scene)
    for panel in panels:
        panel.grid(visible=True, alpha=0.3)
        for second, _ in scene.marks:
            panel.axvline(second, color="black", linewidth=0.6, alpha=0.6)
        panel.legend(loc="upper right", ncols=4, fontsize="small", framealpha=0.8)
    for second, text in scene.marks:
        panels[2].annotate(text, (second, panels[2].get_ylim()[1] * 0.03), fontsize="x-small")
    panels[0].set_title(scene.name, fontsize="medium")
    panels[2].set_xlabel("seconds")
    sheet.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.savefig(path, dpi=140)
    plt.close(sheet)


def _rates(panel: Any, scene: Scene) -> None:
    at = [row["s"] + 0.5 for row in scene.timeline]
    link = [row["link_mbps"] for row in scene.timeline]
    if None not in link:
        panel.fill_between(at, link, color="tab:gray", alpha=0.3, label="link", linewidth=0)
    begin_ns = scene.run.begin_ns
    known = [((line["at_ns"] - begin_ns) / S, line) for line in scene.run.links]
    for key, colour, label in (("rate_p50_bps", "tab:blue", "estimated p50"), ("rate_p05_bps", "tab:cyan", "p05")):
        panel.plot([at for at, _ in known], [line[key] / 1e6 for _, line in known], color=colour, label=label, lw=0.7)
    panel.plot(at, [row["budget_mbps"] for row in scene.timeline], color="black", label="planned", lw=1, ls="--")
    panel.plot(at, [row["sent_mbps"] for row in scene.timeline], color="tab:red", label="sent", lw=1)
    if None in link:  # a link without a rate of its own: what is thought of it has no bound
        panel.set(ylabel="Mbit/s", yscale="log", ylim=(0.01, None))
        return
    tops = [row[key] or 0.0 for row in scene.timeline for key in ("link_mbps", "sent_mbps")]
    panel.set(ylabel="Mbit/s", ylim=(0, max(max(tops, default=1.0) * HEADROOM, 0.1)))


def _options(panel: Any, scene: Scene) -> None:
    begin_ns, end_s = scene.run.begin_ns, scene.run.seconds
    for at, service in enumerate(scene.table.services):
        seconds = [max(0.0, (plan["at_ns"] - begin_ns) / S) for plan in scene.run.plans]
        options = [plan["grants"][at]["option"] + 0.1 * (at - 1) for plan in scene.run.plans]
        if options:
            panel.step(
                [*seconds, end_s],
                [*options, options[-1]],
                where="post",
                color=COLOURS[at % 3],
                lw=1,
                label=service.name,
            )
    most = max(len(service.options) for service in scene.table.services)
    panel.set(ylabel="option planned; -1: the car's own", ylim=(FLOOR - 0.5, most), yticks=range(FLOOR, most))


def _latencies(panel: Any, scene: Scene) -> None:
    begin_ns = scene.run.begin_ns
    for at, service in enumerate(scene.table.services):
        found = [((one.shot_ns - begin_ns) / S, one.cloud_ms) for one in scene.run.seen if one.service == at]
        inside = [(second, ms) for second, ms in found if ms is not None]
        if inside:
            panel.scatter(*zip(*inside, strict=True), s=4, color=COLOURS[at % 3], label=f"{service.name}, cloud")
    slo_ms = max(service.slo_ms for service in scene.table.services)
    panel.axhline(slo_ms, color="tab:red", linewidth=0.8)
    missed = [
        (line["t_ns"] - begin_ns) / S for line in scene.run.ended if not line["probe"] and line["outcome"] in MISSED
    ]
    panel.plot(missed, [slo_ms] * len(missed), "x", color="tab:red", label=f"missed: {len(missed)}", ms=5)
    panel.set(ylabel="answer after, ms", ylim=(0, slo_ms * 1.2), xlim=(0, scene.run.seconds))
