"""What is told by a message is read as it was; boxes and masks fit the image as captured."""

from __future__ import annotations

import math
from array import array

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image

from skyfog_core.units import MS, S
from skyfog_interfaces.msg import Detection
from skyfog_interfaces.srv import Detect, Segment
from skyfog_uplink.car import CarReport
from skyfog_uplink.nodes.messages import (
    capture_age_ns,
    link_message,
    link_of,
    plan_message,
    plan_of,
    state_message,
    state_of,
)
from skyfog_uplink.nodes.tasks import cloud_request, pixels_of, scaled, whole_mask, wrong_mask
from skyfog_uplink.policy.books import empty
from skyfog_uplink.policy.frames import Outcome
from skyfog_uplink.policy.ledger import Ledger
from skyfog_uplink.policy.link import LEVELS, LinkState, down
from skyfog_uplink.policy.model import Option, constant
from support.uplink import grant, plan, service, table

TABLE = table(service("a"), service("b"))
PLAN = plan(grant("a", 3e6, probe_bps=1e6), grant("b", 2e6), number=12)
STAMP = Time(sec=5, nanosec=7)


def test_a_link_comes_back_as_it_was() -> None:
    rates = tuple(1e6 * (1 + at) for at in range(len(LEVELS)))
    link = LinkState(9, True, rates, (10.0, 20.0, 30.0, 40.0), 15.0, 9.0, 3.0, -1.5, 0.01, 4e6, 12_345)
    message = link_message(link, STAMP)
    assert link_of(message, 9) == link
    assert (message.rate_p05_bps, message.rate_p50_bps, message.rtt_p99_ms) == (3e6, 7e6, 40.0)
    assert link_of(link_message(down(3), STAMP), 3) == down(3)


def test_a_link_of_wrong_shape_or_no_numbers_is_read_and_not_valid() -> None:
    message = link_message(down(0), STAMP)
    message.rates_bps = array("d", [1.0])
    assert not link_of(message, 0).valid()
    message = link_message(down(0), STAMP)
    message.rtt_ms = math.nan
    assert not link_of(message, 0).valid()


def test_a_plan_comes_back_as_it_was() -> None:
    message = plan_message(PLAN, TABLE, STAMP)
    assert plan_of(message, 0) == PLAN
    assert [grant.option_name for grant in message.grants] == ["cloud", "cloud"]


def test_a_state_comes_back_as_it_was() -> None:
    books = empty(["a", "b"])
    books.planned["a"].frames.update({Outcome.ON_TIME: 3, Outcome.CUT: 1, Outcome.REPLACED: 2})
    report = CarReport("g", True, 12, 0.25, 5e6, 1e6, Ledger(TABLE, 0).reports(PLAN, books, 1 * S))
    message = state_message(report, "anna", "skyfog", TABLE, STAMP)
    assert state_of(message) == ("anna", "skyfog", "test", report)
    assert (message.services[0].cut, message.services[0].on_time_share) == (1, 0.75)
    assert math.isnan(message.services[1].on_time_share)


@pytest.mark.parametrize(
    ("stamp_ns", "age_ns"),
    [(9 * S + 950 * MS, 50 * MS), (10 * S, 0), (10 * S + 1, 0), (9 * S, 1 * S), (9 * S - 1, 0), (0, 0), (99 * S, 0)],
)
def test_the_age_of_an_image_is_zero_where_its_stamp_is_of_another_clock(stamp_ns: int, age_ns: int) -> None:
    assert capture_age_ns(Time(sec=stamp_ns // S, nanosec=stamp_ns % S), 10 * S, 1 * S) == age_ns


def picture(width: int = 8, height: int = 6, encoding: str = "rgb8") -> Image:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2] = (250, 10, 20)
    return Image(height=height, width=width, encoding=encoding, step=3 * width, data=array("B", pixels.tobytes()))


def option(codec: str, width: int = 0, height: int = 0) -> Option:
    free = constant(0)
    return Option("o", "m", 0.5, constant(1), free, free, codec, quality=90, width=width, height=height)  # type: ignore[arg-type]


def test_colours_are_told_apart() -> None:
    assert pixels_of(picture())[0, 0].tolist() == [20, 10, 250]
    assert pixels_of(picture(encoding="bgr8"))[0, 0].tolist() == [250, 10, 20]


@pytest.mark.parametrize("codec", ["jpeg", "webp", "png"])
def test_a_compressed_image_goes_as_such(codec: str) -> None:
    request = cloud_request(Detect, picture(64, 48), option(codec, 32, 24))
    assert request.compressed_image.format == codec
    assert len(request.compressed_image.data) > 30
    assert not request.image.data


def test_raw_pixels_go_as_an_image_of_the_sent_size() -> None:
    sent = cloud_request(Segment, picture(64, 48), option("raw", 32, 24)).image
    assert (sent.width, sent.height, sent.encoding, sent.step) == (32, 24, "bgr8", 96)
    assert pixels_of(sent)[0, 0].tolist() == [20, 10, 250]


def test_boxes_are_in_pixels_of_the_image_as_captured() -> None:
    seen = Detection()
    seen.bbox.center.position.x, seen.bbox.center.position.y = 8.0, 6.0
    seen.bbox.size_x, seen.bbox.size_y = 4.0, 2.0
    (found,) = scaled([seen], picture(64, 48), option("jpeg", 16, 12))
    assert (found.bbox.center.position.x, found.bbox.center.position.y) == (32.0, 24.0)
    assert (found.bbox.size_x, found.bbox.size_y) == (16.0, 8.0)
    (same,) = scaled([seen], picture(64, 48), option("jpeg"))
    assert same.bbox.size_x == 16.0


def test_a_mask_becomes_as_large_as_the_image_and_makes_up_no_class() -> None:
    small = Image(height=2, width=2, encoding="mono8", step=3, data=array("B", [0, 9, 77, 9, 0, 77]))
    whole = whole_mask(small, picture(8, 6))
    pixels = np.frombuffer(whole.data, np.uint8).reshape(6, 8)
    assert set(pixels.ravel().tolist()) == {0, 9}
    assert (pixels[0, 0], pixels[0, 7], pixels[5, 0]) == (0, 9, 9)


@pytest.mark.parametrize(
    ("height", "width", "step", "size"), [(0, 0, 0, 0), (2, 2, 2, 3), (2, 4, 2, 4), (2, 0, 2, 4), (1, 1, 1, 2)]
)
def test_a_mask_that_has_not_the_pixels_it_says_is_no_answer(height: int, width: int, step: int, size: int) -> None:
    assert not wrong_mask(Image(height=2, width=2, step=3, data=array("B", bytes(6))))
    why = wrong_mask(Image(height=height, width=width, step=step, data=array("B", bytes(size))))
    assert why == f"a mask of {width} x {height} pixels has {size} bytes in rows of {step}"
