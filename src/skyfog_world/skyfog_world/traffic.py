"""Where the cars of a street are: from SUMO where libsumo is installed, else from a recorded file.

The record is CSV: `time_s,car,x_m,y_m,yaw_rad`, times rising, the middle of each car on the ground. It repeats from its
end. A car that is not on the road stands where the world's file has it, out of sight.
"""

from __future__ import annotations

import csv
import importlib.util
import math
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from skyfog_core.errors import ConfigError
from skyfog_core.poses import Pose
from skyfog_core.units import S
from skyfog_world.frames import from_rpy
from skyfog_world.model import TrafficSpec

AWAY: Pose = from_rpy(0, 0, -100, 0, 0, 0)
HEADER = ["time_s", "car", "x_m", "y_m", "yaw_rad"]


class Traffic(Protocol):
    """Poses of the traffic models over time."""

    def reset(self) -> None:
        """Back to the beginning."""

    def poses(self, now_ns: int) -> dict[str, Pose]:
        """Of every traffic model, in the world. `now_ns` never goes back but by `reset`."""
        ...

    def close(self) -> None:
        """End what runs beside."""


def open_traffic(spec: TrafficSpec) -> Traffic:
    """SUMO where it is installed and the world names a configuration, else the record. Raises ConfigError."""
    if spec.sumo is not None and importlib.util.find_spec("libsumo") is not None:
        return SumoTraffic(spec.models, spec.sumo)
    return RecordedTraffic(spec.models, read_record(spec.recorded))


@dataclass(frozen=True, slots=True)
class Sighting:
    """A car at a time."""

    time_ns: int
    x: float
    y: float
    yaw: float


@dataclass(slots=True)
class Track:
    """The sightings of one car, in order of time."""

    sightings: list[Sighting] = field(default_factory=list)
    times_ns: list[int] = field(default_factory=list)

    def add(self, sighting: Sighting) -> None:
        """The next one."""
        self.sightings.append(sighting)
        self.times_ns.append(sighting.time_ns)

    def at(self, now_ns: int) -> Pose | None:
        """Between its first and last sighting, straight from one to the next; else None."""
        times = self.times_ns
        if not times or not times[0] <= now_ns <= times[-1]:
            return None
        after = min(bisect_right(times, now_ns), len(times) - 1)
        return between(self.sightings[max(0, after - 1)], self.sightings[after], now_ns)


def between(a: Sighting, b: Sighting, now_ns: int) -> Pose:
    """Where a car is on its way from one sighting to the next."""
    part = (now_ns - a.time_ns) / (b.time_ns - a.time_ns) if b.time_ns > a.time_ns else 1.0
    turn = math.remainder(b.yaw - a.yaw, math.tau)
    return from_rpy(a.x + (b.x - a.x) * part, a.y + (b.y - a.y) * part, 0, 0, 0, a.yaw + turn * part)


