"""The controller's shell in this process: a cloud in memory, and runners that are a small HTTP server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest

from skyfog_core.config.pool import ServiceSpec
from skyfog_core.ports import free_tcp_port
from skyfog_core.wire.keys import ReplicaKey
from skyfog_pool.calls import Calls
from skyfog_pool.controller import Controller
from skyfog_pool.fleet import FleetListener, OpenFleet
from skyfog_pool.folders import Folder, Held, Lock
from skyfog_pool.metrics import serve
from skyfog_pool.policy.market import Prices
from skyfog_pool.provider.base import Misconfigured, Unavailable
from skyfog_pool.provider.table import Timing
from skyfog_pool.spec import runs_hash, to_store
from skyfog_pool.store import Store
from support.fake_cloud import FakeCloud, FakeProvider
from support.pool_world import spec_of

FAST = Timing(0.05, 0.01, 0.1, 0.5, 0.5, 0.2)
LIMIT_S = 20.0


class Runner(BaseHTTPRequestHandler):
    """Of every replica: ready, and drained as soon as it is told."""

    protocol_version = "HTTP/1.1"
    drained = False
    drains: list[str] = []

    def do_GET(self) -> None:
        if self.path.startswith("/status"):
            phase = "drained" if type(self).drained else "ready"
            if "after=1" in self.path:
                time.sleep(0.05)  # a long poll, shortened
            self._answer(200, json.dumps({"change": 1, "phase": phase}).encode())
        else:
            self._answer(200, b"ok")

    def do_POST(self) -> None:
        type(self).drains.append(self.path)
        self._answer(202, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """That a client went away is no news."""

    def handle_error(self, *_: object) -> None:
        pass


@pytest.fixture
def runner() -> Iterator[str]:
    Runner.drained, Runner.drains = False, []
    server = Server(("127.0.0.1", 0), Runner)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


class Pool:
    """A pool's folder, and its cloud."""

    def __init__(self, folder: Path, runner: str) -> None:
        self.folder = Folder(folder / "detect")
        self.cloud = FakeCloud(now_s=time.time, endpoint=lambda _order, _id: runner)
        self.hangs = threading.Event()
        self.hangs.set()  # goes on
        self.misconfigured = ""
        self.give(spec_of())

    def give(self, spec: ServiceSpec, wish: str = "up") -> None:
        with contextlib.closing(Store(self.folder.store)) as store, store.transaction():
            store.set_meta("wish", wish)
            if store.revisions() == [] or store.revisions()[-1].spec != to_store(spec):
                store.add_revision(runs_hash(spec), to_store(spec), "test", 0.0)

    def make(self, spec: ServiceSpec, pool: str) -> FakeProvider:
        if self.misconfigured or spec.envs.get("BROKEN"):
            raise Misconfigured(self.misconfigured or "fake: broken")
        return Hanging(self)

    @contextlib.asynccontextmanager
    async def running(self, open_fleet: OpenFleet | None = None) -> AsyncIterator[Controller]:
        controller = Controller(self.folder, open_fleet, make=self.make, timing=FAST)
        task = asyncio.create_task(controller.run())
        try:
            yield controller
        finally:
            controller.stop()
            self.hangs.set()
            await asyncio.wait_for(task, LIMIT_S)


