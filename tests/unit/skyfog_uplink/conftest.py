"""Drivers of unit tests own no thread."""

from __future__ import annotations

import pytest

import skyfog_uplink.car  # noqa: F401  # here, since structlog reads the clock when it is first imported
from support.owners import StepOwner


@pytest.fixture(autouse=True)
def _owners_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skyfog_uplink.car.Owner", StepOwner)
    monkeypatch.setattr(StepOwner, "made", [])
