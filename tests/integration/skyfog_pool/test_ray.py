"""The `ray` provider on a real Ray cluster of this machine, where Ray is installed; about three minutes.

The cluster has a network namespace, or a driver picks an outer address and never connects, and a process namespace,
with which all of Ray's many processes end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import psutil
import pytest

from skyfog_core.config.base import parse
from skyfog_core.config.pool import ServiceSpec
from skyfog_core.environments import INSTALL_COMMAND
from skyfog_pool.policy.market import LaunchFault
from skyfog_pool.provider.base import Misconfigured
from skyfog_pool.provider.program import Program
from skyfog_pool.provider.ray import WORKER, RayOptions, RayProvider
from support.conformance import Ability, ProviderConformance, order
from support.processes import wait_until

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = ROOT / ".ws" / "peers" / "ray"
START_LIMIT_S = 120.0
STARTS = 2
MARK = "skyfog-test-machine"  # in the command line of every machine's process
MACHINE = [sys.executable, "-c", "import time; print('hello', flush=True); time.sleep(600)", MARK]

pytestmark = [
    pytest.mark.skipif(
        not (ENVIRONMENT / "installed").is_file(), reason=f"Ray is not installed: {INSTALL_COMMAND} ray"
    ),
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root for namespaces"),
    pytest.mark.timeout(3 * START_LIMIT_S),
]


class ClusterEndedError(Exception):
    """Ray did not start, or died; the message is the end of what it printed."""


class RayCluster:
    """Three nodes, one a zone."""

    zones = ("zone-a", "zone-b", "zone-c")

    def __init__(self, folder: Path) -> None:
        python = ENVIRONMENT / "bin" / "python"
        script = ROOT / "tests" / "support" / "ray_cluster.py"
        unshare = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        # Ray notes the newest cluster of a machine there, for every driver to find.
        own = "ip link set lo up; mkdir -p /tmp/ray; mount -t tmpfs tmpfs /tmp/ray"
        inside = ["sh", "-c", f'{own}; exec "$@"', "sh", str(python), str(script), *self.zones]
        self._log = folder / "cluster.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*unshare, *inside], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.address = self._answer(START_LIMIT_S)
        (inner,) = psutil.Process(self._process.pid).children()
        # A driver goes where the cluster is.
        self.python = folder / "python-inside"
        self.python.write_text(f'#!/bin/sh\nexec nsenter --target {inner.pid} --net --pid --mount -- {python} "$@"\n')
        self.python.chmod(0o755)

    def tell(self, *words: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(words) + "\n")
        self._process.stdin.flush()
        assert self._answer(START_LIMIT_S) == "ok"

    def _answer(self, limit_s: float) -> str:
        end = threading.Timer(limit_s, self._process.kill)
        end.start()
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        end.cancel()
        if not line:
            self.close()
            raise ClusterEndedError(self._log.read_text()[-2_000:])
        return line

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    for left in range(STARTS - 1, -1, -1):
        try:
            cluster = RayCluster(tmp_path_factory.mktemp("ray"))
            break
        except ClusterEndedError:  # Ray grants a raylet 30 s to start, which on a busy machine may not do
            if not left:
                raise
    yield cluster
    cluster.close()


class RayCloud:
    """A conformance Cloud; the cluster under it is shared."""

    pool = "detect"
    zones = ("zone-a", "zone-b")
    limit_s = 60.0
    hang_limit_s = 20.0
    lacks: Mapping[Ability, str] = {
        "quota": "a cluster of one's own has none",
        "rejected": "Ray refuses no order",
        "lost": "Ray's answers come over its own connections",
        "notice": "Ray tells of none",
        "hang": "the same as an outage: a frozen head",
        "price": "prices are the options'",
    }

    def __init__(self, cluster: RayCluster) -> None:
        self.cluster = cluster
        self._killed: list[str] = []
        self._providers: list[RayProvider] = []

    def provider(self, options: RayOptions | None = None) -> RayProvider:
        values = {"service": {"replicas": 2}, "resources": {"use_spot": True}, "provider": "ray"}
        spec = parse(ServiceSpec, values, "test")
        options = options or RayOptions(command=MACHINE, place_limit_s=10.0, call_limit_s=8.0)
        program = Program("ray", self.cluster.python, WORKER, {"RAY_USAGE_STATS_ENABLED": "0"}, [self.cluster.address])
        made = RayProvider(spec, self.pool, options, program)
        self._providers.append(made)
        return made

    def machines(self) -> int:
        return len(self._processes())

    def _processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if words[-1:] == [MARK] and words[0] == sys.executable:
                found.append(process)
        return found

    def fail_launch(self, fault: LaunchFault | Literal["lost"], zone: str) -> None:
        self.cluster.tell("fill", zone)

    def outage(self, kind: Literal["", "error", "hang"]) -> None:
        self.cluster.tell("stop" if kind else "go")

    def preempt(self, instance: str) -> None:
        self._killed.append("zone-a")
        self.cluster.tell("kill", "zone-a")

    def notice(self, instance: str) -> None:
        raise NotImplementedError

    def price(self, zone: str, usd: float) -> None:
        raise NotImplementedError

    def crash(self, instance: str) -> None:
        (process,) = self._processes()
        process.kill()

    def close(self) -> None:
        self.cluster.tell("empty")
        for zone in self._killed:
            self.cluster.tell("revive", zone)
        for provider in self._providers:
            provider.close()


@pytest.fixture
def cloud(cluster: RayCluster) -> Iterator[RayCloud]:
    cloud = RayCloud(cluster)
    yield cloud
    cloud.close()


class TestRay(ProviderConformance):
    pass


def test_a_machine_is_where_it_was_ordered_and_prints_what_its_replica_prints(cloud: RayCloud) -> None:
    provider, wanted = cloud.provider(), order(cloud, zone="zone-c")
    machine = provider.launch(wanted)
    assert machine.zone == "zone-c"
    wait_until("its output", lambda: list(provider.logs(machine.id, 3)) == ["hello"], cloud.limit_s)
    provider.terminate(machine.id)
    wait_until("its end", lambda: cloud.machines() == 0, cloud.limit_s)


def test_a_label_that_no_node_has_is_named(cloud: RayCloud) -> None:
    with pytest.raises(Misconfigured, match=r"none of \d+ nodes has the label rack"):
        cloud.provider(RayOptions(command=MACHINE, zone_label="rack")).zones()
