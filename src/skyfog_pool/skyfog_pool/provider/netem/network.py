"""A network between namespaces of this machine, with delay, jitter, loss, rate and partitions that change as it runs.

Each zone is a network namespace with one TUN device. One process (process.py) holds all devices and moves
packets from one to another, so that no kernel module is needed; nothing of it has a name outside that process. When it
ends, in whatever way, the kernel takes back its devices at once, and a namespace with its last process: there is
nothing to clean up, and nothing that another run could meet.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from skyfog_core.errors import SkyfogError
from skyfog_pool.children import ENDS_WITH_US

MODULE = "skyfog_pool.provider.netem.process"
TUN = Path("/dev/net/tun")
PREFIX = "198.18."  # RFC 2544: for benchmarks of networks, never routed
START_LIMIT_S = 20.0
SET_LIMIT_S = 10.0
END_LIMIT_S = 5.0


class NetworkError(SkyfogError):
    """The emulated network cannot be had here, or has ended."""


@dataclass(frozen=True, slots=True)
class Impairment:
    """What a link does to packets in one direction. The default does nothing.

    A link has one queue, in front of its rate or its trace; delay and jitter are what follows.
    """

    delay_ms: float = 0.0
    jitter_ms: float = 0.0  # standard deviation of the delay; packets keep their order
    loss: float = 0.0  # share of packets that vanish
    rate_mbit: float = 0.0  # 0: no limit
    trace: str = ""  # a mahimahi file instead: packets leave at its opportunities
    trace_begins_ns: int = 0  # when on the machine's steady clock the trace begins; 0: now. It repeats both ways
    queue_ms: float = 500.0  # a packet that would wait longer for its turn is dropped
    queue_bytes: int = 0  # a packet that finds more waiting is dropped; 0: no limit
    up: bool = True  # False: everything vanishes, silently

    def __post_init__(self) -> None:
        amounts = (self.delay_ms, self.jitter_ms, self.rate_mbit, self.queue_ms, self.queue_bytes)
        if min(amounts) < 0 or not 0 <= self.loss <= 1:
            raise ValueError(f"{self}: out of range")
        if self.trace and self.rate_mbit:
            raise ValueError(f"{self}: either a rate or a trace")


CLEAR = Impairment()
CUT = Impairment(up=False)


class Network:
    """The user's end: starts the process that is the network, and changes it. A context manager. One thread uses it."""

    def __init__(self, zones: Sequence[str], seed: int = 0, *, here: str = "") -> None:
        """`here`: which of the zones is this process's own namespace, instead of a new one.

        Raises NetworkError that says why where this machine does not permit it: see `why_not`.
        """
        why = why_not()
        if why:
            raise NetworkError(why)
        self._zones = list(zones)
        self._rest = b""
        self._process = subprocess.Popen(
            [*ENDS_WITH_US, sys.executable, "-m", MODULE, str(seed), here, *zones],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        try:
            made = self._receive(START_LIMIT_S)
        except NetworkError:
            self.close()
            raise
        self._namespaces: Mapping[str, int] = made["namespaces"]
        self._subnet: int = made["subnet"]

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it; processes in its zones go on without a network."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def address(self, zone: str) -> str:
        """The zone's IPv4 address."""
        return address(self._zones, zone, self._subnet)

    def namespace(self, zone: str) -> str:
        """The zone's network namespace as a file, for as long as the network runs."""
        return f"/proc/{self.pid}/fd/{self._namespaces[zone]}"

    def inside(self, zone: str) -> list[str]:
        """What to put before a command so that it runs in the zone."""
        return ["nsenter", f"--net={self.namespace(zone)}", "--"]

    def shape(self, a: str, b: str, how: Impairment, *, both: bool = True) -> None:
        """From now on packets from `a` to `b`, and with `both` those back too, meet `how`.

        Raises NetworkError, also where the trace cannot be read: the link is as before then.
        """
        fields = {name: getattr(how, name) for name in Impairment.__slots__}
        self._ask(do="shape", a=a, b=b, both=both, how=fields)

    def counts(self) -> dict[str, Any]:
        """Packets carried, packets dropped and bytes carried, by `from>to`. Raises NetworkError."""
        return self._ask(do="counts")

    def _ask(self, **command: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
        except OSError as error:
            raise NetworkError(f"the emulated network has ended: {error}") from None
        return self._receive(SET_LIMIT_S)

    def _receive(self, limit_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        until = time.monotonic() + limit_s
        while b"\n" not in self._rest:
            if not select.select([self._process.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
                raise NetworkError(f"the emulated network gave no answer within {limit_s:.0f} s")
            data = os.read(self._process.stdout.fileno(), 65_536)
            if not data:
                raise NetworkError(f"the emulated network ended with status {self._process.wait()}")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise NetworkError(answer["error"])
        return answer


def address(zones: Sequence[str], zone: str, subnet: int = 0) -> str:
    """The IPv4 address of a zone."""
    return f"{PREFIX}{subnet}.{zones.index(zone) + 1}"


def why_not() -> str:
    """Why there can be no emulated network here; empty where there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not TUN.exists():
        return f"there is no {TUN}"
    absent = [tool for tool in ("ip", "nsenter") if shutil.which(tool) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""
