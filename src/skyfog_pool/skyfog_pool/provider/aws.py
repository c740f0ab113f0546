"""AWS: spot and on-demand machines over availability zones. Tags are the truth of whose a machine is.

A machine's id is `region/instance-id`, so that whoever has the id can give the machine back.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

import structlog

from skyfog_core.config.base import nearest
from skyfog_core.config.pool import ServiceSpec
from skyfog_pool.policy.market import Market, Prices, Zone
from skyfog_pool.provider.aws_launch import TAG, AlreadyLaunched, Launcher, read_disk, read_ports
from skyfog_pool.provider.aws_machines import Place, enabled_regions, find_places, region_of
from skyfog_pool.provider.aws_options import AwsOptions, read_options
from skyfog_pool.provider.aws_prices import OnDemandPrices, spot_prices
from skyfog_pool.provider.aws_session import Aws, code_of, pages, told
from skyfog_pool.provider.base import (
    CannotTell,
    Ending,
    Instance,
    LaunchRefused,
    Misconfigured,
    Order,
    Phase,
    Provider,
)

log = structlog.get_logger(__name__)

LOOK_LIMIT_S = 10.0  # for a machine that AWS has made to appear in its listings
_LOOK_EVERY_S = 0.5
PRICE_RETRY_S = 60.0
_UNKNOWN_MACHINE = {"InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"}
_GOING = ("marked-for-termination", "marked-for-stop", "marked-for-hibernation")
_TOLD_S = 120.0  # a machine goes so long after it was marked

_PHASES = {
    "pending": Phase.PENDING,
    "running": Phase.RUNNING,
    # One that somebody stopped is held and paid for still. It answers no probe, which ends it.
    "stopping": Phase.RUNNING,
    "stopped": Phase.RUNNING,
    "shutting-down": Phase.STOPPING,
    "terminated": Phase.GONE,
}
_ENDINGS = {
    "Server.SpotInstanceTermination": Ending.PREEMPTED,
    "Server.SpotInstanceShutdown": Ending.PREEMPTED,
    "Server.InsufficientInstanceCapacity": Ending.PREEMPTED,  # was promised, and could not be started
    "Client.UserInitiatedShutdown": Ending.RETURNED,
}


def make(spec: ServiceSpec, pool: str) -> Provider:
    """Raises Misconfigured that names the key at fault, or what is missing."""
    return AwsProvider(spec, pool, read_options(spec))


class AwsProvider:
    """Provider of provider/base.py."""

    name = "aws"

    def __init__(self, spec: ServiceSpec, pool: str, options: AwsOptions) -> None:
        image = spec.resources.image_id
        if image is not None and not image.startswith(("ami-", "docker:")):
            raise Misconfigured(f"resources.image_id: {image!r} is neither ami-… nor docker:IMAGE")
        if spec.file_mounts:
            raise Misconfigured("file_mounts: aws ships the workspace and workdir only; put the files into workdir")
        read_disk(spec.resources.disk_size)
        read_ports(spec)
        self._aws = Aws(options)
        self._spec = spec
        self._pool = pool
        self._options = options
        self._launcher = Launcher(self._aws, spec, options)
        self._on_demand = OnDemandPrices(self._aws, options)
        self._lock = threading.Lock()
        self._places: dict[str, Place] = {}
        self._spot: dict[tuple[str, str], float] = {}  # newest prices seen, by zone and type
        self._ask_again_s: dict[tuple[str, str, str, str], float] = {}  # steady time, for prices that nobody told
        self._used: set[str] | None = None  # regions where the pool may have machines; None: not looked yet

    def zones(self) -> list[Zone]:
        return [Zone(place.zone, place.region, "aws") for place in self._where().values()]

    def prices(self) -> Mapping[str, Prices]:
        places = self._where()
        self._ask_spot_prices(places)
        regions = {place.region for place in places.values()}
        by_region = self._aws.each(regions, lambda region: self._prices_in(region, places))
        return {zone: prices for inside in by_region.values() for zone, prices in inside.items()}

    def launch(self, order: Order) -> Instance:
        places = self._where()
        place = places.get(order.zone)
        if place is None:
            raise Misconfigured(
                f"aws: zone {order.zone!r} is not among this pool's{nearest(order.zone, list(places))}"
                f" They are {', '.join(places)}"
            )
        known = self._by_token(order, place.region)
        if known is not None:
            return self._still_there(known, order)
        try:
            machine = self._launcher.launch(order, place)
        except AlreadyLaunched as error:
            return self._still_there(self._await_token(order, place.region, error), order)
        with self._lock:
            if self._used is not None:
                self._used.add(place.region)
        log.info("machine_launched", zone=order.zone, market=order.market, machine=machine["InstanceId"])
        return self._new(order, place, machine)

    def instances(self, pool: str) -> list[Instance]:
        regions = self._regions(pool)
        found = self._aws.each(regions, lambda region: self._in_region(pool, region))
        return [instance for inside in found.values() for instance in inside]

    def terminate(self, instance: str) -> None:
        region, _, machine = instance.partition("/")
        if not machine.startswith("i-"):
            return  # no machine of AWS was ever called so
        ec2 = self._aws.ec2(region)
        with told(f"termination of {instance}"):
            try:
                ec2.terminate_instances(InstanceIds=[machine])
            except ec2.exceptions.ClientError as error:
                # One that was launched a moment ago may be unknown yet: its tags show it later, and it is ended then.
                if code_of(error) not in _UNKNOWN_MACHINE:
                    raise

    def logs(self, instance: str, lines: int) -> Iterator[str]:
        """The machine's console, to which the runner writes too; EC2 keeps it for an hour beyond the machine's end."""
        region, _, machine = instance.partition("/")
        ec2 = self._aws.ec2(region)
        with told(f"console of {instance}"):
            try:
                text = ec2.get_console_output(InstanceId=machine, Latest=True).get("Output", "")
            except ec2.exceptions.ClientError as error:
                if code_of(error) not in {*_UNKNOWN_MACHINE, "UnsupportedOperation"}:
                    raise
                text = ""
        yield from text.splitlines()[-lines:] if lines > 0 else []

    def close(self) -> None:
        self._aws.close()

    def purge(self, pool: str) -> None:
        """Remove launch templates, security groups and bundles of a pool that has no machine left."""
        self._launcher.clear(pool, self._regions(pool))

    # -- where --------------------------------------------------------------------------------------------------------

    def _where(self) -> dict[str, Place]:
        with self._lock:
            if not self._places:
                self._places = find_places(self._aws, self._spec, self._options)
            return self._places

    def _regions(self, pool: str) -> list[str]:
        """Regions that the spec names, and all where the pool has machines, as a former spec may have left them.

        Needs no place to launch in, so that a pool can be ended whose spec can be had nowhere any more.
        """
        with self._lock:
            if self._used is None:
                enabled = set(enabled_regions(self._aws))
                named = enabled & {region_of(offer) for offer in self._spec.resources.offers}
                used = self._aws.each(enabled - named, lambda region: self._is_used(pool, region))
                self._used = named | {region for region, found in used.items() if found}
            return sorted(self._used)

    def _is_used(self, pool: str, region: str) -> bool:
        try:
            with told(f"machines in {region}"):
                return bool(self._describe(region, [{"Name": f"tag:{TAG}pool", "Values": [pool]}]))
        except Misconfigured as error:
            # The account may not look there, so that it cannot have launched there either.
            log.info("region_left_out", region=region, why=str(error))
            return False

    # -- machines -----------------------------------------------------------------------------------------------------

    def _describe(self, region: str, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        listed = pages(self._aws.ec2(region), "describe_instances", "Reservations", Filters=filters)
        return [machine for reservation in listed for machine in reservation["Instances"]]

    def _in_region(self, pool: str, region: str) -> list[Instance]:
        with told(f"machines in {region}"):
            machines = self._describe(region, [{"Name": f"tag:{TAG}pool", "Values": [pool]}])
            going: dict[str, float | None] = {}
            if any(machine.get("InstanceLifecycle") == "spot" for machine in machines):
                marked = [{"Name": "status-code", "Values": list(_GOING)}]
                requests = pages(
                    self._aws.ec2(region), "describe_spot_instance_requests", "SpotInstanceRequests", Filters=marked
                )
                going = {request.get("InstanceId", ""): _goes_unix_s(request) for request in requests}
        return [self._read(machine, region, going) for machine in machines]

    def _by_token(self, order: Order, region: str) -> Instance | None:
        with told(f"machines in {region}"):
            filters = [{"Name": f"tag:{TAG}token", "Values": [order.token]}]
            for machine in self._describe(region, filters):
                return self._read(machine, region)
        return None

    def _await_token(self, order: Order, region: str, why: Exception) -> Instance:
        """The machine that another call has made for the token. Raises CannotTell where it does not appear."""
        end, tick = time.monotonic() + LOOK_LIMIT_S, threading.Event()
        while time.monotonic() < end:
            found = self._by_token(order, region)
            if found is not None:
                return found
            tick.wait(_LOOK_EVERY_S)
        raise CannotTell(f"aws: launch in {order.zone}: {why}, and no machine has the token")

    @staticmethod
    def _still_there(instance: Instance, order: Order) -> Instance:
        if instance.phase in {Phase.STOPPING, Phase.GONE}:
            raise LaunchRefused("error", f"aws: launch in {order.zone}: its machine {instance.id} is gone already")
        return instance

    def _new(self, order: Order, place: Place, machine: dict[str, Any]) -> Instance:
        """Of a machine that was asked for just now: a listing may not have it yet."""
        kind = machine.get("InstanceType", "")
        return Instance(
            id=f"{place.region}/{machine['InstanceId']}",
            pool=order.pool,
            replica=order.replica,
            version=order.version,
            token=order.token,
            zone=order.zone,
            market=order.market,
            phase=Phase.PENDING,
            launched_unix_s=time.time(),
            price_per_hour=self._price(place.region, order.zone, kind, order.market),
        )

    def _read(
        self, machine: dict[str, Any], region: str, going: Mapping[str, float | None] = MappingProxyType({})
    ) -> Instance:
        """`going`: when machines go that are marked, where that is known."""
        tags = {tag["Key"]: tag["Value"] for tag in machine.get("Tags", [])}
        zone = machine["Placement"]["AvailabilityZone"]
        market: Market = "spot" if machine.get("InstanceLifecycle") == "spot" else "on_demand"
        phase = _PHASES.get(machine["State"]["Name"], Phase.RUNNING)
        address = machine.get("PublicIpAddress" if self._options.public else "PrivateIpAddress", "")
        ending = Ending.NONE
        if phase in {Phase.STOPPING, Phase.GONE}:
            ending = _ENDINGS.get(machine.get("StateReason", {}).get("Code", ""), Ending.FAILED)
        return Instance(
            id=f"{region}/{machine['InstanceId']}",
            pool=tags.get(f"{TAG}pool", ""),
            replica=_number(tags.get(f"{TAG}replica")),
            version=_number(tags.get(f"{TAG}version")),
            token=tags.get(f"{TAG}token", ""),
            zone=zone,
            market=market,
            phase=phase,
            ending=ending,
            endpoint=f"http://{address}:{self._options.runner_port}" if address and phase is Phase.RUNNING else "",
            launched_unix_s=machine["LaunchTime"].timestamp(),
            price_per_hour=self._price(region, zone, machine["InstanceType"], market),
            notice="interruption" if machine["InstanceId"] in going and phase is Phase.RUNNING else None,
            goes_unix_s=going.get(machine["InstanceId"]),
        )

    # -- prices -------------------------------------------------------------------------------------------------------

    def _ask_spot_prices(self, places: dict[str, Place]) -> None:
        types: dict[str, set[str]] = {}
        for place in places.values():
            if place.spot:
                types.setdefault(place.region, set()).update(machine.name for machine in place.types)
        if types:
            asked = self._aws.each(types, lambda region: spot_prices(self._aws, region, sorted(types[region])))
            for prices in asked.values():
                self._spot.update(prices)

    def _prices_in(self, region: str, places: dict[str, Place]) -> dict[str, Prices]:
        """Of a region's zones, each the cheapest of the types that may be launched there."""
        prices = {}
        for zone, place in places.items():
            if place.region == region:
                spot = [self._spot.get((zone, machine.name), math.inf) for machine in place.types]
                on_demand = min(self._on_demand.of(region, machine.name) for machine in place.types)
                prices[zone] = Prices(min(spot) if place.spot else math.inf, on_demand)
        return prices

    def _price(self, region: str, zone: str, kind: str, market: Market) -> float:
        """USD an hour, as last heard; 0 where it is not known, which no launch or listing fails for."""
        key = (region, zone, kind, market)
        if time.monotonic() < self._ask_again_s.get(key, 0.0):
            return 0.0
        try:
            if market == "spot":
                if (zone, kind) not in self._spot:
                    self._spot.update(spot_prices(self._aws, region, [kind]))
                return self._spot.get((zone, kind), 0.0)
            return self._on_demand.of(region, kind)
        except (CannotTell, Misconfigured) as error:
            self._ask_again_s[key] = time.monotonic() + PRICE_RETRY_S
            log.warning("price_unknown", zone=zone, type=kind, why=str(error))
            return 0.0


def _goes_unix_s(request: Mapping[str, Any]) -> float | None:
    marked = request.get("Status", {}).get("UpdateTime")
    return marked.timestamp() + _TOLD_S if isinstance(marked, datetime) else None


def _number(text: str | None) -> int:
    """Of a tag; 0, which is no replica, where somebody has written something else there."""
    return int(text) if text is not None and text.isdecimal() else 0
