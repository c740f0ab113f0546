"""Schema of a pool's service file: SkyServe's keys (SkyPilot 0.14), so that a file of theirs can be pasted, and ours.

Ours have defaults that leave theirs their meaning.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from skyfog_core.config.base import Strict
from skyfog_core.config.router import TlsConfig

PlacerName = Literal["skyfog", "spothedge", "dynamic_fallback", "on_demand", "even_spread", "round_robin", "asg"]
ProviderName = Literal["local", "aws", "skypilot", "ray"]
LoadBalancing = Literal["round_robin", "least_load", "instance_aware_least_load"]


class ReadinessProbe(Strict):
    """When a replica counts as ready: it holds its liveliness token, and answers this with 200."""

    path: Annotated[str, Field(pattern=r"^/", description="HTTP path on the replica's runner")] = "/ready"
    initial_delay_seconds: Annotated[
        float, Field(gt=0, le=86_400, description="ready by then, or FAILED_INITIAL_DELAY")
    ] = 1_200.0
    timeout_seconds: Annotated[float, Field(gt=0, le=600, description="of one probe")] = 15.0
    endpoint_probe_interval_seconds: Annotated[float, Field(gt=0, le=3_600, description="between probes")] = 10.0
    consecutive_failure_threshold_timeout: Annotated[
        float, Field(gt=0, le=86_400, description="seconds without an answer that end a replica: FAILED_PROBING")
    ] = 180.0
    post_data: Annotated[str | dict[str, Any] | None, Field(description="body, sent as JSON by POST; none: GET")] = None
    headers: Annotated[dict[str, str] | None, Field(description="sent with each probe")] = None


class ReplicaPolicyConfig(Strict):
    """How many replicas, on which market, and when that changes."""

    min_replicas: Annotated[int, Field(ge=0, le=1_000, description="replicas wanted at least")] = 1
    max_replicas: Annotated[
        int | None, Field(ge=1, le=1_000, description="replicas wanted at most; none: min_replicas, no autoscaling")
    ] = None
    num_overprovision: Annotated[
        int | None, Field(ge=0, le=100, description="spot replicas beyond the target; none: the placer chooses")
    ] = None
    target_qps_per_replica: Annotated[
        float | dict[str, float] | None,
        Field(description="requests per second for one replica, or by kind of machine; none: not scaled by rate"),
    ] = None
    dynamic_ondemand_fallback: Annotated[
        bool, Field(description="on-demand machines stand in for spot machines that are not ready")
    ] = True
    base_ondemand_fallback_replicas: Annotated[
        int, Field(ge=0, le=1_000, description="of the target, always on demand")
    ] = 0
    spot_placer: Annotated[
        PlacerName,
        Field(
            description="skyfog: ours; spothedge: as published; dynamic_fallback: SkyPilot 0.14's; others to compare"
        ),
    ] = "skyfog"
    upscale_delay_seconds: Annotated[
        float, Field(ge=0, le=86_400, description="more replicas are wanted for so long before they are started")
    ] = 300.0
    downscale_delay_seconds: Annotated[
        float, Field(ge=0, le=86_400, description="fewer replicas are wanted for so long before any is ended")
    ] = 1_200.0
    # Ours:
    target_queue_per_replica: Annotated[
        float | None, Field(gt=0, le=1e6, description="requests waiting per replica; none: not scaled by queue")
    ] = None
    slo_ms: Annotated[
        float | None, Field(gt=0, le=3_600_000, description="latency as robots see it; none: not scaled by latency")
    ] = None
    slo_target: Annotated[float, Field(ge=0.5, le=0.9999, description="share of requests within slo_ms")] = 0.99
    availability: Annotated[
        float, Field(ge=0.5, le=0.99999, description="`skyfog`: share of time at target to reach at least cost")
    ] = 0.995
    min_zones: Annotated[
        int,
        Field(ge=1, le=16, description="`skyfog`: zones in which replicas stand at least, where so many have machines"),
    ] = 1
    surge: Annotated[
        int, Field(ge=1, le=100, description="replicas beyond the target while a new version rolls out")
    ] = 1
    drain_seconds: Annotated[float, Field(ge=0, le=3_600, description="for a replica to finish what it has")] = 30.0
    on_notice: Annotated[
        Literal["drain", "serve"],
        Field(description="at an interruption notice: drain at once, or serve until shortly before the machine goes"),
    ] = "drain"
    max_launching: Annotated[int, Field(ge=1, le=1_000, description="launches under way at once")] = 16

    @model_validator(mode="after")
    def _consistent(self) -> ReplicaPolicyConfig:
        top = self.most
        if top < self.min_replicas:
            raise ValueError(f"max_replicas {top} is below min_replicas {self.min_replicas}")
        if self.base_ondemand_fallback_replicas > top:
            raise ValueError(
                f"base_ondemand_fallback_replicas {self.base_ondemand_fallback_replicas} is above max_replicas {top}"
            )
        scaled = (self.target_qps_per_replica, self.target_queue_per_replica, self.slo_ms)
        if self.max_replicas is not None and top > self.min_replicas and all(by is None for by in scaled):
            raise ValueError(
                "max_replicas is above min_replicas, and nothing says when to scale: set target_qps_per_replica, "
                "target_queue_per_replica or slo_ms"
            )
        if self.max_replicas is None and any(by is not None for by in scaled[:2]):
            raise ValueError("max_replicas is missing: scaling needs it")
        for qps in self.qps.values():
            if qps <= 0:
                raise ValueError(f"target_qps_per_replica {qps} is not above 0")
        return self

    @property
    def most(self) -> int:
        """Replicas wanted at most, over-provision and fallback apart."""
        return self.min_replicas if self.max_replicas is None else self.max_replicas

    @property
    def qps(self) -> dict[str, float]:
        """`target_qps_per_replica` by kind of machine, `` for any."""
        value = self.target_qps_per_replica
        return {} if value is None else value if isinstance(value, dict) else {"": value}


class Offer(Strict):
    """Machines that may be used: one entry of `any_of`, or all of `resources`. SkyPilot's keys."""

    infra: Annotated[str | None, Field(description="cloud/region/zone, e.g. aws/us-west-2/us-west-2b; * for any")] = (
        None
    )
    cloud: Annotated[str | None, Field(description="e.g. aws; rather infra")] = None
    region: Annotated[str | None, Field(description="e.g. us-west-2; rather infra")] = None
    zone: Annotated[str | None, Field(description="e.g. us-west-2b; rather infra")] = None
    instance_type: Annotated[str | None, Field(description="e.g. g5.xlarge")] = None
    accelerators: Annotated[str | dict[str, float] | None, Field(description="e.g. L4:1")] = None
    cpus: Annotated[str | int | float | None, Field(description="e.g. 4+")] = None
    memory: Annotated[str | int | float | None, Field(description="GiB, e.g. 16+")] = None
    use_spot: Annotated[bool | None, Field(description="spot machines; any_of may differ")] = None

    @model_validator(mode="after")
    def _one_way(self) -> Offer:
        if self.infra is not None and (self.cloud or self.region or self.zone):
            raise ValueError("infra says cloud, region and zone already: leave those out")
        if self.infra is not None and len(self.infra.split("/")) > 3:
            raise ValueError(f"infra {self.infra!r} is not cloud/region/zone")
        return self

    @property
    def place(self) -> tuple[str, str, str]:
        """Cloud, region, zone; each empty where any will do."""
        parts = (
            self.infra.split("/") if self.infra is not None else [self.cloud or "", self.region or "", self.zone or ""]
        )
        cloud, region, zone = ["" if part == "*" else part for part in (*parts, "", "")[:3]]
        return cloud, region, zone


