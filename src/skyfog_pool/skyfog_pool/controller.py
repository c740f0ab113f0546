"""A pool's controller: a shell of asyncio around the Keeper. It decides nothing; it may be killed at any instruction.

loops       listing of machines, prices, wishes of the command line, a tick a second and the policy's timer
effects     provider calls in threads with a limit; their answers go to the Keeper
replicas    a RunnerWatch for each machine that runs; tokens and load from the fleet's network where it is watched
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from skyfog_core.clock import Clock, SteadyClock
from skyfog_core.config.pool import Fleet, ReadinessProbe, ServiceSpec
from skyfog_core.errors import ConfigError
from skyfog_core.trace import FileTrace
from skyfog_core.units import S
from skyfog_pool import runners
from skyfog_pool.calls import Calls
from skyfog_pool.fleet import FleetWatch, OpenFleet
from skyfog_pool.folders import Folder
from skyfog_pool.keeper import PROBED, Keeper
from skyfog_pool.lifecycle import State
from skyfog_pool.mail import Mail
from skyfog_pool.policy.market import Zone
from skyfog_pool.policy.meter import LoadMeter
from skyfog_pool.provider.base import CannotTell, LaunchRefused, Misconfigured, Provider, ProviderError
from skyfog_pool.provider.table import Timing, make_provider, timing_of
from skyfog_pool.report import Status
from skyfog_pool.spec import service_name
from skyfog_pool.status import document
from skyfog_pool.store import Stamp, Store
from skyfog_pool.wishes import Wishes
from skyfog_pool.work import Ask, Effect, GiveBack, Outside, TellDrain

log = logging.getLogger(__name__)
WISH_S = 0.2
TICK_S = 1.0
MOST_CALLS = 32
RELINK_NS = 3 * S  # for all tokens to be told anew when the fleet's network is in reach again
MOST_WISH_PAUSE_S = 5.0  # between tries to take over a change: the next wish, e.g. down, must not wait long
MOST_TRACE_BYTES = 64 << 20
PAUSE_S, MOST_PAUSE_S = 0.5, 60.0  # after a provider call that failed, doubled with jitter
MakeProvider = Callable[[ServiceSpec, str], Provider]


class Controller:
    """Of one pool, until it is down or stopped."""

    def __init__(
        self,
        folder: Folder,
        open_fleet: OpenFleet | None = None,
        *,
        make: MakeProvider = make_provider,
        timing: Timing | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.pool, self.folder = folder.name, folder
        self.document: dict[str, Any] = {}  # newest; replaced as a whole, so that any thread may read it
        self._open_fleet, self._make, self._timing = open_fleet, make, timing
        self._clock = clock or SteadyClock()
        self._calls = Calls(MOST_CALLS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._watches: dict[int, runners.RunnerWatch] = {}
        self._listed, self._list_now = asyncio.Event(), asyncio.Event()
        self._done, self._wake = asyncio.Event(), asyncio.Event()
        self._mail = Mail()
        self._fleet: FleetWatch | None = None
        self._watching: tuple[Fleet, str] | None = None  # where the fleet is watched, and for which service
        self._unlinked_ns = self._now()  # when the fleet's network was last out of our reach
        self._trace = FileTrace(begun_anew(folder.trace))
        self._unadopted = ""  # why what was wished last is not taken over yet
        self._failure: BaseException | None = None

    # life

    async def run(self) -> None:
        """Until the pool is down. Raises StoreError, ConfigError; whatever ends it leaves the machines as they are."""
        with contextlib.closing(self._trace), contextlib.closing(Store(self.folder.store)) as store:
            self._store = store
            try:
                spec = await self._unless_stopped(self._begin())
            except BaseException:
                if self._fleet is not None:
                    self._fleet.close()  # its threads would keep the process from ending
                raise
            if spec is None:
                return
            try:
                self._spawn(self._wishes())
                self._spawn(self._prices())
                self._spawn(self._listings())
                self._spawn(self._timer())
                await self._done.wait()
            finally:
                await self._end()
            log.info("pool %s (%s) ends", self.pool, spec.provider or "")
        if self._failure is not None:
            raise self._failure

    async def _begin(self) -> ServiceSpec:
        outside = Outside(time.time, self._stamp, lambda: uuid.uuid4().hex, self._trace)
        spec = Wishes(self._store).spec
        self._fleet = self._watch_fleet(spec)
        self._client = runners.make_client()
        self._spec, self.provider, zones = await self._reach_provider()
        self.timing = self._timing or timing_of(self._spec)
        self.keeper = Keeper(self.pool, self._store, zones, outside, self._now(), watched=self._fleet is not None)
        self._meter = LoadMeter(self.pool, spec.service.replica_policy.slo_ms)
        return spec

    async def _unless_stopped(self, begin: Coroutine[Any, Any, ServiceSpec]) -> ServiceSpec | None:
        """None where we are to end before it is done: a provider may not answer for ever."""
        beginning, stopped = asyncio.create_task(begin), asyncio.create_task(self._done.wait())
        try:
            await asyncio.wait((beginning, stopped), return_when=asyncio.FIRST_COMPLETED)
            if beginning.done():
                return beginning.result()
        finally:
            beginning.cancel()
            stopped.cancel()
            await asyncio.gather(beginning, stopped, return_exceptions=True)
        await self._client.aclose()
        if self._fleet is not None:
            self._fleet.close()
        return None

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(watch.close() for watch in self._watches.values()), return_exceptions=True)
        await self._client.aclose()
        if self._fleet is not None:
            self._fleet.close()
        self._show()
        if self._failure is None:
            self.keeper.rest(self._now())
        with contextlib.suppress(ProviderError):
            await self._calls(self.timing.call_s, self.provider.close)

    def stop(self) -> None:
        """End, and leave the machines as they are. From the loop's thread."""
        self._done.set()

    async def _reach_provider(self) -> tuple[ServiceSpec, Provider, list[Zone]]:
        """The newest spec's provider and its zones, however long it takes: an update may mend what is wrong."""
        pauses = backoff()
        while True:
            try:
                spec = Wishes(self._store).spec
                return spec, *await self._try_provider(spec)
            except (ProviderError, ConfigError) as error:
                log.warning("provider: %s", error)
                self._show_trouble(f"the provider does not answer: {error}")
                await asyncio.sleep(next(pauses))

    async def _try_provider(self, spec: ServiceSpec) -> tuple[Provider, list[Zone]]:
        """Raises ProviderError, ConfigError."""
        timing = self._timing or timing_of(spec)
        provider = await self._calls(timing.launch_s, self._make, spec, self.pool)
        return provider, await self._calls(timing.call_s, provider.zones)

    # loops

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        """What fails for a reason that nobody foresaw ends the controller: its successor starts from the store."""
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failure = self._failure or task.exception()
            self._done.set()

    async def _listings(self) -> None:
        pauses, begun = backoff(), False
        while True:
            self._list_now.clear()
            listed_ns = self._now()
            try:
                machines = await self._calls(self.timing.call_s, self.provider.instances, self.pool)
            except ProviderError as error:
                self._trouble("instances", error)
                await asyncio.sleep(next(pauses))
                continue
            pauses = backoff()
            self.keeper.trouble = self._unadopted
            self._do(self.keeper.on_listing(machines, listed_ns, self._now(), round(self.timing.settle_s * S)))
            if not begun:
                begun = True
                self._do(self.keeper.begin(self._now()))
                self._listed.set()
            await asyncio.sleep(self.timing.least_s)
            await wait(self._list_now, self.timing.list_s)

    async def _prices(self) -> None:
        pauses = backoff()
        while True:
            try:
                prices = await self._calls(self.timing.call_s, self.provider.prices)
            except ProviderError as error:
                self._trouble("prices", error)
                await asyncio.sleep(next(pauses))
                continue
            pauses = backoff()
            await self._begun()
            self._do(self.keeper.on_prices(prices, self._now()))
            await asyncio.sleep(self.timing.price_s)

    async def _begun(self) -> None:
        """Nothing is decided before the first listing said what is left of what was decided before."""
        await self._listed.wait()

    async def _wishes(self) -> None:
        await self._begun()
        seen, pauses = -1, backoff()
        while True:
            changed = self._store.changed_by_others()
            if changed != seen:
                try:
                    await self._adopt()
                except (ProviderError, ConfigError) as error:
                    self._trouble("update", error)
                    self._unadopted = self.keeper.trouble
                    await asyncio.sleep(min(MOST_WISH_PAUSE_S, next(pauses)))
                    continue
                seen, pauses, self._unadopted = changed, backoff(), ""
            await asyncio.sleep(WISH_S)

    async def _adopt(self) -> None:
        """Take over what the command line wrote; to go down needs nothing new. Raises ProviderError, ConfigError."""
        wishes = Wishes(self._store)
        zones: Sequence[Zone] = list(self.keeper.policy.zones.values())
        if wishes.wish == "up":
            self._rewatch(wishes.spec)
            if wishes.spec != self._spec:
                old = self.provider
                self.provider, zones = await self._try_provider(wishes.spec)
                self._spec = wishes.spec
                self._meter.slo_ms = wishes.spec.service.replica_policy.slo_ms
                with contextlib.suppress(ProviderError):
                    await self._calls(self.timing.call_s, old.close)
        self._do(self.keeper.on_wish(zones, self._now()))

    async def _timer(self) -> None:
        await self._begun()
        while True:
            self._hear()
            self._do(self.keeper.on_timer(self._now()))
            self._show()
            if self.keeper.is_down:
                self._done.set()
            next_ns = self.keeper.policy.next_timer_ns()
            wait_s = TICK_S if next_ns is None else min(TICK_S, max(0.01, (next_ns - self._now()) / 1e9))
            await wait(self._wake, wait_s)
            self._wake.clear()

    def _hear(self) -> None:
        now_ns = self._now()
        tokens, replica_loads, robot_loads = self._mail.take(hold_losses=not self._sees_fleet(now_ns))
        for who, held in tokens:
            self._do(self.keeper.on_token(who, held, now_ns))
        for who, load in replica_loads.items():
            self._meter.on_replica_load(who, load, now_ns)
        for robot, told in robot_loads.items():
            self._meter.on_robot_load(robot, told, now_ns)
        total = self._meter.load(now_ns)
        if total is not None:
            self._do(self.keeper.on_load(total, now_ns))

    def _sees_fleet(self, now_ns: int) -> bool:
        """Whether a token that is gone tells of its replica: not while it is we who are cut off, and shortly after."""
        if self._fleet is not None and not self._fleet.links():
            self._unlinked_ns = now_ns
        return now_ns - self._unlinked_ns >= RELINK_NS

    # effects

    def _do(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Ask():
                    self._spawn(self._ask(effect))
                case GiveBack():
                    self._spawn(self._give_back(effect))
                case TellDrain():
                    self._spawn(self._tell_drain(effect))
        if effects:
            self._wake.set()
        self._match_watches()

    async def _ask(self, effect: Ask) -> None:
        replica = effect.replica
        try:
            machine = await self._calls(self.timing.launch_s, self.provider.launch, effect.order)
        except LaunchRefused as error:
            self._do(self.keeper.on_launch_refused(replica, error.fault, str(error), self._now()))
        except CannotTell as error:
            self._trouble("launch", error)
            self._do(self.keeper.on_launch_unknown(replica, str(error), self._now()))
        except Misconfigured as error:
            self._trouble("launch", error)
            # Somebody may mend it while we wait: paused as an error is, not ruled out for ever as a wrong order is.
            self._do(self.keeper.on_launch_refused(replica, "error", str(error), self._now()))
        else:
            self._do(self.keeper.on_launched(replica, machine, self._now()))
        self._list_now.set()

    async def _give_back(self, effect: GiveBack) -> None:
        why = ""
        try:
            await self._calls(self.timing.call_s, self.provider.terminate, effect.instance)
        except ProviderError as error:
            self._trouble("terminate", error)
            why = str(error)
        self._do(self.keeper.on_given_back(effect.replica, effect.instance, why, self._now()))
        if not why:
            self._list_now.set()

    async def _tell_drain(self, effect: TellDrain) -> None:
        why = await runners.drain(self._client, effect.endpoint, effect.within_s)
        if why:
            log.info("replica %d did not hear that it is to drain: %s", effect.replica, why)

    # replicas and fleet

    def _match_watches(self) -> None:
        """One watch for each machine that runs."""
        watched = {*PROBED, State.DRAINING}
        wanted = {
            replica: work.row.endpoint
            for replica, work in self.keeper.work.items()
            if work.who.state in watched and work.row.endpoint
        }
        for replica, watch in list(self._watches.items()):
            if wanted.get(replica) != watch.endpoint:
                del self._watches[replica]
                self._spawn(watch.close())
        for replica, endpoint in wanted.items():
            if replica not in self._watches:
                self._watches[replica] = runners.RunnerWatch(self._client, replica, endpoint, self._probe_of, self)

    def _probe_of(self, replica: int) -> tuple[ReadinessProbe, bool]:
        work = self.keeper.work.get(replica)
        return self.keeper.wishes.spec.service.readiness_probe, work is not None and work.who.ready_ns is not None

    def on_status(self, replica: int, status: Status) -> None:
        self._do(self.keeper.on_runner(replica, status, self._now()))

    def on_probe(self, replica: int, ok: bool, why: str) -> None:
        if not ok:
            self._list_now.set()  # it may be gone
        self._do(self.keeper.on_probe(replica, ok, why, self._now()))

    def _watch_fleet(self, spec: ServiceSpec) -> FleetWatch | None:
        fleet, service = None, service_name(spec, self.pool)
        if self._open_fleet is not None and (spec.skyfog.connect or spec.skyfog.listen):
            loop = asyncio.get_running_loop()
            self._mail.wake = lambda: loop.call_soon_threadsafe(self._wake.set)
            fleet = self._open_fleet(spec, service, self._mail)
        self._watching = spec.skyfog, service
        return fleet

    def _rewatch(self, spec: ServiceSpec) -> None:
        """Watch where a new spec's replicas are told of. Those of the old one, which roll out, keep their tokens."""
        if self._watching == (spec.skyfog, service_name(spec, self.pool)):
            return
        if self._fleet is not None:
            old, self._fleet = self._fleet, None
            old.close()  # first: both may listen at one port
        self._fleet = self._watch_fleet(spec)
        self._unlinked_ns = self._now()
        self.keeper.watched = self._fleet is not None

    # telling

    def _trouble(self, call: str, error: ProviderError | ConfigError) -> None:
        text = f"{call}: {error}"
        if self.keeper.trouble != text:
            log.warning("%s", text)
        self.keeper.trouble = text

    def _show(self) -> None:
        self.document = document(self.keeper, self._store, self._now(), time.time())
        self._write(self.document)

    def _show_trouble(self, text: str) -> None:
        self._write({**self.document, "pool": self.pool, "at_unix": time.time(), "trouble": text})

    def _write(self, shown: dict[str, Any]) -> None:
        new = self.folder.status.with_suffix(".new")
        try:
            new.write_text(json.dumps(shown))
            new.replace(self.folder.status)
        except OSError as error:
            log.warning("%s: %s", new, error)

    def _now(self) -> int:
        return self._clock.now_ns()

    def _stamp(self, now_ns: int) -> Stamp:
        return Stamp(_boot(), now_ns, time.time())


async def wait(event: asyncio.Event, seconds: float) -> None:
    """Until the event, or so long. Not by wait_for, which before Python 3.12 may lose a cancellation."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def backoff() -> Any:
    """Seconds between tries: doubled, with jitter, up to a minute."""
    pause_s = PAUSE_S
    while True:
        yield pause_s * random.uniform(0.5, 1.0)
        pause_s = min(MOST_PAUSE_S, 2 * pause_s)


def begun_anew(trace: Path) -> Path:
    """A trace that has become long is put aside, in the place of the one before."""
    if trace.exists() and trace.stat().st_size > MOST_TRACE_BYTES:
        trace.replace(trace.with_suffix(".old.jsonl"))
    return trace


def _boot() -> str:
    """Which start of this machine: its steady clock begins anew with each."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"unknown-{os.getpid()}"
