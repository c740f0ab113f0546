"""What the camera plays."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from skyfog_bringup.images import MAX_SIDE, open_images, package_photographs, to_jpeg
from skyfog_core.errors import ConfigError


def test_photographs_of_the_packages_are_there_and_distinct() -> None:
    images = open_images("", seed=0)
    names = {images.name(index) for index in range(len(package_photographs()))}
    assert {"astronaut", "chelsea", "coffee", "motorcycle_left", "china", "flower"} == names


def test_a_seed_gives_one_order_and_each_round_holds_each_photograph() -> None:
    one, same, other = (open_images("", seed) for seed in (7, 7, 8))
    order = [one.name(index) for index in range(18)]
    assert order == [same.name(index) for index in range(18)]
    assert order != [other.name(index) for index in range(18)]
    assert len(set(order[:6])) == len(set(order[6:12])) == 6


def test_a_large_photograph_is_scaled_down(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "wide.png"), np.zeros((400, 2600, 3), np.uint8))
    assert open_images(str(tmp_path), 0).get(0).shape == (197, MAX_SIDE, 3)


def test_a_grey_photograph_becomes_rgb(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((40, 60), 90, np.uint8))
    assert open_images(str(tmp_path), 0).get(0).shape == (40, 60, 3)


def test_a_single_photograph_may_be_named(tmp_path: Path) -> None:
    file = tmp_path / "one.png"
    cv2.imwrite(str(file), np.zeros((40, 60, 3), np.uint8))
    images = open_images(str(file), 0)
    assert images.name(0) == images.name(5) == "one"


def test_a_video_is_played_again_from_its_start(tmp_path: Path) -> None:
    file = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for shade in (10, 120, 240):
        writer.write(np.full((48, 64, 3), shade, np.uint8))
    writer.release()
    images = open_images(str(file), 0)
    shades = [round(float(images.get(index).mean())) for index in (0, 1, 2, 3, 1)]
    assert shades == pytest.approx([10, 120, 240, 10, 120], abs=4)
    assert images.name(4) == "drive_000001"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such folder or video"),
        ({}, "no photographs in this folder"),
        ({"bad.jpg": b"no picture"}, "bad.jpg: is no photograph that can be read"),
    ],
)
def test_what_cannot_be_played_is_refused_by_name(
    tmp_path: Path, content: dict[str, bytes] | None, problem: str
) -> None:
    folder = tmp_path / "shots"
    if content is not None:
        folder.mkdir()
        for name, data in content.items():
            (folder / name).write_bytes(data)
    with pytest.raises(ConfigError, match=problem):
        open_images(str(folder), 0)


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no video")
    with pytest.raises(ConfigError, match=r"notes\.txt: holds no frames"):
        open_images(str(tmp_path / "notes.txt"), 0)


def test_jpeg_keeps_the_colours() -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    data = np.frombuffer(to_jpeg(red, 95), np.uint8)
    blue, green, back = cv2.imdecode(data, cv2.IMREAD_COLOR)[16, 16]
    assert (int(back), int(green), int(blue)) == pytest.approx((200, 0, 0), abs=6)


def test_the_folder_of_a_user_is_played(tmp_path: Path) -> None:
    for file in package_photographs()[:2]:
        shutil.copy(file, tmp_path)
    images = open_images(str(tmp_path), 0)
    assert {images.name(0), images.name(1)} == {"astronaut", "chelsea"}
