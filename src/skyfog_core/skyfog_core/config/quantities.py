"""Amounts of data and time as a person writes them: a number, a number with a unit, or quantiles.

A table may name units of its own in terms of others (`frame: 236 kB`, `row: 2 frame`). Units are case-sensitive, since
B is a byte and b would be a bit: bits are spelt out (`Mbit`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from skyfog_core.config.base import Strict, nearest
from skyfog_core.errors import ConfigError


class Dimension(Enum):
    """What an amount is of; the value is the unit of a bare number, and of all results."""

    DATA = "bytes"
    TIME = "ms"


MOST = {Dimension.DATA: 1e12, Dimension.TIME: 86_400_000.0}  # a terabyte, a day: more is a slip of the pen
DATA_UNITS = {"B": 1.0, "bytes": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
BIT_UNITS = {"bit": 0.125, "kbit": 125.0, "Mbit": 125e3, "Gbit": 125e6}
TIME_UNITS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3, "min": 60e3, "h": 3_600e3}
BUILT_IN: Mapping[str, tuple[Dimension, float]] = {
    **{name: (Dimension.DATA, size) for name, size in (DATA_UNITS | BIT_UNITS).items()},
    **{name: (Dimension.TIME, size) for name, size in TIME_UNITS.items()},
}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
UNIT = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
WITH_UNIT = re.compile(rf"\s*(?P<number>{NUMBER.pattern})\s*(?P<unit>{UNIT.pattern})\s*", re.ASCII)

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Quantiles(Strict):
    """A distribution by three of its quantiles, in the unit that its key names; linear between them."""

    p50: NotNegative
    p90: NotNegative
    p99: NotNegative


def _kind(value: Any) -> str | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number"
    if isinstance(value, str):
        return "text"
    return "quantiles" if isinstance(value, Mapping | Quantiles) else None


# A number in the key's own unit, `1.89 Mbit` with another one, or quantiles. Told apart by `_kind`, so that an error
# is about the form that was meant, not about all three.
Amount = Annotated[
    Annotated[NotNegative, Tag("number")] | Annotated[str, Tag("text")] | Annotated[Quantiles, Tag("quantiles")],
    Discriminator(
        _kind,
        custom_error_type="amount",
        custom_error_message="should be a number, a text such as '1.89 Mbit', or quantiles p50, p90, p99",
    ),
]


class Units:
    """The built-in units and a table's own."""

    def __init__(self, own: Mapping[str, str]) -> None:
        """Raises ConfigError, a line for each unit that is wrong: `name: what is wrong with it`."""
        self._own = own
        self._known = dict(BUILT_IN)
        complaints = []
        for name in own:
            try:
                self._resolve(name, ())
            except ConfigError as error:
                complaints.append(f"{name}: {error}")
        if complaints:
            raise ConfigError("\n".join(complaints))

    def amount(self, value: float | str | Quantiles, dimension: Dimension) -> float | Quantiles:
        """The amount in the dimension's own unit. Raises ConfigError that says what is wrong and what is allowed."""
        if isinstance(value, Quantiles):
            if not value.p50 <= value.p90 <= value.p99:
                raise ConfigError(f"quantiles fall: p50 {value.p50:g}, p90 {value.p90:g}, p99 {value.p99:g}")
            _bounded(value.p99, dimension)
            return value
        if isinstance(value, str):
            found, size = self._of_text(value, dimension)
            if found is not dimension:
                raise ConfigError(
                    f"{value!r} is {found.name.lower()}, not {dimension.name.lower()} (allowed: {_names(dimension)})"
                )
            return _bounded(size, dimension)
        return _bounded(value, dimension)

    def _of_text(self, text: str, dimension: Dimension, path: tuple[str, ...] = ()) -> tuple[Dimension, float]:
        parts = WITH_UNIT.fullmatch(text)
        if parts is None:
            hint = f"; {text.strip()} without quotes is in {dimension.value}" if NUMBER.fullmatch(text.strip()) else ""
            raise ConfigError(f"should be a number and a unit, such as '1.89 Mbit' or '40 ms', not {text!r}{hint}")
        found, size = self._resolve(parts["unit"], path)
        return found, float(parts["number"]) * size

    def _resolve(self, name: str, path: tuple[str, ...]) -> tuple[Dimension, float]:
        """A unit's dimension and size. `path` are those that are being resolved with it."""
        if name in path:
            raise ConfigError(f"goes in a circle: {' -> '.join([*path, name])}")
        if name in self._own and name in BUILT_IN:
            raise ConfigError("is a unit already; take another name")
        if name in self._known:
            return self._known[name]
        if name not in self._own:
            known = [*BUILT_IN, *self._own]
            raise ConfigError(f"unknown unit {name!r}{nearest(name, known)} (known: {', '.join(known)})")
        if not UNIT.fullmatch(name):
            raise ConfigError("a unit's name is a letter, then letters, digits and _")
        dimension, size = self._of_text(self._own[name], Dimension.DATA, (*path, name))
        if not 0 < size < math.inf:
            raise ConfigError(f"a unit is more than zero and finite, not {self._own[name]!r}")
        self._known[name] = dimension, size
        return dimension, size


def _bounded(value: float, dimension: Dimension) -> float:
    if not 0 <= value <= MOST[dimension]:  # nor is NaN
        raise ConfigError(f"should be within 0 and {MOST[dimension]:g} {dimension.value}, not {value:g}")
    return value


def _names(dimension: Dimension) -> str:
    return ", ".join(name for name, (of, _) in BUILT_IN.items() if of is dimension)
