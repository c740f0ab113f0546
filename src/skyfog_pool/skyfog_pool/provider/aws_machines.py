"""Which machines a service file allows on AWS, and in which zones they are offered.

A zone of ours is an availability zone; in each, a launch may try several types of machine that meet the same needs, all
of one architecture and all with or all without accelerators, since one machine image serves them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from skyfog_core.config.base import nearest
from skyfog_core.config.pool import Offer, ServiceSpec
from skyfog_pool.provider.aws_options import AwsOptions
from skyfog_pool.provider.aws_session import Aws, code_of, pages, told
from skyfog_pool.provider.base import Misconfigured

ARM = "arm64"
_ZONE = re.compile(r"([a-z]{2,3}(?:-[a-z]+)+-\d+)[a-z]")  # us-west-2b, us-gov-west-1a


@dataclass(frozen=True, slots=True)
class MachineType:
    """As EC2 describes it."""

    name: str
    vcpus: int
    memory_gib: float
    architecture: str  # x86_64 or arm64
    accelerator: str = ""  # L4, A10G, Trainium; empty: none
    accelerators: float = 0.0
    accelerator_gib: float = 0.0  # of one

    @property
    def kind(self) -> tuple[str, bool]:
        """What decides the machine image."""
        return self.architecture, bool(self.accelerator)


@dataclass(frozen=True, slots=True)
class Place:
    """One availability zone, and what may be launched there."""

    zone: str
    region: str
    subnet: str
    vpc: str
    types: tuple[MachineType, ...]
    spot: bool  # the file allows spot machines here


def read_type(described: dict[str, Any]) -> MachineType:
    """From an item of DescribeInstanceTypes."""
    architectures = described.get("ProcessorInfo", {}).get("SupportedArchitectures", ["x86_64"])
    gpus = described.get("GpuInfo", {}).get("Gpus", [])
    neurons = described.get("NeuronInfo", {}).get("NeuronDevices", [])
    device = (gpus or neurons or [{}])[0]
    return MachineType(
        name=described["InstanceType"],
        vcpus=described.get("VCpuInfo", {}).get("DefaultVCpus", 0),
        memory_gib=described.get("MemoryInfo", {}).get("SizeInMiB", 0) / 1024,
        architecture=ARM if ARM in architectures else "x86_64",
        accelerator=device.get("Name", ""),
        accelerators=float(device.get("Count", 0)),
        accelerator_gib=device.get("MemoryInfo", {}).get("SizeInMiB", 0) / 1024,
    )


def read_amount(key: str, value: str | float | None) -> tuple[float, float]:
    """SkyPilot's `4` (just so many) and `4+` (or more), as lowest and highest. Raises Misconfigured."""
    if value is None:
        return 0.0, math.inf
    text = str(value).strip()
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(\+?)", text)
    if found is None:
        raise Misconfigured(f"resources.{key}: {text!r} is neither a number nor a number and +, e.g. 4+")
    low = float(found[1])
    return low, math.inf if found[2] else low


def read_accelerators(value: str | dict[str, float] | None) -> dict[str, float]:
    """`L4`, `L4:1` or a map: alternatives, in lower case. Raises Misconfigured."""
    if value is None:
        return {}
    if isinstance(value, dict):
        return {name.lower(): float(count) for name, count in value.items()}
    name, _, count = value.partition(":")
    try:
        return {name.strip().lower(): float(count or 1)}
    except ValueError:
        raise Misconfigured(f"resources.accelerators: {value!r} is not NAME:COUNT, e.g. L4:1") from None


def _accelerated_as_wanted(machine: MachineType, wanted: dict[str, float]) -> bool:
    if not wanted:
        return not machine.accelerator
    name = machine.accelerator.lower()
    # SkyPilot tells the two sizes of this one apart by name, and EC2 by memory.
    if name == "a100" and machine.accelerator_gib > 60:
        name = "a100-80gb"
    return machine.accelerators == wanted.get(name)


def matching(machines: Iterable[MachineType], offer: Offer, most: int) -> list[MachineType]:
    """Those that meet the offer's needs, smallest first, at most `most`, all of the kind of the smallest."""
    cpus, memory = read_amount("cpus", offer.cpus), read_amount("memory", offer.memory)
    wanted = read_accelerators(offer.accelerators)
    fit = sorted(
        (
            machine
            for machine in machines
            if cpus[0] <= machine.vcpus <= cpus[1]
            and memory[0] <= machine.memory_gib <= memory[1]
            and _accelerated_as_wanted(machine, wanted)
        ),
        key=lambda machine: (machine.accelerators, machine.vcpus, machine.memory_gib, machine.name),
    )
    return [machine for machine in fit if machine.kind == fit[0].kind][:most]


def region_of(offer: Offer) -> str:
    """The region that an offer names, or that its zone is in; empty: any. Raises Misconfigured."""
    cloud, region, zone = offer.place
    if cloud not in {"", "aws"}:
        raise Misconfigured(f"resources: {cloud!r} is another cloud than this pool's provider, aws")
    inside = _ZONE.fullmatch(zone)
    if zone and inside is None:
        raise Misconfigured(f"resources: {zone!r} is no availability zone of AWS; they are named as us-west-2b is")
    if inside is not None and region and inside[1] != region:
        raise Misconfigured(f"resources: zone {zone!r} is not in region {region!r}")
    return inside[1] if inside is not None else region


