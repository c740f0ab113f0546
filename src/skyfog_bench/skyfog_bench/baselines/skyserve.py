"""SkyPilot's own spot placer and autoscaler behind JSON lines. Runs in the peer's Python, and imports nothing of ours.

Line in, once: {"zones": [{"name", "region", "price"}], "target": n, "over": n}. Then, each time that a decision is due,
{"now": seconds, "events": [[what, replica], ...]} with what one of started, ready, preempted, failed, down, gone;
line out: {"up": [[replica, zone or null for on demand], ...], "down": [replica, ...]}. Ids are given here, from 1 on.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from sky import clouds
from sky.serve import autoscalers, replica_managers, spot_placer
from sky.serve.service_spec import SkyServiceSpec
from sky.utils.common_utils import ProcessStatus


class Clock:
    """In the place of the module `time`: the autoscaler asks for the age of requests, of which there are none."""

    now = 0.0

    def time(self) -> float:
        return self.now


class Placer(spot_placer.DynamicFallbackSpotPlacer, name="with_given_zones"):  # type: ignore[misc, call-arg]
    """Theirs asks the cloud for its zones and prices."""

    def __init__(self, prices: dict[Any, float]) -> None:
        self.location2status = dict.fromkeys(prices, spot_placer.LocationStatus.ACTIVE)
        self.location2cost = prices


class Service:
    """What SkyPilot's replica manager keeps and does (sky/serve/replica_managers.py), without its threads."""

    def __init__(self, setup: dict[str, Any]) -> None:
        zones = setup["zones"]
        self.locations = {
            zone["name"]: spot_placer.Location(clouds.AWS(), zone["region"], zone["name"]) for zone in zones
        }
        self.names = {location: name for name, location in self.locations.items()}
        self.placer = Placer({self.locations[zone["name"]]: zone["price"] for zone in zones})
        self.autoscaler = autoscalers.Autoscaler.from_spec("pool", spec_of(setup))
        self.replicas: dict[int, Any] = {}
        self.last = 0

    def happened(self, what: str, replica: int, now_s: float) -> None:
        info = self.replicas[replica]
        status = info.status_property
        where = info.get_spot_location() if info.is_spot else None
        if what == "started":
            status.sky_launch_status = ProcessStatus.SUCCEEDED
            if where is not None:
                self.placer.set_active(where)
        elif what == "ready":
            status.service_ready_now, status.first_ready_time = True, now_s
        elif what == "down":
            status.sky_down_status = ProcessStatus.RUNNING
            if status.sky_launch_status == ProcessStatus.RUNNING:
                status.sky_launch_status = ProcessStatus.INTERRUPTED
        else:
            if where is not None and what in {"preempted", "failed"}:
                self.placer.set_preemptive(where)
            del self.replicas[replica]

    def decide(self) -> dict[str, Any]:
        up: list[tuple[int, str | None]] = []
        down: list[int] = []
        version = self.autoscaler.latest_version
        for decision in self.autoscaler.generate_scaling_decisions(list(self.replicas.values()), [version]):
            if decision.operator == autoscalers.AutoscalerDecisionOperator.SCALE_DOWN:
                down.append(decision.target)
                continue
            where = None
            if decision.target["use_spot"]:
                used = [info.get_spot_location() for info in self.replicas.values() if info.is_spot]
                where = self.placer.select_next_location(used)
            self.last += 1
            info = replica_managers.ReplicaInfo(
                self.last, f"pool-{self.last}", "8080", where is not None, where, version, dict(decision.target)
            )
            info.status_property.sky_launch_status = ProcessStatus.RUNNING
            self.replicas[self.last] = info
            up.append((self.last, None if where is None else self.names[where]))
        return {"up": up, "down": down}


def spec_of(setup: dict[str, Any]) -> Any:
    """A fixed target, so that the rate of requests plays no part."""
    return SkyServiceSpec(
        readiness_path="/",
        initial_delay_seconds=1200,
        readiness_timeout_seconds=15,
        endpoint_probe_interval_seconds=10,
        lb_stream_timeout_seconds=None,
        min_replicas=setup["target"],
        max_replicas=setup["target"],
        num_overprovision=setup["over"],
        target_qps_per_replica=1.0,
        dynamic_ondemand_fallback=True,
        base_ondemand_fallback_replicas=0,
        spot_placer="dynamic_fallback",
    )


def main() -> None:
    """One answer a line."""
    answers, sys.stdout = sys.stdout, sys.stderr  # SkyPilot may print
    logging.getLogger("sky").setLevel(logging.ERROR)
    clock = Clock()
    autoscalers.time = clock
    service = Service(json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        step = json.loads(line)
        clock.now = step["now"]
        for what, replica in step["events"]:
            service.happened(what, replica, clock.now)
        answers.write(json.dumps(service.decide()) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
