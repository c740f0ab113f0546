"""Copies between pinned RAM and a GPU on a side stream. Not run here: no CUDA."""

from __future__ import annotations

import torch

from skyfog_inference.link.workers import check_ends
from skyfog_inference.tier import Span
from skyfog_inference.tiers.memory import GpuTier, RamTier


class EventTicket:
    """A copy that the side stream performs."""

    def __init__(self, event: torch.cuda.Event) -> None:
        self._event = event

    def wait(self) -> None:
        """Make the current stream wait; the host goes on."""
        torch.cuda.current_stream().wait_event(self._event)

    @property
    def done(self) -> bool:
        return bool(self._event.query())


class CudaLink:
    """RAM to GPU, or GPU to RAM."""

    def __init__(self, source: RamTier | GpuTier, target: RamTier | GpuTier) -> None:
        self.source = source
        self.target = target
        self._ends = source, target
        self._stream = torch.cuda.Stream()

    def copy(self, source: Span, target: Span) -> EventTicket:
        check_ends(self.source, self.target, source, target)
        if source.size != target.size:
            raise ValueError(f"from {source.size} bytes to {target.size}")
        # What the compute stream was given so far may still read the target, or write the source.
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._ends[1].bytes(target).copy_(self._ends[0].bytes(source), non_blocking=True)
            event = torch.cuda.Event()
            event.record(self._stream)
        return EventTicket(event)

    def close(self) -> None:
        self._stream.synchronize()