class Resources(Offer):
    """What a replica runs on."""

    any_of: Annotated[list[Offer], Field(description="alternatives; each fills in what stands above")] = []
    ports: Annotated[int | str | list[int | str] | None, Field(description="the replica's ports")] = None
    image_id: Annotated[str | None, Field(description="machine image, or docker:IMAGE")] = None
    disk_size: Annotated[int | str | None, Field(description="GB")] = None
    disk_tier: Annotated[str | None, Field(description="low, medium, high, best")] = None
    labels: Annotated[dict[str, str], Field(description="tags put on every machine")] = {}

    @property
    def offers(self) -> list[Offer]:
        """The alternatives, each whole."""
        shared = {name: getattr(self, name) for name in Offer.model_fields}
        if not self.any_of:
            return [Offer(**shared)]
        placed = ("infra", "cloud", "region", "zone")
        return [
            Offer(
                **{
                    name: value
                    for name, value in shared.items()
                    if name not in placed or all(getattr(offer, key) is None for key in placed)
                }
                | {name: value for name, value in offer.model_dump().items() if value is not None}
            )
            for offer in self.any_of
        ]

    @property
    def spot(self) -> bool:
        """Whether spot machines may be used at all."""
        return any(offer.use_spot for offer in self.offers)


class ServiceSection(Strict):
    """SkyServe's `service` section."""

    readiness_probe: ReadinessProbe = ReadinessProbe()
    replica_policy: ReplicaPolicyConfig = ReplicaPolicyConfig()
    replicas: Annotated[int | None, Field(ge=0, le=1_000, description="a fixed number, instead of replica_policy")] = (
        None
    )
    load_balancing_policy: Annotated[
        LoadBalancing | None, Field(description="taken and not used: robots route for themselves")
    ] = None
    ports: Annotated[int | str | None, Field(description="of the replica's service")] = None

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, values: Any) -> Any:
        """SkyServe's short forms: `readiness_probe: /path`, `replicas: 2`."""
        if isinstance(values, dict):
            values = dict(values)
            if isinstance(values.get("readiness_probe"), str):
                values["readiness_probe"] = {"path": values["readiness_probe"]}
            if isinstance(values.get("replicas"), int) and "replica_policy" not in values:
                values["replica_policy"] = {"min_replicas": values["replicas"]}
        return values

    @model_validator(mode="after")
    def _one_way(self) -> ServiceSection:
        if self.replicas is not None and (
            self.replica_policy.min_replicas != self.replicas or self.replica_policy.max_replicas is not None
        ):
            raise ValueError("replicas and replica_policy exclude each other: use one of them")
        return self


