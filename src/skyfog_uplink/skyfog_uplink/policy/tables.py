"""From an option table's file to the model that is planned with: units, `like`, distributions, and what makes no sense.

Errors are what nothing can be planned with; doubts are what is allowed and surely not meant, such as an option that
never meets its SLO.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from skyfog_core.config.base import load_yaml, nearest
from skyfog_core.config.quantities import Dimension, Quantiles, Units
from skyfog_core.config.uplink import FloorSpec, OptionSpec, SceneSpec, UplinkServiceSpec, UplinkTableSpec
from skyfog_core.errors import ConfigError
from skyfog_uplink.policy.formulate import Formulation
from skyfog_uplink.policy.link import RTT_LEVELS
from skyfog_uplink.policy.model import Distribution, Floor, Option, Scene, Service, Table, constant

# Shares at which a distribution given by quantiles is cut; finer where SLOs are decided.
CUTS = (*(k / 20 for k in range(1, 19)), 0.92, 0.94, 0.96, 0.98, 0.99, 1.0)
DEFAULT_TARGET = 0.99
DEFAULT_WEIGHT = 1.0
LEAST_BYTES = 1.0  # a frame of none is no frame

PLAIN = ("cloud", "type", "rate_hz", "slo_ms", "target", "weight")  # what a service takes as it is from another


def spread(quantiles: Quantiles, least: float = 0.0) -> Distribution:
    """The distribution that runs straight through its quantiles.

    Below the median it mirrors p50 to p90, but not below `least`; above p99 it goes on as from p90. Each piece between
    two CUTS is rounded up to its upper end, so that the named quantiles are exact and a promise made with it holds.
    """
    p50, p90, p99 = quantiles.p50, quantiles.p90, quantiles.p99
    lowest = max(least, p50 - (p90 - p50) * 0.5 / 0.4)
    highest = p99 + (p99 - p90) * 0.01 / 0.09
    values = np.interp(CUTS, (0.0, 0.5, 0.9, 0.99, 1.0), (lowest, p50, p90, p99, highest))
    return Distribution(tuple(np.maximum.accumulate(values).tolist()), tuple(np.diff(CUTS, prepend=0.0).tolist()))


class _Reader:
    """Reads a table's parts and gathers what is wrong, so that all of it is told at once."""

    def __init__(self, spec: UplinkTableSpec) -> None:
        self.spec = spec
        self.complaints: list[str] = []
        self._units: Units | None = None
        try:
            self._units = Units(spec.units)
        except ConfigError as error:
            self.complaints += [f"units.{line}" for line in str(error).splitlines()]

    @contextmanager
    def blame(self, key: str) -> Iterator[None]:
        try:
            yield
        except ConfigError as error:
            self.complaints.append(f"{key}: {error}")

    def amount(self, value: float | str | Quantiles, dimension: Dimension, key: str) -> Distribution:
        """A placeholder where it is wrong: the table is refused anyway."""
        if self._units is not None:
            with self.blame(key):
                amount = self._units.amount(value, dimension)
                least = LEAST_BYTES if dimension is Dimension.DATA else 0.0
                first = amount.p50 if isinstance(amount, Quantiles) else amount
                if first < least:
                    raise ConfigError(f"should be at least {least:g} {dimension.value}, not {first:g}")
                return spread(amount, least) if isinstance(amount, Quantiles) else constant(amount)
        return constant(LEAST_BYTES)

    def floor(self, spec: FloorSpec, key: str) -> Floor:
        exec_ms = self.amount(spec.exec_ms, Dimension.TIME, f"{key}.exec_ms")
        return Floor(spec.model, spec.accuracy, exec_ms, spec.source)

    def options(self, specs: list[OptionSpec], key: str) -> tuple[Option, ...]:
        if not specs:
            self.complaints.append(f"{key}: is empty; a service without a cloud option needs no uplink")
        seen: set[str] = set()
        read = []
        for at, spec in enumerate(specs):
            if spec.name in seen:
                self.complaints.append(f"{key}.{at}.name: {spec.name!r} is the name of another option")
            seen.add(spec.name)
            read.append(self._option(spec, f"{key}.{at}"))
        return tuple(sorted(read, key=lambda option: (option.bytes.mean, option.accuracy)))

    def _option(self, spec: OptionSpec, key: str) -> Option:
        if (spec.width == 0) != (spec.height == 0):
            self.complaints.append(f"{key}: width {spec.width} and height {spec.height}: both, or neither, are 0")
        return Option(
            name=spec.name,
            model=spec.model,
            accuracy=spec.accuracy,
            bytes=self.amount(spec.bytes, Dimension.DATA, f"{key}.bytes"),
            pre_ms=self.amount(spec.pre_ms, Dimension.TIME, f"{key}.pre_ms"),
            exec_ms=self.amount(spec.exec_ms, Dimension.TIME, f"{key}.exec_ms"),
            codec=spec.codec,
            quality=spec.quality,
            width=spec.width,
            height=spec.height,
            source=spec.source,
        )


