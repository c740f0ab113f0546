"""The uplinks of `skyfog bench uplink_live`: recorded ones where they are, at a rate at which there is a choice."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from skyfog_bench.processes import BenchError
from skyfog_core.errors import ConfigError
from skyfog_core.opportunities import Opportunities, read

FOLDER = "SKYFOG_NET_TRACES"  # environment: where the recorded ones are; else beside the workspace


@dataclass(frozen=True, slots=True)
class Link:
    """A recorded uplink at `factor` of its rate, from `offset_s` on."""

    key: str  # in names of files
    name: str
    file: str
    factor: float
    offset_s: float = 0.0

    def write(self, path: Path) -> Opportunities:
        """Write it at its rate. Raises BenchError where it is absent."""
        try:
            scaled = read(folder() / self.file).scaled(self.factor)
        except ConfigError as error:
            raise BenchError(f"{error}; the recorded uplinks are looked for in {FOLDER}") from None
        scaled.write(path)
        return scaled


VERIZON = Link("verizon", "Verizon LTE x 0.15", "Verizon-LTE-short.up", 0.15)
ATT = Link("att", "AT&T LTE driving", "ATT-LTE-driving-2016.up", 1.0)


def folder() -> Path:
    """Where the recorded uplinks are, or would be."""
    workspace = Path(os.environ.get("SKYFOG_WS", "."))
    return Path(os.environ.get(FOLDER) or workspace / ".." / "shared" / "traces" / "net")
