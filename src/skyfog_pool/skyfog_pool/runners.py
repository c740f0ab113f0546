"""The controller's end of replicas' runners (report.py): one long poll and one probe loop each, and the drain."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Protocol

import httpx
import msgspec

from skyfog_core.config.pool import ReadinessProbe
from skyfog_pool import report

POLL_S = 20.0  # a runner answers a long poll by then
POLL_MARGIN_S = 5.0
CONNECT_S = 3.0
PAUSE_S = 0.5  # after a poll that failed
STARTING_PROBE_S = 1.0  # between probes of a replica that has not been ready yet
MAX_STATUS_BYTES = 65_536
DRAIN_TRIES = 3
_decoder = msgspec.json.Decoder(report.Status)


class Listener(Protocol):
    """Told in the event loop."""

    def on_status(self, replica: int, status: report.Status) -> None: ...
    def on_probe(self, replica: int, ok: bool, why: str) -> None: ...


def make_client() -> httpx.AsyncClient:
    """For all runners: two connections each, and a third for a drain, however many an update makes them."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    # Neither proxies of the environment nor redirects stand between us and a runner.
    return httpx.AsyncClient(limits=limits, trust_env=False, timeout=CONNECT_S)


class RunnerWatch:
    """Follows one replica until cancelled."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        replica: int,
        endpoint: str,
        probe: Callable[[int], tuple[ReadinessProbe, bool]],  # as it is now, and whether the replica was ever ready
        listener: Listener,
    ) -> None:
        self._client, self._replica, self.endpoint = client, replica, endpoint
        self._probe, self._listener = probe, listener
        self._poke = asyncio.Event()  # its phase changed: probe now
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._probe_loop())]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self) -> None:
        change, boot = -1, None
        while True:
            try:
                answer = await self._client.get(
                    f"{self.endpoint}/status",
                    params={"after": change, "wait_s": POLL_S},
                    timeout=httpx.Timeout(CONNECT_S, read=POLL_S + POLL_MARGIN_S),
                )
                answer.raise_for_status()
                status = _decoder.decode(answer.content[:MAX_STATUS_BYTES])
            except (httpx.HTTPError, msgspec.DecodeError):
                change = -1
                await asyncio.sleep(PAUSE_S)
                continue
            if status.change != change or status.boot != boot:
                change, boot = status.change, status.boot
                self._listener.on_status(self._replica, status)
                self._poke.set()

    async def _probe_loop(self) -> None:
        while True:
            probe, was_ready = self._probe(self._replica)
            ok, why = await self._ask(probe)
            self._listener.on_probe(self._replica, ok, why)
            interval_s = probe.endpoint_probe_interval_seconds
            await self._pause(interval_s if was_ready else min(interval_s, STARTING_PROBE_S))

    async def _ask(self, probe: ReadinessProbe) -> tuple[bool, str]:
        url = f"{self.endpoint}{probe.path}"
        headers = dict(probe.headers or {})
        method, data = "GET", None
        if probe.post_data is not None:
            method, data = "POST", probe.post_data if isinstance(probe.post_data, str) else json.dumps(probe.post_data)
            headers.setdefault("Content-Type", "application/json")
        try:
            # The whole of it: httpx's own limit begins anew with each piece of an answer.
            async with asyncio.timeout(probe.timeout_seconds):
                answer = await self._client.request(method, url, headers=headers, content=data, timeout=None)
        except TimeoutError:
            return False, f"{probe.path}: no answer within {probe.timeout_seconds:g} s"
        except (httpx.HTTPError, ValueError) as error:
            return False, f"{probe.path}: {type(error).__name__}{f': {error}' if str(error) else ''}"
        return answer.status_code == 200, f"{probe.path}: HTTP {answer.status_code}"

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._poke.wait()
        self._poke.clear()


async def drain(client: httpx.AsyncClient, endpoint: str, within_s: float) -> str:
    """Tell a replica to drain; returns why it was not heard, or nothing."""
    why = ""
    for _ in range(DRAIN_TRIES):
        try:
            answer = await client.post(f"{endpoint}/drain", params={"within_s": within_s}, timeout=CONNECT_S)
        except httpx.HTTPError as error:
            why = f"{type(error).__name__}: {error}"
        else:
            if answer.is_success:
                return ""
            why = f"HTTP {answer.status_code}"
        await asyncio.sleep(PAUSE_S)
    return why
