"""The double in memory keeps the contract that it stands in for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import pytest

from skyfog_pool.policy.market import LaunchFault, Prices
from support.conformance import Ability, ProviderConformance
from support.fake_cloud import FakeCloud, FakeProvider


class FakeConformanceCloud:
    """A Cloud of a FakeCloud."""

    pool = "detect"
    limit_s = 2.0
    hang_limit_s = 10.0
    lacks: Mapping[Ability, str] = {}

    def __init__(self) -> None:
        self.cloud = FakeCloud()
        self.zones = self.cloud.zones
        self.preempt = self.cloud.preempt
        self.notice = self.cloud.notice
        self.crash = self.cloud.crash

    def provider(self) -> FakeProvider:
        return FakeProvider(self.cloud)

    def machines(self) -> int:
        return len(self.cloud.alive)

    def fail_launch(self, fault: LaunchFault | Literal["lost"], zone: str) -> None:
        self.cloud.fail(fault, zone)

    def outage(self, kind: Literal["", "error", "hang"]) -> None:
        self.cloud.outage = kind

    def price(self, zone: str, usd: float) -> None:
        self.cloud.prices[zone] = Prices(usd, self.cloud.prices[zone].on_demand)

    def close(self) -> None:
        pass


class TestFake(ProviderConformance):
    @pytest.fixture
    def cloud(self) -> Iterator[FakeConformanceCloud]:
        cloud = FakeConformanceCloud()
        yield cloud
        cloud.close()
