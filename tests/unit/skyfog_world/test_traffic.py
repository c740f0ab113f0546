"""Recorded traffic: cars between their sightings, seats for them, and records that are wrong."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from unit.skyfog_world.files import WORLDS

from skyfog_core.errors import ConfigError
from skyfog_core.units import S
from skyfog_world.frames import yaw_of
from skyfog_world.traffic import AWAY, RecordedTraffic, Seats, read_record

HEADER = "time_s,car,x_m,y_m,yaw_rad\n"


def record(folder: Path, lines: str) -> Path:
    file = folder / "traffic.csv"
    file.write_text(HEADER + lines)
    return file


def test_a_car_is_between_its_sightings_and_turns_the_short_way(tmp_path: Path) -> None:
    tracks = read_record(record(tmp_path, "1,a,0,0,3.1\n3,a,4,2,-3.1\n"))
    halfway = tracks["a"].at(2 * S)
    assert halfway is not None
    assert halfway[:3, 3] == pytest.approx((2, 1, 0))
    assert abs(yaw_of(halfway)) == pytest.approx(math.pi)
    assert tracks["a"].at(0) is None
    assert tracks["a"].at(4 * S) is None
    traffic = RecordedTraffic(("m",), tracks)
    assert traffic.poses(round(0.5 * S))["m"] is AWAY
    assert traffic.poses(2 * S + 3 * S)["m"] == pytest.approx(halfway)  # from the beginning again


def test_a_car_keeps_its_model_and_cars_beyond_their_number_are_not_shown() -> None:
    seats = Seats(("m", "n"))
    here = AWAY.copy()
    assert list(seats.assign({"a": here, "b": here, "c": here})) == ["m", "n"]
    there = seats.assign({"b": here, "c": AWAY})
    assert there["n"] is here
    assert there["m"] is AWAY  # c, which has it now
    seats.clear()
    assert seats.assign({"c": here})["m"] is here


def test_the_street_has_a_record_of_two_minutes_with_no_car_faster_than_50_km_per_h() -> None:
    tracks = read_record(WORLDS / "street" / "traffic.csv")
    assert len(tracks) > 30
    assert max(track.times_ns[-1] for track in tracks.values()) > 110 * S
    for track in tracks.values():
        for a, b in zip(track.sightings, track.sightings[1:], strict=False):
            assert math.hypot(b.x - a.x, b.y - a.y) / ((b.time_ns - a.time_ns) / S) < 14.0


@pytest.mark.parametrize(
    ("lines", "part"),
    [
        ("1,a,0,0\n", "line 2: '1,a,0,0' is not time_s,car"),
        ("1,a,0,zero,0\n", "line 2"),
        ("-1,a,0,0,0\n", "the time at least 0"),
        ("1,a,nan,0,0\n", "must be finite"),
        ("2,a,0,0,0\n1,a,0,0,0\n", "the times of car 'a' do not rise"),
        ("", "has no cars"),
    ],
)
def test_a_wrong_record_is_refused_with_file_and_line(tmp_path: Path, lines: str, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_record(record(tmp_path, lines))
    assert part in str(caught.value)
    assert "traffic.csv" in str(caught.value)


def test_a_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("x,y\n")
    with pytest.raises(ConfigError, match="the first line must be time_s,car,x_m,y_m,yaw_rad"):
        read_record(file)
    with pytest.raises(ConfigError, match=r"y\.csv: .*No such file"):
        read_record(tmp_path / "y.csv")
