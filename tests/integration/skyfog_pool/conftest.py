"""The look-alike of AWS, one process for the tests of a folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.aws import Shim, seal


@pytest.fixture(scope="session")
def aws_shim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    shim = Shim(tmp_path_factory.mktemp("aws") / "shim.log")
    yield shim
    shim.close()


@pytest.fixture
def aws(aws_shim: Shim, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    """The shim without faults, and boto3 sealed to it."""
    aws_shim.ask("heal")
    seal(monkeypatch, aws_shim, tmp_path_factory.mktemp("home"))
    yield aws_shim
    aws_shim.ask("heal")
