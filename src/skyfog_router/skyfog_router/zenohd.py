"""A router of the fleet's zenoh network, for robots and replicas that cannot reach each other directly.

It holds nothing: robots and replicas find it again by themselves when it comes back, and say anew who they are.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

from skyfog_core.config.router import ZenohConfig
from skyfog_router.acl import Member
from skyfog_router.transport.zenoh import close_session, open_session


def run(config: ZenohConfig, member: Member, on_ready: Callable[[], None]) -> None:
    """Pass on until SIGTERM or SIGINT. To be called from the main thread. Raises ConfigError where it cannot begin."""
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    session = open_session(config, member)
    on_ready()
    ended.wait()
    close_session(session)
