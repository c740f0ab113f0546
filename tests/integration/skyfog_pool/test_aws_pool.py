"""A whole pool on the look-alike of AWS: the controller, real runners as machines, notices through IMDS, an end."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skyfog_core.ports import free_tcp_port
from support.aws import Shim, tiny_workspace
from support.aws_machines import Machines
from support.pools import SERVER, Pools, pools_in, service
from support.processes import wait_until

pytestmark = pytest.mark.timeout(240)
LIMIT_S = 90.0


@pytest.fixture
def pools(aws: Shim, tmp_path: Path) -> Iterator[Pools]:
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"sk-{os.getpid()}-aws-{tmp_path.name[-8:]}"
    folder.mkdir()
    try:
        with pools_in(folder) as pools:
            yield pools
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=False)


def aws_service(pool: str, workspace: Path, **options: Any) -> dict[str, Any]:
    return service(
        name=pool,
        resources={"infra": "aws/us-west-2", "instance_type": "m6i.large", "use_spot": True},
        run=SERVER,
        provider_options={"workspace": str(workspace), "timeout_s": 5.0, **options},
    )


def states(pools: Pools, pool: str, ended: bool = False) -> dict[str, str]:
    """By machine."""
    told = json.loads(pools.must("status", pool, "--json", "--all")) if ended else pools.status(pool)
    every = [*told["replicas"], *(told["ended"] if ended else [])]
    return {each["instance"].partition("/")[2]: each["state"] for each in every}


def both_ready(aws: Shim, pools: Pools, pool: str, without: str) -> bool:
    """Two machines that are not the one that is gone, and both are READY replicas."""
    alive = {machine["id"] for machine in aws.machines(pool)}
    return len(alive) == 2 and without not in alive and states(pools, pool) == dict.fromkeys(alive, "READY")


def test_from_up_over_interruptions_to_down(aws: Shim, pools: Pools, tmp_path: Path) -> None:
    pool, port = f"e{uuid.uuid4().hex[:8]}", free_tcp_port()
    file = pools.write(aws_service(pool, tiny_workspace(tmp_path / "ws"), runner_port=port))
    machines = Machines(aws, pool, port, tmp_path)
    try:
        assert "2 of 2 READY" in pools.must("up", file, "--yes", limit_s=LIMIT_S)
        first = {machine["id"] for machine in aws.machines(pool)}
        assert len(first) == 2
        now = json.loads(pools.must("status", pool, "--json"))
        assert 0 < now["usd_per_hour"] < now["on_demand_usd_per_hour"]

        noticed = min(first)
        aws.ask("notice", id=noticed, in_s=120)  # its runner hears it
        wait_until("the replacement", lambda: len({m["id"] for m in aws.machines(pool)} - first) == 1, LIMIT_S)
        wait_until("two READY again", lambda: both_ready(aws, pools, pool, noticed), LIMIT_S)
        # It had nothing to finish, and was given back before the market took it.
        assert states(pools, pool, ended=True)[noticed] == "TERMINATED"

        (taken,) = first - {noticed}
        aws.ask("end", id=taken, code="Server.SpotInstanceTermination")  # without a word
        wait_until("two READY once more", lambda: both_ready(aws, pools, pool, taken), LIMIT_S)
        assert states(pools, pool, ended=True)[taken] == "PREEMPTED"
        pools.must("down", pool, "--purge", limit_s=LIMIT_S)
        assert aws.machines(pool) == []
    finally:
        pools.kill_controller(pool)
        machines.close()


def test_no_credentials_is_said_and_nothing_is_begun(
    aws: Shim, pools: Pools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = f"e{uuid.uuid4().hex[:8]}"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        pools.environment.pop(name)
    done = pools.run("up", pools.write(aws_service(pool, tiny_workspace(tmp_path / "ws"))), "--yes", limit_s=LIMIT_S)
    assert done.returncode != 0
    assert "AWS_ACCESS_KEY_ID" in done.stderr
    assert "Traceback" not in done.stderr
    assert aws.machines(pool) == []
    assert pools.pool(pool).controller() is None
