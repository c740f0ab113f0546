"""Whether a request may be sent once more, by what its service declares.

    idempotent        whenever it helps, also to several replicas at once
    if_not_executed   only while no copy is under way and every earlier one certainly did not run
    at_most_once      never twice, whatever became of the first

A replica that refused certainly did not run it, and may be asked again after it wished (retry_after). One whose link
was lost may be asked again too, if it is still there: it knows the request by its id, runs it no second time, and gives
the answer that did not arrive. Each pause is twice as long as the one before.
"""

from __future__ import annotations

from skyfog_core.config.router import RoutingConfig
from skyfog_core.units import MS

FIRST_PAUSE_NS = 5 * MS
MOST_DOUBLINGS = 7


def may_send(config: RoutingConfig, attempts: int, under_way: int, may_have_run: bool) -> bool:
    """Whether one more copy is allowed now."""
    if attempts >= config.max_attempts:
        return False
    if config.repeat == "at_most_once":
        return attempts == 0
    if config.repeat == "if_not_executed":
        return under_way == 0 and not may_have_run
    return True


def pause_ns(times: int, least_ns: int) -> int:
    """How long to leave a replica alone that this request will ask once more, the n-th time, n >= 1."""
    return max(least_ns, FIRST_PAUSE_NS) << min(times - 1, MOST_DOUBLINGS)
