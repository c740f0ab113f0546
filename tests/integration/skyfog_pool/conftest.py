"""The look-alike of AWS, one process for the tests of a folder."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.loaders
import pytest

from skyfog_core.config.pool import ServiceSpec
from skyfog_pool.provider import aws as aws_provider
from skyfog_pool.provider.aws import AwsProvider
from support.aws import Make, Shim, seal, spec_of, tiny_workspace


@pytest.fixture(scope="session")
def botocore_loader() -> botocore.loaders.Loader:
    """Reads boto3's descriptions of services once, and not for each client of each test."""
    return botocore.loaders.create_loader()


@pytest.fixture(scope="session")
def aws_shim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    shim = Shim(tmp_path_factory.mktemp("aws") / "shim.log")
    yield shim
    shim.close()


@pytest.fixture
def aws(
    aws_shim: Shim,
    botocore_loader: botocore.loaders.Loader,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shim]:
    """The shim without faults, and boto3 sealed to it."""
    aws_shim.ask("heal")
    monkeypatch.setattr("botocore.session.create_loader", lambda _path=None: botocore_loader)
    seal(monkeypatch, aws_shim, tmp_path_factory.mktemp("home"))
    yield aws_shim
    aws_shim.ask("heal")


@pytest.fixture
def pool() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


@pytest.fixture
def make(aws: Shim, pool: str, tmp_path: Path) -> Iterator[Make]:
    """A provider of the pool; at the end no machine of the pool is left, whatever became of the test."""
    made: list[AwsProvider] = []

    def new(resources: dict[str, Any] | None = None, spec: ServiceSpec | None = None, **options: Any) -> AwsProvider:
        options.setdefault("workspace", str(tiny_workspace(tmp_path / "ws")))
        provider = aws_provider.make(spec or spec_of(resources, **options), pool)
        assert isinstance(provider, AwsProvider)
        made.append(provider)
        return provider

    yield new
    aws.ask("heal")
    last = new()
    for machine in last.instances(pool):
        last.terminate(machine.id)
    for provider in made:
        provider.close()
    assert aws.machines(pool) == []
