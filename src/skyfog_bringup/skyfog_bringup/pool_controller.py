"""A pool's controller that watches the fleet's network: `skyfog pool up` starts it in the background."""

from __future__ import annotations

from skyfog_bringup.pool_fleet import open_fleet
from skyfog_pool.daemon import main

if __name__ == "__main__":
    main(open_fleet)
