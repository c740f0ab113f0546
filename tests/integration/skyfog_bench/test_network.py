"""The emulated network between real namespaces: what a link does to TCP, and that nothing outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from skyfog_bench.netem import CLEAR, CUT, Impairment, Network, why_not
from skyfog_bench.processes import BenchError, Processes
from support.processes import wait_until

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"no emulated network: {why_not()}")

LIMIT_S = 30.0
PORT = 7000  # of a namespace that is ours alone

ECHO = f"""
import socket
with socket.create_server(("0.0.0.0", {PORT})) as server:
    print("ready", flush=True)
    connection, _ = server.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := connection.recv(4096):
        connection.sendall(data)
"""
# For each line in, a round trip: "ok MS", or "lost" where nothing comes back within a second.
TRIP = f"""
import socket, sys, time
connection = socket.create_connection((sys.argv[1], {PORT}), timeout=10)
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
connection.settimeout(1.0)
print("ready", flush=True)
for _ in sys.stdin:
    began = time.monotonic()
    connection.sendall(b"x")
    try:
        connection.recv(1)
        print("ok", (time.monotonic() - began) * 1000, flush=True)
    except TimeoutError:
        print("lost", flush=True)
"""


class Pair:
    """A client in `robot` and a server in `a`, joined by one TCP connection."""

    def __init__(self, network: Network, client: subprocess.Popen[str]) -> None:
        self.network = network
        self._client = client

    def trip_ms(self) -> float | None:
        """One round trip; None where it is lost."""
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        self._client.stdin.write("\n")
        self._client.stdin.flush()
        word, *ms = self._client.stdout.readline().split()
        return float(ms[0]) if word == "ok" else None


@contextmanager
def _python(prefix: list[str], code: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    command = [*prefix, sys.executable, "-c", code, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline().strip() == "ready"
            yield started
        finally:
            started.kill()


@pytest.fixture
def pair() -> Iterator[Pair]:
    with ExitStack() as stack:
        network = Network(stack.enter_context(Processes({})), ["robot", "a"])
        stack.enter_context(_python(network.inside("a"), ECHO))
        client = stack.enter_context(_python(network.inside("robot"), TRIP, network.address("a")))
        yield Pair(network, client)


def test_a_delay_holds_for_both_directions_and_can_be_taken_back(pair: Pair) -> None:
    assert pair.trip_ms() is not None
    pair.network.shape("robot", "a", Impairment(delay_ms=60))
    slowed = pair.trip_ms()
    assert slowed is not None
    assert slowed >= 120
    pair.network.shape("robot", "a", Impairment(delay_ms=60), both=False)
    pair.network.shape("a", "robot", CLEAR, both=False)
    one_way = pair.trip_ms()
    assert one_way is not None
    assert one_way >= 60


def test_a_partition_is_silent_and_what_was_sent_comes_after_it(pair: Pair) -> None:
    pair.network.shape("robot", "a", CUT)
    assert pair.trip_ms() is None
    pair.network.shape("robot", "a", CLEAR)
    assert pair.trip_ms() is not None


def test_a_one_way_partition_lets_requests_through_and_no_answers(pair: Pair) -> None:
    pair.network.shape("a", "robot", CUT, both=False)
    before = pair.network.counts()["robot>a"]
    assert pair.trip_ms() is None
    after = pair.network.counts()
    assert after["robot>a"][0] > before[0]
    assert after["robot>a"][1] == before[1]
    assert after["a>robot"][1] > 0


def test_nothing_is_left_when_the_bench_is_killed() -> None:
    code = (
        "import os, time\n"
        "from skyfog_bench.netem import Network\n"
        "from skyfog_bench.processes import Processes\n"
        "with Processes({}) as processes:\n"
        "    network = Network(processes, ['robot', 'a'])\n"
        "    core = str(min(os.sched_getaffinity(0)))\n"
        "    inside = processes.start('one', 'skyfog_bench.burn', core, domain=0, inside=network.inside('a'))\n"
        "    print('ready', network._process.pid, inside.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    named = set(Path("/run/netns").glob("*"))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ}) as bench:
        assert bench.stdout is not None
        word, *pids = bench.stdout.readline().split()
        assert word == "ready"
        ours = Path("/proc/self/ns/net").readlink()
        wait_until("it is inside", lambda: Path(f"/proc/{pids[1]}/ns/net").readlink() != ours, LIMIT_S)
        bench.send_signal(signal.SIGKILL)
    try:
        wait_until("its processes end", lambda: not any(_alive(pid) for pid in pids), LIMIT_S)
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    assert set(Path("/run/netns").glob("*")) == named
    assert not Path("/sys/class/net/skyfog0").exists()


def _alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_where_it_is_not_permitted_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skyfog_bench.netem.os.geteuid", lambda: 1000)
    began = time.monotonic()
    with Processes({}) as processes, pytest.raises(BenchError, match="need root"):
        Network(processes, ["robot"])
    assert time.monotonic() - began < LIMIT_S
