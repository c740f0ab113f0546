"""The books of an arena: which bytes are given out, and the holes between them. Pure."""

from __future__ import annotations

from bisect import bisect_left

from skyfog_inference.tier import TierFull


class FirstFit:
    """Gives the first hole that is large enough; neighbouring holes become one."""

    def __init__(self, name: str, capacity: int) -> None:
        self._name = name
        self._capacity = capacity
        self._holes: list[tuple[int, int]] = [(0, capacity)] if capacity else []  # (offset, size), by offset
        self._taken: dict[int, int] = {}  # size by offset

    @property
    def used(self) -> int:
        """Bytes given out."""
        return sum(self._taken.values())

    def take(self, size: int, align: int) -> int:
        """The offset of `size` bytes, a multiple of `align`. Raises TierFull, ValueError for a size below 1."""
        if size < 1 or align < 1:
            raise ValueError(f"{self._name}: {size} bytes aligned to {align}")
        for at, (offset, room) in enumerate(self._holes):
            start = -(-offset // align) * align
            if start + size <= offset + room:
                before, after = (offset, start - offset), (start + size, offset + room - start - size)
                self._holes[at : at + 1] = [hole for hole in (before, after) if hole[1]]
                self._taken[start] = size
                return start
        free, largest = self._capacity - self.used, max((room for _, room in self._holes), default=0)
        raise TierFull(f"{self._name}: no room for {size} bytes; {free} of {self._capacity} free, {largest} in a piece")

    def give(self, offset: int, size: int) -> None:
        """Take bytes back. Raises ValueError for what is not given out."""
        if self._taken.get(offset) != size:
            raise ValueError(f"{self._name}: {size} bytes at {offset} are not given out")
        del self._taken[offset]
        at = bisect_left(self._holes, (offset, 0))
        end = offset + size
        if at < len(self._holes) and self._holes[at][0] == end:
            end += self._holes.pop(at)[1]
        if at and sum(self._holes[at - 1]) == offset:
            at -= 1
            offset = self._holes.pop(at)[0]
        self._holes.insert(at, (offset, end - offset))

    def check(self) -> None:
        """Raise AssertionError unless spans and holes fill the arena without overlap, and no two holes touch."""
        end, was_hole = 0, False
        for offset, size, hole in sorted(
            [(*hole, True) for hole in self._holes] + [(*span, False) for span in self._taken.items()]
        ):
            assert size > 0, f"{self._name}: an empty piece at {offset}"
            assert offset == end, f"{self._name}: the pieces around {offset} overlap, or bytes are lost"
            assert not (hole and was_hole), f"{self._name}: two holes touch at {offset}"
            end, was_hole = offset + size, hole
        assert end == self._capacity, f"{self._name}: ends at {end} of {self._capacity}"