def enabled_regions(aws: Aws) -> list[str]:
    """Regions that the account may use. Raises Unavailable, Misconfigured."""
    with told("regions"):
        return sorted(item["RegionName"] for item in aws.ec2(aws.home).describe_regions()["Regions"])


def find_places(aws: Aws, spec: ServiceSpec, options: AwsOptions) -> dict[str, Place]:
    """By zone: where the spec's offers can be had. Raises Misconfigured where an offer can be had nowhere."""
    regions = enabled_regions(aws)
    offers: dict[str, list[Offer]] = {}
    for offer in spec.resources.offers:
        named = region_of(offer)
        if named and named not in regions:
            raise Misconfigured(
                f"resources: region {named!r} is unknown, or not enabled for this account{nearest(named, regions)}"
                f" Enabled are {', '.join(regions)}"
            )
        for region in [named] if named else regions:
            offers.setdefault(region, []).append(offer)
    found = aws.each(offers, lambda region: _places_in(aws, region, offers[region], options))
    places = {place.zone: place for inside in found.values() for place in inside}
    if not places:
        raise Misconfigured(
            f"resources: no zone of {', '.join(sorted(offers))} offers such a machine in a default subnet; "
            "name other needs or regions, or give provider_options.subnets"
        )
    return places


def _places_in(aws: Aws, region: str, offers: list[Offer], options: AwsOptions) -> list[Place]:
    """Of one region. Raises Misconfigured where an offer names this region or a zone of it, and is not to be had."""
    subnets = _subnets(aws, region, options)
    places: dict[str, Place] = {}
    for offer in offers:
        types = _types(aws, region, offer, options.candidates)
        where = _offered(aws, region, types)
        zone = offer.place[2]
        if zone and zone not in subnets:
            known = f"known are {', '.join(sorted(subnets))}" if subnets else "none is known in that region"
            raise Misconfigured(f"resources: zone {zone!r} is unknown, or has no default subnet: {known}")
        wanted = {zone} if zone else set(subnets)
        usable = wanted & {name for names in where.values() for name in names}
        if not usable and region_of(offer):
            needs = {"cpus": offer.cpus, "memory": offer.memory, "accelerators": offer.accelerators}
            told_needs = ", ".join(f"{key} {value}" for key, value in needs.items() if value is not None)
            raise Misconfigured(f"resources: {zone or region} offers no machine {offer.instance_type or told_needs!r}")
        for name in sorted(usable):
            here = [machine for machine in types if name in where[machine.name]]
            old = places.get(name)
            joined = [*(old.types if old is not None else ()), *here]
            one_kind = tuple(dict.fromkeys(machine for machine in joined if machine.kind == joined[0].kind))
            spot = bool(offer.use_spot) or (old is not None and old.spot)
            places[name] = Place(name, region, *subnets[name], one_kind, spot)
    return list(places.values())


def _types(aws: Aws, region: str, offer: Offer, most: int) -> list[MachineType]:
    """Empty where the region has none such."""
    ec2 = aws.ec2(region)
    with told(f"types of machine in {region}"):
        if offer.instance_type is not None:
            try:
                described = pages(ec2, "describe_instance_types", "InstanceTypes", InstanceTypes=[offer.instance_type])
            except ec2.exceptions.ClientError as error:
                if code_of(error) not in {"InvalidInstanceType", "InvalidParameterValue"}:
                    raise
                return []
            return [read_type(item) for item in described]
        filters = [
            {"Name": "bare-metal", "Values": ["false"]},
            {"Name": "supported-usage-class", "Values": ["spot" if offer.use_spot else "on-demand"]},
            {"Name": "processor-info.supported-architecture", "Values": ["x86_64"]},
        ]
        if offer.accelerators is None:  # some that people ask for by name are of the last generation
            filters.append({"Name": "current-generation", "Values": ["true"]})
        described = pages(ec2, "describe_instance_types", "InstanceTypes", Filters=filters)
    return matching(map(read_type, described), offer, most)


def _offered(aws: Aws, region: str, types: list[MachineType]) -> dict[str, set[str]]:
    """Zones by name of type."""
    zones: dict[str, set[str]] = {machine.name: set() for machine in types}
    if types:
        with told(f"zones that offer {', '.join(zones)}"):
            for item in pages(
                aws.ec2(region),
                "describe_instance_type_offerings",
                "InstanceTypeOfferings",
                LocationType="availability-zone",
                Filters=[{"Name": "instance-type", "Values": sorted(zones)}],
            ):
                zones[item["InstanceType"]].add(item["Location"])
    return zones


def _subnets(aws: Aws, region: str, options: AwsOptions) -> dict[str, tuple[str, str]]:
    """Subnet and VPC by zone."""
    chosen = [subnet for zone, subnet in options.subnets.items() if zone.startswith(region)]
    request: dict[str, Any] = (
        {"SubnetIds": chosen} if chosen else {"Filters": [{"Name": "default-for-az", "Values": ["true"]}]}
    )
    with told(f"subnets in {region}"):
        found = pages(aws.ec2(region), "describe_subnets", "Subnets", **request)
    return {item["AvailabilityZone"]: (item["SubnetId"], item["VpcId"]) for item in found}
