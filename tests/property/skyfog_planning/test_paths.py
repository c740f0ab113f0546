"""Whatever the path: shortcuts never lengthen it, and its timing never goes over a limit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("toppra", reason="toppra is not installed: ./ws extra planning")

from skyfog_planning import smooth, timing
from skyfog_planning.problem import path_length

paths = st.integers(2, 6).flatmap(lambda n: arrays(np.float64, (n, 3), elements=st.floats(-3, 3, width=16)))
NAMES = ("a", "b", "c")


@given(path=paths, seed=st.integers(0, 2**32), blocked=st.floats(-3, 3))
def test_a_shortcut_path_keeps_its_ends_is_never_longer_and_takes_only_free_lines(
    path: np.ndarray, seed: int, blocked: float
) -> None:
    asked: list[tuple[np.ndarray, np.ndarray]] = []

    def free(a: np.ndarray, b: np.ndarray) -> bool:
        good = not min(a[0], b[0]) <= blocked <= max(a[0], b[0])
        if good:
            asked.append((a, b))
        return good

    made = smooth.shortcut(path, free, np.random.default_rng(seed), 20)
    assert np.array_equal(made[0], path[0])
    assert np.array_equal(made[-1], path[-1])
    assert path_length(made) <= path_length(path) + 1e-9
    for a, b in itertools.pairwise(made):
        on_old = any(_on(a, c, d) and _on(b, c, d) for c, d in itertools.pairwise(path))
        assert on_old or any(_on(a, c, d) and _on(b, c, d) for c, d in asked)


def _on(point: np.ndarray, a: np.ndarray, b: np.ndarray) -> bool:
    way = b - a
    long = float(way @ way)
    share = float(np.clip((point - a) @ way / long, 0, 1)) if long else 0.0
    return bool(np.linalg.norm(point - a - share * way) < 1e-6)


def test_a_path_with_repeated_points_is_timed_too() -> None:
    path = np.array(
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]
    )
    made = timing.spline(NAMES, path, np.ones(3), np.ones(3), 0.25)
    assert made.positions[[0, -1]] == pytest.approx(path[[0, -1]], abs=1e-9)


@given(path=paths, step=st.floats(0.05, 2))
def test_a_dense_path_is_the_same_line(path: np.ndarray, step: float) -> None:
    made = smooth.dense(path, step)
    assert path_length(made) == pytest.approx(path_length(path))
    assert np.linalg.norm(np.diff(made, axis=0), axis=1).max(initial=0) <= step + 1e-9


@settings(max_examples=40)
@given(
    path=paths.filter(lambda p: path_length(p) > 0.01),
    velocity=arrays(np.float64, 3, elements=st.floats(0.1, 3)),
    acceleration=arrays(np.float64, 3, elements=st.floats(0.1, 20)),
    step=st.sampled_from([0.0, 0.1, 0.25]),
)
def test_timing_keeps_every_limit_and_both_ends(
    path: np.ndarray, velocity: np.ndarray, acceleration: np.ndarray, step: float
) -> None:
    path = path[np.concatenate([[True], np.linalg.norm(np.diff(path, axis=0), axis=1) > 1e-3])]
    path = path if len(path) > 1 else np.stack([path[0], path[0] + 0.1])
    if step:
        made = timing.spline(NAMES, path, velocity, acceleration, step)
    else:
        made = timing.corners(NAMES, path, velocity, acceleration)
    gaps = np.diff(made.times)
    assert made.times[0] == 0
    assert gaps.min() > 0
    assert gaps.max() <= timing.STEP_S + 1e-9
    assert (np.abs(made.velocities) <= velocity * (1 + 1e-9)).all()
    assert (np.abs(made.accelerations) <= acceleration * (1 + 1e-9)).all()
    assert (np.abs(np.diff(made.positions, axis=0)) <= velocity * gaps[:, None] * (1 + 1e-6) + 1e-9).all()
    assert made.positions[[0, -1]] == pytest.approx(path[[0, -1]], abs=1e-9)
    assert made.velocities[[0, -1]] == pytest.approx(np.zeros((2, 3)), abs=1e-9)
