"""A WeightStore larger than memory: experts come from their pages on disk into a buffer of two layers.

While layer i computes out of one half of the buffer, the experts of layer i + 1 come into the other (MoE-Lightning
section 4.1). Who runs the steps either says when, by `begin`, as the task orders do; or only asks for weights and
releases layers, as any runner does: then `ahead` makes the store begin the next layer by itself.

    table[layer]  -> half, and the ticket of every expert that was asked for: the page table
    begin(i)      takes a free half;  feed_forward(i, e) waits for e's ticket;  release(i) frees the half

With few tokens in a step most experts are not chosen by the router: `routed` reads those that are, when they are.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from skyfog_core.clock import Clock, SteadyClock
from skyfog_core.errors import ConfigError
from skyfog_inference.layers.weights import AttentionWeights, FeedForward, TopWeights
from skyfog_inference.link.base import Ticket
from skyfog_inference.link.cuda import CudaLink
from skyfog_inference.link.direct import DirectLink
from skyfog_inference.tier import Span
from skyfog_inference.tiers.disk import DiskTier
from skyfog_inference.tiers.memory import GpuTier, RamTier
from skyfog_inference.weights.pages import DTYPES, PAGES, Page, checked, read_index, unpacked
from skyfog_inference.weights.residency import Residency, residency

MB = 1_000_000


@dataclass(slots=True)
class _Loading:
    """A layer that has a half of the buffer."""

    half: int
    offsets: dict[int, int]  # of every streamed expert in the half
    tickets: dict[int, Ticket] = field(default_factory=dict)


class StreamedWeights:
    """The weights of a packed folder within `cap` bytes of the memory of whoever computes."""

    def __init__(
        self,
        folder: Path,
        cap: int,
        ahead: bool = True,
        experts: Literal["all", "routed"] = "all",
        device: str = "cpu",
        clock: Clock | None = None,
    ) -> None:
        """Reads what stays in memory. Raises ConfigError for a broken folder or too small a cap, OSError."""
        self.config, self._index = read_index(folder)
        self._file = str(folder / PAGES)
        self._dtype = DTYPES[self._index.dtype]
        self.residency = self._plan(cap)
        self.experts = experts
        self._ahead = ahead
        self._clock = clock or SteadyClock()
        self._lock = threading.Lock()
        self._table: dict[int, _Loading] = {}
        self._free = [0, 1] if self.residency.half else []
        self._checked: set[int] = set()
        self.waited_ns = 0  # by who computes, for the disk
        self.read_bytes = 0  # asked for since the start, what stays included
        self._disk = DiskTier(folder / PAGES)
        self._source: DiskTier | RamTier = self._disk
        self._target: RamTier | GpuTier
        self._link: DirectLink | CudaLink
        self._on_cpu = device == "cpu"
        if self._on_cpu:
            self._target = RamTier("weights", self.residency.bytes)
            self._link = DirectLink(self._disk, self._target)
        else:
            self._source = _whole_file(self._disk)
            self._target = GpuTier("weights", self.residency.bytes, device)
            self._link = CudaLink(self._source, self._target)
        try:
            self._halves = [self._target.allocate(self.residency.half) for _ in self._free]
            self._read_what_stays()
        except BaseException:
            self.close()
            raise

    def _plan(self, cap: int) -> Residency:
        layers = self._index.layers
        fixed = self._index.top.size + sum(layer.attention.size for layer in layers)
        pages = [[page.size for page in layer.experts] for layer in layers]
        found = residency(fixed, pages, cap)
        if found is None:
            needed = fixed + 2 * max(map(sum, pages))
            raise ConfigError(
                f"{self._file}: {cap / MB:.1f} MB of memory are too few: {needed / MB:.1f} MB hold attention and two "
                f"layers of experts"
            )
        return found

    def _read_what_stays(self) -> None:
        top = self._start(self._index.top)
        attentions = [self._start(layer.attention) for layer in self._index.layers]
        stays = [
            [self._start(page) for page in layer.experts[:kept]]
            for layer, kept in zip(self._index.layers, self.residency.kept, strict=True)
        ]
        self._top = unpacked(TopWeights, self._index.top, self._arrived(self._index.top, *top), self._dtype)
        self._attentions = [
            unpacked(AttentionWeights, layer.attention, self._arrived(layer.attention, *started), self._dtype)
            for layer, started in zip(self._index.layers, attentions, strict=True)
        ]
        self._stay = [
            [
                unpacked(FeedForward, page, self._arrived(page, *one), self._dtype)
                for page, one in zip(layer.experts, started, strict=False)
            ]
            for layer, started in zip(self._index.layers, stays, strict=True)
        ]

    def _start(self, page: Page, into: Span | None = None) -> tuple[Span, Ticket]:
        span = into or self._target.allocate(page.size)
        self.read_bytes += page.size
        return span, self._link.copy(Span(self._source, page.offset, page.size), span)

    def _arrived(self, page: Page, span: Span, ticket: Ticket) -> torch.Tensor:
        """The bytes of a page once they are there; the first time its checksum is compared."""
        if not ticket.done:
            begun = self._clock.now_ns()
            ticket.wait()
            self.waited_ns += self._clock.now_ns() - begun
        ticket.wait()  # raises where it failed
        data = self._target.bytes(span)
        if self._on_cpu and page.offset not in self._checked:
            checked(page, data, self._file)
            self._checked.add(page.offset)
        return data

    # what the forward pass asks

    @property
    def top(self) -> TopWeights:
        return self._top

    def attention(self, layer: int) -> AttentionWeights:
        if self._ahead:
            self._begin_ahead(layer)
        return self._attentions[layer]

    def feed_forward(self, layer: int, expert: int = 0) -> FeedForward:
        if expert < self.residency.kept[layer]:
            return self._stay[layer][expert]
        self.want(layer, (expert,))
        with self._lock:
            loading = self._table[layer]
            ticket = loading.tickets[expert]
        page = self._index.layers[layer].experts[expert]
        try:
            data = self._arrived(page, self._span(loading, expert, page), ticket)
        except OSError:
            with self._lock:
                loading.tickets.pop(expert, None)  # who asks again has it read again
            raise
        return unpacked(FeedForward, page, data, self._dtype)

    def release(self, layer: int) -> None:
        with self._lock:
            if layer in self._table:
                self._emptied(self._table.pop(layer))

    # when pages come

    def begin(self, layer: int, page: int = 0, pages: int = 1) -> list[Ticket]:
        """Have the share `page` of `pages` of a layer's streamed experts come. Nothing where only chosen ones do."""
        if self.experts == "routed":
            return []
        kept = self.residency.kept[layer]
        streamed = self.residency.experts - kept
        mine = range(kept + page * streamed // pages, kept + (page + 1) * streamed // pages)
        return self.want(layer, mine)

    def want(self, layer: int, experts: Iterable[int]) -> list[Ticket]:
        """Have these experts of a layer read: those that are neither there nor on their way."""
        kept, pages, tickets = self.residency.kept[layer], self._index.layers[layer].experts, []
        with self._lock:
            for expert in experts:
                if expert < kept:
                    continue
                loading = self._table.get(layer) or self._take_half(layer)
                if expert not in loading.tickets or _failed(loading.tickets[expert]):
                    span = self._span(loading, expert, pages[expert])
                    loading.tickets[expert] = self._start(pages[expert], span)[1]
                tickets.append(loading.tickets[expert])
        return tickets

    def _take_half(self, layer: int) -> _Loading:
        """With the lock held. Where no half is free, a step was broken off: its first layer gives way."""
        if not self._free:
            self._emptied(self._table.pop(next(iter(self._table))))
        kept, offsets, end = self.residency.kept[layer], {}, 0
        for expert in range(kept, self.residency.experts):
            offsets[expert] = end
            end += self._index.layers[layer].experts[expert].size
        self._table[layer] = _Loading(self._free.pop(0), offsets)
        return self._table[layer]

    def _begin_ahead(self, layer: int) -> None:
        """Have a layer and the next one read; what is left of a step that was broken off gives way."""
        following = (layer + 1) % self.config.layers
        for old in [held for held in self._table if held not in {layer, following}]:
            self.release(old)
        self.begin(layer)
        if following != layer:
            self.begin(following)

    def _emptied(self, loading: _Loading) -> None:
        """With the lock held. Its half is free once nothing is written into it any more."""
        for ticket in loading.tickets.values():
            try:
                ticket.wait()
            except OSError:  # whoever needs the page has been told, or nobody needed it
                continue
        self._free.append(loading.half)

    def _span(self, loading: _Loading, expert: int, page: Page) -> Span:
        return Span(self._target, self._halves[loading.half].offset + loading.offsets[expert], page.size)

    def close(self) -> None:
        """Its own tensors go, and with them the memory, unless somebody else still looks into it."""
        self._attentions, self._stay = [], []
        vars(self).pop("_top", None)
        for part in (self._link, self._target, self._source, self._disk):
            part.close()


def _failed(ticket: Ticket) -> bool:
    """Whether a page has to be read again."""
    if ticket.done:
        try:
            ticket.wait()
        except OSError:
            return True
    return False


def _whole_file(disk: DiskTier) -> RamTier:
    """For a GPU: the lower level is pinned RAM, with every page where it is in the file. Not run here: no CUDA."""
    ram = RamTier("pages", disk.capacity)
    link = DirectLink(disk, ram)
    try:
        link.copy(Span(disk, 0, disk.capacity), ram.allocate(disk.capacity)).wait()
    finally:
        link.close()
    return ram
