"""What the verbs of `skyfog pool` do: each may be repeated, and each leaves the work to the pool's controller.

A verb writes to the pool's store what is wished, sees to it that a controller runs, and waits. The controller makes it
so; when it dies, any verb starts its successor.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from skyfog_core.config.pool import ServiceSpec
from skyfog_core.errors import ConfigError, SkyfogError
from skyfog_pool import spec as specs
from skyfog_pool.folders import Folder, folder_of
from skyfog_pool.policy.actions import Launch
from skyfog_pool.policy.make import make_policy
from skyfog_pool.policy.market import Prices, Zone
from skyfog_pool.provider.base import Misconfigured, Phase, ProviderError
from skyfog_pool.provider.table import make_provider, provider_name
from skyfog_pool.starting import spawn
from skyfog_pool.status import ended, of_store
from skyfog_pool.store import Event, Revision, Store

LOOK_S = 0.2
TAIL_LINES = 15
ENDED_SHOWN = 50


class NotInTime(SkyfogError):
    """It goes on, but was not done within the limit."""


@runtime_checkable
class Purging(Protocol):
    """A provider that keeps something beside machines: bundles, launch templates, security groups."""

    def purge(self, pool: str) -> None:
        """Let go of all that is kept for a pool without machines."""
        ...


@dataclass(frozen=True)
class Plan:
    """What `up` would do, known without doing it."""

    spec: ServiceSpec
    folder: Folder
    zones: list[Zone]
    prices: dict[str, Prices]
    starts: list[Launch]
    strays: int  # machines with the pool's tag that its store does not know

    @property
    def usd_per_hour(self) -> float:
        return sum(self.prices[start.zone].of(start.market) for start in self.starts)

    @property
    def on_demand_usd_per_hour(self) -> float:
        target = self.spec.service.replica_policy.min_replicas
        prices = [price.on_demand for price in self.prices.values() if isfinite(price.on_demand)]
        return target * min(prices, default=0.0)


# up and update


def plan(path: Path, name: str, provider: str) -> Plan:
    """Check a service file against what its provider has. Raises ConfigError, ProviderError: nothing is begun then."""
    spec = specs.load(path, name, provider)
    folder = folder_of(spec.name or "")
    _check_stays(path, spec, folder)
    with contextlib.closing(make_provider(spec, folder.name)) as cloud:
        zones = cloud.zones()
        specs.check_zones(path, spec, zones)
        prices = dict(cloud.prices())
        tokens = {row.token for row in _rows(folder)}
        strays = sum(
            machine.token not in tokens and machine.phase in {Phase.PENDING, Phase.RUNNING}
            for machine in cloud.instances(folder.name)
        )
    if not prices:
        raise Misconfigured(
            f"{path}: provider {provider_name(spec)} tells no prices of {', '.join(z.name for z in zones)}"
        )
    policy = make_policy(spec, zones, 1)
    starts = [action for action in policy.on_prices(prices, 0) if isinstance(action, Launch)]
    return Plan(spec, folder, zones, prices, starts, strays)


def _check_stays(path: Path, spec: ServiceSpec, folder: Folder) -> None:
    """That the pool's machines are where the file has them: a controller asks one provider. Raises ConfigError."""
    with _store(folder) as store:
        if store is None or not store.replicas(live=True):
            return
        has = provider_name(specs.parse_stored(store.revisions()[-1].spec))
    wants = provider_name(spec)
    if has != wants:
        raise ConfigError(
            f"{path}: provider {wants}: pool {folder.name} has its machines from {has}, and nobody would give them "
            f"back: name {has} (--provider {has}), or take the pool down first: skyfog pool down {folder.name}"
        )


def current(folder: Folder) -> Revision | None:
    """The newest service file of a pool that is up, or is to be; None for one that is not."""
    with _store(folder) as store:
        if store is None or store.wish() == "down":
            return None
        return store.revisions()[-1]


def is_same(revision: Revision, spec: ServiceSpec) -> bool:
    """Whether the service file says what the pool has."""
    return revision.spec == specs.to_store(spec)


def give(plan: Plan, source: Path, *, anew: bool = False) -> Revision:
    """Write down that this is wished: the newest revision, unless it is that already."""
    text = specs.to_store(plan.spec)
    with contextlib.closing(Store(plan.folder.store)) as store, store.transaction():
        known = store.revisions()
        store.set_meta("wish", "up")
        if known and known[-1].spec == text and not anew:
            return known[-1]
        return store.add_revision(specs.runs_hash(plan.spec), text, str(source.resolve()), time.time(), anew=anew)


def ensure_controller(folder: Folder, metrics: str = "") -> subprocess.Popen[bytes] | None:
    """Start one where none runs."""
    return None if folder.controller() is not None else spawn(folder, metrics)


# waiting


