"""The controller's end of runners, against servers that behave badly, in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from skyfog_core.config.pool import ReadinessProbe
from skyfog_pool import report
from skyfog_pool.runners import RunnerWatch, make_client

LIMIT_S = 60.0  # many connections are seconds of processor time, which others may want too
MANY = 150
Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


class Heard:
    """What a watch tells."""

    def __init__(self) -> None:
        self.probes: dict[int, tuple[bool, str]] = {}
        self.came = asyncio.Event()

    def on_status(self, replica: int, status: report.Status) -> None:
        pass

    def on_probe(self, replica: int, ok: bool, why: str) -> None:
        self.probes[replica] = ok, why
        self.came.set()


@contextlib.asynccontextmanager
async def watched(count: int, probe: ReadinessProbe, answer: Answer) -> AsyncIterator[Heard]:
    """So many replicas at one server, which holds every long poll."""
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                await (asyncio.Event().wait() if "/status" in head else answer(head, writer))

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=2 * MANY)
    endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    heard = Heard()
    client = make_client()
    watches = [RunnerWatch(client, each, endpoint, lambda _replica: (probe, True), heard) for each in range(count)]
    try:
        yield heard
    finally:
        await asyncio.gather(*(watch.close() for watch in watches))
        await client.aclose()
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def until(heard: Heard, holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not holds():
            heard.came.clear()
            await heard.came.wait()


async def ready(_head: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    await writer.drain()


async def without_end(_head: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\n.\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


def test_long_polls_of_many_replicas_leave_their_probes_room() -> None:
    """An update may make them many more than there were at the controller's start."""

    async def play() -> None:
        probe = ReadinessProbe(timeout_seconds=LIMIT_S / 2)
        async with watched(MANY, probe, ready) as heard:
            await until(heard, lambda: sum(ok for ok, _ in heard.probes.values()) == MANY)

    asyncio.run(play())


def test_an_answer_that_never_ends_is_none() -> None:
    async def play() -> None:
        probe = ReadinessProbe(path="/events", timeout_seconds=0.3, endpoint_probe_interval_seconds=0.1)
        async with watched(1, probe, without_end) as heard:
            await until(heard, lambda: 0 in heard.probes)
            assert heard.probes[0] == (False, "/events: no answer within 0.3 s")

    asyncio.run(play())
