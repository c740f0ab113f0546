"""The uplinks of `skyfog bench uplink_live`: recorded ones where they are here, else generated to be like them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skyfog_bench.uplink.drives import folder
from skyfog_core.opportunities import PACKET_BYTES, Opportunities, read
from skyfog_core.units import MS
from skyfog_sim.uplink_markov import LIKE_RECORDED


@dataclass(frozen=True, slots=True)
class Link:
    """An uplink at `factor` of its rate, so that there is something to choose, from `offset_s` on."""

    key: str  # in names of files
    trace: str  # a key of LIKE_RECORDED
    factor: float
    offset_s: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.trace} x {self.factor:g}, {'recorded' if folder() else 'generated'}"

    def write(self, path: Path, seconds: float, seed: int) -> Opportunities:
        """Write it as a trace. A generated one is as long as asked. Raises ConfigError."""
        root = folder()
        course = _generated(self.trace, seconds, seed) if root is None else read(root / f"{self.trace}.up")
        scaled = course.scaled(self.factor)
        scaled.write(path)
        return scaled


VERIZON = Link("verizon", "Verizon-LTE-short", 0.15)
ATT = Link("att", "ATT-LTE-driving-2016", 1.0)


def _generated(trace: str, seconds: float, seed: int) -> Opportunities:
    carried = np.cumsum(np.diff(LIKE_RECORDED[trace].draw(seconds, seed).array)) // PACKET_BYTES
    at_ms = np.repeat(np.arange(len(carried)), np.diff(carried, prepend=0))
    return Opportunities((at_ms * MS).tolist(), len(carried) * MS)
