"""Contention: `python -m skyfog_bench.burn CORE` keeps one core busy until it is ended."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Burn."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    while True:
        pass


if __name__ == "__main__":
    main()
