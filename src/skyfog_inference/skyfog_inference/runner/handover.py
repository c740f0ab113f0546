"""How queries, keys and values of decodes reach the host's worker, and their results the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

Handed = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]  # queries, keys, values, room for the results


class Handover(Protocol):
    """One sub-batch's; used again for every layer."""

    def send(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, out: torch.Tensor) -> None:
        """On the device's thread: tensors of the device. Never waits."""
        ...

    def arrived(self) -> Handed:
        """On the host's thread: what was sent, in the host's memory; waits until it is there."""
        ...

    def receive(self) -> None:
        """On the device's thread, after the host is done: put the results into the `out` that was sent."""
        ...


class Direct:
    """Device and host share their memory: nothing is copied."""

    def __init__(self) -> None:
        self._sent: Handed | None = None

    def send(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, out: torch.Tensor) -> None:
        self._sent = (query, key, value, out)

    def arrived(self) -> Handed:
        assert self._sent is not None, "nothing was sent"
        return self._sent

    def receive(self) -> None:
        """The results are in their place already."""


class Pinned:
    """Through pinned buffers, on a stream beside the one that computes. Not run where there is no CUDA device.

    The buffers are written again only after the next `send`, whose copies follow on everything that the computing
    stream was given before: the results' copy to the device included.
    """

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()
        self._there = torch.cuda.Event()
        self._buffers: Handed | None = None
        self._out: torch.Tensor | None = None

    def send(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, out: torch.Tensor) -> None:
        sent = (query, key, value)
        if self._buffers is None:
            room = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in (*sent, out)]
            self._buffers = (room[0], room[1], room[2], room[3])
        self._out = out
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for buffer, tensor in zip(self._buffers, sent, strict=False):
                buffer.copy_(tensor, non_blocking=True)
                tensor.record_stream(self._stream)
            self._there.record(self._stream)

    def arrived(self) -> Handed:
        assert self._buffers is not None, "nothing was sent"
        self._there.synchronize()
        return self._buffers

    def receive(self) -> None:
        assert self._buffers is not None
        assert self._out is not None
        self._out.copy_(self._buffers[3], non_blocking=True)


def handover_for(device: torch.device) -> Callable[[], Handover]:
    """What makes one for a device."""
    return Pinned if device.type == "cuda" else Direct
