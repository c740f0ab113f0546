"""A network between namespaces of this machine, with delay, jitter, loss, rate and partitions that change as it runs.

Each zone is a network namespace with one TUN device. One process (netem_process.py) holds all devices and moves
packets from one to another, so that no kernel module is needed; nothing of it has a name outside that process. When it
ends, in whatever way, the kernel takes back its devices at once, and a namespace with its last process: there is
nothing to clean up, and nothing that another run could meet.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skyfog_bench.processes import BenchError, Process, Processes
from skyfog_core.units import MS, S

MODULE = "skyfog_bench.netem_process"
TUN = Path("/dev/net/tun")
PREFIX = "198.18.0."  # RFC 2544: for benchmarks of networks, never routed
START_LIMIT_S = 20.0
SET_LIMIT_S = 10.0
QUEUE_NS = S // 2  # a packet that would wait longer for its turn on a slow link is dropped


@dataclass(frozen=True, slots=True)
class Impairment:
    """What a link does to packets in one direction. The default does nothing."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0  # standard deviation of the delay; packets keep their order
    loss: float = 0.0  # share of packets that vanish
    rate_mbit: float = 0.0  # 0: no limit
    up: bool = True  # False: everything vanishes, silently

    def __post_init__(self) -> None:
        if min(self.delay_ms, self.jitter_ms, self.rate_mbit) < 0 or not 0 <= self.loss <= 1:
            raise ValueError(f"{self}: out of range")


CLEAR = Impairment()
CUT = Impairment(up=False)


class Link:
    """One direction between two zones. Pure: times and draws are given."""

    def __init__(self) -> None:
        self.impairment = CLEAR
        self._free_ns = 0  # when the last packet has left a link of limited rate
        self._last_ns = 0  # when the last packet arrives
        self.carried = 0
        self.dropped = 0

    def admit(self, size: int, now_ns: int, chance: float, deviation: float) -> int | None:
        """When a packet of `size` bytes arrives; None where it is lost.

        `chance` is uniform in [0, 1), `deviation` standard normal; both are drawn for each packet.
        """
        how = self.impairment
        if not how.up or chance < how.loss:
            self.dropped += 1
            return None
        left_ns = now_ns
        if how.rate_mbit:
            begins_ns = max(now_ns, self._free_ns)
            if begins_ns - now_ns > QUEUE_NS:
                self.dropped += 1
                return None
            left_ns = self._free_ns = begins_ns + round(size * 8 * 1_000 / how.rate_mbit)
        delay_ns = max(0, round((how.delay_ms + deviation * how.jitter_ms) * MS))
        self._last_ns = max(self._last_ns, left_ns + delay_ns)
        self.carried += 1
        return self._last_ns


class Network:
    """The bench's end: starts the process that is the network, and changes it."""

    def __init__(self, processes: Processes, zones: Sequence[str], seed: int = 0) -> None:
        """Raises BenchError that says why where this machine does not permit it: see `why_not`."""
        why = why_not()
        if why:
            raise BenchError(why)
        self._zones = list(zones)
        self._process: Process = processes.start("network", MODULE, str(seed), *zones, domain=0)
        self._namespaces: Mapping[str, int] = self._process.receive(START_LIMIT_S)["namespaces"]

    def address(self, zone: str) -> str:
        """The zone's IPv4 address."""
        return address(self._zones, zone)

    def inside(self, zone: str) -> list[str]:
        """What to put before a command so that it runs in the zone."""
        return ["nsenter", f"--net=/proc/{self._process.pid}/fd/{self._namespaces[zone]}", "--"]

    def shape(self, a: str, b: str, how: Impairment, *, both: bool = True) -> None:
        """From now on packets from `a` to `b`, and with `both` those back too, meet `how`."""
        fields = {name: getattr(how, name) for name in Impairment.__slots__}
        self._process.ask(SET_LIMIT_S, do="shape", a=a, b=b, both=both, how=fields)

    def counts(self) -> dict[str, Any]:
        """Packets carried and dropped, by `from>to`."""
        found: dict[str, Any] = self._process.ask(SET_LIMIT_S, do="counts")
        return found


def address(zones: Sequence[str], zone: str) -> str:
    """The IPv4 address of a zone."""
    return f"{PREFIX}{zones.index(zone) + 1}"


def why_not() -> str:
    """Why there can be no emulated network here; empty where there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not TUN.exists():
        return f"there is no {TUN}"
    absent = [tool for tool in ("ip", "nsenter") if shutil.which(tool) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""
