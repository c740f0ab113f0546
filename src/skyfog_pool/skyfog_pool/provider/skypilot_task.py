"""The `skypilot` provider's pure half: names, tasks and errors, between our words and SkyPilot's."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from skyfog_core.config.pool import Resources, ServiceSpec
from skyfog_pool import report
from skyfog_pool.policy.market import LaunchFault, Market, Prices, Zone
from skyfog_pool.provider.base import LaunchRefused, Misconfigured, Order, ProviderError, Unavailable
from skyfog_pool.provider.program import ProgramError

Record = Mapping[str, Any]


def wanted_resources(resources: Resources) -> list[dict[str, Any]]:
    """The spec's alternatives as SkyPilot reads them, without the market: both are asked for."""
    shared = {
        key: value for key in ("image_id", "disk_size", "disk_tier") if (value := getattr(resources, key)) is not None
    }
    return [shared | offer.model_dump(exclude_none=True, exclude={"use_spot"}) for offer in resources.offers]


@dataclass(slots=True)
class Catalogue:
    """Where machines that fit are to be had, and for how much; the cheapest one of each zone and market."""

    zones: list[Zone] = field(default_factory=list)
    _names: dict[tuple[str, str, str], str] = field(default_factory=dict)  # by cloud, region, zone
    _offers: dict[tuple[str, Market], Record] = field(default_factory=dict)

    @classmethod
    def of(cls, offers: Iterable[Record]) -> Catalogue:
        """From what the worker says."""
        made = cls()
        offers = list(offers)
        clouds: dict[str, set[str]] = {}
        for offer in offers:
            clouds.setdefault(offer["zone"] or offer["region"], set()).add(offer["cloud"])
        for offer in offers:
            # A cloud without zones: its regions are the failure domains.
            name = offer["zone"] or offer["region"]
            name = name if len(clouds[name]) == 1 else f"{offer['cloud']}-{name}"
            place, market = _place(offer), _market(offer)
            if place not in made._names:
                made._names[place] = name
                made.zones.append(Zone(name, offer["region"], offer["cloud"]))
            best = made._offers.get((name, market))
            if best is None or offer["price"] < best["price"]:
                made._offers[name, market] = offer
        made.zones.sort()
        return made

    def prices(self) -> dict[str, Prices]:
        """By zone; infinite where a market is not offered."""
        return {
            zone.name: Prices(self._price(zone.name, "spot"), self._price(zone.name, "on_demand"))
            for zone in self.zones
        }

    def _price(self, zone: str, market: Market) -> float:
        offer = self._offers.get((zone, market))
        return math.inf if offer is None else float(offer["price"])

    def offer(self, zone: str, market: Market) -> Record:
        """What is ordered in a zone. Raises Misconfigured for an unknown one, LaunchRefused for a missing market."""
        if (zone, market) in self._offers:
            return self._offers[zone, market]
        names = [known.name for known in self.zones]
        if zone not in names:
            raise Misconfigured(f"skypilot: no zone {zone!r}; the spec's resources leave {', '.join(names)}")
        raise LaunchRefused("rejected", f"skypilot: {zone} offers no {market} machine that fits")

    def name_of(self, record: Record) -> str:
        """The name of the zone that a cluster is in; of one that the spec no longer allows, the cloud's own."""
        own: str = record["zone"] or record["region"]
        return self._names.get(_place(record), own)


def _place(record: Record) -> tuple[str, str, str]:
    return record["cloud"], record["region"], record["zone"]


def _market(record: Record) -> Market:
    return "spot" if record["spot"] else "on_demand"


def service_port(spec: ServiceSpec, otherwise: int) -> str:
    """Where the replica answers its probes: the port that a SkyServe file says, else one of ours."""
    own = spec.resources.ports
    said = spec.service.ports or (own[0] if isinstance(own, list) and own else own)
    return str(said) if str(said).isdecimal() else str(otherwise)


NOTICE_SOURCES = {"aws": "aws", "gcp": "gcp", "azure": "azure"}  # by cloud; others tell nothing beforehand
IMAGE = "docker:"
WORKDIR = "~/skyfog_workdir"


