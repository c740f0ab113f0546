"""In how many zones a pool stands: one that is cut off, or fails as a whole, is not to take all of it."""

from __future__ import annotations

from collections import Counter


class Spread:
    """Of one decision: `stood`, replicas by zone, follows what is decided."""

    def __init__(self, stood: Counter[str], need: int) -> None:
        """`need`: zones to stand in at least, where so many have machines."""
        self.stood, self.need = stood, need

    def lacks(self, left: int) -> bool:
        """Whether the next `left` orders must all go to new zones."""
        return 0 < left <= self.need - len(self.stood)

    def of(self, zones: list[str], left: int) -> list[str]:
        """Those of `zones` that the next of `left` orders may choose from, in their order."""
        fresh = [zone for zone in zones if zone not in self.stood]
        return fresh if fresh and self.lacks(left) else zones

    def can_spare(self, zone: str) -> bool:
        """Whether one replica fewer there leaves enough zones."""
        return self.stood[zone] > 1 or len(self.stood) > self.need

    def leave(self, zone: str) -> None:
        """One replica there goes."""
        self.stood[zone] -= 1
        if self.stood[zone] <= 0:
            del self.stood[zone]
