"""The emulated network between real namespaces: what a link does to TCP, and that nothing outlives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from skyfog_core.opportunities import read
from skyfog_core.units import MS
from skyfog_pool.provider.netem.network import CLEAR, CUT, Impairment, Network, NetworkError, why_not
from support.processes import wait_until

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"no emulated network: {why_not()}")

LIMIT_S = 30.0
LOST_S = 1.0  # after which what does not come is lost
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
# For each line in, a round trip: "ok MS", or "lost" where nothing comes back within the line's seconds.
TRIP = f"""
import socket, sys, time
connection = socket.create_connection((sys.argv[1], {PORT}), timeout=10)
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
print("ready", flush=True)
for line in sys.stdin:
    connection.settimeout(float(line))
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

    def trip_ms(self, limit_s: float = LIMIT_S) -> float | None:
        """One round trip; None where nothing comes back in time."""
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        self._client.stdin.write(f"{limit_s}\n")
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
        network = stack.enter_context(Network(["robot", "a"]))
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
    assert pair.trip_ms(LOST_S) is None
    pair.network.shape("robot", "a", CLEAR)
    assert pair.trip_ms() is not None


def test_a_one_way_partition_lets_requests_through_and_no_answers(pair: Pair) -> None:
    pair.network.shape("a", "robot", CUT, both=False)
    before = pair.network.counts()["robot>a"]
    assert pair.trip_ms(LOST_S) is None
    after = pair.network.counts()
    assert after["robot>a"][0] > before[0]
    assert after["robot>a"][1] == before[1]
    assert after["a>robot"][1] > 0


def test_this_machine_itself_can_be_a_zone_and_networks_side_by_side_do_not_meet() -> None:
    with Network(["home", "a"], here="home") as one, Network(["home", "a"], here="home") as other:
        assert one.address("a") != other.address("a")
        for network in (one, other):
            with _python(network.inside("a"), ECHO), _python([], TRIP, network.address("a")) as client:
                network.shape("home", "a", Impairment(delay_ms=30))
                trip = Pair(network, client).trip_ms()
                assert trip is not None
                assert trip >= 60
        homes = {network.address("home") for network in (one, other)}
        assert homes <= _addresses()
    wait_until("their devices go", lambda: not homes & _addresses(), LIMIT_S)


def _addresses() -> set[str]:
    """Of this machine's devices."""
    return {entry.address for entries in psutil.net_if_addrs().values() for entry in entries}


def test_nothing_is_left_when_its_user_is_killed() -> None:
    code = (
        "import subprocess, time\n"
        "from skyfog_pool.children import ENDS_WITH_US\n"
        "from skyfog_pool.provider.netem.network import Network\n"
        "network = Network(['robot', 'a'])\n"
        "inside = subprocess.Popen([*ENDS_WITH_US, *network.inside('a'), 'sleep', '60'])\n"
        "print('ready', network.pid, inside.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    named = set(Path("/run/netns").glob("*"))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        word, *pids = user.stdout.readline().split()
        assert word == "ready"
        ours = Path("/proc/self/ns/net").readlink()
        wait_until("it is inside", lambda: Path(f"/proc/{pids[1]}/ns/net").readlink() != ours, LIMIT_S)
        user.send_signal(signal.SIGKILL)
    try:
        wait_until("its processes end", lambda: not any(_alive(pid) for pid in pids), LIMIT_S)
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    assert set(Path("/run/netns").glob("*")) == named


def _alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_where_it_is_not_permitted_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skyfog_pool.provider.netem.network.os.geteuid", lambda: 1000)
    began = time.monotonic()
    with pytest.raises(NetworkError, match="need root"):
        Network(["robot"])
    assert time.monotonic() - began < LIMIT_S


SINK = f"""
import socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
    there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    there.bind(("0.0.0.0", {PORT}))
    print("ready", flush=True)
    there.settimeout(10.0)
    came = []
    while not came or came[-1][1]:
        data = there.recv(2048)
        came.append((time.monotonic_ns(), int(data[:8])))
    print(came[:-1], flush=True)
"""
BLAST = f"""
import socket, sys, time
print("ready", flush=True)
begins, gap, count = (int(word) for word in sys.stdin.readline().split())
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
    for number in range(count, -1, -1):
        time.sleep(max(0, begins + (count - number) * gap - time.monotonic_ns()) / 1e9)
        here.sendto(b"%08d" % number + bytes(1464), (sys.argv[1], {PORT}))
"""  # 1,472 bytes and 28 of headers: one opportunity each
COUNT = 500
LATE_MS = 20.0  # at most, for nine of ten packets: this machine may be busy


@pytest.mark.alone
def test_packets_leave_at_the_opportunities_of_a_trace(tmp_path: Path) -> None:
    """A blast of 3 Mbit/s on a link of about 2 with a hole of 300 ms in it."""
    path = tmp_path / "link.up"
    path.write_text("".join(f"{ms}\n" for ms in range(6, 1_800, 6) if not 500 < ms < 800))
    trace = read(path)
    with (
        Network(["robot", "a"]) as network,
        _python(network.inside("a"), SINK) as sink,
        _python(network.inside("robot"), BLAST, network.address("a")) as blast,
    ):
        begins_ns = time.monotonic_ns() + 2_000 * MS  # the link is there by then
        how = Impairment(delay_ms=15, trace=str(path), trace_begins_ns=begins_ns, queue_ms=10_000)
        network.shape("robot", "a", how, both=False)
        blast.communicate(f"{begins_ns} {4 * MS} {COUNT}\n", timeout=LIMIT_S)
        assert sink.stdout is not None
        came = json.loads(sink.stdout.readline().replace("(", "[").replace(")", "]"))
        carried, dropped, carried_bytes = network.counts()["robot>a"]
    assert [number for _, number in came] == list(range(COUNT, 0, -1))
    assert (carried, dropped, carried_bytes) == (COUNT + 1, 0, (COUNT + 1) * 1_500)
    first = trace.first(0)
    late_ms = sorted(
        (at_ns - begins_ns - trace.time_ns(first + turn)) / MS - 15 for turn, (at_ns, _) in enumerate(came)
    )
    assert late_ms[0] >= 0
    assert late_ms[COUNT * 9 // 10] < LATE_MS


def test_a_trace_that_cannot_be_read_leaves_the_network_as_it_was(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="gone"):
        pair.network.shape("robot", "a", Impairment(trace=str(tmp_path / "gone.up")))
    assert pair.trip_ms() is not None
