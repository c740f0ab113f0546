"""Schemas of `skyfog_uplink`: the option table, and the settings of estimator, allocator, shaper and nodes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from skyfog_core.config.base import Strict
from skyfog_core.config.quantities import Amount
from skyfog_core.config.router import LoadReportMs, RoutingConfig, ZenohConfig

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=60)]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]  # as `skyfog models` has it
Codec = Literal["jpeg", "webp", "png", "raw", "none"]


class FloorSpec(Strict):
    """The model on the car: always there, whatever the link does."""

    model: ModelName
    accuracy: Annotated[float, Field(ge=0, le=1)]
    exec_ms: Annotated[Amount, Field(description="time of the model on the car")] = 0.0
    source: Annotated[str, Field(description="where the figures come from")] = ""


class OptionSpec(Strict):
    """A cloud model for an input of one size and compression."""

    name: Name
    model: ModelName
    accuracy: Annotated[float, Field(ge=0, le=1, description="utility of an answer in time")]
    bytes: Annotated[Amount, Field(description="on the uplink for one frame")]
    pre_ms: Annotated[Amount, Field(description="on the car before the first byte: resizing, encoding")] = 0.0
    exec_ms: Annotated[Amount, Field(description="in the cloud, from the last byte in to the first byte out")]
    codec: Codec = "none"
    quality: Annotated[int, Field(ge=1, le=100, description="of jpeg and webp")] = 90
    width: Annotated[int, Field(ge=0, le=16_384, description="pixels sent; 0: as captured")] = 0
    height: Annotated[int, Field(ge=0, le=16_384, description="pixels sent; 0: as captured")] = 0
    source: str = ""


class UplinkServiceSpec(Strict):
    """A service of the car, and what it may run on. `like` takes what is not given from another service."""

    like: Annotated[Name | None, Field(description="another service of the table to start from")] = None
    cloud: Annotated[str | None, Field(description="ROS service that the cloud's replicas answer")] = None
    type: Annotated[str | None, Field(description="its type, e.g. skyfog_interfaces/srv/Detect")] = None
    rate_hz: Annotated[float | None, Field(gt=0, le=1_000, description="frames a second")] = None
    slo_ms: Annotated[float | None, Field(gt=0, le=3_600_000, description="from the capture to the answer")] = None
    target: Annotated[float | None, Field(gt=0, lt=1, description="share of offloaded frames within the SLO")] = None
    weight: Annotated[float | None, Field(ge=0, le=1_000, description="of its accuracy in the car's utility")] = None
    floor: FloorSpec | None = None
    options: Annotated[list[OptionSpec] | None, Field(max_length=100)] = None


class SceneSpec(Strict):
    """What the car is about to do, and what matters more or less then."""

    above_mps: Annotated[float | None, Field(ge=0, description="holds from this speed on")] = None
    below_mps: Annotated[float | None, Field(gt=0, description="holds below this speed")] = None
    weights: Annotated[dict[Name, Annotated[float, Field(ge=0, le=1_000)]], Field(description="factors by service")]


class UplinkTableSpec(Strict):
    """An option table: the services of a car, what each may run on, and what it is worth."""

    name: Name
    source: Annotated[str, Field(description="where the figures come from")]
    units: Annotated[dict[str, str], Field(max_length=100, description="units of your own: `frame: 236 kB`")] = {}
    services: Annotated[dict[Name, UplinkServiceSpec], Field(min_length=1, max_length=64)]
    scenes: Annotated[dict[Name, SceneSpec], Field(max_length=64)] = {}


class EstimatorConfig(Strict):
    """How the link is known from acknowledgements."""

    window_ms: Annotated[int, Field(ge=100, le=60_000, description="how far back rates are remembered")] = 10_000
    sample_ms: Annotated[int, Field(ge=5, le=1_000, description="over how long a rate is measured")] = 50
    ping_ms: Annotated[int, Field(ge=10, le=10_000, description="a ping so often where nothing else is sent")] = 50
    outage_ms: Annotated[int, Field(ge=20, le=10_000, description="silence at most before the link counts as gone")] = (
        200
    )
    outage_rtts: Annotated[float, Field(ge=1, le=100, description="the same in round trips; the longer holds")] = 2.0


class AllocatorConfig(Strict):
    """How the uplink is shared."""

    period_ms: Annotated[int, Field(ge=20, le=10_000, description="a new plan so often")] = 250
    step: Annotated[
        float, Field(gt=0, le=10, description="a plan at once after a change of the link by this share")
    ] = 0.2
    grid_kbps: Annotated[float, Field(gt=0, le=10_000, description="grain of the knapsack")] = 50.0
    max_mbps: Annotated[float, Field(gt=0, le=10_000, description="more is never planned with")] = 200.0
    switch_cost: Annotated[
        float, Field(ge=0, le=1, description="utility that another change must gain, a service, right after a change")
    ] = 0.1
    settle_ms: Annotated[int, Field(ge=1, le=600_000, description="after which half of it is asked")] = 5_000
    hold_ms: Annotated[int, Field(ge=0, le=60_000, description="a service is raised again only after this")] = 1_000
    risk: Annotated[float, Field(gt=0, lt=1, description="chance that the link is slower than planned with")] = 0.05
    keep_risk: Annotated[float, Field(gt=0, lt=1, description="the same, for options that run already")] = 0.35
    probe_share: Annotated[
        float, Field(ge=0, le=1, description="of what is left over, for the options wanted next")
    ] = 1.0


class ShaperConfig(Strict):
    """How the plan is enforced."""

    chunk_bytes: Annotated[int, Field(ge=256, le=65_536, description="what is sent without a look at the clock")] = (
        8_192
    )
    burst_ms: Annotated[float, Field(ge=1, le=10_000, description="depth of a token bucket, in time at its rate")] = (
        100.0
    )
    window_rtts: Annotated[float, Field(ge=1, le=20, description="bytes in flight at most, in rate times RTT")] = 1.5
    certainty: Annotated[
        float, Field(gt=0, lt=1, description="a frame that is less likely in time is not begun, at first")
    ] = 0.94
    misses: Annotated[
        float, Field(gt=0, lt=1, description="share of begun frames that may miss; the certainty follows it")
    ] = 0.008
    max_frame_bytes: Annotated[int, Field(ge=1_000, le=2**30, description="larger frames are refused")] = 16 << 20


class UplinkConfig(Strict):
    """All three, as one car has them."""

    estimator: EstimatorConfig = EstimatorConfig()
    allocator: AllocatorConfig = AllocatorConfig()
    shaper: ShaperConfig = ShaperConfig()


PlanStale = Annotated[
    int, Field(ge=200, le=60_000, description="all services are on the floor where no plan was told for so long")
]


class LinkConfig(ZenohConfig):
    """How a car and its gateways are linked: skyfog_uplink/doc/the_link.md says why these values."""

    lease_ms: Annotated[int, Field(ge=500, le=600_000, description="silence after which the link is made anew")] = 2_000
    shared_memory: Annotated[bool, Field(description="only where nobody measures the link between the two")] = False
    silent_ms: Annotated[
        int, Field(ge=100, le=60_000, description="a gateway that says nothing for so long is left for one that does")
    ] = 1_000
    send_buffer_bytes: Annotated[
        int,
        Field(ge=0, le=2**26, description="of the kernel for tcp and tls: what can no more be replaced; 0: its own"),
    ] = 0


class AllocatorNodeConfig(Strict):
    """The node `allocator`."""

    table: Annotated[str, Field(description="file with the option table")]
    allocator: AllocatorConfig = AllocatorConfig()
    floor_warn_s: Annotated[float, Field(gt=0, le=3_600, description="on the floor for so long: a warning")] = 10.0


class ShaperNodeConfig(Strict):
    """The node `shaper`: the car's end of the link."""

    table: Annotated[str, Field(description="file with the option table")]
    fleet: str = "skyfog"
    car: Annotated[str, Field(min_length=1, description="this car's name")] = "car"
    transport: Annotated[str, Field(description="module:factory of the transport")] = (
        "skyfog_bringup.uplink_link:open_link"
    )
    zenoh: LinkConfig = LinkConfig()
    estimator: EstimatorConfig = EstimatorConfig()
    shaper: ShaperConfig = ShaperConfig()
    plan_stale_ms: PlanStale = 1_500
    trace: Annotated[str, Field(description="file for decisions as JSON lines; empty: none")] = ""


