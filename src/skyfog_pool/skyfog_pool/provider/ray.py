"""Replicas on a Ray cluster that the user already has: one detached actor a replica, placed by its node's labels.

Ray lives in an environment of its own (`skyfog bench peers install ray`, or `python` of the options, since a driver
must have the version of its cluster), where ray_worker.py runs. See doc/skypilot_and_ray.md.
"""

from __future__ import annotations

import math
import os
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from skyfog_core.config.base import Strict, parse
from skyfog_core.config.pool import Resources, ServiceSpec
from skyfog_core.environments import INSTALL_COMMAND, python_of
from skyfog_pool.policy.market import Market, Prices, Zone
from skyfog_pool.provider.base import (
    Ending,
    Instance,
    LaunchRefused,
    Misconfigured,
    Order,
    Phase,
    ProviderError,
    Unavailable,
)
from skyfog_pool.provider.names import Tags, machine_name, name_prefix, pool_of, tags_of
from skyfog_pool.provider.program import Program, ProgramError
from skyfog_pool.provider.seen import Seen

WORKER = "skyfog_pool.provider.ray_worker"
START_LIMIT_S = 25.0  # below the controller's limit of a call; Ray itself tries a dead address for minutes
GRACE_MARGIN_S = 10.0  # beyond what the runner grants its replica
GIB = 1024**3
# Ray's names of markets (its default labels); a node without that label serves both.
MARKETS: dict[Market, str] = {"spot": "spot", "on_demand": "on-demand"}


class RayOptions(Strict):
    """`provider_options` of the `ray` provider."""

    address: Annotated[str, Field(description="of the cluster, as ray.init takes it, e.g. 10.0.0.5:6379")] = "auto"
    python: Annotated[str, Field(description="a Python with the cluster's Ray; empty: `bench peers install ray`")] = ""
    command: Annotated[
        list[str],
        Field(description="the runner on a node; empty: by ./ws of this workspace's path, which must be there"),
    ] = []
    zone_label: Annotated[str, Field(description="node label that says the zone")] = "ray.io/availability-zone"
    region_label: Annotated[str, Field(description="node label that says the region")] = "ray.io/availability-region"
    market_label: Annotated[str, Field(description="node label: spot or on-demand")] = "ray.io/market-type"
    prices: Annotated[
        dict[str, Annotated[float, Field(gt=0)]], Field(description="USD an hour for one replica, by zone")
    ] = {}
    price: Annotated[float, Field(gt=0, description="the same, in every other zone")] = 1.0
    place_limit_s: Annotated[float, Field(gt=0, le=3_600, description="for a node with room; longer: no capacity")] = (
        60.0
    )
    call_limit_s: Annotated[float, Field(gt=0, le=3_600, description="of a call to Ray, launches apart")] = 20.0


def make(spec: ServiceSpec, pool: str) -> RayProvider:
    """The provider of a spec. Raises Misconfigured where Ray is not installed, ConfigError for wrong options."""
    options = parse(RayOptions, spec.provider_options, "provider_options")
    python = Path(options.python) if options.python else python_of("ray")
    if python is None:
        raise Misconfigured(f"ray: not installed; {INSTALL_COMMAND} ray, or name a Python in provider_options.python")
    if not options.command:
        ws = f"{os.environ.get('SKYFOG_WS', '/opt/skyfog')}/ws"
        options = options.model_copy(update={"command": [ws, "run", "python", "-m", "skyfog_pool.runner"]})
    program = Program("ray", python, WORKER, {"RAY_USAGE_STATS_ENABLED": "0"}, [options.address], START_LIMIT_S)
    return RayProvider(spec, pool, options, program)


