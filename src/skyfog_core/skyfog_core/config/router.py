"""Schemas of `skyfog_router`: the robot's proxy and the replica's."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from skyfog_core.config.base import Strict

PolicyName = Literal["slo", "broadcast", "single", "k_of_n", "hedged"]
RankName = Literal["peak_ewma", "quantile", "p2c", "least_in_flight", "zone_aware", "price_aware", "sticky"]


def live(**field: Any) -> Any:
    """A field that may be changed while the node runs."""
    return Field(json_schema_extra={"live": True}, **field)


class TlsConfig(Strict):
    """Certificates for `tls/` and `quic/` endpoints; `skyfog certs` makes them. All or none."""

    ca: Annotated[str, Field(description="PEM file of the fleet's CA; peers with other certificates are refused")] = ""
    certificate: Annotated[str, Field(description="PEM file of this process's certificate")] = ""
    key: Annotated[str, Field(description="PEM file of its private key")] = ""

    @model_validator(mode="after")
    def _all_or_none(self) -> TlsConfig:
        given = [bool(value) for value in (self.ca, self.certificate, self.key)]
        if any(given) and not all(given):
            raise ValueError("ca, certificate and key go together: set all three or none")
        return self


class ZenohConfig(Strict):
    """How this process joins the fleet's zenoh network. Discovery by multicast is always off."""

    mode: Annotated[Literal["peer", "client", "router"], Field(description="zenoh mode")] = "peer"
    connect: Annotated[list[str], Field(description="endpoints to connect to, e.g. tcp/10.0.0.5:7447")] = []
    listen: Annotated[list[str], Field(description="endpoints to listen on, e.g. tcp/0.0.0.0:7447")] = []
    lease_ms: Annotated[int, Field(ge=500, le=600_000, description="silence after which a peer counts as gone")] = (
        10_000
    )
    shared_memory: Annotated[bool, Field(description="for large payloads between processes of one machine")] = True
    tls: TlsConfig = TlsConfig()


class HealthConfig(Strict):
    """When a replica is not asked for a while, from what its answers show."""

    consecutive_failures: Annotated[
        int, live(ge=1, le=1_000, description="failures or time-outs in a row that eject")
    ] = 3
    outlier_factor: Annotated[
        float,
        live(ge=1.5, le=1_000, description="median latency above the fleet's that ejects"),
    ] = 4.0
    outlier_samples: Annotated[int, live(ge=3, le=10_000, description="recent answers before a latency counts")] = 5
    ejection_ms: Annotated[int, live(ge=1, le=3_600_000, description="first ejection; doubles with each in a row")] = (
        1_000
    )
    max_ejection_ms: Annotated[int, live(ge=1, le=86_400_000, description="longest ejection")] = 60_000
    max_ejected: Annotated[float, live(ge=0, le=1, description="share of replicas ejected at once, rounded up")] = 0.5
    panic_below: Annotated[
        float,
        live(ge=0, le=1, description="share of healthy replicas below which all are asked"),
    ] = 0.34

    @model_validator(mode="after")
    def _ordered(self) -> HealthConfig:
        if self.max_ejection_ms < self.ejection_ms:
            raise ValueError(f"max_ejection_ms {self.max_ejection_ms} is below ejection_ms {self.ejection_ms}")
        return self


class RoutingConfig(Strict):
    """How requests of one service are spread over its replicas. Every key may be changed while the robot runs."""

    policy: Annotated[PolicyName, live(description="how many replicas are asked, and when")] = "slo"
    rank: Annotated[RankName, live(description="who is asked first")] = "peak_ewma"
    repeat: Annotated[
        Literal["idempotent", "if_not_executed", "at_most_once"],
        live(
            description="idempotent: may run on several replicas; if_not_executed: again only if it certainly did not "
            "run; at_most_once: sent a single time"
        ),
    ] = "idempotent"
    answer: Annotated[
        Literal["first", "best_by_deadline", "quorum"],
        live(description="which answer the client gets"),
    ] = "first"
    deadline_ms: Annotated[int, live(ge=1, le=3_600_000, description="valid reply or a failure by then")] = 2_000
    slo_ms: Annotated[
        int,
        live(ge=0, le=3_600_000, description="latency wanted; 0: the shortest that extra_load can pay for"),
    ] = 0
    slo_target: Annotated[float, live(ge=0.5, le=0.9999, description="share of requests within the SLO")] = 0.99
    extra_load: Annotated[
        float,
        live(ge=0, le=64, description="copies beyond the first, as a share of requests; `hedged` and `slo` keep it"),
    ] = 0.4
    hedge_quantile: Annotated[float, live(ge=0.5, le=0.999, description="`hedged`: latency quantile to wait for")] = (
        0.95
    )
    k: Annotated[int, live(ge=1, le=64, description="`k_of_n`: replicas asked at once")] = 2
    fan_out: Annotated[
        int, live(ge=1, le=64, description="most replicas busy with one request, the fallback apart")
    ] = 8
    max_attempts: Annotated[int, live(ge=1, le=1_000, description="most sends of one request")] = 16
    max_in_flight: Annotated[int, live(ge=1, le=100_000, description="more is refused as NOT_EXECUTED")] = 1_000
    priority: Annotated[int, live(ge=-128, le=127, description="higher goes first at a busy replica")] = 0
    quality_field: Annotated[
        str,
        live(description="`best_by_deadline`: number in the response, e.g. path_length_rad"),
    ] = ""
    quality: Annotated[Literal["min", "max"], live(description="whether less or more of it is better")] = "min"
    quorum: Annotated[int, live(ge=2, le=64, description="`quorum`: answers that must agree")] = 2
    quorum_fields: Annotated[
        list[str],
        live(description="`quorum`: fields compared; empty: the whole response"),
    ] = []
    health: HealthConfig = HealthConfig()

    @model_validator(mode="after")
    def _consistent(self) -> RoutingConfig:
        if self.slo_ms > self.deadline_ms:
            raise ValueError(f"slo_ms {self.slo_ms} is above deadline_ms {self.deadline_ms}")
        several = self.policy in {"broadcast", "k_of_n", "hedged"} or self.answer != "first"
        if self.repeat != "idempotent" and several:
            asks = f"policy {self.policy}" if self.answer == "first" else f"answer {self.answer}"
            raise ValueError(
                f"{asks} runs a request on several replicas, which repeat {self.repeat} forbids; "
                "use policy single or slo"
            )
        if self.answer == "best_by_deadline" and not self.quality_field:
            raise ValueError("answer best_by_deadline needs quality_field")
        if self.answer == "quorum" and self.quorum > self.fan_out:
            raise ValueError(f"quorum {self.quorum} is above fan_out {self.fan_out}")
        return self


