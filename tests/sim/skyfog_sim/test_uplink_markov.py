"""Generated uplinks: the same for the same seed, like the recorded ones where these are here, and as published."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from skyfog_sim.uplink_fit import misfit, with_levels
from skyfog_sim.uplink_link import read_course
from skyfog_sim.uplink_markov import LIKE_RECORDED, MMWAVE_5G, PUBLISHED, STARLINK, T_MOBILE_LTE, MarkovLink, stats

RECORDED = Path(os.environ.get("SKYFOG_NET_TRACES", Path(__file__).parents[4] / "shared" / "traces" / "net"))


@pytest.mark.parametrize("link", [*LIKE_RECORDED.values(), *PUBLISHED], ids=lambda link: link.name)
def test_same_seed_same_course(link: MarkovLink) -> None:
    course, again, other = link.draw(30, 1), link.draw(30, 1), link.draw(30, 2)
    assert np.array_equal(course.array, again.array)
    assert not np.array_equal(course.array, other.array)
    assert course.length_ns == 30_000_000_000


@pytest.mark.parametrize("name", LIKE_RECORDED)
def test_it_is_like_the_recorded_one(name: str) -> None:
    path = RECORDED / f"{name}.up"
    if not path.is_file():
        pytest.skip(f"no recorded trace {path} (see SKYFOG_NET_TRACES)")
    course = read_course(path)
    assert misfit(LIKE_RECORDED[name], course, seed=11) < 0.12
    had, made = stats(course), stats(LIKE_RECORDED[name].draw(1_800, 12))
    assert made.mean_mbps == pytest.approx(had.mean_mbps, rel=0.15)
    assert made.outage_share == pytest.approx(had.outage_share, abs=0.08)


def test_published_quantiles_come_out() -> None:
    mobile = T_MOBILE_LTE.draw(3_600, 3)
    assert mobile.mean_bps / 1e6 == pytest.approx(13.4, rel=0.1)
    assert np.quantile(mobile.rates_bps(1_000) / 1e6, 0.05) == pytest.approx(2.5, rel=0.25)
    wave = MMWAVE_5G.draw(3_600, 3).rates_bps(1_000) / 1e6
    assert 5.0 <= np.quantile(wave, 0.5) <= 9.5
    assert 59 <= np.quantile(wave, 0.95) <= 126
    assert (wave <= 0.1).mean() > 0.2
    star = STARLINK.draw(3_600, 3).rates_bps(1_000) / 1e6
    assert np.quantile(star, [0.05, 0.5, 0.95]) == pytest.approx([4.4, 15.4, 32.3], rel=0.2)


def test_levels_are_found_for_quantiles() -> None:
    start = MarkovLink("x", (1.0,) * 12, 1_000, 0.5, 0.3, 30, 1.0, 300, 0.5)
    wanted = np.linspace(1, 9, 400)
    found = with_levels(start, wanted, 250, seed=0).draw(1_800, 5).rates_bps(250) / 1e6
    assert np.quantile(found[found > 0], [0.1, 0.5, 0.9]) == pytest.approx([1.8, 5, 8.2], rel=0.12)
