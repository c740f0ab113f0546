"""The local cloud does what every provider does: real processes, in namespaces where permitted, and without."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import psutil
import pytest

from skyfog_core.config.pool_local import LocalOptions
from skyfog_pool import children
from skyfog_pool.policy.market import LaunchFault
from skyfog_pool.provider.local import LocalCloud, LocalProvider
from skyfog_pool.provider.local_cloud.machine import MACHINE
from skyfog_pool.provider.netem.network import why_not
from support.conformance import Ability, ProviderConformance
from support.processes import wait_until

CALL_LIMIT_S = 3.0


class LocalConformanceCloud:
    """A Cloud of a LocalCloud in a folder of its own."""

    zones = ("local-1a", "local-2a")
    limit_s = 20.0
    hang_limit_s = CALL_LIMIT_S + 10.0
    lacks: Mapping[Ability, str] = {}

    def __init__(self, cloud: LocalCloud, options: LocalOptions) -> None:
        self.options = options
        self.folder = cloud.folder
        self.cloud = cloud
        self._providers: list[LocalProvider] = []
        self._tests = itertools.count(1)
        self.fresh()
        self.outage = self.cloud.outage
        self.price = self.cloud.price
        self.preempt = self.cloud.take
        self.crash = self.cloud.crash

    def provider(self) -> LocalProvider:
        provider = LocalProvider(self.folder, self.options, CALL_LIMIT_S)
        self._providers.append(provider)
        return provider

    def machines(self) -> int:
        """By the first processes that run on this machine."""
        return len({_machine(process) for process in children.marked(MACHINE, str(self.folder))} - {""})

    def fail_launch(self, fault: LaunchFault | Literal["lost"], zone: str) -> None:
        self.cloud.fail_next("error500" if fault == "error" else fault, zone)

    def notice(self, instance: str) -> None:
        self.cloud.notice(instance, "interruption", 120.0)

    def fresh(self) -> None:
        """For the next test: a pool that has had no machine."""
        self.pool = f"detect-{next(self._tests)}"

    def close(self) -> None:
        for provider in self._providers:
            provider.close()


@contextmanager
def running(folder: Path, *, namespaces: bool) -> Iterator[LocalConformanceCloud]:
    """One cloud for all tests of a class: each leaves no machine behind."""
    options = LocalOptions(namespaces=namespaces, stop_s=0.5)
    cloud = LocalCloud(folder)
    cloud.start(options)
    try:
        yield LocalConformanceCloud(cloud, options)
    finally:
        cloud.end()
        cloud.close()
    # What was killed in a namespace is gone a moment after its parent, for which the cloud waited.
    wait_until("nothing of it runs", lambda: children.marked(MACHINE, str(folder)) == [])


def _machine(process: psutil.Process) -> str:
    try:
        return process.environ().get(MACHINE, "")
    except psutil.Error:
        return ""


class TestPlain(ProviderConformance):
    @pytest.fixture(scope="class")
    def shared(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalConformanceCloud]:
        with running(tmp_path_factory.mktemp("plain"), namespaces=False) as cloud:
            yield cloud

    @pytest.fixture
    def cloud(self, shared: LocalConformanceCloud) -> Iterator[LocalConformanceCloud]:
        shared.fresh()
        yield shared
        shared.close()


@pytest.mark.skipif(bool(why_not()), reason=f"no namespaces: {why_not()}")
class TestNamespaces(ProviderConformance):
    @pytest.fixture(scope="class")
    def shared(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalConformanceCloud]:
        with running(tmp_path_factory.mktemp("spaces"), namespaces=True) as cloud:
            yield cloud

    @pytest.fixture
    def cloud(self, shared: LocalConformanceCloud) -> Iterator[LocalConformanceCloud]:
        shared.fresh()
        yield shared
        shared.close()
