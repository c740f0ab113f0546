from __future__ import annotations

from typing import Any

import pytest

from skyfog_bench.inference.simulator import LARGEST, OUTPUTS, PAPER_CURVE, PAPER_PEAK, goals


def rows(name: str, ratios: dict[int, float]) -> list[dict[str, Any]]:
    return [{"setting": name, "output": output, "ratio": ratio} for output, ratio in ratios.items()]


def test_the_papers_own_figures_meet_every_goal() -> None:
    found = goals(
        [
            row
            for name, peak in PAPER_PEAK.items()
            for row in rows(name, dict.fromkeys(OUTPUTS, peak))
            if name != LARGEST
        ]
        + rows(LARGEST, PAPER_CURVE)
    )
    assert [goal.met for goal in found] == [True] * len(found)


def test_a_curve_that_is_off_or_peaks_elsewhere_misses() -> None:
    found = goals(rows(LARGEST, {**PAPER_CURVE, 50: 1.9}))
    missed = [goal.name for goal in found if goal.met is False]
    assert missed == [
        f"{LARGEST}: ratio at outputs of 50 off the paper's 1.04",
        f"{LARGEST}: its peak lies at outputs of 200 to 300",
    ]


def test_what_was_not_run_is_not_known() -> None:
    found = goals(rows(LARGEST, {50: 1.0}))
    known = [goal for goal in found if goal.met is not None]
    assert [goal.value for goal in known] == [pytest.approx(0.04 / 1.04)]
