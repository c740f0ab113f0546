"""Arenas in memory: one piece of RAM, pinned where there is CUDA, and one of a GPU."""

from __future__ import annotations

import contextlib
import mmap

import numpy as np
import torch

from skyfog_inference.tier import Span, TierKind
from skyfog_inference.tiers.first_fit import FirstFit


class _Arena:
    """What both have: the books, and the bytes as a tensor."""

    kind: TierKind

    def __init__(self, name: str, capacity: int, whole: torch.Tensor) -> None:
        self.name = name
        self.capacity = capacity
        self._books = FirstFit(name, capacity)
        self._whole: torch.Tensor | None = whole

    def allocate(self, size: int, align: int = 4096) -> Span:
        return Span(self, self._books.take(size, align), size)

    def free(self, span: Span) -> None:
        if span.tier is not self:
            raise ValueError(f"{self.name}: a span of {span.tier.name}")
        self._books.give(span.offset, span.size)

    @property
    def used(self) -> int:
        return self._books.used

    def check(self) -> None:
        self._books.check()

    def bytes(self, span: Span) -> torch.Tensor:
        """The span as uint8 [size]; no copy. Raises ValueError once the arena is closed."""
        if self._whole is None:
            raise ValueError(f"{self.name} is closed")
        return self._whole[span.offset : span.offset + span.size]

    def close(self) -> None:
        """Give the memory back; tensors that still look into it keep it alive."""
        self._whole = None


class RamTier(_Arena):
    """Anonymous memory that begins at a page, as O_DIRECT needs it, in huge pages where the system gives them."""

    kind = TierKind.RAM

    def __init__(self, name: str, capacity: int) -> None:
        # Private: what is shared would be a file of the kernel's, for which there are no huge pages.
        self._map = mmap.mmap(-1, max(capacity, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError):  # a kernel without them
            self._map.madvise(mmap.MADV_HUGEPAGE)
        # By numpy, which holds the map as long as a tensor looks into it; torch.frombuffer lets it be closed under one.
        super().__init__(name, capacity, torch.from_numpy(np.frombuffer(self._map, dtype=np.uint8)))
        self._pinned = torch.cuda.is_available()
        if self._pinned:  # not run here: no CUDA
            _cuda_ok(torch.cuda.cudart().cudaHostRegister(self.bytes(Span(self, 0, 1)).data_ptr(), capacity, 0))

    def view(self, span: Span) -> memoryview:
        """The span for reads and writes of files. Release it, or the memory outlives `close`."""
        return memoryview(self._map)[span.offset : span.offset + span.size]

    def close(self) -> None:
        if self._whole is None:
            return
        if self._pinned:
            _cuda_ok(torch.cuda.cudart().cudaHostUnregister(self._whole.data_ptr()))
        super().close()
        with contextlib.suppress(BufferError):  # tensors look into it: it goes with the last of them
            self._map.close()


class GpuTier(_Arena):
    """Memory of a CUDA device. Not run here."""

    kind = TierKind.GPU

    def __init__(self, name: str, capacity: int, device: str = "cuda") -> None:
        super().__init__(name, capacity, torch.empty(capacity, dtype=torch.uint8, device=device))


def _cuda_ok(status: object) -> None:
    if int(status) != 0:  # type: ignore[call-overload]
        raise OSError(f"CUDA could not pin or release host memory: status {status}")
