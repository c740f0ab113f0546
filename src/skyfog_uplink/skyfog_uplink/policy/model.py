"""What a car has to share its uplink between: services, and for each the options that it may run on.

An option is a cloud model for an input of one size and compression. All its amounts are distributions: an image's bytes
depend on what is seen, a model's time on who else asks. The floor is the model on the car, which runs for every frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

FLOOR = -1  # the index of no cloud option


@dataclass(frozen=True, slots=True)
class Distribution:
    """Of bytes or milliseconds: `values` [K] ascending, each with its share in `weights` [K], which sum to one."""

    values: tuple[float, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        assert len(self.values) == len(self.weights) > 0
        assert list(self.values) == sorted(self.values)
        assert self.values[0] >= 0
        assert abs(sum(self.weights) - 1) < 1e-6

    @property
    def mean(self) -> float:
        return float(np.dot(self.values, self.weights))

    def quantile(self, share: float) -> float:
        """The least value that at least `share` of the weight does not exceed."""
        at = int(np.searchsorted(np.cumsum(self.weights), share - 1e-9))
        return self.values[min(at, len(self.values) - 1)]


def constant(value: float) -> Distribution:
    """Always the same."""
    return Distribution((value,), (1.0,))


@dataclass(frozen=True, slots=True)
class Option:
    """A cloud model for an input of one size and compression."""

    name: str
    model: str
    accuracy: float
    bytes: Distribution
    pre_ms: Distribution
    exec_ms: Distribution
    codec: str = "none"
    quality: int = 90
    width: int = 0
    height: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True)
class Floor:
    """The model on the car."""

    model: str
    accuracy: float
    exec_ms: Distribution
    source: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """One service of the car. Options stand by rising mean size."""

    name: str
    cloud: str  # ROS service that the replicas answer
    type: str
    rate_hz: float
    slo_ms: float  # from the capture to the answer at the car
    target: float  # share of offloaded frames that must be within it
    weight: float
    floor: Floor
    options: tuple[Option, ...]

    def accuracy(self, option: int) -> float:
        return self.floor.accuracy if option == FLOOR else self.options[option].accuracy


@dataclass(frozen=True, slots=True)
class Scene:
    """Factors of the services' weights while it holds; speeds in m/s."""

    name: str
    above_mps: float | None
    below_mps: float | None
    weights: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Table:
    """The services of a car."""

    name: str
    source: str
    services: tuple[Service, ...]
    scenes: tuple[Scene, ...] = ()

    def index(self, service: str) -> int:
        """Raises KeyError."""
        for at, each in enumerate(self.services):
            if each.name == service:
                return at
        raise KeyError(service)
