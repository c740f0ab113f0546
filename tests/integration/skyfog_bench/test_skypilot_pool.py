"""The peer behind JSON lines: with a stand-in for SkyPilot, and with SkyPilot where it is installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from skyfog_bench.pool import skypilot
from skyfog_bench.pool.skypilot import SkyPilotPool
from skyfog_bench.processes import BenchError
from skyfog_core.environments import python_of
from skyfog_core.errors import ConfigError
from skyfog_core.units import S
from skyfog_pool.policy.actions import Drain, Launch, Terminate
from skyfog_pool.policy.market import Prices
from skyfog_sim.generate import MarketModel, generate
from skyfog_sim.machines import MachineModel
from skyfog_sim.pool_replay import PoolReplay, PoolScenario, replay

OFFERS = {"za": ("z", Prices(1.0, 3.0)), "zb": ("z", Prices(1.5, 2.9))}
# Starts one spot and one on-demand replica, ends what became ready, and repeats what it heard in the error log.
STAND_IN = """
import json, sys
print(json.loads(sys.stdin.readline()), file=sys.stderr)
for number, line in enumerate(sys.stdin):
    step = json.loads(line)
    down = [replica for what, replica in step["events"] if what == "ready"]
    print(json.dumps({"up": [[1, "zb"], [2, None]] if number == 0 else [], "down": down}), flush=True)
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "stand_in.py"
    path.write_text(STAND_IN)
    monkeypatch.setattr(skypilot, "SCRIPT", path)
    return path


def test_decisions_come_at_ticks_and_ends_are_told_at_the_next(script: Path) -> None:
    with SkyPilotPool(Path(sys.executable), OFFERS, 2, 0) as pool:
        launches = pool.on_timer(0)
        assert [(one.replica, one.zone, one.market) for one in launches if isinstance(one, Launch)] == [
            (1, "zb", "spot"),
            (2, "zb", "on_demand"),  # where on demand is cheapest
        ]
        assert pool.next_timer_ns() is None  # nothing happened since
        assert pool.on_started(1, 60 * S) == []
        assert pool.next_timer_ns() == 80 * S
        pool.on_ready(1, 70 * S)
        pool.on_launch_failed(2, "capacity", 75 * S)
        assert pool.on_timer(79 * S) == []
        assert pool.on_timer(80 * S) == [Drain(1, skypilot.DRAIN_NS, "SkyPilot's")]
        assert pool.on_drained(1, 82 * S) == [Terminate(1, "drained")]
        pool.on_terminated(1, 90 * S)
        assert pool.next_timer_ns() == 100 * S
        pid = pool._process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_process_that_ends_is_an_error_with_its_last_words(script: Path) -> None:
    script.write_text("raise SystemExit('no sky today')")
    with (
        SkyPilotPool(Path(sys.executable), OFFERS, 2, 0) as pool,
        pytest.raises(BenchError, match="no sky today"),
    ):
        pool.on_timer(0)


def _installed() -> Path | None:
    try:
        return python_of("skypilot")
    except ConfigError:
        return None


@pytest.mark.skipif(_installed() is None, reason="skyfog bench peers install skypilot")
def test_skypilots_own_classes_do_as_our_dynamic_fallback() -> None:
    python = _installed()
    assert python is not None
    market = generate(MarketModel(days=0.5), 3)
    scenario = PoolScenario(market, machines=MachineModel(notice_share=0.0))
    config = scenario.config.model_copy(update={"num_overprovision": 1, "spot_placer": "dynamic_fallback"})
    prices = {zone.zone.name: (zone.zone.region, zone.prices_at(0)) for zone in market.zones}
    with SkyPilotPool(python, prices, 4, 1) as pool:
        theirs = PoolReplay(pool, scenario, 0).run()
    ours = replay("dynamic_fallback", PoolScenario(market, config, scenario.machines))
    assert theirs.at_target == pytest.approx(ours.at_target, abs=0.02)
    assert theirs.usd == pytest.approx(ours.usd, rel=0.15)
