"""Which experts stay in memory and which are streamed, for a bound on the memory of all weights. Pure.

The top of the model and attention of all layers stay (a next layer's pre-attention begins before this layer's experts
are done with). Of the experts, as many stay as leave room for two halves of a buffer, each of which holds the streamed
experts of one layer. They are spread evenly over the layers, so that every layer has as much to stream and the disk
never waits for a layer that is all there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Residency:
    """`kept[layer]`: how many experts stay, the first ones."""

    kept: tuple[int, ...]
    experts: int  # of a layer
    half: int  # bytes of one half of the buffer; 0: nothing is streamed
    bytes: int  # of all weights in memory
    streamed: int  # bytes that come in every step

    @property
    def share(self) -> float:
        """r_w of MoE-Lightning: the part of the experts that stays."""
        return sum(self.kept) / (self.experts * len(self.kept))


def residency(fixed: int, experts: Sequence[Sequence[int]], cap: int) -> Residency | None:
    """The most that `cap` bytes allow; None where not even the buffer fits.

    fixed: bytes of what always stays. experts: bytes of each expert's page by layer.
    """
    count = len(experts[0])
    found = None
    for total in range(len(experts) * count + 1):
        kept = spread(total, len(experts))
        streamed = [sum(pages[stay:]) for pages, stay in zip(experts, kept, strict=True)]
        half = max(streamed)
        used = fixed + sum(map(sum, experts)) - sum(streamed) + 2 * half
        if used <= cap:
            found = Residency(kept, count, half, used, sum(streamed))
    return found


def spread(total: int, layers: int) -> tuple[int, ...]:
    """`total` experts over the layers: none has two more than another, and those with one more lie far apart."""
    return tuple((layer + 1) * total // layers - layer * total // layers for layer in range(layers))
