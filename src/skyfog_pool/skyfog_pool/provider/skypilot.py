"""Machines by SkyPilot, for clouds that we have no code for: one cluster of one machine for each replica.

SkyPilot lives in an environment of its own (`skyfog bench peers install skypilot`), where skypilot_worker.py runs; see
doc/skypilot_and_ray.md for what was run against the real one. Spot machines are launched as SkyServe launches its
replicas, not as managed jobs: SkyPilot must not recover by itself what the pool's policy places.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from skyfog_core.config.base import Strict, parse
from skyfog_core.config.pool import ServiceSpec
from skyfog_core.environments import INSTALL_COMMAND, python_of
from skyfog_pool.policy.market import Prices, Zone
from skyfog_pool.provider.base import (
    Ending,
    Instance,
    LaunchRefused,
    Misconfigured,
    Order,
    Phase,
    Unavailable,
)
from skyfog_pool.provider.names import machine_name, name_prefix, pool_of, tags_of
from skyfog_pool.provider.program import Program, ProgramError
from skyfog_pool.provider.seen import Seen
from skyfog_pool.provider.skypilot_task import (
    IMAGE,
    Catalogue,
    Record,
    call_error,
    launch_error,
    task_of,
    wanted_resources,
)

WORKER = "skyfog_pool.provider.skypilot_worker"


class SkyPilotOptions(Strict):
    """`provider_options` of the `skypilot` provider."""

    runner_port: Annotated[int, Field(ge=1, le=65_535, description="of the runner, opened on every machine")] = 7_700
    workspace: Annotated[
        str, Field(description="Skyfog's workspace: shipped, or its path in the docker image; empty: this one")
    ] = ""
    call_limit_s: Annotated[float, Field(gt=0, le=3_600, description="of a call to SkyPilot, launches apart")] = 60.0
    launch_limit_s: Annotated[float, Field(gt=0, le=86_400, description="of a launch, set-up included")] = 1_700.0
    start_limit_s: Annotated[float, Field(gt=0, le=3_600, description="of the first call; starts the API server")] = (
        110.0
    )
    prices_every_s: Annotated[float, Field(gt=0, le=86_400, description="before the catalogue is read again")] = 300.0


def make(spec: ServiceSpec, pool: str) -> SkyPilotProvider:
    """The provider of a spec. Raises Misconfigured where SkyPilot is not installed, ConfigError for wrong options."""
    options = parse(SkyPilotOptions, spec.provider_options, "provider_options")
    python = python_of("skypilot")
    if python is None:
        raise Misconfigured(f"skypilot: not installed; {INSTALL_COMMAND} skypilot")
    workspace = options.workspace or _workspace(spec)
    program = Program("skypilot", python, WORKER, {"SKYPILOT_DISABLE_USAGE_COLLECTION": "1"})
    return SkyPilotProvider(spec, pool, options.model_copy(update={"workspace": workspace}), program)


def _workspace(spec: ServiceSpec) -> str:
    in_image = (spec.resources.image_id or "").startswith(IMAGE)
    return "/opt/skyfog" if in_image else os.environ.get("SKYFOG_WS", "")  # docker/README.md; tools/env.sh


class SkyPilotProvider:
    """A client. What of a pool is gone is told as long as this client lives: SkyPilot forgets it at once."""

    name = "skypilot"

    def __init__(self, spec: ServiceSpec, pool: str, options: SkyPilotOptions, program: Program) -> None:
        self._spec, self._pool, self._options, self._program = spec, pool, options, program
        self._lock = threading.Lock()
        self._catalogue: Catalogue | None = None
        self._read_at = -math.inf
        self._seen = Seen()
        self._ordered: dict[str, Order] = {}  # until SkyPilot says where the machine is

    def zones(self) -> list[Zone]:
        return list(self._read(self._options.prices_every_s).zones)

    def prices(self) -> Mapping[str, Prices]:
        return self._read(self._options.prices_every_s).prices()

    def launch(self, order: Order) -> Instance:
        name = machine_name(order)
        catalogue = self._read()
        offer = catalogue.offer(order.zone, order.market)
        if self._seen.is_returned(name):
            raise LaunchRefused("rejected", f"skypilot: {name} was given back already")
        with self._lock:
            self._ordered[name] = order
        options = self._options
        task = task_of(self._spec, order, offer, options.runner_port, options.workspace)
        try:
            record = self._program.ask("launch", options.launch_limit_s, name=name, task=task)
        except ProgramError as error:
            told = launch_error(error, f"{order.market} in {order.zone}")
            if isinstance(told, LaunchRefused):
                self.terminate(name)  # "certainly no machine": what a half-way launch left behind goes
            raise told from None
        if not record:
            raise Unavailable(f"skypilot: {name}: was launched, and is not there")
        return self._remember(catalogue, record)

    def instances(self, pool: str) -> list[Instance]:
        catalogue, asked = self._read(), self._seen.now()
        records = self._ask("clusters", prefix=name_prefix(pool), port=self._options.runner_port)
        found = [self._remember(catalogue, each) for each in records if pool_of(each["name"]) == pool]
        gone = self._seen.gone(pool, found, asked, _vanished)
        for instance in found:
            if instance.phase is Phase.GONE:
                self.terminate(instance.id)  # preempted and stopped, its disk still costs
        return found + gone

    def terminate(self, instance: str) -> None:
        self._seen.give_back(instance)
        with self._lock:
            self._ordered.pop(instance, None)
        self._ask("down", name=instance)

    def logs(self, instance: str, lines: int) -> Iterator[str]:
        yield from self._ask("logs", name=instance, lines=lines)

    def close(self) -> None:
        self._program.close()

    def _ask(self, do: str, **arguments: object) -> list[Any]:
        try:
            answer: list[Any] = self._program.ask(do, self._options.call_limit_s, **arguments)
        except ProgramError as error:
            if "ClusterDoesNotExist" in error.kinds:
                return []
            raise call_error(error, do) from None
        return answer

    def _read(self, at_most_s: float = math.inf) -> Catalogue:
        """Zones and prices, read at most so long ago. The first time tells what is wrong with spec and credentials."""
        with self._lock:
            catalogue, age_s = self._catalogue, time.monotonic() - self._read_at
        if catalogue is not None and age_s < at_most_s:
            return catalogue
        limit_s = self._options.start_limit_s if catalogue is None else self._options.call_limit_s
        wanted = wanted_resources(self._spec.resources)
        try:
            enabled: list[str] = self._program.ask("enabled", limit_s)
            _check_clouds(self._spec, enabled)
            offers = self._program.ask("offers", limit_s, resources=wanted, enabled=enabled)
        except ProgramError as error:
            if "ValueError" in error.kinds:  # an unknown region, machine or accelerator
                raise Misconfigured(f"skypilot: resources: {error}") from None
            raise call_error(error, "catalogue") from None
        catalogue = Catalogue.of(offers)
        if not catalogue.zones:
            raise Misconfigured(
                f"skypilot: no machine fits {wanted}; `sky check` and `sky gpus list` say what there is"
            )
        with self._lock:
            self._catalogue, self._read_at = catalogue, time.monotonic()
        return catalogue

    def _remember(self, catalogue: Catalogue, record: Record) -> Instance:
        name = record["name"]
        tags = tags_of(name)
        assert tags is not None, name
        before = self._seen.last(name)
        told = "zone" in record  # not before it has chosen a machine
        with self._lock:
            order = self._ordered.pop(name, None) if told else self._ordered.get(name)
        return self._seen.keep(
            Instance(
                name,
                tags.pool,
                tags.replica,
                tags.version,
                tags.token,
                catalogue.name_of(record) if told else order.zone if order else "",
                ("spot" if record["spot"] else "on_demand") if told else order.market if order else "on_demand",
                _phase(record, before),
                _ending(record, before),
                f"http://{record['endpoint']}" if record.get("endpoint") else before.endpoint if before else "",
                float(record["launched_at"] or 0),
                float(record.get("price", 0.0)),
            )
        )


def _vanished(last: Instance) -> Ending:
    """As SkyServe judges: a spot cluster that ran and is no more was preempted."""
    return Ending.PREEMPTED if last.phase is Phase.RUNNING and last.market == "spot" else Ending.FAILED


def _was_up(before: Instance | None) -> bool:
    return before is not None and before.phase in {Phase.RUNNING, Phase.GONE}


def _phase(record: Record, before: Instance | None) -> Phase:
    status = record["status"]
    if before is not None and before.phase is Phase.GONE:
        return Phase.GONE
    if record.get("going"):
        return Phase.STOPPING
    if status == "UP":
        return Phase.RUNNING
    if status == "INIT":
        # INIT is also what a running cluster becomes that does not answer SkyPilot: its probes say what it is worth.
        return Phase.RUNNING if _was_up(before) else Phase.PENDING
    return Phase.GONE  # STOPPED: we never stop one, the market does


def _ending(record: Record, before: Instance | None) -> Ending:
    if before is not None and before.phase is Phase.GONE:
        return before.ending
    if _phase(record, before) is not Phase.GONE:
        return Ending.NONE
    return Ending.PREEMPTED if record.get("spot") else Ending.FAILED


def _check_clouds(spec: ServiceSpec, enabled: list[str]) -> None:
    """Raises Misconfigured for clouds without credentials."""
    wanted = {cloud.lower() for cloud, _, _ in (offer.place for offer in spec.resources.offers) if cloud}
    missing = sorted(wanted - set(enabled))
    if missing or not enabled:
        there = (
            f"SkyPilot has credentials for {', '.join(enabled)}" if enabled else "SkyPilot has no credentials at all"
        )
        which = f" {' '.join(missing)}" if missing else ""
        raise Misconfigured(f"skypilot: {there}: see `sky check{which}`")
