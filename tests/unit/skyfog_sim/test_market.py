"""Markets: steps over time, and the reader of recorded ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skyfog_core.units import S
from skyfog_pool.policy.market import Prices, Zone
from skyfog_sim.market import MarketTrace, Steps, ZoneMarket, constant, steps, steps_of
from skyfog_sim.spot_traces import TraceError, read_market


def zone(name: str, capacity: Steps, price: Steps | None = None) -> ZoneMarket:
    return ZoneMarket(Zone(name, name[:-1]), capacity, price or constant(1.0), 3.0)


def test_steps_have_a_value_at_every_time_and_keep_only_changes() -> None:
    found = steps([2, 2, 0, 0, 5], 10)
    assert found == Steps((0, 20, 40), (2, 0, 5))
    assert [found.at(t) for t in (0, 19, 20, 39, 40, 1_000)] == [2, 2, 0, 0, 5, 5]
    assert list(found.changes()) == [(20, 2, 0), (40, 0, 5)]


def test_an_integral_counts_each_value_for_as_long_as_it_held() -> None:
    found = Steps((0, 10, 30), (1.0, 2.0, 4.0))
    assert found.integral(0, 40) == 1 * 10 + 2 * 20 + 4 * 10
    assert found.integral(5, 15) == 1 * 5 + 2 * 5
    assert found.integral(35, 135) == 4 * 100
    assert found.integral(12, 12) == 0


def test_a_part_begins_at_zero_with_the_value_of_then() -> None:
    market = MarketTrace("m", (zone("za", Steps((0, 10, 30), (1, 2, 4))),), 50)
    part = market.part(15, 1_000)
    assert part.length_ns == 35
    assert part.of("za").spot_capacity == Steps((0, 15), (2, 4))


@pytest.mark.parametrize(
    ("times", "values"), [((), ()), ((1,), (1,)), ((0, 5), (1,)), ((0, 5, 5), (1, 2, 3)), ((0, 5, 3), (1, 2, 3))]
)
def test_steps_out_of_order_are_refused(times: tuple[int, ...], values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="steps"):
        Steps(times, values)


def test_zones_with_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="each once"):
        MarketTrace("m", (zone("za", constant(1)), zone("za", constant(1))), 10)


def test_prices_change_when_any_zone_changes() -> None:
    market = MarketTrace(
        "m",
        (zone("za", constant(1), Steps((0, 7), (1.0, 2.0))), zone("zb", constant(1), Steps((0, 99), (1.0, 2.0)))),
        50,
    )
    assert market.price_times() == [0, 7]  # what changes after the end does not count
    assert market.of("za").prices_at(8) == Prices(2.0, 3.0)


def test_steps_of_drops_what_changes_nothing() -> None:
    assert steps_of([(0, 1), (5, 1), (9, 2)]) == Steps((0, 9), (1, 2))


def write(folder: Path, name: str, gap: object, data: object) -> Path:
    path = folder / name
    path.write_text(json.dumps({"metadata": {"gap_seconds": gap}, "data": data}))
    return path


def test_recorded_zones_are_clipped_to_the_shortest(tmp_path: Path) -> None:
    write(tmp_path, "us-west-2a_v100_1.json", 300, [4, 4, 0, 1])
    write(tmp_path, "us-west-2b_v100_1.json", 300, [1, 2])
    market = read_market(tmp_path)
    assert [one.zone for one in market.zones] == [
        Zone("us-west-2a", "us-west-2", "aws"),
        Zone("us-west-2b", "us-west-2", "aws"),
    ]
    assert market.length_ns == 600 * S
    assert market.of("us-west-2a").spot_capacity == constant(4)
    assert market.of("us-west-2b").spot_capacity == Steps((0, 300 * S), (1, 2))
    assert market.cheapest_on_demand() == 3.06


def test_kinds_of_machines_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path, "us-west-2a_v100_1.json", 600, [1])
    write(tmp_path, "us-west-2a_k80_8.json", 600, [0])
    assert [one.zone.name for one in read_market(tmp_path, "k80_8").zones] == ["us-west-2a"]
    assert [one.zone.name for one in read_market(tmp_path).zones] == ["us-west-2a/k80_8", "us-west-2a/v100_1"]


@pytest.mark.parametrize(
    ("name", "gap", "data", "says"),
    [
        ("elsewhere.json", 300, [1], "the name is not"),
        ("us-west-2a_h100_1.json", 300, [1], "no price is known of h100_1"),
        ("us-west-2a_v100_1.json", 0, [1], "gap_seconds is 0"),
        ("us-west-2a_v100_1.json", "x", [1], "gap_seconds is 'x'"),
        ("us-west-2a_v100_1.json", True, [1], "gap_seconds is True"),
        ("us-west-2a_v100_1.json", 300, [], "not a list with samples"),
        ("us-west-2a_v100_1.json", 300, [1, -1], r"data\[1\] is -1"),
        ("us-west-2a_v100_1.json", 300, [1.5], r"data\[0\] is 1.5"),
        ("us-west-2a_v100_1.json", 300, "111", "not a list"),
    ],
)
def test_a_trace_that_cannot_be_used_is_refused_by_name(
    tmp_path: Path, name: str, gap: object, data: object, says: str
) -> None:
    path = write(tmp_path, name, gap, data)
    with pytest.raises(TraceError, match=says) as caught:
        read_market(tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", ["", "[]", '{"data": [1]}', '{"metadata": 3, "data": [1]}', "\udc80"])
def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "us-west-2a_v100_1.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(TraceError, match="not a trace"):
        read_market(tmp_path)


def test_a_folder_without_traces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no trace of v100_1"):
        read_market(tmp_path, "v100_1")
