r"""What runs on a replica's machine beside the replica: `python -m skyfog_pool.runner`. Its contract is report.py.

    setting_up --> starting <--> ready --> draining --> drained
         \____________\____________\___________\------> ended      the replica ended by itself

The runner starts SETUP (once a machine) and then COMMAND, both in bash, asks the replica's `/ready` on loopback for its
phase, and passes on every path that is not its own. On a `drain`, or when the cloud tells of an interruption, it sends
the replica `POST /drain`, upon which our replica proxy drops its liveliness token at once and finishes what it has. A
replica without that endpoint is sent SIGTERM instead, as every server stops in order, and is drained when it has ended.
Where ON_NOTICE is `serve`, a replica that is up goes on until DRAIN_S before the machine goes, or until `/drain`.
A rebalance recommendation is only reported: that machine may live on, and who decides has more to go by.

SIGTERM to the runner: drain, SIGTERM to the replica, SIGKILL after GRACE_S to all that it ever started.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import msgspec
import structlog

from skyfog_core.errors import ConfigError
from skyfog_core.logs import configure_logs
from skyfog_pool import children, report
from skyfog_pool.notices import POLL_S as NOTICE_POLL_S
from skyfog_pool.notices import NoticeSource, open_source, watch
from skyfog_pool.policy.doomed import serves_for_s
from skyfog_pool.report import RunnerNotice, RunnerPhase, Status
from skyfog_pool.runner_http import make_app
from skyfog_pool.serving import Server, bind

log = structlog.get_logger()

ASK_LIMIT_S = 5.0  # of a question to the replica
ASK_EVERY_S = 0.25
ASK_BUSY_S = 0.05  # while it drains
KILL_LIMIT_S = 5.0
DRAIN_SHARE = 0.6  # of GRACE_S, at the runner's end
MAX_WAIT_S = 60.0  # of one long poll
DONE = ".skyfog_setup"  # holds what was run as SETUP


@dataclass(frozen=True, slots=True)
class Settings:
    """Of a runner, from its environment."""

    host: str
    port: int
    service_port: int
    command: str
    setup: str
    grace_s: float
    notice_source: str
    notice_poll_s: float
    serves_on: bool  # after an interruption notice
    drain_s: float

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Settings:
        """Raises ConfigError that names the variable."""

        def number(name: str, default: float) -> float:
            try:
                return float(environment.get(name) or default)
            except ValueError:
                raise ConfigError(f"{name}={environment[name]!r} is not a number") from None

        host, _, port = environment.get(report.RUNNER_LISTEN, "127.0.0.1:0").rpartition(":")
        if not host or not port.isdecimal():
            raise ConfigError(f"{report.RUNNER_LISTEN}={environment[report.RUNNER_LISTEN]!r} is not HOST:PORT")
        if not environment.get(report.COMMAND, "").strip():
            raise ConfigError(f"{report.COMMAND} is missing: nothing to run")
        source = environment.get(report.NOTICE_SOURCE) or "none"
        on_notice = environment.get(report.ON_NOTICE) or "drain"
        if on_notice not in {"drain", "serve"}:
            raise ConfigError(f"{report.ON_NOTICE}={on_notice!r} is neither drain nor serve")
        return cls(
            host.strip("[]"),
            int(port),
            int(number(report.SERVICE_PORT, 0)),
            environment[report.COMMAND],
            environment.get(report.SETUP, ""),
            number(report.GRACE_S, 10.0),
            source,
            number(report.NOTICE_POLL_S, NOTICE_POLL_S.get(source, 1.0)),
            on_notice == "serve",
            number(report.DRAIN_S, 30.0),
        )


class Told(msgspec.Struct):
    """What a replica may tell in the body of `/ready`: requests that run and wait, and whether it has finished them."""

    running: int | None = None
    waiting: int = 0
    drained: bool | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Of the replica to `GET /ready`; None: not told."""

    ready: bool = False
    running: int | None = None
    waiting: int | None = None
    drained: bool | None = None


