"""Spot capacity of the local cloud's zones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skyfog_core.config.base import parse
from skyfog_core.config.pool_local import DEFAULT_ZONES, LocalOptions
from skyfog_core.errors import ConfigError
from skyfog_pool.provider.local_cloud.market import Recorded, Spells, capacity_of, read_trace, zones_of

HOUR = 3_600.0


def test_nothing_given_is_three_zones_that_keep_their_capacity() -> None:
    options = LocalOptions()
    zones = zones_of(options)
    assert zones == DEFAULT_ZONES
    assert len({zone.name for zone in zones}) == 3
    assert all(capacity_of(zone, options).at(hour * HOUR) == zone.capacity for zone in zones for hour in range(99))


def test_a_recording_is_read_by_its_gap_begins_again_and_is_bounded_by_the_zone() -> None:
    recorded = Recorded([4, 0, 9], gap_s=10.0, most=5)
    assert [recorded.at(second) for second in (0.0, 9.99, 10.0, 20.0, 30.0)] == [4, 4, 0, 5, 4]


def test_spells_depend_on_seed_and_zone_and_not_on_when_one_looks() -> None:
    def seen(seed: int, zone: str, step_s: float) -> list[int]:
        spells = Spells(seed, zone, 2 * HOUR, HOUR / 4, 3)
        return [spells.at(k * step_s) for k in range(round(200 * HOUR / step_s))]

    often = seen(1, "a", 60.0)
    assert often[::10] == seen(1, "a", 600.0)
    assert set(often) == {0, 3}
    assert sum(often) / len(often) / 3 == pytest.approx(8 / 9, abs=0.08)
    assert often != seen(2, "a", 60.0)
    assert often != seen(1, "b", 60.0)


def test_a_file_of_each_zone_in_the_folder_is_found_and_several_must_be_told_apart(tmp_path: Path) -> None:
    for name in ("us-west-2a_v100_1", "us-west-2b_v100_1", "us-west-2b_k80_1"):
        _write(tmp_path / f"{name}.json", 300, [1])
    with pytest.raises(ConfigError, match=r"2 files us-west-2b_\*\.json"):
        zones_of(LocalOptions(trace=str(tmp_path)))
    (tmp_path / "us-west-2b_k80_1.json").unlink()
    zones = zones_of(LocalOptions(trace=str(tmp_path)))
    assert [(zone.name, zone.region) for zone in zones] == [("us-west-2a", "us-west-2"), ("us-west-2b", "us-west-2")]
    assert capacity_of(zones[0], LocalOptions()).at(0.0) == 1


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"metadata": {"gap_seconds": 0}, "data": [1]}', '{"metadata": {"gap_seconds": 5}, "data": []}'],
)
def test_what_is_no_trace_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a_x_1.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match="a_x_1"):
        read_trace(path)


def test_unknown_keys_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"notise_s: unknown key; did you mean 'notice_s'"):
        parse(LocalOptions, {"notise_s": 3.0}, "pool")
    with pytest.raises(ConfigError, match="spot_prise"):
        parse(LocalOptions, {"zones": [{"name": "a", "spot_prise": 3.0}]}, "pool")


def _write(path: Path, gap_s: int, data: list[int]) -> None:
    path.write_text(json.dumps({"metadata": {"gap_seconds": gap_s}, "data": data}))
