"""matplotlib looks for fonts with a process of its own: not for a sealed test."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from skyfog_uplink.cli_plan import draw_sweep


def test_a_sweep_is_drawn_into_a_folder_that_is_made(tmp_path: Path) -> None:
    picture = tmp_path / "out" / "sweep.png"
    draw_sweep(np.array([1.0, 2.0]), {"skyfog": np.array([0.4, 0.5]), "on car": np.array([0.4, 0.4])}, "a", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
