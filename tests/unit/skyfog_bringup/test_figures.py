"""Pictures of a run."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from skyfog_bringup.demo.figures import SHOWN_WIDTH, annotate, chosen, plot_latency
from skyfog_bringup.demo.ledger import Request
from skyfog_bringup.demo.schedule import FaultKind
from skyfog_bringup.demo.summary import Injected
from skyfog_core.units import MS, S

CAT = {"name": "cat", "score": 0.79, "box": [10.0, 20.0, 60.0, 70.0]}


def request(index: int, image: str, replica: str, *, found: bool = True) -> Request:
    detections = (CAT,) if found else ()
    return Request(index, image, index * 200 * MS, index * 200 * MS + 50 * MS, True, "", detections, replica)


def test_pictures_are_of_different_images_and_winners() -> None:
    sent = [request(0, "cat", "a/0"), request(1, "cup", "a/0"), request(2, "cup", "b/1"), request(3, "cat", "b/1")]
    assert [(r.image, r.replica) for r in chosen(sent)] == [("cat", "a/0"), ("cup", "b/1")]


def test_an_image_in_which_nothing_was_found_is_no_picture() -> None:
    assert chosen([request(0, "sky", "a/0", found=False)]) == []


def test_of_a_long_video_a_few_frames_are_chosen() -> None:
    found = chosen([request(index, f"frame{index}", "a/0") for index in range(100)])
    assert [r.index for r in found] == [0, 20, 40, 59, 79, 99]


def test_boxes_are_drawn_where_they_were_found() -> None:
    picture = annotate(np.zeros((90, 100, 3), np.uint8), [CAT], "cat: answered")
    scale = SHOWN_WIDTH / 100
    assert picture.shape[:2] == (round(90 * scale) + 44, SHOWN_WIDTH)
    middle = round(45 * scale)
    assert picture[middle, round(10 * scale)].any(), "left edge"
    assert picture[middle, round(60 * scale)].any(), "right edge"
    assert not picture[middle, round(35 * scale)].any(), "inside"


def test_many_boxes_in_one_place_do_not_fail() -> None:
    picture = np.zeros((90, 100, 3), np.uint8)
    made = annotate(picture, [CAT] * 12, "a caption that is far too long for the picture " * 5)
    assert made.shape == annotate(picture, [CAT], "short").shape


def test_the_plot_is_written_also_without_a_single_answer(tmp_path: Path) -> None:
    fault = Injected(FaultKind.KILL, "a/0", 1 * S)
    failed = Request(0, "cat", 0, 4 * S, False, "no answer")
    for requests in ([], [failed], [request(0, "cat", "a/0"), request(1, "cat", "")]):
        plot_latency(requests, [fault], {"a": 20, "b": 60}, 0, 3 * S, tmp_path / "latency.png")
        assert cv2.imread(str(tmp_path / "latency.png")) is not None
