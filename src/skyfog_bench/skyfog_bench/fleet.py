"""A small fleet of echo replicas for a benchmark: parameter files, processes, and what they noted."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from skyfog_bench.processes import BenchError, Process, Processes
from skyfog_core.ports import claim_domain, free_tcp_port

ROBOT = "skyfog_router.nodes.robot_proxy"
REPLICA = "skyfog_router.nodes.replica_proxy"
CLIENT = "skyfog_bench.nodes.client"
SERVER = "skyfog_bench.nodes.echo"
EMBEDDED = "skyfog_bench.nodes.echo:embedded"
ECHO = "skyfog_interfaces/srv/Echo"
START_LIMIT_S = 45.0
DEADLINE_MS = 10_000
_PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE"


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica and the files it writes."""

    process: Process
    executed: Path

    def executions(self) -> Counter[int]:
        """How often it ran each call, by the call's number. Also after a SIGKILL."""
        data = self.executed.read_bytes() if self.executed.exists() else b""
        return Counter(int.from_bytes(data[i : i + 8], "big") for i in range(0, len(data), 8))


class Fleet:
    """Robot and replicas, each side in a ROS domain of its own, joined by zenoh on a free port of 127.0.0.1."""

    def __init__(self, processes: Processes, name: str = "bench", beside: Fleet | None = None) -> None:
        """`beside`: a fleet whose ROS domains this one shares, so that one client calls both."""
        self._processes = processes
        self._name = name
        self.robot_domain: int
        self.replica_domain: int
        self.robot_domain, self.replica_domain = beside.domains if beside else (claim_domain(), claim_domain())
        self._endpoint = free_endpoint()

    @property
    def domains(self) -> list[int]:
        """Of robots and of replicas."""
        return [self.robot_domain, self.replica_domain]

    def client(self) -> Process:
        """The robot's program: nodes/client.py."""
        return self._processes.start("client", CLIENT, domain=self.robot_domain)

    def server(self, name: str, service: str, *, robot_side: bool) -> Process:
        """An ordinary ROS service."""
        domain = self.robot_domain if robot_side else self.replica_domain
        return self._processes.start(name, SERVER, f"/{service}", domain=domain)

    def robot_proxy(self, *services: str, **more: Any) -> Process:
        """A robot proxy that offers the services. `more`: further keys of RobotProxyConfig."""
        entries = {service: {"type": ECHO, "deadline_ms": DEADLINE_MS} for service in services}
        values = {"fleet": self._name, "services": entries, "zenoh": {"listen": [self._endpoint]}, **more}
        return self._start(f"{self._name}_robot_proxy", ROBOT, {"robot_proxy": values}, self.robot_domain)

    def replica(self, service: str, name: str, *, embedded: bool = True, counted: bool = False, **more: Any) -> Replica:
        """A replica proxy with the echo service inside, or in front of the ROS service of its name.

        `counted`: it notes each execution. `more`: further keys of ReplicaProxyConfig.
        """
        executed = self._processes.folder / f"{service}_{name}.executed"
        values = {
            "fleet": self._name,
            "zone": name,
            "replica": "0",
            "service": service,
            "type": ECHO,
            "zenoh": {"connect": [self._endpoint]},
            **more,
        }
        nodes: dict[str, dict[str, Any]] = {"replica_proxy": values}
        if embedded:
            values["embedded"] = EMBEDDED
            if counted:
                nodes[service] = {"executed": str(executed)}
        return Replica(self._start(f"replica_{service}_{name}", REPLICA, nodes, self.replica_domain), executed)

    def node(
        self, name: str, module: str, parameters: dict[str, dict[str, Any]], *, robot_side: bool = True
    ) -> Process:
        """Any node, with the parameters of the ROS nodes in it by their names."""
        return self._start(name, module, parameters, self.robot_domain if robot_side else self.replica_domain)

    def proxy(self, services: dict[str, dict[str, Any]]) -> Process:
        """A robot proxy for services of any type: the entries of RobotProxyConfig.services."""
        values = {"fleet": self._name, "services": services, "zenoh": {"listen": [self._endpoint]}}
        return self.node(f"{self._name}_robot_proxy", ROBOT, {"robot_proxy": values})

    def host(self, service: str, zone: str, kind: str, embedded: str, own: dict[str, Any]) -> Process:
        """A replica with a service of any type inside it, whose own parameters are `own`."""
        values = {
            "fleet": self._name,
            "zone": zone,
            "replica": "0",
            "service": service,
            "type": kind,
            "embedded": embedded,
            "zenoh": {"connect": [self._endpoint]},
        }
        nodes = {"replica_proxy": values, **({service: own} if own else {})}
        return self.node(f"replica_{service}_{zone}", REPLICA, nodes, robot_side=False)

    def _start(self, name: str, module: str, nodes: dict[str, dict[str, Any]], domain: int) -> Process:
        path = self._processes.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({node: {"ros__parameters": values} for node, values in nodes.items()}))
        return self._processes.start(name, module, "--ros-args", "--params-file", str(path), domain=domain)


def free_endpoint() -> str:
    """A zenoh endpoint on 127.0.0.1 that nobody listens on now."""
    return f"tcp/127.0.0.1:{free_tcp_port()}"


def environment() -> dict[str, str]:
    """What every process of a benchmark gets. Raises BenchError where the project's Fast DDS profile is not found."""
    profile = _profile()
    return {_PROFILE: str(profile), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "RCUTILS_COLORIZED_OUTPUT": "0"}


def until_all_run(processes: Processes, client: Process, service: str, replicas: list[Replica]) -> None:
    """Call until every replica has run a call: from then on all of them take part. Raises BenchError."""
    client.ask(START_LIMIT_S + 5, do="wait", service=service, limit_s=START_LIMIT_S)
    for replica in replicas:

        def ran(replica: Replica = replica) -> bool:
            client.ask(START_LIMIT_S, do="round", service=service, size=16, echo=True, count=1, warm=0)
            return bool(replica.executions())

        processes.wait_until(ran, replica.process, "takes no calls", START_LIMIT_S)


def read_trace(path: Path) -> list[dict[str, Any]]:
    """The events of a trace file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def _profile() -> Path:
    """The project's config/fastdds.xml, from the sources where they are, else as the environment says."""
    for folder in Path(__file__).resolve().parents:
        if (folder / "config" / "fastdds.xml").is_file():
            return folder / "config" / "fastdds.xml"
    given = os.environ.get(_PROFILE, "")
    if not given or not Path(given).is_file():
        raise BenchError(f"config/fastdds.xml is not found: set {_PROFILE} to it (tools/env.sh does)")
    return Path(given)
