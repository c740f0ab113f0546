"""Traffic from SUMO itself, where libsumo is installed: the cars of the record, at the record's places."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from integration.skyfog_world.conftest import WORLDS

from skyfog_core.errors import ConfigError
from skyfog_core.units import S
from skyfog_world.frames import yaw_of
from skyfog_world.sdf import load
from skyfog_world.traffic import AWAY, SumoTraffic, open_traffic, read_record

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("libsumo") is None, reason="libsumo is not installed: pip install libsumo eclipse-sumo"
)
STREET = WORLDS / "street"
MODELS = tuple(f"m{number}" for number in range(18))


def test_sumo_is_where_the_record_of_it_is() -> None:
    traffic = SumoTraffic(MODELS, STREET / "street.sumocfg")
    try:
        tracks = read_record(STREET / "traffic.csv")
        for tenths in (106, 206, 306):
            now_ns = tenths * S // 10
            shown = [pose for pose in traffic.poses(now_ns).values() if pose is not AWAY]
            recorded = [pose for track in tracks.values() if (pose := track.at(now_ns)) is not None]
            assert len(shown) == len(recorded) > 3
            for pose in recorded:
                nearest = min(shown, key=lambda other: float(np.linalg.norm(other[:2, 3] - pose[:2, 3])))
                assert nearest[:2, 3] == pytest.approx(pose[:2, 3], abs=0.02)
                assert abs(np.sin(yaw_of(nearest) - yaw_of(pose))) < 0.01
        traffic.reset()
        assert all(pose is AWAY for pose in traffic.poses(0).values())
    finally:
        traffic.close()


def test_sumo_is_chosen_where_it_is_there_and_refuses_what_it_cannot_read() -> None:
    spec = load(WORLDS / "street.sdf").traffic
    assert spec is not None
    traffic = open_traffic(spec)
    traffic.close()
    assert isinstance(traffic, SumoTraffic)
    with pytest.raises(ConfigError, match=r"no\.sumocfg: SUMO refuses it"):
        SumoTraffic(MODELS, STREET / "no.sumocfg")
