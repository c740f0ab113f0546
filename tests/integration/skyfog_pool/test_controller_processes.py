"""Real controllers of real pools on the local cloud: killed at random moments, and through every verb."""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from skyfog_pool.folders import STATE_DIR
from skyfog_pool.starting import spawn
from skyfog_pool.store import Store
from support.pools import Pools, pools_in, service
from support.processes import wait_until

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def pools(tmp_path: Path) -> Iterator[Pools]:
    # a socket's path is short
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"sk-{os.getpid()}-{tmp_path.name[-12:]}"
    folder.mkdir()
    try:
        with pools_in(folder) as pools:
            yield pools
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=False)


def test_a_pool_from_up_to_down(pools: Pools) -> None:
    file = pools.write(service())
    assert "2 of 2 READY" in pools.must("up", file)
    first = pools.alive()
    assert len(first) == 2

    again = pools.must("up", file)  # the same again: nothing happens
    assert "up already with this file" in again
    assert {machine.id for machine in pools.alive()} == {machine.id for machine in first}

    now = json.loads(pools.must("status", "web", "--json"))
    assert now["ready"] == now["target"] == 2
    assert 0 < now["usd_per_hour"] < now["on_demand_usd_per_hour"]
    assert {each["state"] for each in now["replicas"]} == {"READY"}
    text = pools.must("status")
    assert "local-1a" in text
    assert "below on demand" in text

    other = pools.write(service(policy={"min_replicas": 3}), "other.yaml")
    refused = pools.run("up", other)
    assert refused.returncode == 2
    assert "skyfog pool update" in refused.stderr

    # one of policy: what runs stays
    assert "nothing is restarted" in pools.must("update", other)
    assert {machine.id for machine in first} < {machine.id for machine in pools.alive()}
    # one of what runs: all of it is replaced
    newer = pools.write(service(envs={"GREETING": "hello"}), "newer.yaml")
    assert "version 2 rolls out" in pools.must("update", newer)
    assert {each["version"] for each in pools.status()["replicas"]} == {2}

    replica = pools.status()["replicas"][0]["id"]
    assert "GET /ready" in pools.must("logs", "web", "--replica", replica, "-n", 5)
    assert "controller of pool web" in pools.must("logs", "--controller")

    assert "is down: $" in pools.must("down", "web")
    assert pools.alive() == []
    assert pools.pool().controller() is None
    assert "is down already" in pools.must("down", "web")
    spent = pools.status()["usd"]
    assert spent > 0
    assert "2 of 2 READY" in pools.must("up", file)  # and up again: costs go on from there
    assert pools.status()["usd"] > spent
    pools.must("down", "--purge")
    assert not pools.pool().path.exists()


def test_killed_again_and_again_at_any_moment(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STATE_DIR, str(pools.folder))
    monkeypatch.setenv("PYTHONPATH", pools.environment["PYTHONPATH"])
    dice, tick = random.Random(), threading.Event()  # the moments are real ones: no seed repeats them
    pools.must("up", pools.write(service()), "--no-wait")
    controllers: list[subprocess.Popen[bytes]] = []
    killed = 0
    for turn in range(10):
        wait_until("a controller", lambda: pools.pool().controller() is not None)
        if turn in {4, 7}:
            wait_until("machines", lambda: bool(pools.alive()))
        tick.wait(dice.uniform(0.0, 2.5))
        killed += pools.kill_controller()
        if turn in {4, 7} and pools.alive():  # while nobody looks
            pools.cloud.preempt(pools.alive()[0].zone)
        controllers.append(spawn(pools.pool()))
    for controller in controllers[:-1]:
        controller.wait(10)
    assert killed == 10
    pools.wait_ready(2)
    events = json.loads(pools.must("status", "web", "--json", "--all"))
    ids = [each["id"] for each in [*events["replicas"], *events["ended"]]]
    assert len(ids) == len(set(ids))

    # taken down, killed on the way, and the work is taken up by whoever comes next
    pools.must("down", "--no-wait")
    pools.kill_controller()
    controllers[-1].wait(10)
    pools.must("down")
    assert pools.alive() == []


def test_two_at_once_are_one(pools: Pools) -> None:
    """Two people run `up` at the same moment."""
    file = pools.write(service())
    threads = [threading.Thread(target=pools.must, args=("up", file)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
        assert not thread.is_alive()
    pools.wait_ready(2)
    assert len(pools.alive()) == 2
    assert [each["id"] for each in pools.status()["replicas"]] == [1, 2]
    pools.must("down")


def test_a_replica_that_fails_is_replaced_and_said(pools: Pools) -> None:
    pools.must("up", pools.write(service()))
    machine = pools.alive()[0]
    pools.cloud.crash(machine.id)
    wait_until("another", lambda: machine.id not in {each.id for each in pools.alive()} and len(pools.alive()) == 2)
    pools.wait_ready(2)
    assert "FAILED" in {each["state"] for each in json.loads(pools.must("status", "--json", "--all", "web"))["ended"]}
    pools.must("down")


def test_with_serve_a_replica_that_is_told_of_serves_until_another_is_ready(pools: Pools) -> None:
    pools.must("up", pools.write(service(policy={"on_notice": "serve"})))
    told = pools.status()["replicas"][0]
    pools.cloud.take(told["instance"], notice_s=40.0)
    wait_until("the end of it", lambda: told["instance"] not in {machine.id for machine in pools.alive()}, 30.0)
    pools.wait_ready(2)
    store = Store(pools.pool().store)
    events = store.events(200)
    store.close()
    told_unix = next(event.at_unix for event in events if (event.name, event.replica) == ("notice", told["id"]))
    drained = next(event for event in events if (event.name, event.replica) == ("drain", told["id"]))
    newest = max(each["id"] for each in pools.status()["replicas"])
    ready = next(e for e in events if (e.name, e.replica, e.fields.get("state")) == ("state", newest, "READY"))
    assert told_unix < ready.at_unix <= drained.at_unix + 1.0  # both in one turn
    assert drained.fields["because"] == "the cloud takes its machine, and enough others are ready"
    pools.must("down")


def test_a_provider_that_hangs_is_told_and_outlived(pools: Pools) -> None:
    pools.must("up", pools.write(service()))
    pools.cloud.outage("error")
    wait_until("the trouble", lambda: bool(pools.status()["trouble"]))
    assert "provider:" in pools.must("status", "web")
    before = {each["instance"] for each in pools.status()["replicas"]}
    pools.cloud.outage("")
    wait_until("the end of it", lambda: not pools.status()["trouble"])
    pools.wait_ready(2)
    assert {machine.id for machine in pools.alive()} == before
    pools.must("down")
