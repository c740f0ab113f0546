"""A tier: a bounded arena of bytes on the GPU, in RAM or on disk, out of which weights and caches are cut.

A tier never gives more than its capacity, whatever the machine would allow: a cap that is not enforced is no cap.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class TierKind(Enum):
    """Where the bytes lie."""

    GPU = "gpu"
    RAM = "ram"
    DISK = "disk"


class TierFull(Exception):
    """The arena has no room for this: the message says how much is free, and of how much."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of one tier: from `offset`, `size` of them."""

    tier: Tier
    offset: int
    size: int


class Tier(Protocol):
    """A bounded arena."""

    name: str
    kind: TierKind
    capacity: int  # bytes

    def allocate(self, size: int, align: int = 4096) -> Span:
        """Cut out `size` bytes. Raises TierFull."""
        ...

    def free(self, span: Span) -> None:
        """Give a span back. Raises ValueError for one that is not allocated."""
        ...

    @property
    def used(self) -> int:
        """Bytes given out."""
        ...

    def check(self) -> None:
        """Raise AssertionError where spans overlap or do not add up."""
        ...

    def close(self) -> None: ...
