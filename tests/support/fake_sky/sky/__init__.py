"""As much of SkyPilot's SDK as our worker uses, over a cloud that is a folder of files (SKYFOG_FAKE_SKY).

Several processes may use it at once. Tests set faults and preempt through fake_sky_cloud.py. Names, arguments and
errors are SkyPilot 0.14.1's; test_skypilot_real.py holds what was seen of the real one against it.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sky import exceptions
from sky.clouds import Resources

FOLDER = Path(os.environ["SKYFOG_FAKE_SKY"])
RUNNER_PORT = 7_700


class StatusRefreshMode(enum.Enum):
    NONE = "NONE"
    FORCE = "FORCE"


class Task:
    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.resources = [Resources(**config["resources"])]

    @classmethod
    def from_yaml_config(cls, config: dict[str, Any]) -> Task:
        return cls(config)


_requests: dict[str, Any] = {}  # what came of each: a value or an error
_numbers = itertools.count()


def _request(work: Callable[[], Any]) -> str:
    match (FOLDER / "outage").read_text():
        case "error":
            raise exceptions.ApiServerConnectionError("Could not connect to SkyPilot API server")
        case "hang":
            threading.Event().wait(600)
    name = f"request-{next(_numbers)}"
    try:  # done whether or not anybody waits for it, as by the API server
        _requests[name] = work()
    except Exception as error:  # noqa: BLE001  # raised by get()
        _requests[name] = error
    return name


def get(request: str) -> Any:
    found = _requests[request]
    if isinstance(found, Exception):
        raise found
    return found


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    with (FOLDER / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fault(zone: str) -> str:
    file = FOLDER / "faults.json"
    faults = json.loads(file.read_text())
    for fault in faults:
        if fault[1] == zone:
            faults.remove(fault)
            file.write_text(json.dumps(faults))
            return str(fault[0])
    return ""


REFUSALS = {
    "capacity": exceptions.ResourcesUnavailableError(
        "Failed to provision all possible launchable resources.", [Exception("ZONE_RESOURCE_POOL_EXHAUSTED")]
    ),
    "quota": exceptions.ResourcesUnavailableError(
        "Failed to provision all possible launchable resources.", [Exception("Quota 'CPUS' exceeded. Limit: 24.0")]
    ),
    "rejected": exceptions.ResourcesUnavailableError("No launchable resource found for the task", []),
}


def launch(task: Task, cluster_name: str, dryrun: bool = False) -> str:
    def work() -> Any:
        resources = task.resources[0]
        with _locked():
            fault = _fault(resources.zone)
            if fault in REFUSALS:
                raise REFUSALS[fault]
            file = FOLDER / "clusters" / f"{cluster_name}.json"
            runs = json.loads(file.read_text())["runs"] if file.exists() else 0
            made = {"status": "UP", "resources": resources.to_yaml_config(), "at": int(time.time()), "runs": runs + 1}
            file.write_text(json.dumps(made | {"task": task.config}))
            if fault == "lost":
                raise exceptions.NetworkError("Connection reset by peer")
        return (1, None)

    return _request(work)


def status(cluster_names: list[str] | None, refresh: StatusRefreshMode = StatusRefreshMode.NONE) -> str:
    def work() -> list[dict[str, Any]]:
        found = []
        with _locked():
            for file in sorted((FOLDER / "clusters").glob("*.json")):
                if cluster_names is None or file.stem in cluster_names:
                    made = json.loads(file.read_text())
                    found.append(
                        {
                            "name": file.stem,
                            "status": SimpleNamespace(name=made["status"]),
                            "init_kind": None,
                            "launched_at": made["at"],
                            "handle": SimpleNamespace(launched_resources=Resources(**made["resources"])),
                        }
                    )
        return found

    return _request(work)


def endpoints(cluster: str, port: int) -> str:
    return _request(lambda: {port: f"10.0.0.1:{port}"})


def down(cluster_name: str) -> str:
    def work() -> None:
        with _locked():
            if (FOLDER / "down_fails").exists():
                raise RuntimeError("Failed to terminate instances")
            try:
                (FOLDER / "clusters" / f"{cluster_name}.json").unlink()
            except FileNotFoundError:
                raise exceptions.ClusterDoesNotExist(f"Cluster {cluster_name!r} does not exist.") from None

    return _request(work)


def api_cancel(request: str, silent: bool = False) -> str:
    return _request(list)


def enabled_clouds() -> str:
    return _request(lambda: json.loads((FOLDER / "enabled.json").read_text()))


def tail_logs(cluster_name: str, job_id: None, follow: bool, tail: int, output_stream: Any) -> int:
    for number in range(tail):
        output_stream.write(f"{cluster_name} line {number}\n")
    return 0