class RayProvider:
    """A client. What of a pool is gone is told as long as this client lives."""

    name = "ray"

    def __init__(self, spec: ServiceSpec, pool: str, options: RayOptions, program: Program) -> None:
        self._spec, self._pool, self._options, self._program = spec, pool, options, program
        self._resources, self._selector = actor_resources(spec.resources)
        self._lock = threading.Lock()
        self._seen = Seen()
        self._zones: dict[str, tuple[Zone, set[Market]]] = {}  # also those all of whose nodes are dead
        self._alive: set[str] = set()  # nodes
        self._node_of: dict[str, str] = {}

    def zones(self) -> list[Zone]:
        return sorted(zone for zone, _ in self._look().values())

    def prices(self) -> Mapping[str, Prices]:
        """As the options say: a cluster of one's own has no price list."""
        prices = {}
        for name, (_, markets) in self._look().items():
            usd = self._options.prices.get(name, self._options.price)
            prices[name] = Prices(*(usd if market in markets else math.inf for market in ("spot", "on_demand")))
        return prices

    def launch(self, order: Order) -> Instance:
        name, options = machine_name(order), self._options
        if self._seen.is_returned(name):
            raise LaunchRefused("rejected", f"ray: {name} was given back already")
        if order.zone not in self._zones and order.zone not in self._look():
            known = ", ".join(sorted(self._zones))
            raise Misconfigured(f"ray: no node's {options.zone_label} says {order.zone!r}; there are {known}")
        other: Market = "on_demand" if order.market == "spot" else "spot"
        labels = {**self._selector, options.zone_label: order.zone, options.market_label: f"!{MARKETS[other]}"}
        try:
            record = self._program.ask(
                "launch",
                options.place_limit_s + options.call_limit_s,
                name=name,
                labels=labels,
                resources=self._resources,
                command=options.command,
                environment=dict(order.environment),
                record={"zone": order.zone, "market": order.market},
                place_limit_s=options.place_limit_s,
            )
        except ProgramError as error:
            raise self._launch_error(error, order) from None
        return self._remember(name, record)

    def _launch_error(self, error: ProgramError, order: Order) -> ProviderError:
        where = f"ray: {order.market} in {order.zone}"
        if "GetTimeoutError" in error.kinds:
            limit_s = self._options.place_limit_s
            return LaunchRefused("capacity", f"{where}: no node had room for {self._resources} within {limit_s:g} s")
        if "RayActorError" in error.kinds:
            return LaunchRefused("error", f"{where}: {error}")
        if {"ValueError", "TypeError"} & set(error.kinds):
            return LaunchRefused("rejected", f"{where}: {error}")
        return Unavailable(f"{where}: {error}")

    def instances(self, pool: str) -> list[Instance]:
        asked = self._seen.now()
        answer = self._ask("machines", prefix=name_prefix(pool))
        with self._lock:
            self._alive = set(answer["nodes"])
            self._node_of = {name: node for name, node in self._node_of.items() if self._seen.last(name) is not None}
        records = {name: record for name, record in answer["machines"].items() if pool_of(name) == pool}
        # One that is still told of though its node is dead is left to gone().
        found = [self._remember(name, record) for name, record in records.items() if not self._lost(name)]
        return found + self._seen.gone(pool, found, asked, self._why)

    def terminate(self, instance: str) -> None:
        self._seen.give_back(instance)
        self._ask("end", name=instance, grace_s=self._spec.service.replica_policy.drain_seconds + GRACE_MARGIN_S)

    def logs(self, instance: str, lines: int) -> Iterator[str]:
        try:
            yield from self._program.ask("tail", self._options.call_limit_s, name=instance, lines=lines)
        except ProgramError as error:
            raise Unavailable(f"ray: logs of {instance}: {error}") from None

    def close(self) -> None:
        self._program.close()

    def _ask(self, do: str, **arguments: object) -> Any:
        try:
            return self._program.ask(do, self._options.call_limit_s, **arguments)
        except ProgramError as error:
            raise Unavailable(f"ray: {do}: {error}") from None

    def _look(self) -> dict[str, tuple[Zone, set[Market]]]:
        """Zones by name. Raises Misconfigured where no node says its zone."""
        options, nodes = self._options, self._ask("nodes")
        with self._lock:
            for node in nodes:
                labels = node["labels"]
                name, market = labels.get(options.zone_label), labels.get(options.market_label)
                zone = Zone(name or "", labels.get(options.region_label, ""), "ray")
                if name and _allowed(self._spec.resources, zone):
                    _, markets = self._zones.setdefault(name, (zone, set()))
                    markets |= {ours for ours, theirs in MARKETS.items() if market in {None, theirs}}
            if not self._zones:
                raise Misconfigured(
                    f"ray: none of {len(nodes)} nodes has the label {options.zone_label} and is where resources.infra "
                    f'allows: start them by `ray start --labels "{options.zone_label}=…"`'
                )
            return dict(self._zones)

    def _lost(self, name: str) -> bool:
        with self._lock:
            return name in self._node_of and self._node_of[name] not in self._alive

    def _why(self, last: Instance) -> Ending:
        """A machine that is gone with its node was taken from us, whatever it cost."""
        return Ending.PREEMPTED if self._lost(last.id) else Ending.FAILED

    def _remember(self, name: str, record: Mapping[str, Any]) -> Instance:
        tags, last = tags_of(name), self._seen.last(name)
        assert tags is not None, name
        if record:
            with self._lock:
                self._node_of[name] = record["node"]
        elif last is not None:
            return last  # it does not answer just now
        return self._seen.keep(self._instance(name, tags, record))

    def _instance(self, name: str, tags: Tags, record: Mapping[str, Any]) -> Instance:
        returned, zone = self._seen.is_returned(name), record.get("zone", "")
        return Instance(
            name,
            tags.pool,
            tags.replica,
            tags.version,
            tags.token,
            zone,
            record.get("market", "on_demand"),
            Phase.STOPPING if returned else Phase.RUNNING if record else Phase.PENDING,
            endpoint=record.get("endpoint", ""),
            launched_unix_s=record.get("launched_at", 0.0),
            price_per_hour=self._options.prices.get(zone, self._options.price),
        )


def _allowed(resources: Resources, zone: Zone) -> bool:
    """Whether the spec's alternatives, of which each may name region and zone, leave this one."""
    places = [offer.place for offer in resources.offers]
    return any(region in {"", zone.region} and name in {"", zone.name} for _, region, name in places)


def actor_resources(resources: Resources) -> tuple[dict[str, Any], dict[str, str]]:
    """What an actor reserves, and the labels that its accelerator asks for. Raises Misconfigured.

    Amounts are SkyPilot's: `4+` is 4 here, since an actor takes a share of a node.
    """
    wanted: dict[str, Any] = {"num_cpus": _amount("cpus", resources.cpus) if resources.cpus is not None else 1.0}
    if resources.memory is not None:
        wanted["memory"] = int(_amount("memory", resources.memory) * GIB)
    if resources.accelerators is None:
        return wanted, {}
    named = resources.accelerators
    kind, count = next(iter(named.items())) if isinstance(named, dict) else (*named.split(":"), "1")[:2]
    wanted["num_gpus"] = _amount("accelerators", count)
    return wanted, {"ray.io/accelerator-type": str(kind)}


def _amount(key: str, value: str | float) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\+?", str(value))
    if found is None:
        raise Misconfigured(f"ray: resources.{key}: {value!r} is not a number, such as 4 or 4+")
    return float(found[1])
