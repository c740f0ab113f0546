"""How many spot machines a zone has to give, over market time. Pure: the time is given, in seconds since the start."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from skyfog_core.config.pool_local import DEFAULT_ZONES, LocalOptions, LocalZone
from skyfog_core.errors import ConfigError
from skyfog_core.rng import stream


class Capacity(Protocol):
    """Of one zone."""

    def at(self, market_s: float) -> int:
        """Spot machines to be had or held. Called with times that do not go back."""
        ...


class Constant:
    """The same at all times."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity

    def at(self, market_s: float) -> int:
        return self._capacity


class Recorded:
    """A sample each `gap_s`, again and again from the beginning; never more than the zone's own bound."""

    def __init__(self, samples: Sequence[int], gap_s: float, most: int) -> None:
        self._samples, self._gap_s, self._most = samples, gap_s, most

    def at(self, market_s: float) -> int:
        return min(self._most, self._samples[int(market_s / self._gap_s) % len(self._samples)])


class Spells:
    """All or nothing, in turn, for times drawn from exponential distributions."""

    def __init__(self, seed: int, zone: str, good_s: float, bad_s: float, capacity: int) -> None:
        self._draw = stream(seed, "local_market", zone)
        self._means_s = (bad_s, good_s)
        self._capacity = capacity
        self._good = True
        self._until_s = self._draw.expovariate(1 / good_s)

    def at(self, market_s: float) -> int:
        while market_s >= self._until_s:
            self._good = not self._good
            self._until_s += self._draw.expovariate(1 / self._means_s[self._good])
        return self._capacity if self._good else 0


def read_trace(path: Path) -> tuple[list[int], float]:
    """Samples and the seconds between them: `{"metadata": {"gap_seconds": n}, "data": [n, …]}`. Raises ConfigError."""
    try:
        content = json.loads(path.read_text())
        gap_s, samples = float(content["metadata"]["gap_seconds"]), content["data"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a trace of spot capacity: {error!r}") from None
    if gap_s <= 0 or not samples or not all(isinstance(sample, int) and sample >= 0 for sample in samples):
        raise ConfigError(f"{path}: gap_seconds must be above 0, and data whole numbers of machines")
    return samples, gap_s


def zones_of(options: LocalOptions) -> list[LocalZone]:
    """The zones, each with its trace file where there is one. Raises ConfigError where trace and zones do not fit."""
    if options.trace is None:
        return options.zones or DEFAULT_ZONES
    folder = Path(options.trace)
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.json")):
        files.setdefault(path.stem.partition("_")[0], []).append(path)
    if not files:
        raise ConfigError(f"provider_options.trace: no file ZONE_*.json in {folder}")
    wanted = options.zones or [LocalZone(name=name, region=name.rstrip("abcdefgh")) for name in files]
    zones = []
    for zone in wanted:
        found = files.get(zone.name, [])
        if zone.trace is None and len(found) != 1:
            raise ConfigError(
                f"provider_options.trace: {len(found)} files {zone.name}_*.json in {folder}; "
                "where it is not one, name the file as `trace` of the zone"
            )
        zones.append(zone if zone.trace is not None else zone.model_copy(update={"trace": str(found[0])}))
    return zones


def capacity_of(zone: LocalZone, options: LocalOptions) -> Capacity:
    """Raises ConfigError for a trace that cannot be read."""
    if zone.trace is not None:
        return Recorded(*read_trace(Path(zone.trace)), zone.capacity)
    if options.seed is not None:
        return Spells(options.seed, zone.name, options.good_s, options.bad_s, zone.capacity)
    return Constant(zone.capacity)
