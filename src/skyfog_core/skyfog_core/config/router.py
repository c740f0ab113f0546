"""Schemas of `skyfog_router`: the robot's proxy and the replica's."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from skyfog_core.config.base import Strict


class ZenohConfig(Strict):
    """How this process joins the fleet's zenoh network. Discovery by multicast is always off."""

    mode: Annotated[Literal["peer", "client", "router"], Field(description="zenoh mode")] = "peer"
    connect: Annotated[list[str], Field(description="endpoints to connect to, e.g. tcp/10.0.0.5:7447")] = []
    listen: Annotated[list[str], Field(description="endpoints to listen on, e.g. tcp/0.0.0.0:7447")] = []
    lease_ms: Annotated[int, Field(ge=500, le=600_000, description="silence after which a peer counts as gone")] = (
        10_000
    )


class ServiceConfig(Strict):
    """One service that a robot's proxy offers."""

    name: Annotated[str, Field(description="ROS service name as clients call it; empty: the key of this entry")] = ""
    type: Annotated[str, Field(min_length=1, description="ROS service type, e.g. skyfog_interfaces/srv/Detect")]
    deadline_ms: Annotated[int, Field(ge=1, le=3_600_000, description="valid reply or a failure by then")] = 2_000
    fan_out: Annotated[int, Field(ge=1, le=64, description="most replicas asked at once")] = 8


class RobotProxyConfig(Strict):
    """The robot's end: offers each service under its own name and type to unmodified clients."""

    fleet: Annotated[str, Field(min_length=1, description="robots and replicas of one fleet see each other")] = "skyfog"
    services: Annotated[dict[str, ServiceConfig], Field(min_length=1)]
    zenoh: ZenohConfig = ZenohConfig()
    max_in_flight: Annotated[int, Field(ge=1, le=100_000, description="more is refused as NOT_EXECUTED")] = 1_000
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
    concurrency: Annotated[int, Field(ge=1, le=1_024, description="requests running at once")] = 1
    max_queue: Annotated[int, Field(ge=0, le=100_000, description="waiting requests; more is refused")] = 64
    remember_s: Annotated[int, Field(ge=1, le=86_400, description="how long a request id is remembered")] = 300
    added_latency_ms: Annotated[int, Field(ge=0, le=60_000, description="emulated distance, for demos only")] = 0
    zenoh: ZenohConfig = ZenohConfig()
    trace: Annotated[str, Field(description="JSON-lines file for decisions and outcomes; empty: none")] = ""
