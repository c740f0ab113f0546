"""The transport of a car's uplink that comes with Skyfog: joins skyfog_uplink's node to skyfog_router's zenoh link."""

from __future__ import annotations

from skyfog_core.clock import SteadyClock
from skyfog_core.config.uplink import ShaperNodeConfig
from skyfog_router.transport.zenoh_link import open_car_link
from skyfog_uplink.transport.base import CarTransport


def open_link(config: ShaperNodeConfig) -> CarTransport:
    """As skyfog_uplink.transport.base.OpenLink. Raises ConfigError."""
    return open_car_link(config.zenoh, config.fleet, config.car, SteadyClock())
