"""A router of the fleet's zenoh network, for robots and replicas that cannot reach each other directly.

It holds nothing: robots and replicas find it again by themselves when it comes back, and say anew who they are.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

from skyfog_core.config.router import ZenohConfig
from skyfog_router.acl import Member
from skyfog_router.transport.zenoh import close_session, open_session

ENDS = {signal.SIGTERM, signal.SIGINT}


def run(config: ZenohConfig, member: Member, on_ready: Callable[[], None]) -> None:
    """Pass on until SIGTERM or SIGINT. To be called from the main thread. Raises ConfigError where it cannot begin."""
    # Blocked before zenoh starts its threads: one of them would take the signal, and the main thread sleep on.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
    try:
        session = open_session(config, member)
        on_ready()
        signal.sigwait(ENDS)
        close_session(session)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