class CarClientConfig(Strict):
    """The node `car_client`: one service of the car, its camera and both its answers."""

    table: Annotated[str, Field(description="file with the option table")]
    service: Annotated[str, Field(min_length=1, description="its name in the table")]
    image: Annotated[str, Field(description="sensor_msgs/Image topic")] = "image"
    on_car: Annotated[str, Field(description="ROS service of the model on the car")] = "on_car/detect"
    plan_stale_ms: PlanStale = 1_500
    publish: Annotated[
        Literal["each", "best"], Field(description="each answer as it comes, or one a frame at its deadline")
    ] = "each"


class GatewayConfig(Strict):
    """The cloud's end of the uplink: assembles frames, asks the replica router, sends the answers back."""

    fleet: str = "skyfog"
    name: Annotated[str, Field(min_length=1, description="this gateway's name")] = "gateway"
    zone: Annotated[str, Field(description="the gateway's own zone, for `rank: zone_aware`")] = ""
    services: Annotated[
        dict[str, RoutingConfig], Field(min_length=1, description="how each ROS service is asked, e.g. /detect: {}")
    ]
    cars: Annotated[LinkConfig, Field(description="towards the cars: usually it listens")] = LinkConfig()
    zenoh: Annotated[ZenohConfig, Field(description="towards the replicas, as a robot has it")] = ZenohConfig()
    max_open: Annotated[int, Field(ge=1, le=100_000, description="frames in assembly or in the cloud at once")] = 256
    max_frame_bytes: Annotated[int, Field(ge=1_000, le=2**30)] = 16 << 20
    max_held_bytes: Annotated[int, Field(ge=1_000, le=2**40, description="of all frames in assembly")] = 256 << 20
    load_report_ms: LoadReportMs = 1_000
    metrics_listen: Annotated[
        str, Field(description="HOST:PORT for Prometheus, e.g. 127.0.0.1:9466; empty: no /metrics")
    ] = ""
    trace: Annotated[str, Field(description="JSON-lines file for what became of each call; empty: none")] = ""
