"""Waits for the end of the local cloud, and then for that of everything it started: `… keeper FOLDER`."""

from __future__ import annotations

import signal
import sys

from skyfog_pool import children
from skyfog_pool.provider.local_cloud.machine import KILL_LIMIT_S, MACHINE


def main() -> int:
    """Returns the exit status: 1 where something would not die."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # what ends the cloud must not end its keeper first
    sys.stdin.buffer.read()
    return 0 if children.kill(lambda: children.marked(MACHINE, sys.argv[1]), KILL_LIMIT_S) else 1


if __name__ == "__main__":
    sys.exit(main())
