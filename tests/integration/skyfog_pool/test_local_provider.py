"""The local cloud does what every provider does: real processes, in namespaces where permitted, and without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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

CALL_LIMIT_S = 3.0


class LocalConformanceCloud:
    """A Cloud of a LocalCloud in a folder of its own."""

    pool = "detect"
    zones = ("local-1a", "local-2a")
    limit_s = 20.0
    hang_limit_s = CALL_LIMIT_S + 1.0
    lacks: Mapping[Ability, str] = {}

    def __init__(self, folder: Path, *, namespaces: bool) -> None:
        self.options = LocalOptions(namespaces=namespaces, stop_s=0.5)
        self.folder = folder
        self._providers: list[LocalProvider] = []
        self.cloud = LocalCloud(folder)
        self.cloud.start(self.options)
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

    def close(self) -> None:
        self.cloud.end()
        for provider in self._providers:
            provider.close()
        self.cloud.close()
        assert children.marked(MACHINE, str(self.folder)) == []


def _machine(process: psutil.Process) -> str:
    try:
        return process.environ().get(MACHINE, "")
    except psutil.Error:
        return ""


class TestPlain(ProviderConformance):
    @pytest.fixture
    def cloud(self, tmp_path: Path) -> Iterator[LocalConformanceCloud]:
        cloud = LocalConformanceCloud(tmp_path, namespaces=False)
        yield cloud
        cloud.close()


@pytest.mark.skipif(bool(why_not()), reason=f"no namespaces: {why_not()}")
class TestNamespaces(ProviderConformance):
    @pytest.fixture
    def cloud(self, tmp_path: Path) -> Iterator[LocalConformanceCloud]:
        cloud = LocalConformanceCloud(tmp_path, namespaces=True)
        yield cloud
        cloud.close()