class Fleet(Strict):
    """Ours: how the replicas take part in the fleet."""

    fleet: Annotated[str, Field(min_length=1, description="robots and replicas of one fleet see each other")] = "skyfog"
    service: Annotated[
        str, Field(description="ROS service that the replicas answer, e.g. /detect; empty: the pool's name")
    ] = ""
    connect: Annotated[list[str], Field(description="zenoh endpoints for the controller, e.g. tcp/10.0.0.5:7447")] = []
    listen: Annotated[list[str], Field(description="zenoh endpoints on which the controller listens")] = []
    replicas_connect: Annotated[
        list[str], Field(description="zenoh endpoints for the replicas, as $SKYFOG_CONNECT; none: those of `connect`")
    ] = []
    tls: TlsConfig = TlsConfig()  # the controller's certificate: role `pool`


class ServiceSpec(Strict):
    """A pool: a SkyPilot task with a `service` section."""

    name: Annotated[
        str | None, Field(pattern=r"^[a-z]([a-z0-9-]{0,40}[a-z0-9])?$", description="of the pool; none: by --name")
    ] = None
    service: ServiceSection
    resources: Resources = Resources()
    envs: Annotated[dict[str, str | int | float | None], Field(description="environment of setup and run")] = {}
    setup: Annotated[str, Field(description="shell commands before run, once a machine")] = ""
    run: Annotated[
        str, Field(description="shell command that is the replica; empty: `ros2 launch skyfog_bringup cloud.launch.py`")
    ] = ""
    workdir: Annotated[str | None, Field(description="folder shipped to every machine; none: the workspace")] = None
    file_mounts: Annotated[dict[str, Any], Field(description="files shipped: remote path to local path")] = {}
    num_nodes: Annotated[int, Field(ge=1, le=1, description="machines of one replica")] = 1
    # Ours:
    skyfog: Fleet = Fleet()
    provider: Annotated[
        ProviderName | None, Field(description="who gets the machines; none: as resources' cloud says, else local")
    ] = None
    provider_options: Annotated[dict[str, Any], Field(description="of the provider, see its doc page")] = {}

    @model_validator(mode="after")
    def _consistent(self) -> ServiceSpec:
        policy = self.service.replica_policy
        if not self.resources.spot and policy.spot_placer not in {"skyfog", "on_demand"}:
            raise ValueError(f"spot_placer {policy.spot_placer} needs resources.use_spot: true")
        if not self.resources.spot and policy.num_overprovision:
            raise ValueError("num_overprovision counts spot machines, and resources.use_spot is not true")
        return self