class ServiceConfig(RoutingConfig):
    """One service that a robot's proxy offers."""

    name: Annotated[str, Field(description="ROS service name as clients call it; empty: the key of this entry")] = ""
    type: Annotated[str, Field(min_length=1, description="ROS service type, e.g. skyfog_interfaces/srv/Detect")]
    affinity_field: Annotated[
        str, Field(description="`rank: sticky`: field of the request that keeps to a replica; empty: the robot")
    ] = ""
    compress: Annotated[
        Literal["none", "zstd"], Field(description="of large payloads, both ways, where it makes them smaller")
    ] = "none"


LoadReportMs = Annotated[
    int, Field(ge=0, le=60_000, description="between reports of the load, by which a pool scales; 0: none")
]


class RobotProxyConfig(Strict):
    """The robot's end: offers each service under its own name and type to unmodified clients."""

    fleet: Annotated[str, Field(min_length=1, description="robots and replicas of one fleet see each other")] = "skyfog"
    robot: Annotated[
        str, Field(max_length=200, description="this robot's name, for fair shares at replicas; empty: drawn")
    ] = ""
    zone: Annotated[str, Field(description="the robot's own zone, for `rank: zone_aware`")] = ""
    services: Annotated[dict[str, ServiceConfig], Field(min_length=1)]
    zenoh: ZenohConfig = ZenohConfig()
    max_in_flight: Annotated[int, Field(ge=1, le=100_000, description="of all services; more is refused")] = 1_000
    load_report_ms: LoadReportMs = 1_000
    metrics_listen: Annotated[
        str, Field(description="HOST:PORT for Prometheus, e.g. 127.0.0.1:9464; empty: no /metrics")
    ] = ""
    trace: Annotated[str, Field(description="JSON-lines file for decisions and outcomes; empty: none")] = ""


class ReplicaProxyConfig(Strict):
    """The replica's end: a queryable in front of a ROS service, or with the service inside this process."""

    fleet: Annotated[str, Field(min_length=1, description="robots and replicas of one fleet see each other")] = "skyfog"
    zone: Annotated[str, Field(min_length=1, description="failure domain, e.g. us-west-2b")] = "local"
    replica: Annotated[str, Field(min_length=1, description="name of its own within the zone")] = "0"
    service: Annotated[str, Field(min_length=1, description="service name in the fleet, as robots call it")]
    type: Annotated[str, Field(min_length=1, description="ROS service type, e.g. skyfog_interfaces/srv/Detect")]
    target: Annotated[str, Field(description="ROS service to forward to; empty: the service's own name")] = ""
    embedded: Annotated[
        str, Field(description="module:factory run in this process; factory(node) returns a service callback")
    ] = ""
    warm_up: Annotated[
        bool, Field(description="announced only when the embedded service has warmed up, where it can")
    ] = True
    concurrency: Annotated[int, Field(ge=1, le=1_024, description="requests running at once")] = 1
    max_queue: Annotated[int, Field(ge=0, le=100_000, description="waiting requests; more is refused")] = 64
    remember_s: Annotated[int, Field(ge=1, le=86_400, description="how long a request id is remembered")] = 300
    local: Annotated[bool, Field(description="on the robot itself: asked last, or when the link is gone")] = False
    robot: Annotated[
        str, Field(max_length=200, description="with local: the robot whose fallback this is; empty: any that sees it")
    ] = ""
    price_per_hour: Annotated[
        float, Field(ge=0, lt=1e6, description="USD for this machine, for `rank: price_aware` and costs; 0: not told")
    ] = 0.0
    draining: Annotated[bool, live(description="take nothing new, finish what is here")] = False
    drain_ms: Annotated[int, live(ge=0, le=3_600_000, description="at the end: time for running requests")] = 3_000
    compress: Annotated[Literal["none", "zstd"], Field(description="of large replies, for robots that read it")] = (
        "none"
    )
    added_latency_ms: Annotated[int, Field(ge=0, le=60_000, description="emulated distance, for demos only")] = 0
    load_report_ms: LoadReportMs = 1_000
    zenoh: ZenohConfig = ZenohConfig()
    metrics_listen: Annotated[
        str, Field(description="HOST:PORT for Prometheus, e.g. 127.0.0.1:9465; empty: no /metrics")
    ] = ""
    trace: Annotated[str, Field(description="JSON-lines file for decisions and outcomes; empty: none")] = ""
