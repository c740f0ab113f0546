"""A tier that is a file, read and written past the page cache where its file system allows that."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import structlog

from skyfog_inference.tier import Span, TierFull, TierKind
from skyfog_inference.tiers.first_fit import FirstFit

SECTOR = 4096  # offsets, sizes and addresses of direct transfers are multiples of it

log = structlog.get_logger(__name__)


class DiskTier:
    """Spans of one file. With a capacity it is made anew and written; without one it is there, and only read."""

    kind = TierKind.DISK

    def __init__(self, path: Path, capacity: int | None = None, direct: bool = True) -> None:
        """Raises OSError that names the file."""
        self.path = path
        self.name = str(path)
        self._flags = os.O_RDONLY if capacity is None else os.O_RDWR | os.O_CREAT
        self._switching = threading.Lock()
        self.direct = direct
        if direct:
            try:
                self.fd = os.open(path, self._flags | os.O_DIRECT, 0o600)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self.direct = False
        if not self.direct:
            self.fd = os.open(path, self._flags, 0o600)
            if direct:
                self._say_buffered()
        self._made = capacity is not None
        self.capacity = os.fstat(self.fd).st_size if capacity is None else capacity
        self._books = FirstFit(self.name, self.capacity)

    def buffered(self) -> None:
        """Use the page cache from now on: the file system took O_DIRECT at opening, and refused it at the transfer."""
        with self._switching:
            if self.direct:
                fd = os.open(self.path, self._flags, 0o600)
                os.dup2(fd, self.fd, inheritable=False)
                os.close(fd)
                self.direct = False
                self._say_buffered()

    def _say_buffered(self) -> None:
        log.warning(
            "no_direct_io", file=self.name, because="its file system refuses O_DIRECT; cached pages are dropped"
        )

    def allocate(self, size: int, align: int = SECTOR) -> Span:
        """Cut out a span and give it its place on the disk. TierFull also where the disk itself has none."""
        offset = self._books.take(size, align)
        if self._made:
            try:
                os.posix_fallocate(self.fd, offset, size)
            except OSError as error:
                self._books.give(offset, size)
                if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
                    raise
                raise TierFull(f"{self.name}: the disk has no room for {size} bytes: {error.strerror}") from None
        return Span(self, offset, size)

    def free(self, span: Span) -> None:
        if span.tier is not self:
            raise ValueError(f"{self.name}: a span of {span.tier.name}")
        self._books.give(span.offset, span.size)

    @property
    def used(self) -> int:
        return self._books.used

    def check(self) -> None:
        self._books.check()

    def close(self) -> None:
        """Close the file; one that was made here is removed."""
        if self.fd < 0:
            return
        os.close(self.fd)
        self.fd = -1
        if self._made:
            self.path.unlink(missing_ok=True)
