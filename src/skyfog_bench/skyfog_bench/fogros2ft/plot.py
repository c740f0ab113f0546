"""P99 against extra work, with the physical limit: one panel a scenario."""

from __future__ import annotations

from pathlib import Path

from skyfog_bench.fogros2ft.conditions import BOTH
from skyfog_bench.fogros2ft.table import Cell, Cells
from skyfog_bench.measure import figure

MARKERS = {2: "o", 3: "s", 4: "D"}
COLOURS = {
    "broadcast": "tab:red",
    "single": "tab:gray",
    "k_of_n": "tab:orange",
    "hedged": "tab:green",
    "slo": "tab:blue",
}
SIDE_IN = 4.4


def draw(cells: Cells, scenarios: list[str], path: Path) -> None:
    """Write the picture, in the form of the path's suffix. Its folder is made."""
    import matplotlib as mpl  # noqa: PLC0415 - takes a second to import

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415
    from matplotlib.lines import Line2D  # noqa: PLC0415

    sheet, panels = plt.subplots(1, len(scenarios), figsize=(SIDE_IN * len(scenarios), SIDE_IN), squeeze=False)
    for panel, scenario in zip(panels[0], scenarios, strict=True):
        mine = [cell for cell in cells.cells if cell.scenario == scenario and cell.condition == BOTH]
        for cell in mine:
            _point(panel, cell)
        one = figure(next(cell for cell in mine if cell.replicas == 1).p(0.99)).value
        panel.axhline(one, color="black", linestyle=":", linewidth=1)
        panel.annotate("one replica", (0.99, one), xycoords=("axes fraction", "data"), ha="right", va="bottom")
        panel.set(title=scenario, xlabel="extra copies a request", yscale="log")
        for axis_part in (panel.yaxis.set_major_formatter, panel.yaxis.set_minor_formatter):
            axis_part("{x:,.0f}")
        panel.grid(visible=True, which="both", alpha=0.3)
    panels[0][0].set_ylabel("P99, ms")
    handles = [Line2D([], [], color=c, marker="o", linestyle="", label=p) for p, c in COLOURS.items()]
    handles += [
        Line2D([], [], color="black", marker=m, linestyle="", mfc="none", label=f"{n} replicas")
        for n, m in MARKERS.items()
    ]
    handles.append(Line2D([], [], color="black", linestyle="--", label="least over the replicas"))
    sheet.legend(handles=handles, loc="lower center", ncols=len(handles), fontsize="small", frameon=False)
    sheet.suptitle("slow networks and contention: median over seeds, bars from the least to the most")
    sheet.tight_layout(rect=(0, 0.07, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.savefig(path, dpi=140)
    plt.close(sheet)


def _point(panel: object, cell: Cell) -> None:
    """One policy with so many replicas, or the limit of so many."""
    axes: object = panel
    p99, extra = cell.p(0.99), figure(cell.copies).value
    middle = figure(p99).value
    if cell.replicas > 1:
        axes.errorbar(  # type: ignore[attr-defined]
            extra, middle, yerr=[[middle - min(p99)], [max(p99) - middle]], color=COLOURS[cell.policy],
            marker=MARKERS.get(cell.replicas, "o"), capsize=2, alpha=0.85,
        )  # fmt: skip
    if cell.policy == "broadcast":
        least = figure(cell.least_p99).value
        axes.hlines(least, 0, extra, color="black", linestyle="--", linewidth=0.8)  # type: ignore[attr-defined]
