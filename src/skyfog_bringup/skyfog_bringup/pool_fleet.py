"""Joins the pool's controller, which knows no middleware, with the fleet's network."""

from __future__ import annotations

from skyfog_core.config.pool import ServiceSpec
from skyfog_core.config.router import ZenohConfig
from skyfog_core.errors import ConfigError
from skyfog_core.wire.keys import ServiceKeys
from skyfog_pool.fleet import FleetListener, FleetWatch
from skyfog_router.acl import Member
from skyfog_router.transport.zenoh import ZenohFleetWatch, open_session


def open_fleet(spec: ServiceSpec, service: str, listener: FleetListener) -> FleetWatch:
    """Watch `service` (skyfog_pool.fleet.OpenFleet). Raises ConfigError that names endpoint or certificate at fault."""
    fleet = spec.skyfog
    if not fleet.connect and not fleet.listen:
        raise ConfigError("skyfog.connect, skyfog.listen: both empty: say where the fleet's network is")
    keys = ServiceKeys(fleet.fleet, service)
    link = ZenohConfig(connect=fleet.connect, listen=fleet.listen, tls=fleet.tls)
    return ZenohFleetWatch(open_session(link, Member("pool", fleet.fleet, (service,))), keys, listener)
