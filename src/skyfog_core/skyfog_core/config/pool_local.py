"""Schema of the `local` provider's options: a cloud on this machine, its zones, links and market."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from skyfog_core.config.base import Strict


class LocalZone(Strict):
    """An emulated zone. Its link is the one to the home zone, where controller and robots are."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=60)]
    region: Annotated[str, Field(description="zones of one region may fail together")] = ""
    spot_price: Annotated[float, Field(gt=0, le=1e6, description="USD an hour")] = 0.3
    on_demand_price: Annotated[float, Field(gt=0, le=1e6, description="USD an hour")] = 1.0
    capacity: Annotated[int, Field(ge=0, le=1_000, description="spot machines to be had at most")] = 16
    on_demand_capacity: Annotated[int, Field(ge=0, le=1_000, description="on-demand machines to be had at most")] = 16
    trace: Annotated[
        str | None, Field(description="file with the spot capacity over time, as in skypilot-org/spot-traces")
    ] = None
    delay_ms: Annotated[float, Field(ge=0, le=10_000, description="one way")] = 0.0
    jitter_ms: Annotated[float, Field(ge=0, le=10_000, description="standard deviation of the delay")] = 0.0
    loss: Annotated[float, Field(ge=0, lt=1, description="share of packets that vanish")] = 0.0
    rate_mbit: Annotated[float, Field(ge=0, le=100_000, description="0: no limit")] = 0.0


HOME = "home"
DEFAULT_ZONES = [
    LocalZone(name="local-1a", region="local-1", spot_price=0.30, delay_ms=1.0),
    LocalZone(name="local-1b", region="local-1", spot_price=0.32, delay_ms=1.5),
    LocalZone(name="local-2a", region="local-2", spot_price=0.35, delay_ms=10.0, jitter_ms=0.5),
]


class LocalOptions(Strict):
    """`provider_options` of provider `local`."""

    zones: Annotated[
        list[LocalZone], Field(max_length=200, description="none: those of the trace, else three of our own")
    ] = []
    trace: Annotated[str | None, Field(description="folder with a file ZONE_*.json for each zone's spot capacity")] = (
        None
    )
    seed: Annotated[int | None, Field(ge=0, description="spot capacity comes and goes by chance; none: it stays")] = (
        None
    )
    good_s: Annotated[float, Field(gt=0, description="with a seed: mean time with capacity, in market time")] = 7_200.0
    bad_s: Annotated[float, Field(gt=0, description="with a seed: mean time without, in market time")] = 900.0
    speed: Annotated[float, Field(gt=0, le=1e6, description="seconds of market time in one second")] = 1.0
    notices: Annotated[float, Field(ge=0, le=1, description="share of preemptions that are told before")] = 1.0
    notice_s: Annotated[float, Field(ge=0, le=3_600, description="from a notice to the end, in seconds")] = 120.0
    stop_s: Annotated[float, Field(ge=0, le=600, description="from SIGTERM to SIGKILL when the market takes it")] = 5.0
    notice_source: Annotated[
        Literal["file", "aws", "gcp", "azure"], Field(description="how a machine hears of its notice")
    ] = "file"
    cold_start_s: Annotated[float, Field(ge=0, le=3_600, description="from the launch until the machine runs")] = 0.0
    namespaces: Annotated[
        Literal["auto"] | bool,
        Field(description="zones with a network of their own; auto: where this machine permits it"),
    ] = "auto"
    linger_s: Annotated[
        float, Field(gt=0, le=86_400, description="the cloud ends after so long without machines and without calls")
    ] = 60.0

    @model_validator(mode="after")
    def _consistent(self) -> LocalOptions:
        names = [zone.name for zone in self.zones]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"zone {name!r} is there twice")
        if HOME in names:
            raise ValueError(f"zone {HOME!r} is where controller and robots are: name it otherwise")
        traced = self.trace is not None or any(zone.trace is not None for zone in self.zones)
        if self.seed is not None and traced:
            raise ValueError("seed and trace exclude each other: capacity follows one of them")
        return self
