"""`skyfog status` and `skyfog replicas` in a ROS domain with robots, and in one without."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from skyfog_router.nodes.state import StatePublisher
from skyfog_router.report import Origin
from support.processes import Process, Processes, wait_until
from support.ros import free_domain, ros_node
from support.snapshots import replica, service

TYPES = {"/detect": "skyfog_interfaces/srv/Detect"}


def skyfog(processes: Processes, domain: int, *words: str) -> Process:
    return processes.start("skyfog", "skyfog", *words, env={"ROS_DOMAIN_ID": str(domain)})


def test_both_verbs_find_every_robot_under_any_name(tmp_path: Path) -> None:
    domain = free_domain()
    states = (replica(), replica(zone="b", state="ejected", why="silent"))
    with Processes(tmp_path) as processes, ros_node(domain) as one, ros_node(domain) as other:
        StatePublisher(one, Origin("anna", "skyfog"), TYPES, lambda: {"/detect": service(replicas=states)}).publish()
        StatePublisher(other, Origin("bert", "skyfog"), TYPES, lambda: {"/detect": service(called=7)}).publish()

        def found() -> list[tuple[str, int]]:
            status = skyfog(processes, domain, "status", "--json", "--wait", "20")
            assert status.exit_status() == 0, status.output
            return [(row["robot"], row["called"]) for row in json.loads(status.output)]

        # On a stalled machine DDS may find the second robot seconds after the first.
        wait_until("both robots", lambda: found() == [("anna", 101), ("bert", 7)])
        replicas = skyfog(processes, domain, "replicas", "--wait", "30")
        assert replicas.exit_status() == 0, replicas.output
        assert "us-west/0" in replicas.output
        watching = skyfog(processes, domain, "replicas", "--watch", "--json", "--wait", "30")
        watching.wait_for('"why": "silent"')
        watching.wait_for("]\n[")
        watching.signal(signal.SIGINT)
        assert watching.exit_status() == 0
        assert "Traceback" not in watching.output


@pytest.mark.parametrize("verb", ["status", "replicas"])
def test_nobody_there_ends_soon_with_what_to_look_at(tmp_path: Path, verb: str) -> None:
    with Processes(tmp_path) as processes:
        process = skyfog(processes, free_domain(), verb, "--wait", "0.5")
        assert process.exit_status() == 3
    assert "no robot told its state within 0.5 s" in process.output
    assert "Traceback" not in process.output
