"""A link of its own for each test; whatever a test starts is closed, last first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

pytest.importorskip("zenoh", reason="eclipse-zenoh is not installed")

from integration.skyfog_router.ends import (
    DEADLINE_MS,
    LocalReplica,
    RemoteReplica,
    TracedDriver,
    free_endpoint,
    open_router_transport,
)

from skyfog_core.config.router import ZenohConfig


class Net:
    """Starts ends on one endpoint and waits until the robot sees them."""

    def __init__(self, stack: ExitStack) -> None:
        self.endpoint = free_endpoint()
        self._stack = stack

    def keep(self, end: Any) -> Any:
        """Close `end` with the test."""
        self._stack.enter_context(closing(end))
        return end

    def robot(self, deadline_ms: int = DEADLINE_MS, link: ZenohConfig | None = None, **settings: Any) -> TracedDriver:
        return self.keep(TracedDriver(open_router_transport(link or self.endpoint), deadline_ms, **settings))

    def local(self, name: str, link: ZenohConfig | None = None, **settings: Any) -> LocalReplica:
        return self.keep(LocalReplica(link or self.endpoint, name, **settings))

    def remote(self, name: str, kind: str) -> RemoteReplica:
        return self.keep(RemoteReplica(self.endpoint, name, kind))


@pytest.fixture
def net() -> Iterator[Net]:
    with ExitStack() as stack:
        yield Net(stack)