class Hanging(FakeProvider):
    """Its calls do not return while the pool's `hangs` is not set."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool.cloud)
        self._pool = pool

    def _call(self, name: str) -> None:
        super()._call(name)
        if name != "close":
            self._pool.hangs.wait(LIMIT_S)


async def until(what: str, holds: Callable[[], bool]) -> None:
    async def poll() -> None:
        while not holds():  # noqa: ASYNC110  # what is waited for is no event of this loop
            await asyncio.sleep(0.02)

    try:
        await asyncio.wait_for(poll(), LIMIT_S)
    except TimeoutError:
        raise TimeoutError(what) from None


def ready(controller: Controller) -> int:
    return sum(each["state"] == "READY" for each in controller.document.get("replicas", []))


@pytest.fixture
def pool(tmp_path: Path, runner: str) -> Pool:
    return Pool(tmp_path, runner)


def test_from_nothing_to_ready_and_down_with_drains(pool: Pool) -> None:
    async def play() -> None:
        async with pool.running() as controller:
            await until("3 ready", lambda: ready(controller) == 3)
            assert len(pool.cloud.alive) == 3
            Runner.drained = True
            pool.give(spec_of(), "down")
            await until("down", lambda: not pool.cloud.alive and controller.keeper.is_down)

    asyncio.run(play())
    assert len(Runner.drains) == 3
    assert all(path.startswith("/drain?within_s=2") for path in Runner.drains)
    trace = [json.loads(line) for line in pool.folder.trace.read_text().splitlines()]
    assert {"launch", "state", "drain", "down"} <= {event["event"] for event in trace}


def test_a_provider_that_hangs_stops_nothing_and_the_end_does_not_wait_for_it(pool: Pool) -> None:
    async def play() -> None:
        async with pool.running() as controller:
            await until("3 ready", lambda: ready(controller) == 3)
            pool.hangs.clear()
            await until("the trouble", lambda: "no answer within" in controller.document["trouble"])
            assert ready(controller) == 3
            pool.hangs.set()
            await until("the end of it", lambda: not controller.document["trouble"])
            assert len(pool.cloud.alive) == 3
            pool.hangs.clear()
            began = time.monotonic()
            controller.stop()
            await asyncio.sleep(0)
        assert time.monotonic() - began < LIMIT_S / 2

    asyncio.run(play())


def test_launches_that_hang_come_to_one_machine_each(pool: Pool) -> None:
    """The call that was given up goes on, and so does the one that is made in its place."""

    async def play() -> None:
        async with pool.running() as controller:
            await until("a listing", lambda: controller.document.get("has_begun", False))
            await until("3 ready", lambda: ready(controller) == 3)
            slow = iter([0.7, 0.7])  # longer than a launch may take
            pool.cloud.on_launch = lambda _order: time.sleep(next(slow, 0.0))
            pool.cloud.preempt(pool.cloud.alive[0].id)
            await until("3 ready again", lambda: ready(controller) == 3 and len(pool.cloud.alive) == 3)
            tokens = [machine.token for machine in pool.cloud.alive]
            assert len(tokens) == len(set(tokens))

    asyncio.run(play())


def test_a_provider_that_cannot_be_made_is_said_and_tried_again(pool: Pool) -> None:
    pool.misconfigured = "fake: no credentials: set FAKE_KEY"

    async def play() -> None:
        controller = Controller(pool.folder, make=pool.make, timing=FAST)
        task = asyncio.create_task(controller.run())
        await until("it is said", pool.folder.status.exists)
        assert "set FAKE_KEY" in json.loads(pool.folder.status.read_text())["trouble"]
        pool.misconfigured = ""
        await until("3 ready", lambda: ready(controller) == 3)
        controller.stop()
        await asyncio.wait_for(task, LIMIT_S)

    asyncio.run(play())


def test_one_that_waits_for_its_provider_ends_when_it_is_told_to(pool: Pool) -> None:
    pool.misconfigured = "fake: no credentials: set FAKE_KEY"

    async def play() -> None:
        controller = Controller(pool.folder, make=pool.make, timing=FAST)
        task = asyncio.create_task(controller.run())
        await until("it is said", pool.folder.status.exists)
        controller.stop()
        await asyncio.wait_for(task, LIMIT_S)

    asyncio.run(play())
    with Lock(pool.folder):
        pass


def test_an_update_whose_provider_cannot_be_made_keeps_nobody_from_the_next(pool: Pool) -> None:
    async def play() -> None:
        async with pool.running() as controller:
            await until("3 ready", lambda: ready(controller) == 3)
            pool.give(spec_of(envs={"BROKEN": "1"}))
            await until("the trouble", lambda: "fake: broken" in controller.document["trouble"])
            assert ready(controller) == 3
            pool.give(spec_of(policy={"min_replicas": 4}))
            await until("4 ready", lambda: ready(controller) == 4)
            pool.give(spec_of(envs={"BROKEN": "2"}))
            await until("the trouble again", lambda: "fake: broken" in controller.document["trouble"])
            Runner.drained = True
            pool.give(spec_of(envs={"BROKEN": "2"}), "down")
            await until("down", lambda: not pool.cloud.alive and controller.keeper.is_down)

    asyncio.run(play())


def test_a_wrong_file_at_the_start_is_mended_by_the_next(pool: Pool) -> None:
    pool.give(spec_of(envs={"BROKEN": "1"}))

    async def play() -> None:
        async with pool.running() as controller:
            await until("it is said", pool.folder.status.exists)
            assert "fake: broken" in pool.folder.status.read_text()
            pool.give(spec_of())
            await until("3 ready", lambda: ready(controller) == 3)
            assert not controller.document["trouble"]

    asyncio.run(play())


def test_an_update_of_the_service_is_watched_where_it_is(pool: Pool) -> None:
    """The fleet's network tells of tokens by service: replicas of the new one are never ready by the old one's."""
    opened: list[tuple[str, str]] = []

    class Watch:
        def __init__(self, spec: ServiceSpec, service: str, listener: FleetListener) -> None:
            opened.append(("open", service))
            self._service = service
            for replica in range(1, 20):
                newer = replica > 3  # the first three are of the first version
                if newer == (service == "/newer"):
                    listener.on_token(ReplicaKey("zone-a", f"detect-{replica}"), True)

        def links(self) -> int:
            return 1

        def close(self) -> None:
            opened.append(("close", self._service))

    def give(service: str) -> None:
        pool.give(spec_of(skyfog={"service": service, "connect": ["tcp/127.0.0.1:1"]}))

    async def play() -> None:
        async with pool.running(Watch) as controller:
            await until("3 ready", lambda: ready(controller) == 3)
            Runner.drained = True  # what is told to drain has
            give("/newer")
            await until(
                "3 of the newer version",
                lambda: (
                    [each["version"] for each in controller.document["replicas"] if each["state"] == "READY"]
                    == [controller.keeper.wishes.revision.version] * 3
                    and controller.keeper.wishes.spec.skyfog.service == "/newer"
                ),
            )

    give("/older")
    asyncio.run(play())
    assert opened == [("open", "/older"), ("close", "/older"), ("open", "/newer"), ("close", "/newer")]


def test_prometheus_reads_states_costs_and_counts(pool: Pool) -> None:
    port = free_tcp_port()

    def scrape() -> str:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    async def play() -> str:
        async with pool.running() as controller:
            with serve(f"127.0.0.1:{port}", lambda: controller.document):
                await until("3 ready", lambda: ready(controller) == 3)
                pool.cloud.prices["zone-a"] = Prices(0.2, 0.5)
                victim = next(machine for machine in pool.cloud.alive if machine.zone == "zone-a")
                pool.cloud.preempt(victim.id)
                await until("a preemption", lambda: bool(controller.document["counts"].get("preempted")))
                await until("3 ready again", lambda: ready(controller) == 3)
                return await asyncio.to_thread(scrape)

    text = asyncio.run(play())
    assert 'skyfog_pool_replicas{market="spot",pool="detect",state="READY",zone="zone-b"} ' in text
    assert 'skyfog_pool_target{pool="detect"} 3.0' in text
    assert 'skyfog_pool_launches_total{pool="detect"} 4.0' in text
    assert 'skyfog_pool_preemptions_total{pool="detect"} 1.0' in text
    assert 'skyfog_pool_cost_usd_total{pool="detect"} ' in text


def test_calls_are_bounded_and_what_hangs_is_given_up() -> None:
    go_on = threading.Event()

    async def play() -> None:
        calls = Calls(2)
        assert await calls(LIMIT_S, int, 7) == 7
        with pytest.raises(ValueError, match="bad"):
            await calls(LIMIT_S, _raise, ValueError("bad"))
        for _ in range(2):
            with pytest.raises(Unavailable, match=r"no answer within 0\.05 s"):
                await calls(0.05, go_on.wait, LIMIT_S)
        with pytest.raises(Unavailable):  # both threads hang: a third is not begun
            await calls(0.05, int, 7)
        go_on.set()
        await until("free again", lambda: calls._free._value == 2)
        assert await calls(LIMIT_S, int, 7) == 7

    asyncio.run(play())


def _raise(error: Exception) -> None:
    raise error


def test_one_controller_a_pool(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "detect")
    assert folder.controller() is None
    with Lock(folder):
        assert folder.controller() is not None
        with pytest.raises(Held, match="has a controller already: process"):
            Lock(folder)
    assert folder.controller() is None
    with Lock(folder):
        pass
