#!/usr/bin/env python3
"""Draws src/skyfog_router/doc/how_the_router_decides.svg.

Usage: ./ws run python tools/draw_router.py. The curves are what the router's own latency sketches say of made-up
replicas; the rest is drawn by hand.
"""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from skyfog_core.units import MS
from skyfog_router.policy.latency import LatencySketch
from skyfog_router.policy.slo import BUDGET_SHARE, CAUTION

OUT = Path(__file__).resolve().parent.parent / "src/skyfog_router/doc/how_the_router_decides.svg"
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#777777"  # Okabe and Ito
SLO_MS, TARGET, EXTRA_LOAD = 250, 0.99, 0.4


def sketch(seed: int, median_ms: float) -> LatencySketch:
    """A replica with a log-normal latency and one request in twenty-five six times as slow."""
    rng = np.random.default_rng(seed)
    made = LatencySketch(memory=4_000)
    for i, value in enumerate(rng.lognormal(np.log(median_ms), 0.4, 4_000)):
        slow = 6.0 if i % 25 == 0 else 1.0
        made.answer(round(value * slow * MS), 0)
    return made


def choice(ax: Axes) -> float:
    """When to ask the next replica: the latest moment that keeps the target. Returns it, ms."""
    best, other = sketch(1, 60.0), sketch(2, 75.0)
    d = np.linspace(0, SLO_MS, 251)
    first_misses = best.survival(SLO_MS * MS)
    miss = np.array([first_misses * other.survival((SLO_MS - at) * MS) for at in d])
    still = np.array([best.survival(at * MS) for at in d])
    may_miss = CAUTION * (1 - TARGET)
    latest = float(d[miss <= may_miss][-1])
    affordable = float(d[still <= EXTRA_LOAD * BUDGET_SHARE][0])
    ax.semilogy(d, still, color=BLUE, lw=2)
    ax.semilogy(d, miss, color=RED, lw=2)
    ax.axhline(may_miss, color=RED, lw=1, ls=":")
    ax.axvspan(affordable, latest, color=GREEN, alpha=0.12, lw=0)
    ax.axvline(latest, color=GREEN, lw=2)
    ax.text(4, 1.25, "P(no answer yet at d): its cost", color=BLUE, fontsize=8.5)
    ax.text(4, 2.2e-3, "P(miss) if the next\none is asked at d", color=RED, fontsize=8.5)
    ax.text(4, may_miss * 1.15, "caution * (1 - slo_target)", color=RED, fontsize=8.5)
    ax.text(latest + 4, 0.2, "asked here: the latest d\nthat keeps the target", color=GREEN, fontsize=8.5)
    ax.text(affordable + 3, 0.03, "within\nthe budget", color=GREEN, fontsize=8.5)
    ax.set(xlim=(0, SLO_MS), ylim=(8e-4, 2.2), xlabel="d, ms after the call (the SLO is at the right edge)")
    ax.set_title("When the second copy is sent", loc="left", fontsize=11, weight="bold")
    ax.spines[["top", "right"]].set_visible(False)
    return latest


def life(ax: Axes, hedge_ms: float) -> None:
    """One request in `slo`: lanes of replicas over time."""
    answer, deadline = 205.0, 430.0
    lanes = ("best replica (zone a)", "next best (zone b)", "another (zone c)", "fallback on the robot")

    def bar(lane: int, begin: float, end: float, colour: str, text: str = "") -> None:
        ax.barh(3 - lane, end - begin, 0.52, begin, color=colour)
        ax.text((begin + end) / 2, 3 - lane, text, ha="center", va="center", fontsize=8.5, color="white")

    def planned(lane: int, begin: float, end: float, text: str) -> None:
        ax.barh(3 - lane, end - begin, 0.52, begin, color="none", edgecolor=RED, ls="--", lw=1.2)
        ax.text(SLO_MS + 4, 3 - lane, text, va="center", fontsize=8.5, color=RED)

    bar(0, 0, answer, GREY, "first: no answer yet (kept as “longer than 205 ms”)")
    ax.text(answer + 3, 3, "withdrawn", va="center", fontsize=8.5, color=GREY)
    bar(1, hedge_ms, hedge_ms + 25, ORANGE)
    bar(1, hedge_ms + 25, answer, BLUE, "runs")
    ax.text(hedge_ms - 3, 2, "hedge, at d:", ha="right", va="center", fontsize=8.5, color=BLUE)
    ax.text(hedge_ms + 12, 2.42, "queue", ha="center", fontsize=8.5, color=ORANGE)
    ax.text(answer + 3, 2, "first valid answer: delivered", va="center", fontsize=8.5, color=GREEN, weight="bold")
    planned(2, 210, SLO_MS, "rescue: a copy beyond the budget, if P(miss) > 1/2")
    planned(3, 217, SLO_MS, "asked 1.3 q95 before the SLO; at once where it is alone")
    for at, name in ((0, "call"), (SLO_MS, "SLO"), (deadline, "deadline")):
        ax.axvline(at, color="black", lw=1, ls="-" if at == 0 else ":")
        ax.text(at, 3.95, name, ha="center", fontsize=9)
    ax.axvline(answer, color=GREEN, lw=1.2)
    ax.text(205, 0.5, "not needed here: ", ha="right", va="center", fontsize=8.5, color=RED)
    ax.set(xlim=(-2, deadline + 8), ylim=(-0.5, 3.85), xlabel="ms", yticks=[3, 2, 1, 0], yticklabels=lanes)
    ax.set_title("A request under `slo`", loc="left", fontsize=11, weight="bold", pad=20)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)


