"""The picture of `skyfog bench inference_neo`: throughput by output length, time per token by rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Protocol

import numpy as np


class Result(Protocol):
    """What is drawn of a run."""

    @property
    def tokens_per_s(self) -> float: ...
    @property
    def mean_ms(self) -> float: ...


def draw(
    saturated: Mapping[tuple[int, str], Sequence[Result]],
    curves: Mapping[str, Mapping[float, Sequence[Result]]],
    names: Sequence[str],
    path: Path,
) -> None:
    """Medians over rounds; `saturated` by output and contender, `curves` by contender and rate."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415
    from matplotlib.ticker import LogLocator, NullFormatter  # noqa: PLC0415

    sheet, (speed, wait) = plt.subplots(1, 2, figsize=(10, 4))
    outputs = sorted({output for output, _ in saturated})
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        heights = [median(result.tokens_per_s for result in saturated[output, name]) for output in outputs]
        speed.bar(np.arange(len(outputs)) + number * width, heights, width, label=name)
        rates = sorted(curves[name])
        means = [median(result.mean_ms for result in curves[name][rate]) for rate in rates]
        wait.plot(rates, means, marker="o", label=name)
    speed.set_xticks(np.arange(len(outputs)) + 0.4 - width / 2, [str(output) for output in outputs])
    speed.set_xlabel("tokens of output")
    speed.set_ylabel("tokens a second, saturated")
    wait.set_xlabel("requests a second")
    wait.set_ylabel("mean time per token, ms")
    wait.set_yscale("log")
    wait.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    wait.yaxis.set_major_formatter("{x:g}")
    wait.yaxis.set_minor_formatter(NullFormatter())
    for panel in (speed, wait):
        panel.grid(visible=True, alpha=0.3)
    sheet.tight_layout(rect=(0, 0, 1, 0.92))
    sheet.legend(*speed.get_legend_handles_labels(), loc="upper center", ncols=len(names), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.savefig(path, dpi=110)
    plt.close(sheet)
