"""Which answer the client gets where several may come: the first, the best by the SLO, or one that k agree on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

from skyfog_core.config.router import RoutingConfig
from skyfog_core.errors import ConfigError
from skyfog_core.wire.keys import ReplicaKey

TOLERANCE = 1e-6  # relative, of numbers that two replicas computed alike
NOUGHT = 1e-9  # what is left of numbers that should cancel out


@dataclass(frozen=True, slots=True)
class Given:
    """One valid answer."""

    replica: ReplicaKey
    response: Any
    service_ns: int = 0  # in the service itself, as the replica tells


class Gather(Protocol):
    """Takes the valid answers of one request as they come."""

    def wanted(self, came: int) -> int:
        """How many answers more are worth asking for, now that so many came; 0: none, what is there will do."""
        ...

    def take(self, given: Given) -> Given | None:
        """The answer to deliver now, or None: wait for more."""
        ...

    def at_slo(self) -> Given | None:
        """The SLO is over: the answer to deliver now, or None. From then on the first one that comes will do."""
        ...

    def at_end(self) -> Given | None:
        """No further answer will come: what to deliver, or None."""
        ...


class First:
    """The first one (FogROS2-FT)."""

    def wanted(self, came: int) -> int:
        return 1

    def take(self, given: Given) -> Given | None:
        return given

    def at_slo(self) -> Given | None:
        return None

    def at_end(self) -> Given | None:
        return None


class BestByDeadline:
    """The one with the best value of a field, of those that came by the SLO."""

    def __init__(self, config: RoutingConfig) -> None:
        self._k = config.k
        self._field = config.quality_field
        self._sign = 1.0 if config.quality == "min" else -1.0
        self._best: tuple[float, Given] | None = None
        self._late = False

    def wanted(self, came: int) -> int:
        return max(0, self._k - came)

    def take(self, given: Given) -> Given | None:
        if self._late:
            return given
        found = self._sign * float(field_of(given.response, self._field))
        found = math.inf if math.isnan(found) else found  # worse than any number
        if self._best is None or found < self._best[0]:
            self._best = (found, given)
        return None

    def at_slo(self) -> Given | None:
        self._late = True
        return self.at_end()

    def at_end(self) -> Given | None:
        return self._best[1] if self._best else None


class Quorum:
    """One that `quorum` replicas agree on."""

    def __init__(self, config: RoutingConfig) -> None:
        self._quorum = config.quorum
        self._fields = config.quorum_fields
        self._groups: list[list[Given]] = []

    def wanted(self, came: int) -> int:
        return max(1, self._quorum - came)

    def take(self, given: Given) -> Given | None:
        group = next((g for g in self._groups if agree(g[0].response, given.response, self._fields)), None)
        if group is None:
            group = []
            self._groups.append(group)
        group.append(given)
        return group[0] if len(group) >= self._quorum else None

    def at_slo(self) -> Given | None:
        return None

    def at_end(self) -> Given | None:
        return None

    @property
    def disagreement(self) -> str:
        """How the answers fell apart, for the error."""
        parts = [" = ".join(str(given.replica) for given in group) for group in self._groups]
        return f"{self._quorum} answers should agree, these came: {'; '.join(parts)}" if parts else ""


def gather_of(config: RoutingConfig) -> Gather:
    """A fresh one for a request."""
    if config.answer == "best_by_deadline":
        return BestByDeadline(config)
    return Quorum(config) if config.answer == "quorum" else First()


def field_of(response: Any, path: str) -> Any:
    """`status.code` of a response. Raises ConfigError that names what is there instead."""
    here = response
    for part in path.split("."):
        if not hasattr(here, part):
            known = list(getattr(type(here), "get_fields_and_field_types", dict)())
            raise ConfigError(
                f"{type(response).__name__} has no field {path!r}: {part!r} is none of {', '.join(known)}"
            )
        here = getattr(here, part)
    return here


def agree(one: Any, other: Any, fields: list[str]) -> bool:
    """Whether two responses have the same values: numbers within TOLERANCE, lists item by item."""
    if fields:
        return all(_same(field_of(one, path), field_of(other, path)) for path in fields)
    return _same(one, other)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=NOUGHT) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    slots = getattr(type(one), "get_fields_and_field_types", None)
    if slots is not None and type(one) is type(other):
        return all(_same(getattr(one, name), getattr(other, name)) for name in slots())
    if hasattr(one, "tolist") and hasattr(other, "tolist"):  # arrays of messages
        return _same(one.tolist(), other.tolist())
    return bool(one == other)
