"""Where the local cloud's machines are: network namespaces joined by emulated links, or all in this machine's own."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

from skyfog_core.config.pool_local import HOME, LocalZone
from skyfog_pool.provider.netem.network import CUT, Impairment, Network, NetworkError
from skyfog_pool.serving import bind

CLONE_NEWNET = 0x40000000  # <sched.h>
_libc = ctypes.CDLL(None, use_errno=True)
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Place:
    """What a machine of a zone needs to know of its zone."""

    region: str
    address: str
    home: str  # the address of the home zone
    inside: Sequence[str]  # what to put before a command so that it runs there; empty: nothing
    namespace: str  # file; empty: our own
    notice_source: str

    def listen(self) -> socket.socket:
        """A socket on a free port of the zone's loopback."""
        with entered(self.namespace):
            return bind(LOOPBACK, 0)

    def free_ports(self, count: int) -> list[int]:
        """TCP ports that nobody in the zone uses now; the kernel seldom hands out the same ones soon again."""
        with entered(self.namespace), ExitStack() as held:
            return [held.enter_context(bind("", 0)).getsockname()[1] for _ in range(count)]


@contextmanager
def entered(namespace: str) -> Iterator[None]:
    """In a network namespace: this thread makes its sockets there, and they stay there. Raises OSError."""
    if not namespace:
        yield
        return
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _enter(home)
    finally:
        os.close(home)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


class Places:
    """The zones' networks."""

    def __init__(
        self, zones: Sequence[LocalZone], namespaces: Literal["auto"] | bool, seed: int, notice_source: str
    ) -> None:
        """Raises NetworkError where namespaces are asked for and cannot be had."""
        self._zones = {zone.name: zone for zone in zones}
        self._notice_source = notice_source
        self.network: Network | None = None
        self.why_not = "" if namespaces else "provider_options.namespaces is false"
        self._cut: set[str] = set()
        if namespaces:
            try:
                self.network = Network([HOME, *self._zones], seed, here=HOME)
            except NetworkError as error:
                if namespaces is True:
                    raise
                self.why_not = str(error)
        for zone in self._zones:
            self._shape(zone)

    @property
    def home(self) -> str:
        """The address at which machines find what runs on this machine."""
        return LOOPBACK if self.network is None else self.network.address(HOME)

    def place(self, zone: str) -> Place:
        region = self._zones[zone].region
        if self.network is None:
            return Place(region, LOOPBACK, self.home, [], "", self._notice_source)
        network = self.network
        return Place(
            region, network.address(zone), self.home, network.inside(zone), network.namespace(zone), self._notice_source
        )

    def partition(self, zone: str) -> None:
        """From now on nothing passes between the zone and all others. Raises NetworkError."""
        self._must_have_network()
        self._cut.add(zone)
        self._shape(zone)

    def heal(self, zone: str) -> None:
        """The zone's links are as its options say. Raises NetworkError."""
        self._must_have_network()
        self._cut.discard(zone)
        self._shape(zone)

    def check(self) -> None:
        """Raises NetworkError where the network has ended."""
        if self.network is not None and not self.network.alive:
            raise NetworkError("the emulated network has ended")

    def close(self) -> None:
        if self.network is not None:
            self.network.close()

    def _must_have_network(self) -> None:
        if self.network is None:
            raise NetworkError(f"zones have no network of their own here: {self.why_not}")

    def _shape(self, name: str) -> None:
        """Set the links between a zone and all others: those of two zones add up."""
        if self.network is None:
            return
        zone = self._zones[name]
        for other in (None, *self._zones.values()):
            if other is not zone:
                cut = name in self._cut or (other is not None and other.name in self._cut)
                link = CUT if cut else _link(zone) if other is None else _joined(zone, other)
                self.network.shape(HOME if other is None else other.name, name, link)


def _link(zone: LocalZone) -> Impairment:
    return Impairment(zone.delay_ms, zone.jitter_ms, zone.loss, zone.rate_mbit)


def _joined(a: LocalZone, b: LocalZone) -> Impairment:
    rates = [zone.rate_mbit for zone in (a, b) if zone.rate_mbit]
    return Impairment(
        a.delay_ms + b.delay_ms,
        (a.jitter_ms**2 + b.jitter_ms**2) ** 0.5,
        1 - (1 - a.loss) * (1 - b.loss),
        min(rates, default=0.0),
    )
