"""What the `ray` provider does as a driver of the user's Ray cluster: ray.py asks, by JSON lines (lines.py).

A machine is an actor that is detached, so that it outlives its driver, is placed by its node's labels, and holds the
runner as a child. Only Ray's public functions are used: they need no dashboard.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from skyfog_pool.provider.lines import serve

NAMESPACE = "skyfog"
WHERE_LIMIT_S = 2.0  # for living actors to say where they are: one that is being placed does not
END_MARGIN_S = 5.0
LISTEN, SERVICE_PORT = "SKYFOG_RUNNER_LISTEN", "SKYFOG_SERVICE_PORT"  # report.py, which wants packages of ours

Record = dict[str, Any]


class Machine:
    """Runs on the node: the runner is its child, and neither outlives the other."""

    def __init__(self, command: list[str], environment: Mapping[str, str], record: Record) -> None:
        folder = tempfile.mkdtemp(prefix="skyfog-")
        self._log = Path(folder) / "log"
        address = ray.util.get_node_ip_address()
        port, service_port = free_ports(address, 2)
        # The signal when our process is killed, or loses its raylet: the runner drains and ends what it started.
        ends_with_us = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        # Ray's own variables are for this actor, not for what it starts.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PYTHONPATH"))}
        listen = {LISTEN: f"{address}:{port}", SERVICE_PORT: str(service_port)}
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                [*ends_with_us, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**inherited, **listen, **environment},
                start_new_session=True,
            )
        context = ray.get_runtime_context()
        self._record = {
            **record,
            "endpoint": f"http://{address}:{port}",
            "node": context.get_node_id(),
            "launched_at": time.time(),
        }
        threading.Thread(target=self._watch, daemon=True).start()

    def where(self) -> Record:
        return self._record

    def tail(self, lines: int) -> list[str]:
        with self._log.open(errors="replace") as log:
            return [line.rstrip("\n") for line in deque(log, maxlen=lines)]

    def end(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL to its group after `grace_s`; the actor ends with it."""
        self._child.terminate()
        try:
            self._child.wait(grace_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)

    def _watch(self) -> None:
        self._child.wait()
        shutil.rmtree(self._log.parent, ignore_errors=True)
        os._exit(0)  # Ray sees that the actor has died


def free_ports(address: str, count: int) -> list[int]:
    """Ports that nobody listens on at the moment."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind((address, 0))
        return [each.getsockname()[1] for each in found]


class Machines:
    """Actors by name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._where: dict[str, Record] = {}

    def launch(
        self,
        name: str,
        labels: dict[str, str],
        resources: Record,
        command: list[str],
        environment: dict[str, str],
        record: Record,
        place_limit_s: float,
    ) -> Record:
        """Where the machine is. Raises GetTimeoutError where no node has room within `place_limit_s`."""
        actor = (
            ray.remote(Machine)
            .options(
                name=name,
                namespace=NAMESPACE,
                get_if_exists=True,  # the same name, the same machine
                lifetime="detached",
                max_restarts=0,
                max_concurrency=4,  # tail() beside end()
                label_selector=labels,
                **resources,
            )
            .remote(command, environment, record)
        )
        try:
            found: Record = ray.get(actor.where.remote(), timeout=place_limit_s)
        except (GetTimeoutError, RayActorError):
            ray.kill(actor)
            raise
        return found

    def machines(self, prefix: str) -> Record:
        """Actors whose names begin so, by name; {} for one that does not say where it is. And the nodes that live."""
        named = ray.util.list_named_actors(all_namespaces=True)
        names = [each["name"] for each in named if each["namespace"] == NAMESPACE and each["name"].startswith(prefix)]
        asked: dict[Any, str] = {}
        with self._lock:
            for name in [name for name in self._where if name.startswith(prefix) and name not in names]:
                del self._where[name]
            unknown = set(names) - self._where.keys()
        for name in unknown:
            with contextlib.suppress(ValueError):  # it has just died
                asked[ray.get_actor(name, namespace=NAMESPACE).where.remote()] = name
        done, _ = ray.wait(list(asked), num_returns=len(asked), timeout=WHERE_LIMIT_S) if asked else ([], [])
        for ref in done:
            with contextlib.suppress(RayActorError), self._lock:
                self._where[asked[ref]] = ray.get(ref)
        alive = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        with self._lock:
            return {"machines": {name: self._where.get(name, {}) for name in names}, "nodes": alive}

    def end(self, name: str, grace_s: float) -> None:
        """Begin to end it; one that is gone is no error."""
        try:
            actor = ray.get_actor(name, namespace=NAMESPACE)
        except ValueError:
            return
        threading.Thread(target=_end, args=(actor, grace_s), daemon=True).start()

    def tail(self, name: str, lines: int) -> list[str]:
        """Of what it printed. Raises ValueError for one that is gone."""
        actor = ray.get_actor(name, namespace=NAMESPACE)
        found: list[str] = ray.get(actor.tail.remote(lines), timeout=WHERE_LIMIT_S)
        return found


def _end(actor: Any, grace_s: float) -> None:
    asked = actor.end.remote(grace_s)
    ray.wait([asked], timeout=grace_s + END_MARGIN_S)
    with contextlib.suppress(ValueError, RayActorError):
        ray.kill(actor)


def nodes() -> list[Record]:
    """All nodes that the cluster knows, dead ones too."""
    return [{"id": node["NodeID"], "alive": node["Alive"], "labels": node.get("Labels") or {}} for node in ray.nodes()]


def main() -> None:
    """Answer ray.py until it ends."""
    machines = Machines()
    address = sys.argv[1]
    serve(
        {
            "nodes": nodes,
            "launch": machines.launch,
            "machines": machines.machines,
            "end": machines.end,
            "tail": machines.tail,
        },
        lambda: ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False),
    )


if __name__ == "__main__":
    main()
