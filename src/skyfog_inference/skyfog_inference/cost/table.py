"""Measured times of the stages of a layer, interpolated: NEO's performance predictor (section 3.2).

A table belongs to one machine, model, data type and number of threads, and says so; `skyfog infer profile` writes it
as the section `stages` of its file. Between points it is linear (bilinear over sequences and tokens for decodes on the
host); beyond the last point it goes on with the slope of the last piece; below the first it is the first point's time,
since a stage has costs of its own; nothing costs nothing.
"""

from __future__ import annotations

import itertools
import json
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from skyfog_core.config.base import Strict
from skyfog_core.errors import ConfigError

Count = Annotated[int, Field(ge=1)]
Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]

SECTION = "stages"


class Line(Strict):
    """A time by one number: `ms[i]` at `at[i]`."""

    at: tuple[Count, ...] = Field(min_length=1)
    ms: tuple[Milliseconds, ...]

    @model_validator(mode="after")
    def _monotone(self) -> Self:
        _refuse_unless_rising("at", self.at)
        if len(self.ms) != len(self.at):
            raise ValueError(f"ms: {len(self.ms)} times for {len(self.at)} points")
        _refuse_falling("ms", self.ms)
        return self

    def __call__(self, count: int) -> float:
        """Milliseconds for `count`; 0 for none."""
        return along(self.at, self.ms, count) if count else 0.0


class Plane(Strict):
    """A time by sequences and by tokens of all of them: `ms[i][j]` at `sequences[i]` and `tokens[j]`."""

    sequences: tuple[Count, ...] = Field(min_length=1)
    tokens: tuple[Count, ...] = Field(min_length=1)
    ms: tuple[tuple[Milliseconds, ...], ...]

    @model_validator(mode="after")
    def _monotone(self) -> Self:
        _refuse_unless_rising("sequences", self.sequences)
        _refuse_unless_rising("tokens", self.tokens)
        if [len(row) for row in self.ms] != [len(self.tokens)] * len(self.sequences):
            raise ValueError(f"ms: should have {len(self.sequences)} rows of {len(self.tokens)} times")
        for row in self.ms:
            _refuse_falling("ms", row)
        for column in zip(*self.ms, strict=True):
            _refuse_falling("ms", column)
        return self

    def __call__(self, sequences: int, tokens: int) -> float:
        """Milliseconds for so many sequences with `tokens` of context together; 0 for none."""
        if not sequences:
            return 0.0
        low, high = _piece(self.sequences, sequences)
        if low == high:
            return along(self.tokens, self.ms[low], tokens)
        ends = (along(self.tokens, self.ms[low], tokens), along(self.tokens, self.ms[high], tokens))
        return along((self.sequences[low], self.sequences[high]), ends, sequences)


class StageTable(Strict):
    """The times of all stages; a CostModel."""

    machine: str
    model: str
    dtype: str
    device_threads: Annotated[int, Field(ge=0)]  # 0: the device is no CPU
    host_threads: Count
    layers: Count
    launch_ms: Milliseconds  # handing one layer's queries to the host's worker, and waiting for it
    linear: Line
    prefill: Line
    device_decode: Line
    host_decode: Plane
    swap: Line
    other: Line

    def linear_ms(self, tokens: int) -> float:
        return self.linear(tokens)

    def prefill_ms(self, tokens: int) -> float:
        return self.prefill(tokens)

    def device_decode_ms(self, tokens: int) -> float:
        return self.device_decode(tokens)

    def host_decode_ms(self, sequences: int, tokens: int) -> float:
        return self.host_decode(sequences, tokens)

    def swap_ms(self, tokens: int) -> float:
        return self.swap(tokens)

    def other_ms(self, tokens: int) -> float:
        return self.other(tokens)


def along(at: Sequence[int], ms: Sequence[float], count: int) -> float:
    """The time at `count` on the line through the points; never below 0."""
    low, high = _piece(at, count)
    if low == high or count <= at[0]:
        return ms[low]
    slope = (ms[high] - ms[low]) / (at[high] - at[low])
    return ms[low] + slope * (count - at[low])


def load_table(path: Path, *, model: str, dtype: str) -> StageTable:
    """The section `stages` of a profile. Raises ConfigError where it is broken or was measured for something else."""
    try:
        section = json.loads(path.read_text())[SECTION]
        table = StageTable.model_validate_json(json.dumps(section))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"profile {path}: {error}") from None
    except (KeyError, TypeError):
        raise ConfigError(f"profile {path}: has no section {SECTION!r}; run `skyfog infer profile`") from None
    except (json.JSONDecodeError, ValidationError) as error:
        raise ConfigError(f"profile {path}: {_first_line(error)}") from None
    for name, measured, wanted in (("model", table.model, model), ("dtype", table.dtype, dtype)):
        if measured != wanted:
            raise ConfigError(f"profile {path}: was measured for {name} {measured}, not {wanted}")
    return table


def rising(ms: Sequence[float]) -> tuple[float, ...]:
    """Measured times without their noise's falls: each is at least the one before."""
    highest = 0.0
    out = []
    for value in ms:
        highest = max(highest, value)
        out.append(highest)
    return tuple(out)


def _piece(at: Sequence[int], count: int) -> tuple[int, int]:
    """The points left and right of `count`, the last two where it is beyond; equal where there is one point only."""
    last = len(at) - 1
    high = min(max(bisect_right(at, count), 1), last)
    return max(high - 1, 0), high


def _refuse_unless_rising(name: str, values: Sequence[int]) -> None:
    if any(later <= earlier for earlier, later in itertools.pairwise(values)):
        raise ValueError(f"{name}: should rise, not {list(values)}")


def _refuse_falling(name: str, values: Sequence[float]) -> None:
    if any(later < earlier for earlier, later in itertools.pairwise(values)):
        raise ValueError(f"{name}: more work should never take less time: {list(values)}")


def _first_line(error: Exception) -> Any:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return error