def _ancestry(services: Mapping[str, UplinkServiceSpec], name: str) -> dict[str, UplinkServiceSpec]:
    """The service and those that it is like, nearest first. Raises ConfigError where that leads nowhere."""
    path = {name: services[name]}
    while (base := list(path.values())[-1].like) is not None:
        if base in path:
            raise ConfigError(f"goes in a circle: {' -> '.join([*path, base])}")
        if base not in services:
            raise ConfigError(f"unknown service {base!r}{nearest(base, list(services))} (known: {', '.join(services)})")
        path[base] = services[base]
    return path


class _Services:
    """All services of a table, with what they take from those that they are like."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self._specs = reader.spec.services
        # Read where they are written, so that a mistake that others inherit is told once.
        self._floors = {
            name: reader.floor(spec.floor, f"services.{name}.floor")
            for name, spec in self._specs.items()
            if spec.floor is not None
        }
        self._options = {
            name: reader.options(spec.options, f"services.{name}.options")
            for name, spec in self._specs.items()
            if spec.options is not None
        }

    def service(self, name: str) -> Service | None:
        """None where something is missing or leads nowhere, which is among the complaints then."""
        key = f"services.{name}"
        ancestry: Mapping[str, UplinkServiceSpec] = {}
        with self._reader.blame(f"{key}.like"):
            ancestry = _ancestry(self._specs, name)
        if not ancestry:
            return None
        got: dict[str, Any] = {"target": DEFAULT_TARGET, "weight": DEFAULT_WEIGHT}
        for ancestor, spec in reversed(ancestry.items()):
            got |= {field: value for field in PLAIN if (value := getattr(spec, field)) is not None}
            if ancestor in self._floors:
                got["floor"] = self._floors[ancestor]
            if ancestor in self._options:
                got["options"] = self._options[ancestor]
        missing = [field for field in (*PLAIN, "floor", "options") if field not in got]
        if missing:
            self._reader.complaints += [f"{key}.{field}: is missing" for field in missing]
            return None
        return self._whole(Service(name=name, **got), key)

    def _whole(self, service: Service, key: str) -> Service:
        needed = service.floor.exec_ms.quantile(service.target)
        if needed > service.slo_ms:
            self._reader.complaints.append(
                f"{key}.slo_ms: {service.slo_ms:g} is less than the {needed:g} ms that the model on the car,"
                f" {service.floor.model}, needs in {100 * service.target:g} % of all cases"
            )
        return service


def _scene(reader: _Reader, name: str, spec: SceneSpec) -> Scene:
    key = f"scenes.{name}"
    known = list(reader.spec.services)
    for service in spec.weights:
        if service not in known:
            hint = nearest(service, known)
            reader.complaints.append(f"{key}.weights: unknown service {service!r}{hint} (known: {', '.join(known)})")
    if spec.above_mps is not None and spec.below_mps is not None and spec.above_mps >= spec.below_mps:
        reader.complaints.append(f"{key}: never holds: above_mps {spec.above_mps:g}, below_mps {spec.below_mps:g}")
    return Scene(name, spec.above_mps, spec.below_mps, dict(spec.weights))


def table_of(spec: UplinkTableSpec, source: str = "") -> Table:
    """The table as it is planned with. Raises ConfigError that names `source`, every bad key and what is allowed."""
    reader = _Reader(spec)
    services = _Services(reader)
    built = [services.service(name) for name in spec.services]
    scenes = tuple(_scene(reader, name, scene) for name, scene in spec.scenes.items())
    if reader.complaints:
        where = source or f"table {spec.name}"
        raise ConfigError("\n".join(f"{where}: {complaint}" for complaint in reader.complaints))
    return Table(spec.name, spec.source, tuple(service for service in built if service is not None), scenes)


def load_table(path: Path) -> Table:
    """A table from its file. Raises ConfigError that names the file, every bad key and what is allowed."""
    return table_of(load_yaml(UplinkTableSpec, path), str(path))


def doubts(table: Table) -> list[str]:
    """What is allowed and surely not meant, a line each: options that are never in time or worse than the floor."""
    needed = Formulation(table).exactly((0.0,) * len(RTT_LEVELS)).needed_bps
    who: dict[str, list[str]] = {}  # services by what is doubtful of them, since many are like another
    for row, service in enumerate(table.services):
        for at, option in enumerate(service.options):
            if not np.isfinite(needed[row, at]):
                took = option.pre_ms.mean + option.exec_ms.mean
                doubt = (
                    f"option {option.name} is never in time: it takes {took:.4g} ms on average without any network,"
                    f" and has {service.slo_ms:g} ms in {100 * service.target:g} % of all cases"
                )
            elif option.accuracy <= service.floor.accuracy:
                doubt = f"option {option.name} ({option.accuracy:g}) is no better than the car's own model"
            else:
                continue
            who.setdefault(doubt, []).append(service.name)
    return [f"{', '.join(names)}: {doubt}" for doubt, names in who.items()]
