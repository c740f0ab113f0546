"""A car and a cloud in two network namespaces, with every production process, and a link that follows a trace.

In `car`: a camera a service, the model on the car, allocator, shaper and a car client a service. In `cloud`: gateways,
and replicas of the same detection service. Between them the emulated network, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from skyfog_bench.processes import Process, Processes
from skyfog_bench.uplink_live.film import CAMERAS, file_of
from skyfog_bench.uplink_live.record import Line, lines
from skyfog_core.ports import claim_domain, free_tcp_port
from skyfog_core.units import S
from skyfog_pool.provider.netem.network import CUT, Impairment, Network

CAR, CLOUD = "car", "cloud"
FLEET = "uplink_live"
CAMERA = "skyfog_bringup.nodes.camera"
DETECT = "skyfog_perception.nodes.detect"
ALLOCATOR = "skyfog_uplink.nodes.allocator"
SHAPER = "skyfog_uplink.nodes.shaper"
CAR_CLIENT = "skyfog_uplink.nodes.car_client"
GATEWAY = "skyfog_bringup.uplink_gateway"
REPLICA = "skyfog_router.nodes.replica_proxy"
RECORDER = "skyfog_bench.nodes.uplink_recorder"
SERVICE, TYPE = "/detect", "skyfog_interfaces/srv/Detect"
EMBEDDED = "skyfog_perception.nodes.detect:DetectService"
ON_CAR = "/on_car/detect"
GATEWAYS = ("gateway-1", "gateway-2")
REPLICAS = ("cloud-a", "cloud-b")
START_LIMIT_S = 60.0
ASK_LIMIT_S = 10.0
DELAY_MS, JITTER_MS = 16.0, 2.0  # one way; LTE's published ping of 32 ms
FAST_MBIT = 20
QUEUE_BYTES, QUEUE_MS = 1 << 20, 60_000.0  # a base station queues for seconds


# Before all that the machine does beside: a car's computer and a cloud's replicas do nothing else.
FIRST = ("chrt", "--rr", "1")


@dataclass(frozen=True, slots=True)
class Look:
    """One second of the machine and of the shaper."""

    at_ns: int
    idle: float  # share of the machine's processors
    ours: float  # processors that our own processes used
    shaper_mb: float


class LiveCar:
    """All of it. What needs an option table is started by `drive_with`, as often as there are tables."""

    def __init__(self, processes: Processes, network: Network, film: Path, hz: float) -> None:
        """Start the cloud, the cameras and the model on the car."""
        self.processes, self.network = processes, network
        self.first = _put_first(network.pid)
        self._folder = processes.folder
        self.domain = claim_domain()
        address = network.address(CLOUD)
        self._cars = {name: f"tcp/{address}:{free_tcp_port()}" for name in GATEWAYS}
        self._fleets = {name: f"tcp/127.0.0.1:{free_tcp_port()}" for name in GATEWAYS}
        self.gateways = {name: self._gateway(name) for name in GATEWAYS}
        for zone in REPLICAS:
            self._replica(zone)
        self._node("on_car", DETECT, {"detect": {}}, "-r", f"detect:={ON_CAR}")
        for name in CAMERAS:
            self._camera(name, file_of(film, name), hz)
        self._runs = 0
        self._uplink: list[Process] = []

    # processes

    def _gateway(self, name: str) -> Process:
        values = {
            "fleet": FLEET,
            "name": name,
            "services": {SERVICE: {}},
            "cars": {"listen": [self._cars[name]]},
            "zenoh": {"listen": [self._fleets[name]]},
        }
        path = self._folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values))
        return self.processes.start(
            name, GATEWAY, "--config", str(path), domain=claim_domain(), inside=self._inside(CLOUD)
        )

    def _inside(self, zone: str) -> list[str]:
        return [*self.network.inside(zone), *(FIRST if self.first else ())]

    def _replica(self, zone: str) -> Process:
        values = {
            "fleet": FLEET,
            "zone": zone,
            "replica": "0",
            "service": SERVICE,
            "type": TYPE,
            "embedded": EMBEDDED,
            "zenoh": {"connect": list(self._fleets.values())},
        }
        return self._node(f"replica_{zone}", REPLICA, {"replica_proxy": values}, zone=CLOUD, domain=claim_domain())

    def _camera(self, name: str, film: Path, hz: float) -> Process:
        values = {"image": str(film), "rate_hz": hz, "service": "", "record": str(self._shots(name))}
        return self._node(f"camera_{name}", CAMERA, {name: values}, "-r", f"__node:={name}")

    def _node(
        self, name: str, module: str, nodes: dict[str, Any], *words: str, zone: str = CAR, domain: int | None = None
    ) -> Process:
        path = self._folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({node: {"ros__parameters": values} for node, values in nodes.items()}))
        ros = ("--ros-args", *words, "--params-file", str(path))
        domain = self.domain if domain is None else domain
        return self.processes.start(name, module, *ros, domain=domain, inside=self._inside(zone))

    def drive_with(self, table: Path) -> None:
        """Start the car's uplink anew, with this table. Returns when each service has had an answer from the cloud."""
        self.processes.end(self._uplink)
        self._runs += 1
        shaper = {
            "table": str(table),
            "fleet": FLEET,
            "zenoh": {"connect": list(self._cars.values())},
            "trace": str(self._traced),
        }
        self.shaper = self._node("shaper", SHAPER, {"shaper": shaper})
        self.allocator = self._node("allocator", ALLOCATOR, {"allocator": {"table": str(table)}})
        self._uplink = [self.shaper, self.allocator]
        topics = ["plan=/allocator/plan", "link=/shaper/link", "state=/shaper/state"]
        for name in CAMERAS:
            client = {"table": str(table), "service": name, "image": f"/{name}/image", "on_car": ON_CAR}
            words = ("-r", f"__node:=client_{name}")
            self._uplink.append(self._node(f"client_{name}", CAR_CLIENT, {f"client_{name}": client}, *words))
            topics.append(f"answer.{name}=/client_{name}/detections")
        self.recorder = self.processes.start(
            "recorder", RECORDER, str(self._heard), *topics, domain=self.domain, inside=self._inside(CAR)
        )
        self._uplink.append(self.recorder)
        self.processes.wait_until(self._answered, self.shaper, "no answers from the cloud", START_LIMIT_S)

    def _answered(self) -> bool:
        """Whether each service was answered by the cloud."""
        for process in (*self._uplink, *self.gateways.values()):
            process.must_live()
        cloud = {line["service"] for line in lines(self._heard) if line.get("source") == "cloud"}
        return cloud >= set(CAMERAS)

    # the link

    def shape(self, up: Impairment, down: Impairment | None = None) -> None:
        """What the car sends meets `up`, what it hears `down`: without, a fast link of the same distance."""
        self.network.shape(CAR, CLOUD, up, both=False)
        down = Impairment(delay_ms=DELAY_MS, jitter_ms=JITTER_MS) if down is None else down
        self.network.shape(CLOUD, CAR, down, both=False)

    def fast(self) -> None:
        """A link that is never in the way."""
        self.shape(Impairment(delay_ms=DELAY_MS, jitter_ms=JITTER_MS, rate_mbit=FAST_MBIT))

    def follow(self, trace: Path, begins_ns: int) -> None:
        """The uplink follows a trace that begins at `begins_ns` of the steady clock."""
        self.shape(
            Impairment(
                delay_ms=DELAY_MS,
                jitter_ms=JITTER_MS,
                trace=str(trace),
                trace_begins_ns=begins_ns,
                queue_ms=QUEUE_MS,
                queue_bytes=QUEUE_BYTES,
            )
        )

    def cut(self) -> None:
        """Everything vanishes, both ways, and nobody is told."""
        self.shape(CUT, CUT)

    # what was written down

    @property
    def _traced(self) -> Path:
        return self._folder / f"shaper.{self._runs}.trace"

    @property
    def _heard(self) -> Path:
        return self._folder / f"heard.{self._runs}.jsonl"

    def _shots(self, camera: str) -> Path:
        return self._folder / f"{camera}.shots.jsonl"

    def written(self) -> tuple[Mapping[str, list[Line]], list[Line], list[Line]]:
        """As record.cut takes it: shots, what the recorder heard, what the shaper traced, since `drive_with`."""
        shots = {name: lines(self._shots(name)) for name in CAMERAS}
        return shots, lines(self._heard), lines(self._traced)

    # time goes by

    def watch(self, until_ns: int) -> list[Look]:
        """Look once a second until then. Raises BenchError where a process has ended that should not have."""
        found = []
        shaper = psutil.Process(self.shaper.pid)
        before, worked_s, at_ns = psutil.cpu_times(), self._worked_s(), time.monotonic_ns()
        while (left_s := (until_ns - time.monotonic_ns()) / S) > 0:
            time.sleep(min(1.0, left_s))
            for process in self._uplink:
                process.must_live()
            now, worked_now_s, now_ns = psutil.cpu_times(), self._worked_s(), time.monotonic_ns()
            total = sum(now) - sum(before)
            idle = (now.idle - before.idle) / total if total else 1.0
            ours = (worked_now_s - worked_s) / ((now_ns - at_ns) / S)
            before, worked_s, at_ns = now, worked_now_s, now_ns
            found.append(Look(now_ns, idle, ours, shaper.memory_info().rss / 1e6))
        return found

    def _worked_s(self) -> float:
        """Processor seconds of our processes that live, the network's own among them."""
        total = 0.0
        for pid in (self.network.pid, *(process.pid for process in self.processes.living())):
            with contextlib.suppress(psutil.Error):
                times = psutil.Process(pid).cpu_times()
                total += times.user + times.system
        return total

    def gateway(self) -> str:
        """The one that the car talks to, once it has told so of one. Raises BenchError where that does not come."""
        names: list[str] = []

        def told() -> bool:
            states = [line for line in lines(self._heard) if line["kind"] == "state"]
            names[:] = [line["gateway"] for line in states[-1:] if line["gateway"] in self.gateways]
            return bool(names)

        self.processes.wait_until(told, self.shaper, "talks to no gateway", START_LIMIT_S)
        return names[0]

    def kill_gateway(self, name: str) -> None:
        """SIGKILL."""
        self.processes.kill(self.gateways[name])


def _put_first(network: int) -> bool:
    """Whether our processes may run before all others; then the one that is the network does so from now on."""
    if shutil.which(FIRST[0]) is None:
        return False
    try:
        os.sched_setscheduler(network, os.SCHED_RR, os.sched_param(2))
    except OSError:
        return False
    return True
