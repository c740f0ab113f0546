"""The process that is an emulated network: `python -m skyfog_pool.provider.netem.process SEED HERE ZONE ZONE …`.

HERE is the zone that is this process's own namespace, or empty. Commands come as lines of JSON on standard input; the
end of it ends the network. The first line out names the file descriptors of the namespaces and the subnet, or says as
`error` why there can be none.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from skyfog_core.errors import ConfigError
from skyfog_core.opportunities import read
from skyfog_core.rng import stream
from skyfog_core.units import S
from skyfog_pool.provider.netem.link import Link
from skyfog_pool.provider.netem.network import PREFIX, TUN, Impairment, address

CLONE_NEWNET = 0x40000000  # <sched.h>
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x1, 0x1000  # <linux/if_tun.h>
DEVICE = "skyfog%d"  # the kernel counts
BURST = 64  # packets read from one device before the others have their turn
PACKET_BYTES = 65_536
WAITING = 100_000  # packets under way; more is dropped, as by a switch that is full
IP_LIMIT_S = 10.0

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _namespace(address_of_it: str, *, here: bool) -> tuple[int, int]:
    """A namespace with a device in it: (namespace, device) as file descriptors. Raises OSError."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if here:
            return os.dup(home), _device(address_of_it)
        _checked(_libc.unshare(CLONE_NEWNET), "unshare")
        try:
            namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            return namespace, _device(address_of_it)
        finally:
            _checked(_libc.setns(home, CLONE_NEWNET), "setns")
    finally:
        os.close(home)


def _device(address_of_it: str) -> int:
    """A device in the namespace that we are in now. Raises OSError."""
    device = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    made = fcntl.ioctl(device, TUNSETIFF, struct.pack("40s", struct.pack("16sH", DEVICE.encode(), IFF_TUN | IFF_NO_PI)))
    name = made[:16].rstrip(b"\0").decode()
    for words in (
        ["link", "set", "lo", "up"],
        ["addr", "add", f"{address_of_it}/24", "dev", name],
        ["link", "set", name, "up"],
    ):
        subprocess.run(["ip", *words], check=True, timeout=IP_LIMIT_S)
    return device


def claim_subnet() -> tuple[int, socket.socket]:
    """A subnet that no other network with a zone in this namespace has, and what keeps it ours. Raises OSError."""
    taken = subprocess.run(["ip", "-4", "-o", "addr"], check=True, timeout=IP_LIMIT_S, capture_output=True, text=True)
    for subnet in range(1, 255):
        if f"{PREFIX}{subnet}." in taken.stdout:
            continue
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0skyfog-subnet-{subnet}")
        except OSError:
            claim.close()
            continue
        return subnet, claim
    raise OSError(f"each subnet of {PREFIX}0.0/16 is in use")


class Switch:
    """All devices, the links between them, and the packets under way."""

    def __init__(self, zones: Sequence[str], seed: int, here: str = "") -> None:
        """Raises OSError or subprocess errors where the machine does not permit it."""
        self.subnet = 0
        if here:
            self.subnet, self._claim = claim_subnet()
        made = {zone: _namespace(address(zones, zone, self.subnet), here=zone == here) for zone in zones}
        self.namespaces = {zone: namespace for zone, (namespace, _) in made.items()}
        self.devices = {zone: device for zone, (_, device) in made.items()}
        self._zone_of = {_packed(address(zones, zone, self.subnet)): zone for zone in zones}
        self.links = {(a, b): Link() for a in zones for b in zones if a != b}
        self._draw = stream(seed, "netem")
        self._under_way: list[tuple[int, int, int, bytes]] = []  # arrival, order, device, packet
        self._order = 0

    def take(self, zone: str) -> None:
        """Read what the zone sends."""
        for _ in range(BURST):
            try:
                packet = os.read(self.devices[zone], PACKET_BYTES)
            except BlockingIOError:
                return
            to = self._zone_of.get(packet[16:20]) if packet[0] >> 4 == 4 else None
            if to is None or to == zone or len(self._under_way) >= WAITING:
                continue
            chance, deviation = self._draw.random(), self._draw.gauss(0, 1)
            arrives_ns = self.links[zone, to].admit(len(packet), time.monotonic_ns(), chance, deviation)
            if arrives_ns is not None:
                self._order += 1
                heapq.heappush(self._under_way, (arrives_ns, self._order, self.devices[to], packet))

    def deliver(self) -> float | None:
        """Hand over what has arrived; returns the seconds until the next does, None where nothing is under way."""
        while self._under_way:
            now_ns = time.monotonic_ns()
            if self._under_way[0][0] > now_ns:
                return (self._under_way[0][0] - now_ns) / S
            _, _, device, packet = heapq.heappop(self._under_way)
            try:
                os.write(device, packet)
            except OSError:
                continue  # the device's queue is full: the packet is lost, as on any link
        return None

    def shape(self, a: str, b: str, both: bool, how: dict[str, Any]) -> dict[str, Any]:
        """Raises ConfigError where the trace cannot be read."""
        impairment = Impairment(**how)
        trace = read(Path(impairment.trace)) if impairment.trace else None
        for link in (self.links[a, b], self.links[b, a])[: 2 if both else 1]:
            link.shape(impairment, trace, time.monotonic_ns())
        return {}

    def counts(self) -> dict[str, Any]:
        return {f"{a}>{b}": [link.carried, link.dropped, link.carried_bytes] for (a, b), link in self.links.items()}


def _packed(dotted: str) -> bytes:
    return bytes(int(part) for part in dotted.split("."))


class Commands:
    """Lines from standard input, as they come."""

    def __init__(self, switch: Switch) -> None:
        self._does: dict[str, Callable[..., dict[str, Any]]] = {"shape": switch.shape, "counts": switch.counts}
        self._rest = b""

    def take(self) -> bool:
        """Obey what has come. Returns False when standard input has ended."""
        data = os.read(sys.stdin.fileno(), PACKET_BYTES)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            command = json.loads(line)
            try:
                _say(self._does[command.pop("do")](**command))
            except ConfigError as error:
                _say({"error": str(error)})
        return bool(data)


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def carry(switch: Switch) -> None:
    """Be the network until standard input ends."""
    commands = Commands(switch)
    zone_of = {device: zone for zone, device in switch.devices.items()}
    poll = select.epoll()
    for device in (*zone_of, sys.stdin.fileno()):
        poll.register(device, select.EPOLLIN)
    while True:
        wait_s = switch.deliver()
        for ready, _ in poll.poll(wait_s):
            if ready in zone_of:
                switch.take(zone_of[ready])
            elif not commands.take():
                return


def main() -> None:
    """Make the network, say so, be it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    seed, here, *zones = sys.argv[1:]
    try:
        switch = Switch(zones, int(seed), here)
    except (OSError, subprocess.SubprocessError) as error:
        _say({"error": f"no network namespaces here: {error}"})
        return
    _say({"namespaces": switch.namespaces, "subnet": switch.subnet})
    carry(switch)


if __name__ == "__main__":
    main()
