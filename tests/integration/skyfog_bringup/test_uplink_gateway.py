"""Gateway processes between cars and replicas on 127.0.0.1: frames of all sizes; gateways that die, freeze, leave."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("zenoh", reason="eclipse-zenoh is not installed")

import zenoh
from integration.skyfog_router.ends import LocalReplica, RemoteReplica

from skyfog_core.config.router import TlsConfig, ZenohConfig
from skyfog_core.config.uplink import LinkConfig
from skyfog_core.errors import Status
from skyfog_core.ports import free_tcp_port
from skyfog_core.wire.keys import UplinkKeys
from skyfog_router import certs
from support.processes import Process, Processes, wait_until
from support.uplink_end import LIMIT_S, Car

KEYS = UplinkKeys("test")
CDR = b"\x00\x01\x00\x00"
SIZES = [1_000, 20_000, 1_000_000]


def free_endpoint(protocol: str = "tcp") -> str:
    return f"{protocol}/127.0.0.1:{free_tcp_port()}"


class Gateway:
    """One gateway's process, and where it is found."""

    def __init__(self, name: str, protocol: str, tls: dict[str, TlsConfig]) -> None:
        self.name = name
        self.cars, self.fleet = free_endpoint(protocol), free_endpoint()
        self.metrics = f"127.0.0.1:{free_tcp_port()}"
        self._tls = tls
        self.process: Process | None = None

    def start(self, processes: Processes, folder: Path, **settings: Any) -> None:
        values = {
            "fleet": "test",
            "name": self.name,
            "services": {"/echo": {"deadline_ms": 60_000}},  # the budget is each frame's own
            "cars": {"listen": [self.cars], "tls": self._tls["gateway"].model_dump()},
            "zenoh": {"listen": [self.fleet]},
            "metrics_listen": self.metrics,
            "load_report_ms": 0,
            **settings,
        }
        file = folder / f"{self.name}.yaml"
        file.write_text(yaml.safe_dump(values))
        env = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        arguments = ("-m", "skyfog_bringup.uplink_gateway", "--config", str(file))
        self.process = processes.python(self.name, *arguments, env=env)
        self.process.wait_for("ready:")

    def freeze(self) -> None:
        assert self.process is not None
        self.process.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.popen.pid, os.WSTOPPED | os.WNOWAIT)

    def kill(self) -> None:
        assert self.process is not None
        self.process.signal(signal.SIGKILL)
        self.process.exit_status()

    def count(self, event: str) -> float:
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=LIMIT_S) as found:
            lines = found.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if f'event="{event}"' in line)


