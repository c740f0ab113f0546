"""The estimator over recorded links: what is told to happen with a probability happens as often."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skyfog_core.config.uplink import EstimatorConfig
from skyfog_core.units import MS, S
from skyfog_sim.uplink_link import LTE_RTT, Rtt, fixed_rtt, read_course
from skyfog_uplink.policy.estimate import LinkEstimator
from skyfog_uplink.policy.forecast import HORIZON_NS
from skyfog_uplink.policy.link import LEVELS, RTT_LEVELS
from support.uplink_probe import Sender

TRACES = Path(__file__).parents[4] / "shared" / "traces" / "net"
SETTLED_S = 15
pytestmark = pytest.mark.skipif(not TRACES.is_dir(), reason="no recorded traces in ../shared/traces/net")


def told_and_come(name: str, load: float, rtt: Rtt) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """[n, LEVELS] rates told when a chunk was sent, [n] come; [n, RTT_LEVELS] round trips told, [n] come."""
    course = read_course(TRACES / name)
    rates, came, rtts, took, last_ns = [], [], [], [], 0
    sender = Sender(course, LinkEstimator(EstimatorConfig()), int(course.mean_bps * load * 0.1 / 8), rtt=rtt)

    def watch(now_ns: int, sent: bool) -> None:
        nonlocal last_ns
        state = sender.estimator.state(now_ns)
        if sent and state.up and now_ns > SETTLED_S * S and now_ns - last_ns >= 20 * MS:
            last_ns = now_ns
            rates.append(state.rates_bps)
            came.append(course.bps(now_ns, now_ns + HORIZON_NS))
            rtts.append(state.rtts_ms)
            took.append(2 * rtt.one_way_ns(now_ns + HORIZON_NS // 2) / MS)

    sender.watch = watch
    sender.run(min(course.length_ns / S, 150))
    return np.array(rates), np.array(came), np.array(rtts), np.array(took)


@pytest.mark.parametrize(
    ("name", "load", "apart"),
    [
        ("Verizon-LTE-short.up", 0.3, 0.08),
        ("Verizon-LTE-short.up", 2.0, 0.05),
        ("ATT-LTE-driving-2016.up", 0.8, 0.08),
        ("ATT-LTE-driving.up", 2.0, 0.10),
        # Frames of one chunk on a link that serves in slots: the wait for a slot is in the round trip, not in the rate.
        ("ATT-LTE-driving.up", 0.3, 0.30),
    ],
)
def test_quantiles_of_the_rate_are_calibrated(name: str, load: float, apart: float) -> None:
    rates, came, _, _ = told_and_come(name, load, fixed_rtt(30.0))
    below = (came[:, None] < rates).mean(axis=0)
    for level, share in zip(LEVELS, below, strict=True):
        if level <= 0.1:  # what plans are made with
            assert level / 4 < share < 1.6 * level + 0.02, (level, below)
    assert np.abs(below - LEVELS).mean() < apart


@pytest.mark.parametrize("load", [0.8, 2.0])
def test_quantiles_are_sharper_than_the_links_own(load: float) -> None:
    """Against the quantiles of the whole trace, known in hindsight: mean pinball loss at all levels."""
    rates, came, _, _ = told_and_come("Verizon-LTE-short.up", load, fixed_rtt(30.0))
    levels = np.array(LEVELS)

    def loss(told: np.ndarray) -> float:
        over = came[:, None] - told
        return float(np.where(over >= 0, levels * over, (levels - 1) * over).mean())

    assert loss(rates) < 0.7 * loss(np.quantile(came, levels)[None])


def test_quantiles_of_the_round_trip_are_calibrated() -> None:
    _, _, rtts, took = told_and_come("Verizon-LTE-short.up", 0.8, LTE_RTT.draw(200 * S, 1))
    within = (took[:, None] <= rtts).mean(axis=0)
    for level, share in zip(RTT_LEVELS, within, strict=True):
        assert share > level - 0.03
    assert within[0] < 0.8
