"""DeepLab v3 on real photographs. The expected regions were looked at, drawn on the pictures."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from skyfog_core.errors import InvalidRequest
from skyfog_core.images import raw_to_rgb
from skyfog_perception.segmenter import Segmented, Segmenter
from support.boxes import Box, iou

Photograph = Callable[[str], np.ndarray]

# Regions of at least LARGE pixels and SURE: class, score, left, top, right, bottom, area.
GOLDEN: dict[str, list[tuple[str, float, Box, int]]] = {
    "astronaut.png": [("person", 0.95, (0, 16, 371, 512), 120_399)],
    "camera.png": [("person", 0.95, (0, 68, 307, 512), 81_672)],
    "chelsea.png": [("cat", 0.97, (0, 0, 386, 300), 103_436)],
    "horse.png": [("horse", 0.95, (17, 14, 389, 316), 47_584)],
    "motorcycle_left.png": [("motorbike", 0.90, (101, 81, 677, 447), 112_883)],
    "motorcycle_right.png": [("motorbike", 0.90, (37, 82, 627, 449), 117_252)],
    "flower.jpg": [("pottedplant", 0.91, (156, 82, 466, 427), 81_612)],
    "rocket.jpg": [],
    "china.jpg": [],
    "messi5.jpg": [("person", 0.77, (196, 75, 387, 316), 14_695)],  # without the arms
    "leuvenA.jpg": [],
    "leuvenB.jpg": [],
    "aloeL.jpg": [("pottedplant", 0.85, (311, 0, 1282, 1110), 513_174)],
    "aloeR.jpg": [("pottedplant", 0.86, (421, 0, 1282, 1107), 398_550)],
    "vtest.avi": [],  # people of ten pixels' width at the network's size
}
# Of the cup in coffee.png it makes bottles and dining tables, so that it has no place here.
# The network itself draws the leaves and the player differently in a mirror; that our part does not, a property test
# of the decoder says.
CLEAR = [name for name, expected in GOLDEN.items() if expected and name not in {"aloeL.jpg", "aloeR.jpg", "messi5.jpg"}]
SURE, LARGE = 0.6, 1_000
SCORE_TOLERANCE, AREA_TOLERANCE = 0.03, 0.04


def box(found: Segmented) -> Box:
    return (found.left, found.top, found.right, found.bottom)


def large(segments: tuple[Segmented, ...], share: float = 0.0) -> list[Segmented]:
    return [one for one in segments if one.area >= max(LARGE, share)]


@pytest.mark.parametrize("name", GOLDEN)
def test_a_photograph_shows_what_it_shows(name: str, segmenter: Segmenter, photograph: Photograph) -> None:
    image = photograph(name)
    found = segmenter.segment(image, SURE)
    assert [one.class_name for one in large(found.segments)] == [one[0] for one in GOLDEN[name]]
    for one, (_, score, where, area) in zip(large(found.segments), GOLDEN[name], strict=True):
        assert one.score == pytest.approx(score, abs=SCORE_TOLERANCE)
        assert iou(box(one), where) > 0.95
        assert one.area == pytest.approx(area, rel=AREA_TOLERANCE)
    assert found.mask.shape == image.shape[:2]
    assert found.mask.dtype == np.uint8
    assert (found.mask > 0).sum() == sum(one.area for one in found.segments)


@pytest.mark.parametrize("name", CLEAR)
def test_a_mirrored_photograph_has_a_mirrored_mask(name: str, segmenter: Segmenter, photograph: Photograph) -> None:
    image = photograph(name)
    there = segmenter.segment(image, SURE)
    mirrored = segmenter.segment(np.ascontiguousarray(image[:, ::-1]), SURE)
    class_id = large(there.segments)[0].class_id
    a, b = there.mask == class_id, mirrored.mask[:, ::-1] == class_id
    assert (a & b).sum() / (a | b).sum() > 0.85


@pytest.mark.parametrize(("width", "height"), [(320, 240), (333, 777), (1920, 1080), (4096, 4096)])
def test_regions_scale_with_the_image(width: int, height: int, segmenter: Segmenter, photograph: Photograph) -> None:
    image = photograph("motorcycle_left.png")
    scale_x, scale_y = width / image.shape[1], height / image.shape[0]
    found = segmenter.segment(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), SURE)
    one = max(found.segments, key=lambda segment: segment.area)
    assert one.class_name == "motorbike"
    assert iou(box(one), (101 * scale_x, 81 * scale_y, 677 * scale_x, 447 * scale_y)) > 0.9
    assert found.mask.shape == (height, width)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (16, 16), (16, 4096), (4096, 16)])
def test_any_size_gives_a_mask_of_that_size_and_regions_inside_it(
    width: int, height: int, segmenter: Segmenter, photograph: Photograph
) -> None:
    image = cv2.resize(photograph("chelsea.png"), (width, height), interpolation=cv2.INTER_AREA)
    found = segmenter.segment(image, 0.0)
    assert found.mask.shape == (height, width)
    for one in found.segments:
        assert 0 <= one.left < one.right <= width
        assert 0 <= one.top < one.bottom <= height
        assert 1 <= one.area <= (one.right - one.left) * (one.bottom - one.top)


def test_every_way_to_send_a_photograph_finds_the_same(segmenter: Segmenter, photograph: Photograph) -> None:
    rgb = photograph("chelsea.png")
    height, width = rgb.shape[:2]
    opaque = np.full((height, width, 1), 255, np.uint8)
    bgr = rgb[:, :, ::-1]
    sent = {
        "bgr8": bgr,
        "rgba8": np.concatenate([rgb, opaque], axis=2),
        "bgra8": np.concatenate([bgr, opaque], axis=2),
    }
    expected = segmenter.segment(rgb)
    for encoding, pixels in sent.items():
        data = pixels.tobytes()
        found = segmenter.segment(raw_to_rgb(height, width, encoding, len(data) // height, False, data))
        assert (found.mask == expected.mask).all(), encoding
        assert found.segments == expected.segments, encoding


@pytest.mark.parametrize("encoding", ["mono8", "mono16"])
def test_grey_images_are_understood(encoding: str, segmenter: Segmenter, photograph: Photograph) -> None:
    grey = cv2.cvtColor(photograph("chelsea.png"), cv2.COLOR_RGB2GRAY)
    data = grey.tobytes() if encoding == "mono8" else (grey.astype("<u2") * 257).tobytes()
    height, width = grey.shape
    found = segmenter.segment(raw_to_rgb(height, width, encoding, len(data) // height, False, data), SURE)
    assert [one.class_name for one in large(found.segments)] == ["cat"]


def test_only_the_classes_asked_for_come_back_in_mask_and_regions(segmenter: Segmenter, photograph: Photograph) -> None:
    image = photograph("coffee.png")
    both = segmenter.segment(image, 0.0)
    assert {one.class_name for one in both.segments} == {"bottle", "diningtable"}
    one = segmenter.segment(image, 0.0, ["bottle"])
    assert one.segments == tuple(segment for segment in both.segments if segment.class_name == "bottle")
    bottle = one.segments[0].class_id
    assert (one.mask == np.where(both.mask == bottle, bottle, 0)).all()
    assert segmenter.segment(image, 0.0, ["train"]).segments == ()


def test_at_most_the_number_asked_for_comes_back_and_these_are_the_best(
    segmenter: Segmenter, photograph: Photograph
) -> None:
    image = photograph("coffee.png")
    many = segmenter.segment(image, 0.0).segments
    assert len(many) > 5
    few = segmenter.segment(image, 0.0, max_segments=3)
    assert few.segments == many[:3]
    assert (few.mask > 0).sum() == sum(one.area for one in many[:3])


def test_the_background_is_no_class_to_ask_for(segmenter: Segmenter) -> None:
    assert len(segmenter.network.class_names) == 20
    with pytest.raises(InvalidRequest, match="no class 'background'"):
        segmenter.segment(np.zeros((8, 8, 3), np.uint8), class_names=["background"])
