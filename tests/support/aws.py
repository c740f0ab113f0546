"""The look-alike of AWS as tests use it: a process on loopback, and a Cloud of support/conformance.py made of it."""

from __future__ import annotations

import contextlib
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from skyfog_core.config.pool import ServiceSpec
from skyfog_core.ports import free_tcp_port
from skyfog_pool.children import ENDS_WITH_US
from skyfog_pool.policy.market import LaunchFault, Market
from skyfog_pool.provider.aws import AwsProvider, make
from skyfog_pool.provider.base import Order, Provider
from support.processes import Process, wait_until

Make = Callable[..., AwsProvider]  # of a spec's resources or the spec, and provider options
TESTS = Path(__file__).resolve().parents[1]
ZONES = ("us-west-2a", "us-west-2b")
KEYS = {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "secret"}
CODES = {"capacity": "InsufficientInstanceCapacity", "quota": "VcpuLimitExceeded", "rejected": "InvalidParameterValue"}


class Shim:
    """The process. Its state lasts as long as it does: each test has pools of its own."""

    def __init__(self, log: Path) -> None:
        port = free_tcp_port()
        self.url = f"http://127.0.0.1:{port}"
        self._http = httpx.Client(base_url=self.url, timeout=10, trust_env=False)
        self._process = Process(
            "aws shim",
            [*ENDS_WITH_US, sys.executable, "-m", "support.aws_shim", str(port)],
            log,
            {"PYTHONPATH": str(TESTS)},
        )
        wait_until("the shim", self._answers, limit_s=60)

    def _answers(self) -> bool:
        assert self._process.popen.poll() is None, self._process.output
        with contextlib.suppress(httpx.TransportError):
            return self._http.get("/_shim/machines").status_code == 200
        return False

    def ask(self, verb: str, **what: Any) -> Any:
        return self._http.post(f"/_shim/{verb}", json=what).raise_for_status().json()

    def machines(self, pool: str = "") -> list[dict[str, Any]]:
        """Those that are not gone, whoever has them; of one pool where it is named."""
        alive = [machine for machine in self.ask("machines") if machine["state"] != "terminated"]
        return [machine for machine in alive if not pool or machine["tags"].get("skyfog:pool") == pool]

    def rule(self, **what: Any) -> None:
        self.ask("rule", **what)

    def calls(self, action: str) -> int:
        return int(self.ask("calls")["calls"].get(action, 0))

    def close(self) -> None:
        with contextlib.suppress(httpx.HTTPError):
            self.ask("heal")  # no hang outlives a test
        self._http.close()
        self._process.end()


def seal(monkeypatch: pytest.MonkeyPatch, shim: Shim, home: Path, keys: Mapping[str, str] = KEYS) -> None:
    """boto3 sees the shim, the keys, and nothing of who runs the tests."""
    for name in (
        "AWS_PROFILE",
        "AWS_SESSION_TOKEN",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_DEFAULT_REGION",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        **keys,
        "AWS_DEFAULT_REGION": "us-west-2",
        "AWS_ENDPOINT_URL": shim.url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(home / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(home / "credentials"),
        "HOME": str(home),
    }.items():
        monkeypatch.setenv(name, value)


def spec_of(resources: dict[str, Any] | None = None, **options: Any) -> ServiceSpec:
    """A service file for the shim: quick to give up, and with a tiny workspace where none is given."""
    return ServiceSpec.model_validate(
        {
            "service": {"replicas": 2},
            "resources": {
                "infra": "aws/us-west-2",
                "instance_type": "m6i.large",
                "use_spot": True,
                **(resources or {}),
            },
            "provider_options": {"timeout_s": 1.0, "attempts": 2, **options},
        }
    )


def tiny_workspace(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "ws"
    script.write_text('#!/bin/bash\necho "ws $*" >>"$(dirname "$0")/calls"\n')
    script.chmod(0o755)
    (folder / "README").write_text("a workspace\n")
    return folder


def order(pool: str, replica: int = 1, zone: str = "us-west-2a", market: Market = "spot") -> Order:
    return Order(pool, replica, 1, uuid.uuid4().hex, zone, market, {"SKYFOG_POOL": pool, "SKYFOG_RUN": "true"})


class AwsCloud:
    """A Cloud of support/conformance.py. Machines of other tests on the same shim are not counted."""

    zones = ZONES
    limit_s = 20.0
    hang_limit_s = 20.0

    def __init__(self, shim: Shim, folder: Path, resources: dict[str, Any] | None = None) -> None:
        self.shim = shim
        self.pool = f"p{uuid.uuid4().hex[:8]}"
        self.lacks: Mapping[Any, str] = {}
        self.spec = spec_of(resources, workspace=str(tiny_workspace(folder / "ws")))
        self._providers: list[Provider] = []

    def provider(self) -> Provider:
        self._providers.append(make(self.spec, self.pool))
        return self._providers[-1]

    def machines(self) -> int:
        return sum(machine["tags"].get("skyfog:pool", "").startswith(self.pool) for machine in self.shim.machines())

    def fail_launch(self, fault: LaunchFault | Literal["lost"], zone: str) -> None:
        if fault == "lost":
            # Twice, since boto3 asks once more, with the same client token.
            for action in ("RunInstances", "CreateFleet"):
                self.shim.rule(action=action, zone=zone, status=503, code="Unavailable", times=2, after=True)
        else:
            # EC2 answers a want of capacity with 500, at which boto3 asks once more.
            status, times = (500, 2) if fault == "capacity" else (400, 1)
            if self.spec.resources.any_of:  # one reason for each type that a fleet may choose
                self.shim.rule(action="Override", zone=zone, code=CODES[fault], times=len(self.spec.resources.any_of))
            else:
                self.shim.rule(action="RunInstances", zone=zone, code=CODES[fault], status=status, times=times)

    def outage(self, kind: Literal["", "error", "hang"]) -> None:
        if kind == "":
            self.shim.ask("heal")
        else:
            self.shim.rule(service="", status=500, code="InternalError", hang=kind == "hang")

    def preempt(self, instance: str) -> None:
        self.shim.ask("end", id=instance.partition("/")[2], code="Server.SpotInstanceTermination")

    def notice(self, instance: str) -> None:
        self.shim.ask("notice", id=instance.partition("/")[2])

    def crash(self, instance: str) -> None:
        self.shim.ask("end", id=instance.partition("/")[2], code="Client.InstanceInitiatedShutdown")

    def price(self, zone: str, usd: float) -> None:
        self.shim.ask("price", zone=zone, usd=usd)

    def close(self) -> None:
        self.shim.ask("heal")
        for provider in self._providers:
            provider.close()