def health(ax: Axes) -> None:
    """The states of one replica."""
    places = {"healthy": (0.17, 0.8), "suspect": (0.8, 0.8), "ejected": (0.8, 0.22), "probing": (0.17, 0.22)}
    notes = {"healthy": "asked", "suspect": "asked last", "ejected": "1, 2, 4 … 60 s", "probing": "one copy aside"}
    colours = {"healthy": GREEN, "suspect": ORANGE, "ejected": RED, "probing": BLUE}
    for name, (x, y) in places.items():
        box = FancyBboxPatch((x - 0.13, y - 0.075), 0.26, 0.15, "round,pad=0.01", fc="white", ec=colours[name], lw=1.8)
        ax.add_patch(box)
        ax.text(x, y + 0.02, name, ha="center", va="center", fontsize=10, weight="bold", color=colours[name])
        ax.text(x, y - 0.045, notes[name], ha="center", va="center", fontsize=8)

    def arrow(begin: tuple[float, float], end: tuple[float, float], text: str, at: tuple[float, float]) -> None:
        ax.add_patch(FancyArrowPatch(begin, end, arrowstyle="-|>", mutation_scale=12, color="black", lw=1.1))
        ax.text(*at, text, ha="center", va="center", fontsize=8.2)

    arrow((0.32, 0.83), (0.65, 0.83), "a failure, or silent\nbeyond chance (-ln S ≥ 4)", (0.485, 0.95))
    arrow((0.65, 0.77), (0.32, 0.77), "it answers", (0.485, 0.72))
    arrow((0.84, 0.7), (0.84, 0.32), "3 failures in\na row, or\nsilent (≥ 9)", (0.98, 0.51))
    arrow((0.65, 0.19), (0.32, 0.19), "time over", (0.485, 0.14))
    arrow((0.32, 0.25), (0.65, 0.25), "fails, or silent:\ntwice as long", (0.485, 0.33))
    arrow((0.13, 0.32), (0.13, 0.7), "it\nanswers", (0.05, 0.51))
    arrow((0.29, 0.7), (0.68, 0.32), "median 4 times\nthe others'", (0.62, 0.56))
    ax.text(0.5, 0.0, "panic: with few healthy ones, all are asked", ha="center", fontsize=8.5, color=RED)
    ax.set(xlim=(-0.1, 1.15), ylim=(-0.04, 1.02))
    ax.set_title("What a replica's state is", loc="left", fontsize=11, weight="bold")
    ax.axis("off")


def draw() -> Figure:
    """The whole picture."""
    figure = Figure(figsize=(10.5, 7.6), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(1, 1.25))
    hedge_ms = choice(figure.add_subplot(grid[1, 0]))
    life(figure.add_subplot(grid[0, :]), hedge_ms)
    health(figure.add_subplot(grid[1, 1]))
    return figure


def main() -> None:
    """Write the picture; the same bytes each time."""
    mpl.rcParams.update(
        {"svg.hashsalt": "skyfog", "svg.fonttype": "none", "font.family": ["DejaVu Sans", "sans-serif"]}
    )
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    draw().savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None, dpi=110, facecolor="white")
    print(out)


if __name__ == "__main__":
    main()
