"""Payloads of any size both ways, packed or not, and by shared memory where both ends are on one machine."""

from __future__ import annotations

import os

import pytest
from integration.skyfog_router.conftest import Net
from integration.skyfog_router.ends import LIMIT_S, LocalReplica, TracedDriver
from integration.skyfog_router.relay import Relay

from skyfog_core.config.router import ZenohConfig
from skyfog_core.wire.envelope import Encoding
from support.processes import wait_until

MB = 1 << 20
SHARED = pytest.mark.parametrize("shared", [True, False], ids=["shared memory", "sockets"])


class Link:
    """A robot and a replica with a relay between them, which sees what goes by the socket."""

    def __init__(
        self, net: Net, shared: bool = False, robot: Encoding = Encoding.PLAIN, replica: Encoding = Encoding.PLAIN
    ) -> None:
        here = ZenohConfig(listen=[net.endpoint], shared_memory=shared)
        self.robot: TracedDriver = net.robot(link=here, encoding=robot)
        self.relay: Relay = net.keep(Relay(net.endpoint.partition("/")[2]))
        there = ZenohConfig(connect=[f"tcp/{self.relay.address}"], shared_memory=shared)
        self.replica: LocalReplica = net.local("0", there, encoding=replica)
        self.robot.watched.wait_for(self.replica.who)

    def passed_bytes(self, payload: bytes) -> int:
        """By the socket, for one request whose answer is itself."""
        before = self.relay.passed_bytes
        assert self.robot.ask(payload).wait() == payload
        return self.relay.passed_bytes - before


@SHARED
@pytest.mark.parametrize("size", [0, 1, 4_096, 65_535, 65_536, MB, 64 * MB])
def test_a_payload_of_any_size_is_untouched(net: Net, size: int, shared: bool) -> None:
    link = Link(net, shared)
    payload = os.urandom(size)
    assert link.robot.ask(payload).wait() == payload


def test_shared_memory_carries_what_is_large(net: Net) -> None:
    link, payload = Link(net, shared=True), os.urandom(MB)
    # The first messages may go by the socket, while the memory is being set up.
    wait_until("shared memory", lambda: link.passed_bytes(payload) < MB / 10, LIMIT_S)
    assert link.passed_bytes(payload) < MB / 10, "and it stays so"


def test_without_shared_memory_all_goes_by_the_socket(net: Net) -> None:
    link, payload = Link(net, shared=False), os.urandom(MB)
    assert min(link.passed_bytes(payload) for _ in range(10)) > 2 * MB


@pytest.mark.parametrize(
    ("robot", "replica", "low", "high"),
    [
        (Encoding.ZSTD, Encoding.ZSTD, 0.0, 0.1),
        (Encoding.ZSTD, Encoding.PLAIN, 1.0, 1.1),  # the request alone
        (Encoding.PLAIN, Encoding.ZSTD, 2.0, 2.1),  # a robot that packs nothing need not read what is packed
    ],
)
def test_what_can_be_packed_is_packed_where_both_ends_agree(
    net: Net, robot: Encoding, replica: Encoding, low: float, high: float
) -> None:
    link = Link(net, robot=robot, replica=replica)
    payload = bytes(range(256)) * (MB // 256)
    assert low * MB <= link.passed_bytes(payload) < high * MB
    assert link.replica.service.started.get(timeout=LIMIT_S) == payload


def test_what_cannot_be_packed_passes_as_it_is(net: Net) -> None:
    link = Link(net, robot=Encoding.ZSTD, replica=Encoding.ZSTD)
    assert 2 * MB <= link.passed_bytes(os.urandom(MB)) < 2.1 * MB
