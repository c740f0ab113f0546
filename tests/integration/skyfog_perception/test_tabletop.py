"""The tabletop model on pictures of scenes that its training did not see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import skyfog_world  # noqa: F401  # says how to draw, which has to come before mujoco

pytest.importorskip("mujoco", reason="mujoco is not installed: ./ws extra world")

from skyfog_perception.segmenter import Segmenter
from skyfog_world.renders import classes_of, labelled
from skyfog_world.sdf import load

ROOT = Path(__file__).parents[3]
UNSEEN = range(3_000_001, 3_000_009)


def test_pixels_of_unseen_scenes_get_the_class_of_the_thing_that_they_show() -> None:
    world = load(ROOT / "sim_worlds" / "tabletop.sdf")
    segmenter = Segmenter(ROOT / "src" / "skyfog_perception" / "models" / "tabletop")
    assert segmenter.network.labels == tuple(classes_of(world))
    shared, joined = np.zeros(4), np.zeros(4)
    for image, label in zip(*labelled(world, UNSEEN), strict=True):
        mask = segmenter.segment(image, 0.5).mask
        for index in range(4):
            shared[index] += np.sum((mask == index) & (label == index))
            joined[index] += np.sum((mask == index) | (label == index))
    assert (shared / joined > 0.9).all()


def test_labels_say_what_a_picture_shows() -> None:
    world = load(ROOT / "sim_worlds" / "tabletop.sdf")
    images, labels = labelled(world, UNSEEN)
    classes = classes_of(world)
    red = (images[..., 0] > 150) & (images[..., 1] < 60) & (images[..., 2] < 60)
    assert red.sum() > 500
    assert set(np.unique(labels[red])) == {classes.index("cube")}
