"""A drive that every contender for a car's uplink meets alike: link, scenes, and what each frame draws.

A frame's luck is drawn once, whatever is done with it: how full of detail the image is (its bytes in each option), how
long encoding, the cloud's model and the car's model take. So two policies differ by what they decide and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

import numpy as np

from skyfog_core.rng import stream
from skyfog_core.units import MS, S
from skyfog_sim.uplink_link import Course, Rtt
from skyfog_uplink.policy.model import Distribution, Scene, Service, Table
from skyfog_uplink.policy.scenes import Scenes

SCENE_S = (15.0, 60.0)  # how long one lasts


@dataclass(frozen=True, slots=True)
class SceneAt:
    """From `at_ns` on; `name` is empty where only the speed is told."""

    at_ns: int
    name: str
    speed_mps: float


@dataclass(frozen=True, slots=True)
class Frames:
    """All frames of one service: N of them, with O options. Times in ns, sizes in bytes."""

    captured_ns: np.ndarray  # [N]
    floor_ns: np.ndarray  # [N] the car's own model
    sizes: np.ndarray  # [N, O]
    pre_ns: np.ndarray  # [N, O]
    exec_ns: np.ndarray  # [N, O]
    weights: np.ndarray  # [N] of the scene as it was captured


@dataclass(frozen=True)
class Drive:
    """What happens to the car; the same for the same seed."""

    name: str
    table: Table
    course: Course
    rtt: Rtt
    seconds: float
    seed: int
    scenes: tuple[SceneAt, ...] = ()

    @property
    def length_ns(self) -> int:
        return round(self.seconds * S)

    @cached_property
    def frames(self) -> tuple[Frames, ...]:
        """By service, in the table's order."""
        return tuple(self._frames_of(at, service) for at, service in enumerate(self.table.services))

    @cached_property
    def weights(self) -> tuple[tuple[int, np.ndarray], ...]:
        """From when on, each service's [services]."""
        scenes = Scenes(self.table)
        found = [(0, scenes.weights)]
        for scene in self.scenes:
            scenes.tell(scene.name, scene.speed_mps)
            found.append((scene.at_ns, scenes.weights))
        return tuple(found)

    def _frames_of(self, at: int, service: Service) -> Frames:
        random = np.random.default_rng(stream(self.seed, "frames", service.name).getrandbits(64))
        period_ns = S / service.rate_hz
        first = random.random() * min(period_ns, self.length_ns / 2)
        last = self.length_ns - service.slo_ms * MS  # so that each ends within the drive
        captured = np.arange(first, max(last, first + 1), period_ns).astype(np.int64)
        detail, pre, work, floor = random.random((4, len(captured)))
        since = np.array([when for when, _ in self.weights])
        by_scene = np.array([weights[at] for _, weights in self.weights])
        return Frames(
            captured,
            (drawn(service.floor.exec_ms, floor) * MS).astype(np.int64),
            _columns([np.maximum(1, drawn(option.bytes, detail)) for option in service.options]),
            _columns([drawn(option.pre_ms, pre) * MS for option in service.options]),
            _columns([drawn(option.exec_ms, work) * MS for option in service.options]),
            by_scene[np.searchsorted(since, captured, side="right") - 1],
        )


def drawn(distribution: Distribution, shares: np.ndarray) -> np.ndarray:
    """[N] the quantiles at `shares`, straight between the values: a plan rounds each piece up, life does not."""
    ends = np.cumsum(distribution.weights)
    ends[-1] = 1.0
    return np.asarray(np.interp(shares, ends, distribution.values))


def _columns(columns: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack([column.astype(np.int64) for column in columns], axis=1)


def drawn_scenes(table: Table, seconds: float, seed: int) -> tuple[SceneAt, ...]:
    """One after the other, none twice in a row, each at a speed that is its own."""
    random = stream(seed, "scenes")
    found: list[SceneAt] = []
    at_s = 0.0
    while at_s < seconds and table.scenes:
        others = [scene for scene in table.scenes if not found or scene.name != found[-1].name]
        scene = random.choice(others or list(table.scenes))
        found.append(SceneAt(round(at_s * S), scene.name, _speed(scene, random)))
        at_s += random.uniform(*SCENE_S)
    return tuple(found)


def _speed(scene: Scene, random: Random) -> float:
    low = scene.above_mps if scene.above_mps is not None else 0.0
    return random.uniform(low, scene.below_mps if scene.below_mps is not None else low + 10)
