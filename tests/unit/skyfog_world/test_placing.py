"""Scenes by seed."""

from __future__ import annotations

from pathlib import Path

import pytest
from unit.skyfog_world.files import BALL, WORLDS, loaded, model

from skyfog_core.errors import ConfigError
from skyfog_world.model import SceneSpec
from skyfog_world.placing import draw_places, footprint, scene_places
from skyfog_world.sdf import load


def test_the_tabletop_is_laid_out_within_reach_and_apart() -> None:
    world = load(WORLDS / "tabletop.sdf")
    assert scene_places(world, 0) == {}
    places = scene_places(world, 1)
    assert world.scene is not None
    assert list(places) == list(world.scene.models)
    assert all(0.36 <= place.x <= 0.62 and abs(place.y) <= 0.24 for place in places.values())
    assert places == scene_places(world, 1)
    assert places != scene_places(world, 2)


def test_a_footprint_holds_the_corners_of_a_box() -> None:
    world = load(WORLDS / "tabletop.sdf")
    assert footprint(world.models["box_blue_0"]) == pytest.approx((0.035**2 + 0.02**2) ** 0.5)
    assert footprint(world.models["cylinder_green_0"]) == pytest.approx(0.022)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="9 models do not fit"):
        draw_places({str(n): 0.4 for n in range(9)}, SceneSpec(("0",), (0, 0), (1, 1), 0.1), 5)
    with pytest.raises(ConfigError, match=r"w\.sdf: has no <skyfog:scene>"):
        scene_places(loaded(tmp_path, model(BALL)), 3)