def read_record(file: Path) -> dict[str, Track]:
    """The tracks of a record. Raises ConfigError that names file and line."""
    tracks: dict[str, Track] = {}
    try:
        with file.open(newline="") as lines:
            rows = list(csv.reader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{file}: {error}") from None
    if not rows or rows[0] != HEADER:
        raise ConfigError(f"{file}: the first line must be {','.join(HEADER)}")
    for number, row in enumerate(rows[1:], start=2):
        try:
            time_s, x, y, yaw = (float(row[index]) for index in (0, 2, 3, 4))
        except (ValueError, IndexError):
            raise ConfigError(f"{file}: line {number}: {','.join(row)!r} is not {','.join(HEADER)}") from None
        if not all(math.isfinite(value) for value in (time_s, x, y, yaw)) or time_s < 0:
            raise ConfigError(f"{file}: line {number}: every number must be finite, and the time at least 0")
        tracks.setdefault(row[1], Track()).add(Sighting(round(time_s * S), x, y, yaw))
    for car, track in tracks.items():
        if any(b.time_ns <= a.time_ns for a, b in pairwise(track.sightings)):
            raise ConfigError(f"{file}: the times of car {car!r} do not rise")
    if not tracks:
        raise ConfigError(f"{file}: has no cars")
    return tracks


class RecordedTraffic:
    """Plays a record again and again. Cars of the record take models as they appear, and free them as they leave."""

    def __init__(self, models: tuple[str, ...], tracks: dict[str, Track]) -> None:
        self._seats = Seats(models)
        self._tracks = tracks
        self._length_ns = max(track.sightings[-1].time_ns for track in tracks.values())

    def reset(self) -> None:
        self._seats.clear()

    def poses(self, now_ns: int) -> dict[str, Pose]:
        time_ns = now_ns % self._length_ns if self._length_ns else 0
        on_road = {car: pose for car, track in self._tracks.items() if (pose := track.at(time_ns)) is not None}
        return self._seats.assign(on_road)

    def close(self) -> None:
        """Nothing runs beside."""


class Seats:
    """Which model plays which car; a car keeps its model as long as it is on the road."""

    def __init__(self, models: tuple[str, ...]) -> None:
        self._models = models
        self._model_of: dict[str, str] = {}

    def clear(self) -> None:
        self._model_of.clear()

    def assign(self, cars: dict[str, Pose]) -> dict[str, Pose]:
        """The poses of all models; cars beyond their number are not shown, models beyond the cars are away."""
        self._model_of = {car: model for car, model in self._model_of.items() if car in cars}
        free = [model for model in self._models if model not in self._model_of.values()]
        for car in sorted(cars):
            if car not in self._model_of and free:
                self._model_of[car] = free.pop(0)
        shown = {model: cars[car] for car, model in self._model_of.items()}
        return {model: shown.get(model, AWAY) for model in self._models}


class SumoTraffic:
    """A SUMO simulation in this process, stepped along with the world, whose coordinates its network has."""

    def __init__(self, models: tuple[str, ...], configuration: Path) -> None:
        """Raises ConfigError where SUMO refuses the configuration."""
        import libsumo  # noqa: PLC0415 - optional, and 795 MB

        self._sumo: Any = libsumo
        self._configuration = configuration
        self._seats = Seats(models)
        self._running = False
        self._before: dict[str, Sighting] = {}
        self._after: dict[str, Sighting] = {}
        self.reset()

    def reset(self) -> None:
        self.close()
        try:
            self._sumo.start(["sumo", "-c", str(self._configuration), "--no-warnings", "--no-step-log"])
        except self._sumo.TraCIException as error:
            raise ConfigError(f"{self._configuration}: SUMO refuses it: {error}") from None
        self._running = True
        self._seats.clear()
        self._step_ns = round(self._sumo.simulation.getDeltaT() * S)
        self._time_ns = 0
        self._before, self._after = {}, self._sightings()

    def poses(self, now_ns: int) -> dict[str, Pose]:
        while self._time_ns < now_ns:
            self._sumo.simulationStep()
            self._time_ns += self._step_ns
            self._before, self._after = self._after, self._sightings()
        found = {}
        for car, seen in self._after.items():
            found[car] = between(self._before.get(car, seen), seen, min(now_ns, seen.time_ns))
        return self._seats.assign(found)

    def close(self) -> None:
        if self._running:
            self._sumo.close()
            self._running = False

    def _sightings(self) -> dict[str, Sighting]:
        """SUMO gives the middle of the front bumper, and degrees clockwise from north."""
        found = {}
        for car in self._sumo.vehicle.getIDList():
            x, y = self._sumo.vehicle.getPosition(car)
            yaw = math.radians(90 - self._sumo.vehicle.getAngle(car))
            back = self._sumo.vehicle.getLength(car) / 2
            found[car] = Sighting(self._time_ns, x - back * math.cos(yaw), y - back * math.sin(yaw), yaw)
        return found