def task_of(spec: ServiceSpec, order: Order, offer: Record, runner_port: int, workspace: str) -> dict[str, Any]:
    """SkyPilot's task for an order. `workspace`: the folder that is shipped, or where it is in a docker image."""
    own = spec.resources
    ports = own.ports if isinstance(own.ports, list) else [own.ports] if own.ports is not None else []
    tags = {
        "skyfog-pool": order.pool,
        "skyfog-replica": str(order.replica),
        "skyfog-version": str(order.version),
        "skyfog-token": order.token.lower(),
    }
    resources = dict(offer["resources"]) | {
        "use_spot": order.market == "spot",
        "ports": list(dict.fromkeys([str(runner_port), *map(str, ports)])),
        "labels": {**own.labels, **tags},
    }
    # A market takes the machine for good: SkyPilot must not move it elsewhere by itself.
    resources.pop("job_recovery", None)
    environment = {
        report.RUNNER_LISTEN: f"0.0.0.0:{runner_port}",
        report.SERVICE_PORT: service_port(spec, runner_port + 1),
        report.NOTICE_SOURCE: NOTICE_SOURCES.get(offer["cloud"], "none"),
        **order.environment,
    }
    task: dict[str, Any] = {"name": f"skyfog-{order.pool}", "resources": resources, "envs": environment}
    mounts = dict(spec.file_mounts)
    if own.image_id is not None and own.image_id.startswith(IMAGE):
        ws = f"{workspace}/ws"
    else:
        ws = "~/sky_workdir/ws"
        task |= {"workdir": workspace, "setup": "./ws setup && ./ws build"}
    if spec.workdir is not None:
        mounts[WORKDIR] = spec.workdir
    if mounts:
        task["file_mounts"] = mounts
    # One runner a machine: a launch that was asked for twice runs the command twice.
    runner = f"exec flock -n -E 0 ~/.skyfog-runner.lock {ws} run python -m skyfog_pool.runner"
    task["run"] = runner if spec.workdir is None else f"cd {WORKDIR}\n{runner}"
    return task


_QUOTA = re.compile(r"quota|limit ?exceeded|too many (vcpus|instances)|maximum number of", re.IGNORECASE)
_REJECTED = {
    "InvalidClusterNameError",
    "InvalidSkyPilotConfigError",
    "NotSupportedError",
    "ProvisionUnsupportedError",
    "ResourcesMismatchError",
    "UserRequestRejectedByPolicy",
    "ValueError",
}
_MISCONFIGURED = {
    "APINotSupportedError",
    "APIVersionMismatchError",
    "ApiServerAuthenticationError",
    "CloudUserIdentityError",
    "ClusterOwnerIdentityMismatchError",
    "InvalidCloudConfigs",
    "InvalidCloudCredentials",
    "NoCloudAccessError",
    "PermissionDeniedError",
}
# The machine came, and what was to be prepared on it failed.
_ON_THE_MACHINE = {"ClusterSetUpError", "CommandError", "StorageError"}


def launch_error(error: ProgramError, where: str) -> ProviderError:
    """What a failed launch means to us. A LaunchRefused holds only once the cluster was taken down."""
    kinds, message = set(error.kinds), f"skypilot: {where}: {error}"
    if kinds & _MISCONFIGURED:
        return Misconfigured(f"{message} (see `sky check`)")
    fault: LaunchFault | None = None
    if "ResourcesUnavailableError" in kinds:
        fault = _unavailable(error)
    elif "ProvisionPrechecksError" in kinds:
        fault = "quota" if _is_quota([str(error), *error.causes]) else "rejected"
    elif kinds & _REJECTED:
        fault = "rejected"
    elif kinds & _ON_THE_MACHINE or "RequestCancelled" in kinds:
        fault = "error"
    if fault is None:
        return Unavailable(message)
    return LaunchRefused(fault, "; ".join([message, *error.causes]))


def _unavailable(error: ProgramError) -> LaunchFault:
    if _is_quota([str(error), *error.causes]):
        return "quota"
    # Nothing was tried: no machine of the catalogue fits (documented at sky.launch).
    return "capacity" if error.causes else "rejected"


def _is_quota(messages: Sequence[str]) -> bool:
    return any(_QUOTA.search(message) for message in messages)


def call_error(error: ProgramError, what: str) -> ProviderError:
    """What any other failed call means to us."""
    message = f"skypilot: {what}: {error}"
    if set(error.kinds) & _MISCONFIGURED:
        return Misconfigured(f"{message} (see `sky check`)")
    return Unavailable(message)
