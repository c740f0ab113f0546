"""`skyfog zenohd` without its command line: `python -m skyfog_bench.zenoh_router FLEET ENDPOINT`, until SIGTERM."""

from __future__ import annotations

import sys

from skyfog_core.config.router import ZenohConfig
from skyfog_router import zenohd
from skyfog_router.acl import Member


def main() -> None:
    """Route."""
    fleet, endpoint = sys.argv[1:]
    zenohd.run(ZenohConfig(mode="router", listen=[endpoint]), Member("router", fleet, ()), lambda: None)


if __name__ == "__main__":
    main()
