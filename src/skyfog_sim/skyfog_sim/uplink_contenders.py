"""Who shares the uplink how: production, and what it is measured against."""

from __future__ import annotations

from collections.abc import Callable

from skyfog_core.config.uplink import UplinkConfig
from skyfog_sim.uplink import Contender
from skyfog_uplink.policy.allocate import Allocator
from skyfog_uplink.policy.baselines import equal_split, on_car, one_model
from skyfog_uplink.policy.estimate import LinkEstimator
from skyfog_uplink.policy.model import Table
from skyfog_uplink.policy.plan import Allocation
from skyfog_uplink.policy.shape import Shaper
from skyfog_uplink.policy.turbo import turbo
from skyfog_uplink.policy.turbo_sender import TurboSender

OURS, ON_CAR, ONE_MODEL, EQUAL_SPLIT, TURBO = "skyfog", "on car only", "one model", "equal split", "TURBO"


def ours(config: UplinkConfig | None = None, name: str = OURS) -> Contender:
    """As production makes it."""
    chosen = config or UplinkConfig()
    return Contender(name, lambda table: Allocator(table, chosen.allocator), _shaper(chosen))


def _shaper(config: UplinkConfig) -> Callable[[Table], Shaper]:
    return lambda table: Shaper(table, config.shaper, LinkEstimator(config.estimator))


def with_our_sender(name: str, allocation: Callable[[Table], Allocation]) -> Contender:
    """Another allocation; estimator and sender are production's, which flatters it."""
    return Contender(name, allocation, _shaper(UplinkConfig()))


BASELINES = {
    ON_CAR: with_our_sender(ON_CAR, on_car),
    ONE_MODEL: with_our_sender(ONE_MODEL, one_model),
    EQUAL_SPLIT: with_our_sender(EQUAL_SPLIT, equal_split),
}

# As published, and with little junk: 25 Mbit/s of it fill most of the links here, and their queues.
LITTLE_JUNK_BPS = 1e6
TURBOS = (
    Contender(TURBO, turbo, TurboSender),
    Contender(f"{TURBO}, little junk", turbo, lambda table: TurboSender(table, junk_bps=LITTLE_JUNK_BPS)),
)
