"""The real replica role on machines of the local cloud: a robot's call is answered from an emulated zone."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from skyfog_core.config.pool_local import LocalOptions
from skyfog_interfaces.srv import Echo
from skyfog_pool import children, report
from skyfog_pool.provider.base import Ending, Instance, Order, Phase
from skyfog_pool.provider.local import LocalCloud, LocalProvider
from skyfog_pool.provider.local_cloud.machine import MACHINE
from skyfog_pool.provider.netem.network import why_not
from skyfog_pool.report import Status
from support.processes import wait_until
from support.ros import ECHO, Caller, Fleet, caller, ros_node

POOL = "echo"
START_LIMIT_S = 100.0
DATA = b"\x01hello"  # see skyfog_bench.messages
ZONES = [{"name": "near", "delay_ms": 1.0}, {"name": "far", "delay_ms": 25.0}]
ROLE = (
    "exec ros2 launch skyfog_bringup cloud.launch.py profile:=sim fleet:=test"
    f' zone:="${report.ZONE}" replica:="${report.NAME}" service:=/echo type:={ECHO}'
    f' embedded:=skyfog_bench.nodes.echo:embedded metrics_listen:="127.0.0.1:${report.SERVICE_PORT}"'
    ' connect:="$ROBOT"'
)


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[LocalProvider]:
    options = LocalOptions.model_validate({"zones": ZONES, "stop_s": 2.0})
    cloud = LocalCloud(tmp_path / "local")
    provider = LocalProvider(tmp_path / "local", options)
    yield provider
    cloud.end()
    provider.close()
    cloud.close()
    assert children.marked(MACHINE, str(tmp_path)) == []


def launch(provider: LocalProvider, fleet: Fleet, zone: str, replica: int) -> Instance:
    environment = {
        report.ZONE: zone,
        report.NAME: report.replica_name(POOL, replica),
        report.COMMAND: ROLE,
        report.GRACE_S: "5",
        "ROBOT": fleet.endpoint,
    }
    return provider.launch(Order(POOL, replica, 1, uuid.uuid4().hex, zone, "spot", environment))


def phase(machine: Instance) -> str:
    try:
        answer = httpx.get(f"{machine.endpoint}/status", timeout=5.0, trust_env=False)
    except httpx.HTTPError:
        return ""
    return msgspec.json.decode(answer.content, type=Status).phase


def until_ready(provider: LocalProvider, machine: Instance) -> None:
    def ready() -> bool:
        now = phase(machine)
        assert now != "ended", "\n".join(provider.logs(machine.id, 30))
        return now == "ready"

    wait_until(f"{machine.zone} is ready", ready, START_LIMIT_S)


def must_answer(client: Caller) -> None:
    answer = client.call(Echo.Request(data=DATA))
    assert (answer.status.message, bytes(answer.data)) == ("", DATA)


def test_a_call_is_answered_from_a_zone_and_again_after_the_market_took_its_machine(
    provider: LocalProvider, fleet: Fleet
) -> None:
    fleet.endpoint = f"tcp/{provider.cloud.about()['home']}:{fleet.port}"
    fleet.robot(services={"echo": {"type": ECHO, "deadline_ms": 20_000}})
    near = launch(provider, fleet, "near", 1)
    until_ready(provider, near)
    with ros_node(fleet.robot_domain) as node:
        client = caller(node, Echo, "/echo")
        must_answer(client)
        far = launch(provider, fleet, "far", 2)
        until_ready(provider, far)
        assert provider.cloud.preempt("near", notice_s=8.0) == [near.id]
        wait_until("it drains", lambda: phase(near) in {"draining", "drained"})
        must_answer(client)
        wait_until("it is gone", lambda: gone(provider, near))
        must_answer(client)
        if not why_not():
            provider.cloud.partition("far")
            with pytest.raises(TimeoutError):
                client.call(Echo.Request(data=DATA), 1.0)
            provider.cloud.heal("far")
            must_answer(client)


def gone(provider: LocalProvider, machine: Instance) -> bool:
    now = next(found for found in provider.instances(POOL) if found.id == machine.id)
    return now.phase is Phase.GONE and now.ending is Ending.PREEMPTED
