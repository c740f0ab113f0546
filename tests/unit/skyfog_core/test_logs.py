"""Logging where nobody reads it, or nothing can be written."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
import structlog

from skyfog_core.logs import configure_logs


@pytest.fixture
def unread() -> Iterator[TextIO]:
    """A pipe whose reader is gone. Leaving it flushes, as Python does at its end, and that must not fail."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as file:
        yield file


@pytest.fixture
def full() -> Iterator[TextIO]:
    with contextlib.suppress(OSError), Path("/dev/full").open("w") as file:
        yield file


@pytest.mark.parametrize("kind", ["unread", "full"])
def test_a_line_that_cannot_be_written_is_lost_and_no_error(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", request.getfixturevalue(kind))
        configure_logs("test")
        log = structlog.get_logger()
        try:
            for say in (log.debug, log.info, log.warning, log.error, log.exception, log.critical):
                say("said", number=1)
        finally:
            structlog.reset_defaults()


def test_what_can_be_written_is(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("test")
    try:
        structlog.get_logger().warning("said", number=1)
    finally:
        structlog.reset_defaults()
    assert "said" in capsys.readouterr().err