class World:
    """Gateways, cars and replicas of one test."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack, self._folder = stack, folder
        self._processes = stack.enter_context(Processes(folder))
        self._tls: dict[str, TlsConfig] = dict.fromkeys(("car", "gateway"), TlsConfig())
        self.gateways: list[Gateway] = []

    def certificates(self) -> None:
        now = datetime.now(UTC)
        certs.make_ca("test", self._folder, now)
        for role in self._tls:
            made = certs.issue(role, "m", self._folder, now)
            ca = str(self._folder / "ca.pem")
            self._tls[role] = TlsConfig(ca=ca, certificate=str(made.certificate), key=str(made.key))

    def gateway(self, name: str = "g0", protocol: str = "tcp", **settings: Any) -> Gateway:
        made = Gateway(name, protocol, self._tls)
        made.start(self._processes, self._folder, **settings)
        self.gateways.append(made)
        return made

    def again(self, gateway: Gateway) -> None:
        gateway.start(self._processes, self._folder)

    def replica(self, echoes: bool = True) -> LocalReplica:
        """Seen by all gateways that are there."""
        link = ZenohConfig(connect=[gateway.fleet for gateway in self.gateways])
        return self._stack.enter_context(closing(LocalReplica(link, "0", echoes)))

    def remote(self, kind: str) -> RemoteReplica:
        """In a process of its own, of the first gateway."""
        return self._stack.enter_context(closing(RemoteReplica(self.gateways[0].fleet, "0", kind)))

    def car(self, name: str = "car", **how: Any) -> Car:
        connect = [gateway.cars for gateway in self.gateways]
        config = LinkConfig(connect=connect, tls=self._tls["car"], silent_ms=3_000)  # a busy gateway is not silent
        return self._stack.enter_context(closing(Car(config, name, **how)))

    def pair(self, echoes: bool) -> tuple[LocalReplica, Car]:
        """A replica and a car of two gateways."""
        self.gateway("g0")
        self.gateway("g1")
        return self.replica(echoes), self.car()

    def taken_first(self, car: Car) -> tuple[Gateway, Gateway]:
        """The gateway that a car takes, and the other one."""
        taken = car.wait_for("g0", "g1")
        first, second = sorted(self.gateways, key=lambda gateway: gateway.name != taken)
        return first, second


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack, tmp_path)


def request(size: int) -> bytes:
    return CDR + os.urandom(size - len(CDR))


@pytest.mark.parametrize("protocol", ["tcp", "tls", "quic"])
def test_frames_of_all_sizes_are_answered(world: World, protocol: str) -> None:
    if protocol != "tcp":
        world.certificates()
    world.gateway(protocol=protocol)
    replica, car = world.replica(), world.car()
    car.wait_for("g0")
    for size in SIZES:
        frame = request(size)
        answer, payload = car.answer(car.send(frame))
        assert (answer.status, answer.replica, payload) == (Status.OK, str(replica.who), frame)
        assert answer.cloud_us >= answer.service_us


def test_two_cars_get_their_own_answers(world: World) -> None:
    world.gateway()
    world.replica()
    cars = [world.car("one"), world.car("two")]
    for car in cars:
        car.wait_for("g0")
    frames = [request(30_000) for _ in range(40)]
    asked = [(car := cars[i % 2], car.send(frame), frame) for i, frame in enumerate(frames)]
    for car, number, frame in asked:
        assert car.answer(number)[1] == frame


def test_a_frame_of_another_type_or_service_or_too_large_is_refused_with_the_reason(world: World) -> None:
    world.gateway(max_frame_bytes=50_000)
    world.replica()
    cases = {
        "type hash": world.car("a", type_hash=b"x" * 32),
        "no service /other": world.car("b", service="/other"),
        "at most 50000": world.car("c"),
    }
    for why, car in cases.items():
        car.wait_for("g0")
        answer, payload = car.answer(car.send(request(60_000 if why.startswith("at most") else 1_000)))
        assert (answer.status, payload) == (Status.NOT_EXECUTED, b"")
        assert why in answer.message


def test_a_frame_whose_budget_is_over_is_answered_so(world: World) -> None:
    world.gateway()
    frozen, car = world.remote("hold"), world.car()
    car.wait_for("g0")
    car.send(request(1_000), budget_ms=60_000)
    assert frozen.lines.get(timeout=2 * LIMIT_S) == "start"
    frozen.freeze()  # else it says itself, at the same time, that the budget is over
    number = car.send(request(1_000), budget_ms=500)
    assert car.answer(number)[0].status is Status.DEADLINE_EXCEEDED


def test_a_killed_gateways_car_goes_on_with_another(world: World) -> None:
    replica, car = world.pair(echoes=False)
    taken, other = world.taken_first(car)
    car.send(request(10_000))
    replica.service.started.get(timeout=LIMIT_S)
    taken.kill()
    car.wait_for(other.name)
    frame = request(10_000)
    number = car.send(frame)
    for _ in range(2):
        replica.service.finish()
    assert car.answer(number)[1] == frame


def test_a_frozen_gateways_car_goes_on_with_another_and_never_blocks(world: World) -> None:
    _, car = world.pair(echoes=True)
    taken, other = world.taken_first(car)
    taken.freeze()
    sent = threading.Event()

    def flood() -> None:
        for _ in range(400):
            car.chunk(bytes(8_192), frame=10**6)
        sent.set()

    threading.Thread(target=flood, daemon=True).start()
    assert sent.wait(LIMIT_S), "sending blocks"
    car.wait_for(other.name)
    frame = request(10_000)
    assert car.answer(car.send(frame))[1] == frame


def test_a_car_finds_its_only_gateway_again_after_a_restart(world: World) -> None:
    gateway = world.gateway()
    world.replica()
    car = world.car()
    car.wait_for("g0")
    gateway.kill()
    car.wait_for("")
    assert not car.ping()
    world.again(gateway)
    car.wait_for("g0")
    wait_until("an answer", lambda: car.answer(car.send(request(1_000)))[0].status is Status.OK)


def test_a_gateway_that_ends_drops_its_token_first_and_answers_what_is_open(world: World) -> None:
    gateway = world.gateway()
    replica, car = world.replica(echoes=False), world.car()
    car.wait_for("g0")
    frame = request(100_000)
    number = car.send(frame)
    replica.service.started.get(timeout=LIMIT_S)
    assert gateway.process is not None
    gateway.process.signal(signal.SIGTERM)
    car.wait_for("")
    replica.service.finish()
    assert car.answer(number)[1] == frame
    assert gateway.process.exit_status() == 0


def test_junk_on_the_keys_is_counted_and_nothing_else(world: World) -> None:
    gateway = world.gateway()
    world.replica()
    car = world.car()
    car.wait_for("g0")
    config = zenoh.Config()
    for key, value in {"connect/endpoints": f'["{gateway.cars}"]', "scouting/multicast/enabled": "false"}.items():
        config.insert_json5(key, value)
    with zenoh.open(config) as stranger:
        junk = [(b"", b""), (None, b"x"), (b"\xff" * 10, b"x"), (os.urandom(5_000), b""), (b"\x92\x02\xc0", b"")]

        def throw() -> bool:
            for beside, payload in junk:
                stranger.put(KEYS.up("g0", "car"), payload, attachment=beside)
                stranger.put(KEYS.down("car", "g0"), payload, attachment=beside)
            return gateway.count("strange") >= len(junk) and car.link.strange.total() > 0

        wait_until("junk is counted", throw)
        stranger.put(KEYS.up("g0", "car"), bytes(8 << 20))
        car.chunk(bytes(65_537), frame=10**6)
    frame = request(10_000)
    assert car.answer(car.send(frame))[1] == frame
    with pytest.raises(queue.Empty):
        car.answers.get_nowait()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"services": {}}, "services"),
        ({"cars": {"listen": ["tcp/nowhere"]}}, "nowhere"),
        ({"nmae": "x"}, "name"),
        ({}, "no car could ever come"),
    ],
)
def test_a_wrong_config_is_refused_with_what_is_wrong(tmp_path: Path, settings: dict[str, Any], named: str) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(yaml.safe_dump({"services": {"/echo": {}}, "cars": {}, **settings}))
    env = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with Processes(tmp_path) as processes:
        wrong = processes.python("wrong", "-m", "skyfog_bringup.uplink_gateway", "--config", str(file), env=env)
        assert wrong.exit_status() == 2
        assert "skyfog uplink gateway: " in wrong.output
        assert named in wrong.output