@dataclass
class Waiter:
    """Waits for a controller's work, and tells what changes meanwhile."""

    folder: Folder
    limit_s: float
    tell: Callable[[dict[str, Any]], None]
    process: subprocess.Popen[bytes] | None = None
    began: float = field(default_factory=time.monotonic)

    def until(self, what: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Raises NotInTime, and SkyfogError where the controller ends without it."""
        tick, since = threading.Event(), time.time()
        while True:
            now = read_status(self.folder)
            fresh = now is not None and now["at_unix"] >= since - 1
            if now is not None and fresh:
                self.tell(now)
                if "replicas" in now and holds(now):
                    return now
            if self._is_dead():
                latest = read_status(self.folder)
                if latest is not None and "replicas" in latest and holds(latest):
                    return latest
                raise SkyfogError(
                    f"the controller ended before {what}; its log, {self.folder.log}, ends so:\n{self._tail()}"
                )
            if time.monotonic() - self.began > self.limit_s:
                trouble = f" ({now['trouble']})" if now is not None and now.get("trouble") else ""
                raise NotInTime(
                    f"{what}: not within {self.limit_s:g} s{trouble}; it goes on: skyfog pool status {self.folder.name}"
                )
            tick.wait(LOOK_S)

    def until_ended(self) -> None:
        """Until no controller runs. Raises NotInTime."""
        tick = threading.Event()
        while not self._is_dead():
            if time.monotonic() - self.began > self.limit_s:
                raise NotInTime(f"the controller of pool {self.folder.name} has not ended within {self.limit_s:g} s")
            tick.wait(LOOK_S)

    def _is_dead(self) -> bool:
        if self.process is not None:
            if self.process.poll() is None:
                return False
            self.process = None  # it may have ended because another one had the pool
        return self.folder.controller() is None

    def _tail(self) -> str:
        return "\n".join(tail(self.folder.log, TAIL_LINES))


def is_up(revision: Revision) -> Callable[[dict[str, Any]], bool]:
    """As many replicas of the revision's version are ready as are wanted, and none of another is left."""

    def holds(now: dict[str, Any]) -> bool:
        of_version = [each for each in now["replicas"] if each["version"] == revision.version]
        others = [each for each in now["replicas"] if each["version"] != revision.version]
        ready = sum(each["state"] == "READY" for each in of_version)
        return now["revision"] == revision.revision and now["has_begun"] and ready >= now["target"] and not others

    return holds


def is_down(now: dict[str, Any]) -> bool:
    """As its controller tells it."""
    return now["wish"] == "down" and not now["replicas"]


# down


def begin_down(folder: Folder) -> bool:
    """Write down that the pool is to go; False where it is gone already."""
    with contextlib.closing(Store(folder.store)) as store:
        if store.wish() == "down" and folder.controller() is None and not store.replicas(live=True):
            return False
        with store.transaction():
            store.set_meta("wish", "down")
    return True


def purge(folder: Folder) -> str:
    """Forget a pool that is down: what its provider keeps, and its folder. Returns why the former stays, or nothing."""
    why = ""
    with contextlib.closing(Store(folder.store)) as store:
        revisions = store.revisions()
    if revisions:
        spec = specs.parse_stored(revisions[-1].spec)
        try:
            with contextlib.closing(make_provider(spec, folder.name)) as cloud:
                if isinstance(cloud, Purging):
                    cloud.purge(folder.name)
        except (ProviderError, ConfigError) as error:
            why = str(error)
    shutil.rmtree(folder.path)
    return why


# looking


def read_status(folder: Folder) -> dict[str, Any] | None:
    """The newest that the controller told; None where it never did."""
    try:
        found = json.loads(folder.status.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def status_of(folder: Folder) -> dict[str, Any]:
    """What the controller told, or what the store holds where it never told anything."""
    told = read_status(folder)
    with contextlib.closing(Store(folder.store)) as store:
        now = of_store(folder.name, store)
    return {**now, **(told or {}), "controller": folder.controller()}


def ended_of(folder: Folder) -> list[dict[str, Any]]:
    """The newest replicas that have ended, oldest first."""
    return [ended(row) for row in _rows(folder) if not row.is_live][-ENDED_SHOWN:]


def events_of(folder: Folder, limit: int) -> list[Event]:
    """The newest, oldest first."""
    with contextlib.closing(Store(folder.store)) as store:
        return store.events(limit)


def tail(path: Path, lines: int) -> list[str]:
    """The newest lines of a file; none where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 400 * (lines + 1)))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []


def replica_logs(folder: Folder, replica: int, lines: int) -> Iterator[str]:
    """What a replica printed last. Raises ConfigError for one that has no machine."""
    rows = {row.id: row for row in _rows(folder)}
    row = rows.get(replica)
    if row is None or not row.instance:
        having = ", ".join(str(each.id) for each in rows.values() if each.instance and each.is_live) or "none"
        raise ConfigError(f"pool {folder.name}: replica {replica} has no machine (with one: {having})")
    with contextlib.closing(Store(folder.store)) as store:
        spec = specs.parse_stored(store.revisions()[-1].spec)
    with contextlib.closing(make_provider(spec, folder.name)) as cloud:
        yield from cloud.logs(row.instance, lines)


def _rows(folder: Folder) -> list[Any]:
    with _store(folder) as store:
        return [] if store is None else store.replicas()


@contextlib.contextmanager
def _store(folder: Folder) -> Iterator[Store | None]:
    """None for a pool that was never begun."""
    if not folder.store.exists():
        yield None
        return
    with contextlib.closing(Store(folder.store)) as store:
        yield store if store.revisions() else None
