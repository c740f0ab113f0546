"""A small fleet of echo replicas for a benchmark: parameter files, processes, and what they noted."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from skyfog_bench.processes import BenchError, Process, Processes
from skyfog_core.ports import claim_domain, free_tcp_port
from skyfog_pool.provider.netem.network import Network

ROBOT = "skyfog_router.nodes.robot_proxy"
REPLICA = "skyfog_router.nodes.replica_proxy"
CLIENT = "skyfog_bench.nodes.client"
SERVER = "skyfog_bench.nodes.echo"
EMBEDDED = "skyfog_bench.nodes.echo:embedded"
ECHO = "skyfog_interfaces/srv/Echo"
ROBOT_ZONE = "robot"
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
    """Robot and replicas, each side in a ROS domain of its own, joined by zenoh on free ports of 127.0.0.1.

    With a `network` the robot lives in its zone `robot` and each replica in the zone of its name. With a `router` all
    connect to that endpoint instead of to each other.
    """

    def __init__(
        self,
        processes: Processes,
        name: str = "bench",
        beside: Fleet | None = None,
        network: Network | None = None,
        router: str = "",
    ) -> None:
        """`beside`: a fleet whose ROS domains this one shares, so that one client calls both."""
        self._processes = processes
        self._name = name
        self._network = network
        self._router = router
        self.robot_domain: int
        self.replica_domain: int
        self.robot_domain, self.replica_domain = beside.domains if beside else (claim_domain(), claim_domain())
        self._domains: dict[str, int] = {}  # Fast DDS would meet itself in /dev/shm across namespaces
        self._endpoints = [router] if router else [self._new_endpoint()]
        self._lanes = 0
        self._incarnations: Counter[str] = Counter()

    @property
    def domains(self) -> list[int]:
        """Of robots and of replicas."""
        return [self.robot_domain, self.replica_domain]

    def client(self) -> Process:
        """The robot's program: nodes/client.py."""
        return self._processes.start("client", CLIENT, domain=self.robot_domain, inside=self._inside(ROBOT_ZONE))

    def lane(
        self, lane: str, service: str, routing: dict[str, Any], program: Sequence[str] = (ROBOT,), **more: Any
    ) -> Process:
        """A robot proxy of its own for `service`, which clients see as `lane`: all lanes ask the same replicas.

        To be made before the replicas. `program`: the module and first words of another proxy with the same parameters.
        `more`: further keys of RobotProxyConfig.
        """
        if self._lanes and not self._router:
            self._endpoints.append(self._new_endpoint())
        self._lanes += 1
        values = {
            "fleet": self._name,
            "robot": lane,
            "services": {service: {"type": ECHO, **routing}},
            "zenoh": self._robot_zenoh(),
            **more,
        }
        words = (*program, "--ros-args", "-r", f"{service}:={lane}")
        return self._start(f"{self._name}_{lane}", words, {"robot_proxy": values}, self.robot_domain, ROBOT_ZONE)

    def server(self, name: str, service: str, *, robot_side: bool) -> Process:
        """An ordinary ROS service."""
        domain = self.robot_domain if robot_side else self.replica_domain
        return self._processes.start(name, SERVER, f"/{service}", domain=domain)

    def robot_proxy(self, *services: str, **more: Any) -> Process:
        """A robot proxy that offers the services. `more`: further keys of RobotProxyConfig."""
        entries = {service: {"type": ECHO, "deadline_ms": DEADLINE_MS} for service in services}
        values = {"fleet": self._name, "services": entries, "zenoh": self._robot_zenoh(), **more}
        return self._start(f"{self._name}_robot_proxy", ROBOT, {"robot_proxy": values}, self.robot_domain)

    def replica(
        self,
        service: str,
        name: str,
        *,
        embedded: bool = True,
        counted: bool = False,
        echo: dict[str, Any] | None = None,
        **more: Any,
    ) -> Replica:
        """A replica proxy with the echo service inside, or in front of the ROS service of its name.

        `counted`: it notes each execution, each process of this name in a file of its own. `echo`: further parameters
        of the echo service. `more`: further keys of ReplicaProxyConfig.
        """
        self._incarnations[name] += 1
        executed = self._processes.folder / f"{service}_{name}.{self._incarnations[name]}.executed"
        values = {
            "fleet": self._name,
            "zone": name,
            "replica": "0",
            "service": service,
            "type": ECHO,
            "zenoh": self._replica_zenoh(),
            **more,
        }
        nodes: dict[str, dict[str, Any]] = {"replica_proxy": values}
        if embedded:
            values["embedded"] = EMBEDDED
            own = ({"executed": str(executed)} if counted else {}) | (echo or {})
            if own:
                nodes[service] = own
        return Replica(self._replica(f"replica_{service}_{name}", REPLICA, nodes, name), executed)

    def node(
        self, name: str, module: str, parameters: dict[str, dict[str, Any]], *, robot_side: bool = True
    ) -> Process:
        """Any node, with the parameters of the ROS nodes in it by their names."""
        return self._start(name, module, parameters, self.robot_domain if robot_side else self.replica_domain)

    def proxy(self, services: dict[str, dict[str, Any]]) -> Process:
        """A robot proxy for services of any type: the entries of RobotProxyConfig.services."""
        values = {"fleet": self._name, "services": services, "zenoh": self._robot_zenoh()}
        return self.node(f"{self._name}_robot_proxy", ROBOT, {"robot_proxy": values})

    def host(self, service: str, zone: str, kind: str, embedded: str, own: dict[str, Any], **more: Any) -> Process:
        """A replica with a service of any type inside it, whose own parameters are `own`."""
        values = {
            "fleet": self._name,
            "zone": zone,
            "replica": "0",
            "service": service,
            "type": kind,
            "embedded": embedded,
            "zenoh": self._replica_zenoh(),
            **more,
        }
        nodes = {"replica_proxy": values, **({service: own} if own else {})}
        return self.node(f"replica_{service}_{zone}", REPLICA, nodes, robot_side=False)

    def stand_in(self, zone: str, module: str, *words: str) -> Process:
        """Another program in a replica's place: `module FLEET CONNECT words…`, CONNECT endpoints joined by commas."""
        return self._processes.start(
            f"stand_in_{zone}",
            module,
            self._name,
            ",".join(self._endpoints),
            *words,
            domain=self.replica_domain,
            inside=self._inside(zone),
        )

    def _replica(self, name: str, module: str, nodes: dict[str, dict[str, Any]], zone: str) -> Process:
        domain = self.replica_domain
        if self._network is not None:
            if zone not in self._domains:
                self._domains[zone] = claim_domain()
            domain = self._domains[zone]
        return self._start(name, module, nodes, domain, zone)

    def _start(
        self, name: str, program: str | Sequence[str], nodes: dict[str, dict[str, Any]], domain: int, zone: str = ""
    ) -> Process:
        module, *words = [program] if isinstance(program, str) else program
        path = self._processes.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({node: {"ros__parameters": values} for node, values in nodes.items()}))
        words += ["--ros-args", "--params-file", str(path)]
        return self._processes.start(name, module, *words, domain=domain, inside=self._inside(zone))

    def _inside(self, zone: str) -> list[str]:
        return self._network.inside(zone) if self._network is not None and zone else []

    def _new_endpoint(self) -> str:
        if self._network is None:
            return free_endpoint()
        return f"tcp/{self._network.address(ROBOT_ZONE)}:{free_tcp_port()}"

    def _robot_zenoh(self) -> dict[str, Any]:
        if self._router:
            return {"mode": "client", "connect": [self._router]}
        return {"listen": self._endpoints[-1:]}

    def _replica_zenoh(self) -> dict[str, Any]:
        return {"mode": "client" if self._router else "peer", "connect": self._endpoints}


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
