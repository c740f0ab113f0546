"""Schemas of `skyfog demo` and of its camera."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from skyfog_core.config.base import Strict


class ZoneConfig(Strict):
    """A zone as the demo plays it on one machine."""

    zone: Annotated[str, Field(min_length=1, description="failure domain, e.g. us-west-2a")]
    added_latency_ms: Annotated[int, Field(ge=0, le=60_000, description="emulated distance from the robot")]


class DemoConfig(Strict):
    """One run of the demo: how long, how fast, over what, and where the results go."""

    seconds: Annotated[float, Field(ge=6, le=3_600, description="how long requests are counted")] = 40.0
    rate: Annotated[float, Field(ge=0.5, le=30, description="requests per second")] = 5.0
    replicas: Annotated[int, Field(ge=1, le=6, description="replicas, one in each zone, nearest zones first")] = 3
    image: Annotated[str, Field(description="folder of photographs, or a video; empty: photographs from packages")] = ""
    out: Annotated[str, Field(min_length=1, description="folder for results")] = "demo_out"
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="order of the photographs")] = 0
    zones: Annotated[list[ZoneConfig], Field(min_length=6, description="nearest first")] = [
        ZoneConfig(zone="us-west-2a", added_latency_ms=20),
        ZoneConfig(zone="us-east-1b", added_latency_ms=60),
        ZoneConfig(zone="eu-central-1c", added_latency_ms=110),
        ZoneConfig(zone="ap-northeast-1a", added_latency_ms=130),
        ZoneConfig(zone="sa-east-1a", added_latency_ms=180),
        ZoneConfig(zone="ap-south-1b", added_latency_ms=230),
    ]


class CameraConfig(Strict):
    """A camera that plays images and, where there is a `service`, asks it about each."""

    rate_hz: Annotated[float, Field(gt=0, le=60, description="images per second")] = 5.0
    image: Annotated[str, Field(description="folder of photographs, or a video; empty: photographs from packages")] = ""
    service: Annotated[str, Field(description="detection service to call; empty: images only")] = "/detect"
    limit_ms: Annotated[int, Field(ge=1, le=600_000, description="no answer by then is a failure")] = 4_000
    jpeg_quality: Annotated[int, Field(ge=1, le=100, description="quality of the images sent")] = 90
    score_threshold: Annotated[float, Field(ge=0, le=1, description="ask for detections at least this sure")] = 0.4
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="order of the photographs")] = 0
    record: Annotated[
        str, Field(description="JSON-lines file, a line per answer or failure, or per image; empty: none")
    ] = ""
