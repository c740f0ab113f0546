"""SkyPilot's own placer and autoscaler as a pool of the replay: they run in their environment, on the replay's clock.

They are asked every 20 s, as in SkyPilot; ticks before which nothing happened are left out, since the target is fixed
and the answer to the same state is the same. What happens between ticks they hear of at the next one. They know no
notices. A replica is drained as ours are, where SkyPilot would keep its machine for another 120 s.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from skyfog_bench.baselines import __file__ as baselines_file
from skyfog_bench.processes import BenchError
from skyfog_core.units import S
from skyfog_pool.policy.actions import Action, Drain, Launch, Terminate
from skyfog_pool.policy.market import LaunchFault, Market, Notice, Prices
from skyfog_pool.policy.view import Load

TICK_NS = 20 * S  # AUTOSCALER_DEFAULT_DECISION_INTERVAL_SECONDS
ANSWER_LIMIT_S = 60.0  # the first one after 4 s of imports
DRAIN_NS = 30 * S
SCRIPT = Path(baselines_file).parent / "skyserve.py"


class SkyPilotPool:
    """A pool's policy in another process. Use as a context, which ends the process."""

    def __init__(self, python: Path, prices: Mapping[str, tuple[str, Prices]], target: int, over: int) -> None:
        """`prices`: region and prices of each zone; SkyPilot takes those of its catalogue once."""
        self.target = target
        self._zone_of_on_demand = min(prices, key=lambda zone: prices[zone][1].on_demand)
        self._events: list[tuple[str, int]] = []
        self._ready: dict[int, bool] = {}  # by replica that is there: whether it takes requests
        self._next_ns: int | None = 0
        self._home = tempfile.TemporaryDirectory(prefix="skypilot-")  # it writes below HOME
        environment = {**os.environ, "HOME": self._home.name, "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
        self._log = (Path(self._home.name) / "log").open("w+")
        self._process = subprocess.Popen(
            [str(python), str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="skypilot", daemon=True).start()
        zones = [
            {"name": zone, "region": region, "price": offer.spot} for zone, (region, offer) in sorted(prices.items())
        ]
        self._send({"zones": zones, "target": target, "over": over})

    def __enter__(self) -> SkyPilotPool:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                stream.close()
        self._home.cleanup()

    # events

    def on_prices(self, prices: Mapping[str, Prices], now_ns: int) -> list[Action]:
        return []

    def on_provisioning(self, replica: int, now_ns: int) -> list[Action]:
        return []

    def on_started(self, replica: int, now_ns: int) -> list[Action]:
        return self._happened("started", replica, now_ns)

    def on_ready(self, replica: int, now_ns: int) -> list[Action]:
        self._ready[replica] = True
        return self._happened("ready", replica, now_ns)

    def on_notice(self, replica: int, notice: Notice, now_ns: int) -> list[Action]:
        return []

    def on_preempted(self, replica: int, now_ns: int) -> list[Action]:
        return self._ended("preempted", replica, now_ns)

    def on_launch_failed(self, replica: int, why: LaunchFault, now_ns: int) -> list[Action]:
        return self._ended("failed", replica, now_ns)

    def on_drained(self, replica: int, now_ns: int) -> list[Action]:
        return [Terminate(replica, "drained")]

    def on_terminated(self, replica: int, now_ns: int) -> list[Action]:
        return self._ended("gone", replica, now_ns)

    def on_load(self, load: Load, now_ns: int) -> list[Action]:
        return []

    def next_timer_ns(self) -> int | None:
        return self._next_ns

    def on_timer(self, now_ns: int) -> list[Action]:
        """A tick: everything since the last one, and what they decide."""
        if self._next_ns is None or now_ns < self._next_ns:
            return []
        self._send({"now": now_ns / S, "events": self._events})
        answer = self._answer()
        self._events, self._next_ns = [], None
        actions: list[Action] = []
        for replica, zone in answer["up"]:
            self._ready[replica] = False
            market: Market = "on_demand" if zone is None else "spot"
            actions.append(Launch(replica, zone or self._zone_of_on_demand, market, 1, "SkyPilot's"))
        for replica in answer["down"]:
            actions.append(self._down(replica))
            self._happened("down", replica, now_ns)
        return actions

    # inside

    def _down(self, replica: int) -> Action:
        if self._ready[replica]:
            return Drain(replica, DRAIN_NS, "SkyPilot's")
        return Terminate(replica, "SkyPilot's")

    def _happened(self, what: str, replica: int, now_ns: int) -> list[Action]:
        self._events.append((what, replica))
        if self._next_ns is None:
            self._next_ns = (now_ns // TICK_NS + 1) * TICK_NS
        return []

    def _ended(self, what: str, replica: int, now_ns: int) -> list[Action]:
        if self._ready.pop(replica, None) is None:
            return []
        return self._happened(what, replica, now_ns)

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise self._failed() from None

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _answer(self) -> Mapping[str, Sequence[Any]]:
        try:
            line = self._answers.get(timeout=ANSWER_LIMIT_S)
        except queue.Empty:
            line = ""
        if not line:
            raise self._failed()
        answer: Mapping[str, Sequence[Any]] = json.loads(line)
        return answer

    def _failed(self) -> BenchError:
        self._log.flush()
        self._log.seek(0)
        return BenchError(f"SkyPilot's process gave no answer:\n{self._log.read()[-2_000:]}")
