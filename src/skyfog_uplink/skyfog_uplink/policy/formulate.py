"""How likely an option's answer is in time at a rate, and the least rate at which it is likely enough.

TURBO (NINeS 2026) calls S/(SLO - RTT - exec) the critical bandwidth of an option and takes means. Here every amount is
a distribution:

    P(pre + 8 S/b + RTT + exec <= SLO) = sum over sizes S of  share(S) * F(SLO - 8 S/b)

where F is the distribution of pre + RTT + exec. F is held on a grid of STEPS steps up to each service's SLO, measured
from the least that the sum can be, so that constants stay exact; all else is rounded up to the grid, so that a promise
is kept. needed_bps is where the probability reaches the service's target: TURBO's critical bandwidth for constants.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from skyfog_uplink.policy.link import RTT_LEVELS
from skyfog_uplink.policy.model import Distribution, Option, Service, Table

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def rtt_distribution(rtts_ms: Sequence[float]) -> Distribution:
    """From quantiles at RTT_LEVELS; each piece rounded up to its upper end, above the last as steep as before it."""
    raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Needs:
    """A table under one distribution of the RTT. Services and options by index; missing options need infinity."""

    needed_bps: Floats  # [services, options] least rate that reaches the service's target; inf where none does

    def on_time(self, services: Any, options: Any, rates_bps: Any) -> Floats:
        """Probability that a frame's answer is in time; the three are broadcast. A floor (-1) is always in time."""
        raise NotImplementedError


class Formulation:
    """Answers for one table; remembers the RTTs that it was asked about last."""

    def __init__(self, table: Table) -> None: ...

    def under(self, rtts_ms: Sequence[float]) -> Needs:
        """`rtts_ms` as in LinkState; rounded up to whole ms, so that what was worked out is used again."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Step:
    """From `bps` on, `option` is the best that can be afforded."""

    bps: float
    option: int  # FLOOR on the first


def staircase(service: Service, needed_bps: Floats) -> tuple[Step, ...]:
    """Best option by rate, for needed_bps [options] of the service: rising in bps and in accuracy, floor first."""
    raise NotImplementedError


def on_time(option: Option, service: Service, rate_bps: float, rtts_ms: Sequence[float]) -> float:
    """Probability that a frame's answer is in time."""
    raise NotImplementedError


def needed_bps(option: Option, service: Service, rtts_ms: Sequence[float]) -> float:
    """The least rate whose probability reaches the service's target; inf where none does."""
    raise NotImplementedError
