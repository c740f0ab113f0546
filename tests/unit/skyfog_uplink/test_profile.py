"""What is measured of an option, which are worth a row, and the table that comes out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from skyfog_core.config.base import parse
from skyfog_core.config.uplink import UplinkTableSpec
from skyfog_core.units import MS
from skyfog_uplink.encode import Bgr
from skyfog_uplink.policy.tables import table_of
from skyfog_uplink.profile import ENVELOPE_BYTES, Candidate, candidates, chosen, measure, plain, quantiles, table_values


class Brightness:
    """Answers with the mean of an image; sees grey levels of `grain`."""

    def __init__(self, name: str, grain: float = 1.0) -> None:
        self.name, self._grain = name, grain
        self.asked: list[tuple[int, ...]] = []

    def run(self, image: Bgr) -> float:
        self.asked.append(image.shape)
        return round(float(image.mean()) / self._grain) * self._grain


class Close:
    """Agrees where two answers differ by less than one."""

    cloud, type = "/brightness", "a/srv/Brightness"

    def compare(self, reference: float, other: float) -> np.ndarray:
        return np.array([abs(reference - other) < 1, 1], np.int64)

    def agreement(self, counts: np.ndarray) -> float:
        return float(counts[0] / counts[1])


def ticking(step_ms: int) -> Any:
    """A clock that goes on by as much at each look."""
    times: Iterator[int] = iter(range(0, 10**15, step_ms * MS))
    return lambda: next(times)


IMAGES = [np.full((40, 80, 3), shade, np.uint8) for shade in (10, 100, 133)]


def test_each_codec_has_its_qualities_and_each_size_once() -> None:
    model = Brightness("m")
    names = [way.option.name for way in candidates([model], ["png", "jpeg", "png"], [50, 90, 50], [(0, 0), (32, 16)])]
    assert names == ["png", "png_32", "jpeg50", "jpeg90", "jpeg50_32", "jpeg90_32"]
    both = candidates([model, Brightness("other-1.5")], ["raw"], [50], [(0, 0)])
    assert [way.option.name for way in both] == ["m_raw", "other_1_5_raw"]


def test_names_are_made_fit_for_a_table() -> None:
    assert [plain(name) for name in ("a-b.c", "4x4", "_x", "fine")] == ["a_b_c", "t4x4", "t_x", "fine"]


def test_bytes_times_and_agreement_are_measured_on_every_image() -> None:
    cloud, car = Brightness("large"), Brightness("small", grain=50.0)
    (way,) = candidates([cloud], ["raw"], [], [(40, 20)])
    measured = measure(IMAGES, Close(), [way], car, ticking(3))
    assert measured.images == 3
    assert way.sizes == [20 * 40 * 3 + ENVELOPE_BYTES] * 3
    assert way.pre_ms == way.exec_ms == [3.0] * 3
    assert measured.floor is not None
    assert np.sum(measured.floor.counts, axis=0).tolist() == [1, 3]  # 100 alone is a step of 50
    # once to warm up, then the captured image and what the cloud decodes, in turn
    assert cloud.asked == [(40, 80, 3), *[(40, 80, 3), (20, 40, 3)] * 3]


def way(size: int, worth: float, took: float = 1.0) -> Candidate:
    (one,) = candidates([Brightness("m")], ["raw"], [], [(0, 0)])
    one.sizes.append(size)
    one.pre_ms.append(took)
    one.exec_ms.append(0.0)
    one.counts.append(np.array([round(1_000 * worth), 1_000]))
    return one


def test_what_another_beats_in_all_is_left_out() -> None:
    cheap, good, slow = way(10, 0.5), way(20, 0.8), way(15, 0.6, took=9.0)
    worse, larger = way(11, 0.4), way(30, 0.8)
    measured = measure([], Close(), [good, worse, cheap, larger, slow], None, ticking(1))
    assert chosen(measured, Close(), 9) == [cheap, slow, good]
    twins = measure([], Close(), [way(10, 0.5), way(10, 0.5)], None, ticking(1))
    assert len(chosen(twins, Close(), 9)) == 2


def test_of_too_many_go_those_that_gain_least_and_the_smallest_stays() -> None:
    ways = [way(10, 0.1), way(20, 0.5), way(30, 0.51), way(40, 0.9), way(50, 0.91)]
    measured = measure([], Close(), ways, None, ticking(1))
    assert chosen(measured, Close(), 3) == [ways[0], ways[1], ways[3]]
    assert chosen(measured, Close(), 1) == [ways[0]]


def test_quantiles_are_samples() -> None:
    assert quantiles(list(range(1, 101)), 0) == {"p50": 50, "p90": 90, "p99": 99}
    assert quantiles([7.126], 2) == {"p50": 7.13, "p90": 7.13, "p99": 7.13}


def test_what_comes_out_is_a_table() -> None:
    cloud = Brightness("large")
    ways = candidates([cloud], ["jpeg", "png"], [50], [(40, 20), (0, 0)])
    measured = measure(IMAGES, Close(), ways, Brightness("small", 50.0), ticking(2))
    keys = {"rate_hz": 5.0, "slo_ms": 100.0, "target": 0.99}
    values = table_values(measured, Close(), 8, "t", "made up", ["front", "left"], **keys)
    front, left = table_of(parse(UplinkTableSpec, values, "t"), "t").services
    assert (front.cloud, front.type, front.slo_ms, left.options) == (
        "/brightness",
        "a/srv/Brightness",
        100,
        front.options,
    )
    assert front.floor.accuracy == pytest.approx(1 / 3, abs=1e-4)
    assert all(option.source == "measured" and option.accuracy == 1.0 for option in front.options)
    assert min(option.width for option in front.options) == 0 or len(front.options) == 1


def test_a_car_without_a_model_has_a_floor_that_is_worth_nothing() -> None:
    ways = candidates([Brightness("large")], ["png"], [], [(0, 0)])
    values = table_values(measure(IMAGES, Close(), ways, None, ticking(1)), Close(), 8, "t", "", ["front"])
    floor = values["services"]["front"]["floor"]
    assert (floor["model"], floor["accuracy"], floor["exec_ms"]) == ("none", 0.0, 0.0)