class Runner:
    """State of the replica on this machine, and what changes it. All in one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._status = Status(1, "setting_up", boot=secrets.randbits(53))
        self._gone_s: float | None = None  # steady time at which the machine goes
        self._changed = asyncio.Condition()
        self._child: subprocess.Popen[bytes] | None = None
        self._ended = asyncio.Event()  # the child
        self._tasks: set[asyncio.Task[None]] = set()
        # No proxy: it is on this machine. A replica may take long for what it is asked through us.
        self.http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{settings.service_port}", timeout=ASK_LIMIT_S, trust_env=False
        )

    # what HTTP asks

    async def status(self, after: int, wait_s: float) -> Status:
        """The status, once its change is above `after`, or after `wait_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(wait_s, MAX_WAIT_S)), self._changed:
                await self._changed.wait_for(lambda: self._status.change > after)
        notice = self._status.notice
        if notice is None or self._gone_s is None:
            return self._status
        left = max(0.0, self._gone_s - time.monotonic())
        return msgspec.structs.replace(self._status, notice=RunnerNotice(notice.kind, left))

    def drain(self, within_s: float | None, because: str) -> None:
        """Let the replica finish; a second time changes nothing."""
        if self._status.phase not in {"draining", "drained", "ended"}:
            log.info("draining", because=because)
            self._set(phase="draining", message=because)
            self._start(self._drain(within_s))

    def on_notice(self, notice: RunnerNotice) -> None:
        """The cloud's word; an interruption drains, now or later, whether anybody hears of it or not."""
        log.info("notice", kind=notice.kind, in_s=notice.in_s)
        self._gone_s = None if notice.in_s is None else time.monotonic() + notice.in_s
        self._set(notice=notice)
        if notice.kind == "interruption":
            is_up = self._status.phase in {"starting", "ready"}
            serves_s = serves_for_s(notice.in_s, self._settings.drain_s) if self._settings.serves_on and is_up else 0.0
            if serves_s > 0:
                asyncio.get_running_loop().call_later(serves_s, self._drain_for_notice)
            else:
                self._drain_for_notice()

    def _drain_for_notice(self) -> None:
        left_s = None if self._gone_s is None else max(0.0, self._gone_s - time.monotonic())
        self.drain(left_s, "the cloud takes the machine")

    # the replica

    async def run(self) -> None:
        """Start what is to run, and follow it until it ends. What the machine does not permit ends it, and is said."""
        try:
            await self._run_all()
        except OSError as error:
            log.error("not_run", why=str(error))  # noqa: TRY400  # the message says it
            self._set(phase="ended", message=f"could not be run: {error}")

    async def _run_all(self) -> None:
        if self._settings.setup and not self._is_set_up():
            status = await self._run(self._settings.setup)
            if status != 0 and self._status.phase == "setting_up":
                self._set(phase="ended", exit_status=status, message=f"setup ended with status {status}")
            if status != 0:
                return
            self._note_set_up()
        if self._status.phase != "setting_up":
            self._set(phase="drained")
            return
        self._set(phase="starting")
        self._start(self._follow())
        status = await self._run(self._settings.command)
        self._end_of_replica(status)

    def _end_of_replica(self, status: int) -> None:
        left = self._status.phase in {"draining", "drained"}
        log.info("replica_ended", status=status)
        self._set(
            phase="drained" if left else "ended",
            exit_status=status,
            running=0,
            waiting=0,
            message=self._status.message if left else f"the replica ended with status {status}",
        )

    async def _run(self, command: str) -> int:
        """Run a command in a session of its own. Returns its status."""
        self._ended.clear()
        child = subprocess.Popen(  # noqa: ASYNC220  # takes milliseconds
            [*children.ENDS_WITH_US, "bash", "-c", command], start_new_session=True
        )
        self._child = child
        children.on_exit(child, lambda _: self._ended.set())
        await self._ended.wait()
        return child.wait()

    async def _follow(self) -> None:
        """Ask the replica whether it is ready, and what it has to do, until it ends."""
        while not self._ended.is_set():
            answer = await self._ask()
            phase = self._status.phase
            if phase in {"starting", "ready"}:
                phase = "ready" if answer.ready else "starting"
            if phase != "drained":
                self._set(phase=phase, running=answer.running, waiting=answer.waiting)
            children.reap(self._child)
            await self._ended_within(ASK_EVERY_S)

    async def _ask(self) -> Answer:
        try:
            answer = await self.http.get("/ready")
        except httpx.HTTPError:
            return Answer()
        try:
            told = msgspec.json.decode(answer.content, type=Told)
        except msgspec.MsgspecError:
            return Answer(answer.is_success)
        idle = None if told.running is None else told.running + told.waiting == 0
        return Answer(answer.is_success, told.running, told.waiting, told.drained if told.drained is not None else idle)

    async def _ended_within(self, limit_s: float) -> bool:
        """Whether the child has ended, within so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, limit_s)):
                await self._ended.wait()
        return self._ended.is_set()

    async def _drain(self, within_s: float | None) -> None:
        """Nothing is killed here: who gives the machine back decides when."""
        if self._child is None or self._child.poll() is not None:
            self._set(phase="drained")
            return
        until = None if within_s is None else time.monotonic() + within_s
        by_itself = await self._tell_to_drain(within_s)
        if not by_itself:
            children.signal_group(self._child, signal.SIGTERM)
        while not await self._ended_within(ASK_BUSY_S):
            answer = await self._ask()
            self._set(running=answer.running, waiting=answer.waiting)
            late = until is not None and time.monotonic() > until
            if by_itself and (answer.drained or (answer.drained is None and late)):
                break
        self._set(phase="drained", running=0, waiting=0)

    async def _tell_to_drain(self, within_s: float | None) -> bool:
        """Whether the replica knows how to. One that does not answer in time is left to its own."""
        query = {} if within_s is None else {"within_s": f"{within_s:.3f}"}
        try:
            answer = await self.http.post("/drain", params=query)
        except httpx.TimeoutException:
            return True
        except httpx.HTTPError:
            return False
        return answer.is_success

    async def end(self) -> None:
        """Drain, then end the replica and all that it started. Within GRACE_S."""
        until = time.monotonic() + self._settings.grace_s
        self.drain(self._settings.grace_s * DRAIN_SHARE, "the machine is given back")
        drained_by = until - (1 - DRAIN_SHARE) * self._settings.grace_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drained_by - time.monotonic()), self._changed:
                await self._changed.wait_for(lambda: self._status.phase != "draining")
        if self._child is not None and self._child.poll() is None:
            children.signal_group(self._child, signal.SIGTERM)
            await self._ended_within(until - time.monotonic())
        if not children.kill_below(KILL_LIMIT_S, self._child):
            log.error("left_behind", below=[process.pid for process in children.below(os.getpid())])
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.http.aclose()

    # inside

    def _set(
        self,
        *,
        phase: RunnerPhase | None = None,
        notice: RunnerNotice | None = None,
        running: int | None = None,
        waiting: int | None = None,
        exit_status: int | None = None,
        message: str | None = None,
    ) -> None:
        given = {
            "phase": phase,
            "notice": notice,
            "running": running,
            "waiting": waiting,
            "exit_status": exit_status,
            "message": message,
        }
        new = msgspec.structs.replace(
            self._status, **{name: value for name, value in given.items() if value is not None}
        )
        if new != self._status:
            self._status = msgspec.structs.replace(new, change=new.change + 1)
            self._start(self._tell())

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def _setup_digest(self) -> str:
        return sha256(self._settings.setup.encode()).hexdigest()

    def _note_set_up(self) -> None:
        Path(DONE).write_text(self._setup_digest)

    def _is_set_up(self) -> bool:
        try:
            return Path(DONE).read_text() == self._setup_digest
        except OSError:
            return False


async def serve(settings: Settings, source: NoticeSource) -> None:
    """Be the runner until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    runner = Runner(settings)
    server = Server(make_app(runner.status, runner.drain, runner.http), bind(settings.host, settings.port))
    deaf = threading.Event()
    ears = threading.Thread(
        target=watch,
        args=(source, settings.notice_poll_s, lambda said: loop.call_soon_threadsafe(runner.on_notice, said), deaf),
        name="notices",
        daemon=True,  # a poll that hangs does not keep us
    )
    ears.start()
    answering = loop.create_task(server.run_until_end())
    running = loop.create_task(runner.run())
    try:
        await end.wait()
        await runner.end()
    finally:
        deaf.set()
        running.cancel()
        server.end()
        await asyncio.gather(running, answering, return_exceptions=True)


def main() -> int:
    """Returns the exit status: 0 after SIGTERM, 2 where the environment is wrong."""
    configure_logs("runner")
    try:
        settings = Settings.read(os.environ)
        source = open_source(
            settings.notice_source, os.environ.get(report.METADATA_URL, ""), os.environ.get(report.NOTICE_FILE, "")
        )
    except ConfigError as error:
        log.error("not_started", why=str(error))  # noqa: TRY400  # the message says it
        return 2
    children.adopt_orphans()
    asyncio.run(serve(settings, source))
    return 0


if __name__ == "__main__":
    sys.exit(main())
