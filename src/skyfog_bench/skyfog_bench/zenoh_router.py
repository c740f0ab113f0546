"""A zenoh router by itself: `python -m skyfog_bench.zenoh_router ENDPOINT`, until SIGTERM."""

from __future__ import annotations

import signal
import sys
from typing import Any

from skyfog_core.config.router import ZenohConfig
from skyfog_router.transport.zenoh import open_session


def main() -> None:
    """Route."""
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before zenoh starts its threads
    session: Any = open_session(ZenohConfig(mode="router", listen=[sys.argv[1]]))
    signal.sigwait(ends)
    session.close()


if __name__ == "__main__":
    main()
