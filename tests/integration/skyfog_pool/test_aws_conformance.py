"""The aws provider does what every provider must, on a look-alike: with one type of machine, and with several."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.aws import AwsCloud, Shim
from support.conformance import ProviderConformance

TYPES = [{"instance_type": "m6i.large"}, {"instance_type": "m7i.large"}]


class TestAws(ProviderConformance):
    @pytest.fixture
    def cloud(self, aws: Shim, tmp_path: Path) -> Iterator[AwsCloud]:
        cloud = AwsCloud(aws, tmp_path)
        yield cloud
        cloud.close()


class TestAwsFleet(ProviderConformance):
    @pytest.fixture
    def cloud(self, aws: Shim, tmp_path: Path) -> Iterator[AwsCloud]:
        cloud = AwsCloud(aws, tmp_path, {"instance_type": None, "any_of": TYPES})
        yield cloud
        cloud.close()
