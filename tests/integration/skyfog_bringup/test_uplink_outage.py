"""A car's link over an emulated network that is cut: how soon it works again, and what its slowness does to control."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

pytest.importorskip("zenoh", reason="eclipse-zenoh is not installed")

from skyfog_core.config.router import TlsConfig
from skyfog_core.config.uplink import LinkConfig
from skyfog_pool.children import import_path
from skyfog_pool.provider.netem.network import CUT, Impairment, Network, why_not
from skyfog_router import certs
from support.processes import Processes
from support.uplink_end import CHUNK, LIMIT_S, Car

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"no emulated network: {why_not()}")

PORT = 7447  # of a namespace that is ours alone
OUTAGE_S = 15.0  # TCP alone would then wait for up to as long again
SOON_S = 8.0  # it is 0.2 to 1.2 s on a quiet machine; TCP would send again 10 s after the link is back
LINK = Impairment(delay_ms=20, rate_mbit=10)


class Cut:
    """A car here, a gateway behind a network."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack, self._folder = stack, folder
        self.network = stack.enter_context(Network(["car", "cloud"], here="car"))
        self.network.shape("car", "cloud", LINK)
        self._processes = stack.enter_context(Processes(folder))

    def car(self, protocol: str) -> Car:
        address = self.network.address("cloud")
        where, now = f"{protocol}/{address}:{PORT}", datetime.now(UTC)
        certs.make_ca("test", self._folder, now)
        tls: dict[str, TlsConfig] = {}
        for role in ("car", "gateway"):
            made = certs.issue(role, "m", self._folder, now, hosts=(address,))
            files = TlsConfig(ca=str(self._folder / "ca.pem"), certificate=str(made.certificate), key=str(made.key))
            tls[role] = TlsConfig() if protocol == "tcp" else files
        file = self._folder / "gateway.yaml"
        values = {"fleet": "test", "name": "g0", "services": {"/echo": {}}, "load_report_ms": 0}
        file.write_text(yaml.safe_dump({**values, "cars": {"listen": [where], "tls": tls["gateway"].model_dump()}}))
        command = [sys.executable, "-m", "skyfog_bringup.uplink_gateway", "--config", str(file)]
        self._processes.start("gateway", *self.network.inside("cloud"), *command).wait_for("ready:")
        car = self._stack.enter_context(closing(Car(LinkConfig(connect=[where], tls=tls["car"]))))
        car.wait_for("g0")
        return car


@pytest.fixture
def cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cut]:
    monkeypatch.setenv("PYTHONPATH", import_path())
    with ExitStack() as stack:
        yield Cut(stack, tmp_path)


@pytest.mark.parametrize("protocol", ["tcp", "quic"])
def test_a_link_that_was_cut_works_again_soon(cut: Cut, protocol: str) -> None:
    car, tick = cut.car(protocol), threading.Event()
    cut.network.shape("car", "cloud", CUT)
    until = time.monotonic() + OUTAGE_S
    while time.monotonic() < until:  # so that the socket is full, as with a shaper that has not noticed yet
        car.ping()
        car.chunk(bytes(CHUNK), frame=10**6)
        tick.wait(0.02)
    cut.network.shape("car", "cloud", LINK)
    returned = time.monotonic()
    while not car.acks.empty():
        car.acks.get()
    while car.acks.empty() and time.monotonic() < returned + LIMIT_S:
        car.ping()
        tick.wait(0.02)
    assert time.monotonic() - returned < SOON_S


def test_a_short_cut_leaves_the_gateway_as_it_is(cut: Cut) -> None:
    car, tick = cut.car("tcp"), threading.Event()
    cut.network.shape("car", "cloud", CUT)
    tick.wait(0.4)
    cut.network.shape("car", "cloud", LINK)
    assert car.ping()
    car.acks.get(timeout=LIMIT_S)
    with pytest.raises(queue.Empty):
        car.turns.get_nowait()
