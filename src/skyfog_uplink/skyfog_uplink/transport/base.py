"""What the shaper and the gateway need from a transport, and nothing of how it is done."""

from __future__ import annotations

from typing import Protocol

from skyfog_core.config.uplink import ShaperNodeConfig
from skyfog_core.wire.uplink import Downward, Upward


class CarEvents(Protocol):
    """What the car hears. Called from the transport's threads; must not block."""

    def received(self, message: Downward, payload: bytes) -> None: ...
    def connected(self, gateway: str) -> None: ...
    def disconnected(self, why: str) -> None: ...


class CarTransport(Protocol):
    """The car's end. `send` never blocks for long; control goes before data; what the link does not take is lost."""

    def start(self, events: CarEvents) -> None: ...
    def send(self, message: Upward, payload: bytes = b"") -> bool:
        """Whether it was taken; False where there is no gateway, or where it is behind by too much."""
        ...

    def close(self) -> None: ...


class OpenLink(Protocol):
    """Makes a car's transport; named by `transport: module:factory`. Raises ConfigError."""

    def __call__(self, config: ShaperNodeConfig) -> CarTransport: ...


class GatewayEvents(Protocol):
    """What the gateway hears of a car. Called from the transport's threads."""

    def received(self, car: str, message: Upward, payload: bytes) -> None: ...


class GatewayTransport(Protocol):
    """The gateway's end."""

    def start(self, events: GatewayEvents) -> None: ...
    def announce(self, live: bool) -> None:
        """Let cars find this gateway, or turn to others."""
        ...

    def send(self, car: str, message: Downward, payload: bytes = b"") -> None: ...
    def close(self) -> None: ...
