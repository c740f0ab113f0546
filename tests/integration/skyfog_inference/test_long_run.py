"""2,000 requests of all kinds, many of which go wrong: nothing leaks, and whoever waits for an answer gets it."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from support.faces import CONTEXT, Server, environment, write_tiny
from support.processes import Process, Processes, wait_until

# So many requests take more than a minute and a half of a busy machine.
pytestmark = pytest.mark.timeout(400)

REQUESTS = 2_000
AT_ONCE = 48
TOKENS = 12
HEAD_DIM = 64  # 32 blocks of keys and values are 1 MB: far fewer than AT_ONCE requests want
CLIENTS = 4  # processes that are killed, with
CLIENT_STREAMS = 20  # requests each
GROWTH = 24 << 20  # bytes that the second half may add: arenas of malloc settle late
PROMPTS = [f"Tell me about number {n}: " * (1 + n % 3) for n in range(8)]  # asked again and again, greedily

# A client that asks for many streams and reads them until it is killed.
STREAMS = """
import asyncio, sys, httpx
url, count = sys.argv[1], int(sys.argv[2])
body = {"prompt": "And then", "max_tokens": 200, "ignore_eos": True, "stream": True}
async def one(client):
    async with client.stream("POST", url + "/v1/completions", json=body) as answer:
        async for _ in answer.aiter_bytes():
            print("heard", flush=True)
async def main():
    async with httpx.AsyncClient(timeout=None, limits=httpx.Limits(max_connections=None)) as client:
        while True:
            await asyncio.gather(*(one(client) for _ in range(count)))
asyncio.run(main())
"""


class Run:
    """What was asked, and what came of it."""

    def __init__(self, client: httpx.AsyncClient, seed: int) -> None:
        self._client = client
        self._random = random.Random(seed)
        self.outcomes: Counter[str] = Counter()
        self.texts: dict[str, set[str]] = {}

    async def some(self, count: int) -> None:
        """So many requests, AT_ONCE at a time."""
        numbers = iter(range(count))

        async def work() -> None:
            for _ in numbers:
                await self._one()

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))

    async def _one(self) -> None:
        kinds = (self._whole, self._stream, self._leave, self._cancel, self._too_long, self._wrong)
        (kind,) = self._random.choices(kinds, (50, 20, 10, 10, 6, 4))
        await kind()
        self.outcomes[kind.__name__] += 1

    def _body(self, **fields: Any) -> dict[str, Any]:
        prompt = self._random.choice(PROMPTS)
        given = {"model": "tiny", "prompt": prompt, "temperature": 0, "max_tokens": TOKENS, "ignore_eos": True}
        return given | fields

    async def _whole(self) -> None:
        body = self._body()
        answer = await self._client.post("/v1/completions", json=body)
        found = answer.json()
        assert answer.status_code == 200, found
        assert found["usage"]["completion_tokens"] == TOKENS
        self.texts.setdefault(body["prompt"], set()).add(found["choices"][0]["text"])

    async def _stream(self) -> None:
        body = self._body(stream=True)
        text, lines = "", []
        async with self._client.stream("POST", "/v1/completions", json=body) as answer:
            assert answer.status_code == 200
            lines = [line async for line in answer.aiter_lines() if line]
        assert lines[-1] == "data: [DONE]"
        for line in lines[:-1]:
            text += json.loads(line.removeprefix("data: "))["choices"][0]["text"]
        self.texts.setdefault(body["prompt"], set()).add(text)

    async def _leave(self) -> None:
        """Read a little of a stream and close the connection."""
        body = self._body(stream=True, max_tokens=100, temperature=1)
        async with self._client.stream("POST", "/v1/completions", json=body) as answer:
            heard = 0
            async for _ in answer.aiter_lines():
                heard += 1
                if heard > self._random.randrange(8):
                    break

    async def _cancel(self) -> None:
        """Give up on an answer that is awaited whole."""
        asked = asyncio.ensure_future(self._client.post("/v1/completions", json=self._body(max_tokens=100)))
        await asyncio.wait({asked}, timeout=self._random.random() * 0.1)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)

    async def _too_long(self) -> None:
        answer = await self._client.post("/v1/completions", json=self._body(prompt="x" * (CONTEXT + 5)))
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "context_length_exceeded"

    async def _wrong(self) -> None:
        wrong = self._random.choice([{"max_tokens": 0}, {"temperature": -1}, {"model": "none"}, {"stop": [""]}])
        answer = await self._client.post("/v1/completions", json=self._body(**wrong))
        assert answer.status_code in {400, 404}


def values(url: str) -> dict[str, float]:
    """The series of /metrics without labels of their own."""
    found = {}
    for line in httpx.get(f"{url}/metrics", timeout=60).text.splitlines():
        if line.startswith("skyfog:") and line.partition("{")[2].startswith('model_name="tiny"}'):
            found[line.partition("{")[0].removeprefix("skyfog:")] = float(line.rpartition(" ")[2])
    return found


def under_way(found: dict[str, float]) -> float:
    return found["num_requests_running"] + found["num_requests_waiting"]


def kill_some(processes: Processes, url: str) -> None:
    """Client processes that die in the middle of their streams."""

    def client(index: int) -> Process:
        words = ("-c", STREAMS, url, str(CLIENT_STREAMS))
        return processes.python(f"client-{index}", *words, env=environment())

    for process in [client(index) for index in range(CLIENTS)]:
        process.wait_for("heard")
        process.signal(signal.SIGKILL)


def test_two_thousand_requests_leave_nothing_behind(tmp_path: Path) -> None:
    tiny = write_tiny(tmp_path / "tiny", HEAD_DIM)
    with Processes(tmp_path) as processes:
        server = Server(processes, str(tiny), "--device-kv-mb", "1")
        memory = psutil.Process(server.process.popen.pid).memory_info

        async def half(seed: int) -> Run:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=AT_ONCE)
            async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:
                run = Run(client, seed)
                clients = asyncio.to_thread(kill_some, processes, server.url)
                await asyncio.gather(run.some(REQUESTS // 2), clients)
                return run

        first, middle = asyncio.run(half(1)), memory().rss
        second, end = asyncio.run(half(2)), memory().rss
        wait_until("none is left", lambda: under_way(values(server.url)) == 0)
        found = values(server.url)
        assert server.process.popen.poll() is None
    assert sum((first.outcomes + second.outcomes).values()) == REQUESTS
    assert (under_way(found), found["kv_blocks_used"]) == (0, 0)
    assert found["num_preemptions_total"] > 0
    assert found["prefix_cache_hits_total"] > 0
    for prompt in PROMPTS:  # alone or beside others, preempted or not
        assert len(first.texts[prompt] | second.texts[prompt]) == 1
    assert end - middle < GROWTH
    assert "Traceback" not in server.process.output
