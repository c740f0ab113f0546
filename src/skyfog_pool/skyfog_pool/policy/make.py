"""The policy of a service file."""

from __future__ import annotations

from collections.abc import Sequence

from skyfog_core.config.pool import ServiceSpec
from skyfog_pool.policy.demand import Demand
from skyfog_pool.policy.market import Zone
from skyfog_pool.policy.place import PLACEMENTS
from skyfog_pool.policy.pool import PoolPolicy


def make_policy(spec: ServiceSpec, zones: Sequence[Zone], version: int) -> PoolPolicy:
    """One that has seen nothing yet."""
    config = spec.service.replica_policy
    placement = PLACEMENTS[config.spot_placer](zones)
    return PoolPolicy(config, zones, placement, Demand(config), use_spot=spec.resources.spot, version=version)
