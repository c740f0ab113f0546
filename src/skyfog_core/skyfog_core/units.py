"""Names carry units (`deadline_ms`, `now_ns`); here are the factors between them."""

from __future__ import annotations

US = 1_000
MS = 1_000_000
S = 1_000_000_000


def ms_to_ns(ms: float) -> int:
    """Milliseconds to whole nanoseconds."""
    return round(ms * MS)


def ns_to_ms(ns: int) -> float:
    """Nanoseconds to milliseconds."""
    return ns / MS
