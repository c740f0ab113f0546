"""Tokens a second over the batch, of every contestant, with the roofline's bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the picture; its folder is made."""
    import matplotlib as mpl  # noqa: PLC0415 - takes a second to import

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator  # noqa: PLC0415

    sheet, panel = plt.subplots(figsize=(8.0, 5.0))
    for engine in dict.fromkeys(row["engine"] for row in rows):
        mine = sorted((row for row in rows if row["engine"] == engine), key=lambda row: row["batch"])
        batches, rates = [row["batch"] for row in mine], [row["tok_s"] for row in mine]
        spread = [[row["tok_s"] - row["low"] for row in mine], [row["high"] - row["tok_s"] for row in mine]]
        panel.errorbar(batches, rates, yerr=spread, marker="o", capsize=3, label=engine)
    bounds = {
        row["batch"]: row["bound_tok_s"] for row in rows if row["bound_tok_s"] and row["engine"] == rows[0]["engine"]
    }
    panel.plot(list(bounds), list(bounds.values()), color="black", linestyle=":", label="roofline's bound")
    panel.set(xscale="log", yscale="log", xlabel="sequences at once", ylabel="decode, tok/s")
    panel.set_xticks(sorted({row["batch"] for row in rows}), sorted({str(row["batch"]) for row in rows}, key=int))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.grid(visible=True, alpha=0.3)
    panel.legend(fontsize="small", frameon=False)
    sheet.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.savefig(path, dpi=140)
    plt.close(sheet)
