"""Pictures of `skyfog bench inference_sim`: ratios by output length, and time per token by request rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def draw(
    saturated: Sequence[Mapping[str, Any]], rated: Sequence[Mapping[str, Any]], paper: Mapping[int, float], out: Path
) -> None:
    """Two pictures beside the report."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import, and needed for pictures only

    names = list(dict.fromkeys(row["setting"] for row in saturated))
    sheet = Figure(figsize=(8, 5))
    axis = sheet.subplots()
    for name in names:
        rows = [row for row in saturated if row["setting"] == name]
        axis.plot([row["output"] for row in rows], [row["ratio"] for row in rows], "o-", label=name)
    axis.plot(list(paper), list(paper.values()), "k--", label="paper, A10G, g5.16xlarge")
    axis.axhline(1, color="gray", linewidth=1)
    axis.set(xlabel="tokens of an output", ylabel="throughput, device alone = 1", yscale="log")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}")
    axis.set_title("NEO, simulated")
    axis.legend(fontsize=8)
    sheet.tight_layout()
    sheet.savefig(out.with_name(f"{out.stem}_ratio.png"), dpi=120)

    names = list(dict.fromkeys(row["setting"] for row in rated))
    if not names:
        return
    sheet = Figure(figsize=(5 * len(names), 4))
    for axis, name in zip(sheet.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        rows = [row for row in rated if row["setting"] == name]
        for who in ("alone", "neo"):
            axis.plot([row["per_s"] for row in rows], [row[f"{who}_mean_ms"] for row in rows], "o-", label=who)
        axis.set(xlabel="requests per second", ylabel="mean ms per token", title=name, yscale="log")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("{x:g}")
        axis.legend(fontsize=8)
    sheet.tight_layout()
    sheet.savefig(out.with_name(f"{out.stem}_rates.png"), dpi=120)
