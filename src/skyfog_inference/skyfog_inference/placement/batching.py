"""Requests of unlike lengths into micro-batches of like sizes (MoE-Lightning, appendix A.2, algorithm 2). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Batches:
    """Indices of requests: the micro-batches that are not empty, and those that go into the next batch."""

    micro_batches: tuple[tuple[int, ...], ...]
    aborted: tuple[int, ...]


def batch(lengths: Sequence[int], count: int, size: int, new_tokens: int, cache_tokens: int) -> Batches:
    """Split requests with prompts of `lengths` tokens into at most `count` micro-batches of at most `size` requests.

    The longest goes first, each into the micro-batch with the fewest tokens (the first of equal ones); a micro-batch
    that has `size` requests is closed. Where prompts and `new_tokens` for each would exceed the `cache_tokens` of the
    micro-batch, the request is aborted. Raises ValueError for sizes below 1.
    """
    if count < 1 or size < 1 or new_tokens < 0 or cache_tokens < 0:
        raise ValueError(f"no batches of {count} x {size} requests, {new_tokens} new tokens, {cache_tokens} in cache")
    closed: list[list[int]] = []
    open_ones: list[list[int]] = [[] for _ in range(count)]
    sums = [0] * count
    aborted = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not open_ones:
            aborted.append(index)
            continue
        at = min(range(len(sums)), key=sums.__getitem__)
        if sums[at] + lengths[index] + (1 + len(open_ones[at])) * new_tokens > cache_tokens:
            aborted.append(index)
            continue
        open_ones[at].append(index)
        sums[at] += lengths[index]
        if len(open_ones[at]) == size:
            closed.append(open_ones.pop(at))
            sums.pop(at)
    return Batches(tuple(tuple(one) for one in (*closed, *open_ones) if one), tuple(aborted))
